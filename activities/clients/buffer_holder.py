"""What the holder of a buffer's lock works with: the session that holds the lock, and streams beside it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from activities.clients.pieces import Tally, pieces
from activities.clients.postgres import PostgresSettings, faults_of, text_of
from activities.core.eventquery import MISFIT_STATES
from activities.core.faults import LockTaken, UnsupportedType

BEAT_SECONDS = 15
FOR_STREAMS = "SELECT set_config('jit', 'off', false), set_config('work_mem', '64MB', false)"
"""Compiling a query takes longer than a batch; sorting one on disk does too."""

FOUND = """
    WITH RECURSIVE found AS (
        (SELECT source_schema, source_table FROM {schema}.events ORDER BY source_schema, source_table LIMIT 1)
        UNION ALL
        SELECT later.source_schema, later.source_table FROM found CROSS JOIN LATERAL (
            SELECT e.source_schema, e.source_table FROM {schema}.events e
            WHERE (e.source_schema, e.source_table) > (found.source_schema, found.source_table)
            ORDER BY e.source_schema, e.source_table LIMIT 1
        ) later
    )
"""
"""Which tables have events: a step over the index for each, however many events they have."""

EVENT_BYTES = "coalesce(pg_column_size(old_row), 0) + coalesce(pg_column_size(new_row), 0) + 100"
"""What an event takes, about. Rows alone say it where they lie; a record would be read with all its long values."""


def statement(text: LiteralString, schema: str) -> sql.Composed:
    """Statement text in which `{schema}` and `{channel}` stand for those of a buffer.

    `{found}` stands for `FOUND`, `{event_bytes}` for `EVENT_BYTES`.
    """
    name = sql.Identifier(schema)
    return sql.SQL(text).format(
        schema=name,
        channel=sql.Literal(schema),
        found=sql.SQL(FOUND).format(schema=name),
        event_bytes=sql.SQL(EVENT_BYTES),
    )


def number_of(schema: str, table: str) -> sql.Composed:
    """The number of a table of a buffer, as an expression: the name of an advisory lock that nobody else has."""
    return sql.SQL("{}::regclass::oid::bigint").format(sql.Literal(sql.Identifier(schema, table).as_string(None)))


class Holder:
    """Whoever holds the lock of a buffer.

    Statements run on the very session that holds it, so that a worker that lost the lock can change nothing any more.
    Streams only read, and have sessions of their own, which are used again.
    """

    def __init__(
        self,
        settings: PostgresSettings,
        schema: str,
        connection: psycopg.AsyncConnection[Any],
        epoch: int,
        buffer_id: str,
    ) -> None:
        self.epoch = epoch
        """Grows whenever the lock is taken."""
        self.buffer_id = buffer_id
        self.schema = schema
        self._settings = settings
        self._connection = connection
        self._turn = asyncio.Lock()
        self._idle: list[psycopg.AsyncConnection[Any]] = []

    @property
    def name(self) -> str:
        """What messages call the buffer."""
        return f"{self._settings.name}, schema {self.schema}"

    def statement(self, text: LiteralString) -> sql.Composed:
        """Statement text in which `{schema}` stands for that of the buffer."""
        return statement(text, self.schema)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A transaction under the lock; one at a time.

        Raises:
            LockTaken: the lock was lost: another one has taken it since.
            PostgresRefused: PostgreSQL says no.
            PostgresUnavailable: the session is gone, and the lock with it.
        """
        with faults_of(self.name):
            async with self._turn, self._connection.transaction():
                held = await self._connection.execute(self.statement("SELECT epoch FROM {schema}.pipeline"))
                if (epoch := (await held.fetchone() or (None,))[0]) != self.epoch:
                    raise LockTaken(
                        f"{self.name}: this worker took the lock with epoch {self.epoch}, and it is at {epoch} now: "
                        "another worker goes on"
                    )
                yield self._connection

    async def stream(self, query: str, tally: Tally | None = None) -> AsyncGenerator[bytes, None]:
        """What a `COPY … TO STDOUT` of text lines sends, in pieces of whole rows, the last of them at its good end.

        Raises:
            UnsupportedType: some event cannot be written.
            PostgresRefused: PostgreSQL says no.
            PostgresUnavailable: the session is gone.
        """
        async with self._session() as session, aclosing(pieces(session, query, tally)) as read:
            async for piece in read:
                yield piece

    async def ask(self, query: str) -> list[tuple[Any, ...]]:
        """What a query beside the lock answers; it may take long.

        Raises:
            PostgresRefused: PostgreSQL says no.
            PostgresUnavailable: the session is gone.
        """
        async with self._session() as session:
            return await (await session.execute(query.encode())).fetchall()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A session for reading. It is used again, unless something went wrong with it."""
        with faults_of(self.name):
            session = self._idle.pop() if self._idle else await self._open()
            whole = False
            try:
                yield session
                whole = True
            except psycopg.Error as failed:
                if (failed.sqlstate or "").startswith(MISFIT_STATES):
                    raise UnsupportedType(f"{self.name}: an event cannot be written: {text_of(failed)}") from failed
                raise
            finally:
                if whole:
                    self._idle.append(session)
                else:
                    await session.close()

    async def _open(self) -> psycopg.AsyncConnection[Any]:
        connection = await self._settings.connect()
        await connection.execute(FOR_STREAMS)
        return connection

    async def beat(self) -> None:
        """Keep the session from being idle for so long that the server ends it."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            async with self._turn:
                await self._connection.execute("SELECT")

    async def close(self) -> None:
        """Close the sessions of streams."""
        for connection in self._idle:
            await connection.close()
        self._idle.clear()

"""Which tables of a buffer wait for their first copy, and which copies they go on with."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from activities.clients.buffer_holder import statement
from activities.clients.postgres import PostgresSettings, faults_of
from activities.core.changelogs import lsn_text
from activities.core.faults import BadRequest, LockTaken

FOLLOWED = """
    SELECT source_schema AS schema, source_table AS name, state, (copied_lsn - '0/0')::bigint AS copied_lsn,
        (copying_lsn - '0/0')::bigint AS sent_lsn, asked, sent_id, buffer_id::text
    FROM {schema}.tables CROSS JOIN {schema}.pipeline WHERE source_schema || '.' || source_table = %s
"""


@dataclass(frozen=True)
class FollowedTable:
    """A source table as the buffer knows it."""

    schema: str
    name: str
    state: str
    """`copying`, `active` or `stopped`."""
    copied_lsn: int | None
    """What was committed before it came with a copy; None: there was none yet."""
    sent_lsn: int | None
    """The position of the first copy that was sent since one was asked for: it or a later one may have landed."""
    asked: int
    """Grows whenever a copy is asked for: one that began before may lack what was lost until then."""
    sent_id: int
    """The last event that its changelog may hold."""
    buffer_id: str


class BufferCopies:
    """What is known of copies; the part of a buffer that knows nothing of batches."""

    def __init__(self, settings: PostgresSettings, schema: str) -> None:
        self.settings = settings
        self.schema = schema

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.settings.name}, schema {self.schema}"

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A session, closed at the end; what PostgreSQL says inside is named.

        Raises:
            PostgresRefused: PostgreSQL says no, or has no such buffer.
            PostgresUnavailable: it cannot be reached.
        """
        connection = await self.settings.connect()
        try:
            with faults_of(self.name):
                yield connection
        finally:
            await connection.close()

    async def to_copy(self) -> list[str]:
        """Tables that wait for their first copy, as `schema.table`."""
        async with self.connected() as connection:
            found = await connection.execute(
                self._statement(
                    "SELECT source_schema || '.' || source_table FROM {schema}.tables WHERE state = 'copying' "
                    "ORDER BY source_schema, source_table"
                )
            )
            return [name for (name,) in await found.fetchall()]

    async def followed(self, table: str) -> FollowedTable:
        """What the buffer knows of a table, named as `schema.table`.

        Raises:
            BadRequest: it does not know the table.
        """
        async with self.connected() as connection:
            cursor = connection.cursor(row_factory=class_row(FollowedTable))
            known = await cursor.execute(self._statement(FOLLOWED), (table,))
            found = await known.fetchone()
        if found is None:
            raise BadRequest(f"{self.name}: nobody asked for table {table}; install it with `icefleet cdc install`")
        return found

    async def set_copying(self, schema: str, name: str) -> None:
        """Let a table wait for its first copy, whatever its state was; its events wait with it."""
        await self._change(
            "INSERT INTO {schema}.tables AS t (source_schema, source_table, state, copying_lsn) "
            "VALUES (%s, %s, 'copying', '0/0') ON CONFLICT (source_schema, source_table) DO UPDATE "
            "SET state = 'copying', cause = '', copying_lsn = '0/0', asked = t.asked + 1",
            (schema, name),
        )

    async def set_copy_sent(
        self, schema: str, name: str, lsn: int, memberships: Sequence[int] | None = None, *, asked: int | None = None
    ) -> None:
        """Remember that a copy at `lsn` may have landed from now on, and how the table was published there.

        Of several copies the first one's memberships count: whichever lands, they were left no earlier than that.
        `asked` is what the table said when the copy began; None: whichever.

        Raises:
            LockTaken: the table does not wait for a copy any more, or for one that begins later.
        """
        await self._copy_step(
            "UPDATE {schema}.tables SET copying_lsn = coalesce(nullif(copying_lsn, '0/0'), %(lsn)s::pg_lsn), "
            "memberships = CASE WHEN copying_lsn > '0/0' THEN memberships ELSE %(memberships)s::bigint[] END "
            "WHERE source_schema = %(schema)s AND source_table = %(name)s AND state = 'copying' "
            "AND asked = coalesce(%(asked)s, asked) RETURNING 1",
            (schema, name, lsn),
            memberships=None if memberships is None else list(memberships),
            asked=asked,
        )

    async def set_copied(self, schema: str, name: str, lsn: int) -> None:
        """Let a table be followed: its changelog holds what was committed before `lsn`, dead letters included.

        Raises:
            LockTaken: the copy at `lsn` was sent before it was asked for anew, or is not waited for any more.
        """
        await self._copy_step(
            "WITH copied AS (UPDATE {schema}.tables SET state = 'active', cause = '', copied_lsn = %(lsn)s::pg_lsn, "
            "copying_lsn = NULL, let_go = false, landed_id = 0 "
            "WHERE source_schema = %(schema)s AND source_table = %(name)s AND state = 'copying' "
            "AND copying_lsn > '0/0' AND copying_lsn <= %(lsn)s::pg_lsn RETURNING copied_lsn), "
            "came AS (UPDATE {schema}.dead_letters SET state = 'dropped', resolved_at = clock_timestamp(), "
            "reason = 'came with the copy at ' || copied_lsn FROM copied WHERE state = 'waiting' "
            "AND source_schema = %(schema)s AND source_table = %(name)s AND commit_lsn < copied_lsn) "
            "SELECT FROM copied",
            (schema, name, lsn),
        )

    async def set_stopped(self, schema: str, name: str, cause: str) -> None:
        """Let a table that waits for its copy wait for a person instead, who is told the cause."""
        await self._change(
            "UPDATE {schema}.tables SET state = 'stopped', cause = %s WHERE source_schema = %s AND source_table = %s "
            "AND state = 'copying'",
            (cause, schema, name),
        )

    async def _copy_step(self, text: LiteralString, copy: tuple[str, str, int], **more: object) -> None:
        schema, name, lsn = copy
        async with self.connected() as connection:
            about = {"schema": schema, "name": name, "lsn": lsn_text(lsn), **more}
            done = await connection.execute(self._statement(text), about)
        if not done.rowcount:
            raise self.unwanted(schema, name)

    def unwanted(self, schema: str, name: str) -> LockTaken:
        """What to say of a copy for which its table does not wait."""
        return LockTaken(
            f"{self.name}: this copy of {schema}.{name} is not what the table waits for: another worker has copied it "
            "meanwhile, or somebody asked for it anew"
        )

    async def _change(self, text: LiteralString, parameters: tuple[object, ...]) -> None:
        async with self.connected() as connection:
            await connection.execute(self._statement(text), parameters)

    def _statement(self, text: LiteralString) -> sql.Composed:
        return statement(text, self.schema)

"""The buffer of a pipeline: its tables, who may ingest from it, and whether something waits in it.

What the holder of its lock does stands in `buffer_claims` (take a batch, mark it) and `buffer_letters`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import errors, sql
from psycopg.rows import class_row

from activities.clients.buffer_ddl import DROPS, STATEMENTS, VERSION
from activities.clients.buffer_holder import Holder, number_of, statement
from activities.clients.catalogue import is_buffer
from activities.clients.postgres import WATCHED, PostgresSettings, check_encoding, faults_of
from activities.core.changelogs import lsn_text
from activities.core.faults import BadRequest, LockTaken, PostgresRefused

SESSION: LiteralString = (
    "SELECT" + WATCHED + ", set_config('idle_session_timeout', '60000', false), set_config('jit', 'off', false)"
)
"""The server ends the session of a worker that is gone or frozen, so that another gets the lock within a minute."""
LOOK_SECONDS = 10.0
"""How often a waiting ingest looks by itself, should a notification be lost."""
FOLLOWED = """
    SELECT source_schema AS schema, source_table AS name, state, (copied_lsn - '0/0')::bigint AS copied_lsn,
        (copying_lsn - '0/0')::bigint AS sent_lsn, asked, sent_id, buffer_id::text
    FROM {schema}.tables CROSS JOIN {schema}.pipeline WHERE source_schema || '.' || source_table = %s
"""
SINCE_LAST = """
    SELECT coalesce(extract(epoch FROM clock_timestamp() - max(processed_at)), 'Infinity')::float8,
        EXISTS (SELECT FROM {schema}.events OFFSET %s)
    FROM {schema}.tables
"""
ANYTHING = """
    {found} SELECT EXISTS (
        SELECT FROM found LEFT JOIN {schema}.tables t USING (source_schema, source_table)
        WHERE coalesce(t.state, 'active') = 'active'
    ) OR EXISTS (
        SELECT FROM {schema}.tables
        WHERE state = 'copying' AND NOT source_schema || '.' || source_table = ANY (%s::text[])
    )
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


class Buffer:
    """One buffer. Every method opens the session that it needs, and closes it."""

    def __init__(self, settings: PostgresSettings, schema: str) -> None:
        self.settings = settings
        self.schema = schema

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.settings.name}, schema {self.schema}"

    async def install(self) -> None:
        """Make the tables; what is there already stays.

        Raises:
            PostgresRefused: there is no right to make them, those that are there are of another version, or the
                database cannot hold every text.
            PostgresUnavailable: the database cannot be reached.
        """
        async with self.connected() as connection:
            check_encoding(connection, self.name)
            async with connection.transaction():
                # Two installations at once would trip over each other's functions.
                await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (self.schema,))
                for text in STATEMENTS:
                    await connection.execute(self._statement(text))
                insert = "INSERT INTO {schema}.pipeline (version) VALUES (%s) ON CONFLICT DO NOTHING"
                await connection.execute(self._statement(insert), (VERSION,))
            found = await connection.execute(self._statement("SELECT version FROM {schema}.pipeline"))
            self._check_version((await found.fetchone() or (None,))[0])

    async def drop(self) -> list[str]:
        """Drop the buffer, with whatever was not ingested; what was dropped, and in parentheses what was not."""
        async with self.connected() as connection, connection.transaction():
            if not await is_buffer(connection, self.schema):
                return []
            for text in DROPS:
                await connection.execute(self._statement(text))
            try:
                async with connection.transaction():
                    await connection.execute(self._statement("DROP SCHEMA {schema}"))
            except errors.DependentObjectsStillExist:
                stays = f"(schema {self.schema} stays: it holds something of somebody else)"
                return [f"buffer {self.schema}", stays]
        return [f"buffer {self.schema}"]

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

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[Holder]:
        """Hold the lock, which one session can hold, under an epoch that nobody else has.

        Raises:
            LockTaken: another worker holds it.
            PostgresRefused: there is no buffer, or it is of another version.
            PostgresUnavailable: the database cannot be reached.
        """
        async with self.connected() as connection:
            await connection.execute(SESSION)
            await self._take_lock(connection)
            taken = await connection.execute(
                self._statement("UPDATE {schema}.pipeline SET epoch = epoch + 1 RETURNING epoch, buffer_id, version")
            )
            epoch, buffer_id, version = await taken.fetchone() or (0, None, None)
            self._check_version(version)
            holder = Holder(self.settings, self.schema, connection, epoch, str(buffer_id))
            beating = asyncio.create_task(holder.beat())
            try:
                yield holder
            finally:
                beating.cancel()
                # A session that is gone makes itself heard where it is needed.
                await asyncio.gather(beating, return_exceptions=True)
                await holder.close()

    async def wait_for_events(self, seconds: float, known_copies: Sequence[str] = ()) -> bool:
        """Wait until a table has events to be carried, or one waits for its copy; False: nothing came.

        Tables that are stopped or wait for their copy count for nothing with their events, and those among
        `known_copies` not with their copy either.

        Raises:
            PostgresRefused: there is no buffer.
            PostgresUnavailable: the database cannot be reached.
        """
        until = time.monotonic() + seconds
        async with self.connected() as connection:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self.schema)))
            while not await self._has_something(connection, known_copies):
                left = until - time.monotonic()
                if left <= 0:
                    return False
                async for _ in connection.notifies(timeout=min(left, LOOK_SECONDS), stop_after=1):
                    pass
        return True

    async def rest(self, seconds: float, full: int) -> None:
        """Wait until the last batch was so long ago, unless there are at least as many events as make one full.

        So a trickle of events does not make a snapshot each, and one that comes by itself waits for nothing.
        """
        async with self.connected() as connection:
            found = await connection.execute(self._statement(SINCE_LAST), (full,))
            passed, is_full = await found.fetchone() or (seconds, True)
        if not is_full and passed < seconds:
            await asyncio.sleep(seconds - passed)

    async def slot(self) -> str | None:
        """The slot that fills it; empty: none does; None: there is no buffer."""
        async with self.connected() as connection:
            try:
                found = await connection.execute(self._statement("SELECT slot FROM {schema}.pipeline"))
            except errors.UndefinedTable:
                return None
            return (await found.fetchone() or (None,))[0] or ""

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

    async def _has_something(self, connection: psycopg.AsyncConnection[Any], known_copies: Sequence[str]) -> bool:
        try:
            found = await connection.execute(self._statement(ANYTHING), (list(known_copies),))
        except errors.UndefinedTable as missing:
            raise self.absent() from missing
        return bool((await found.fetchone() or (False,))[0])

    async def _take_lock(self, connection: psycopg.AsyncConnection[Any]) -> None:
        # That of `events` is the lock of producers.
        number = number_of(self.schema, "pipeline")
        try:
            asked = await connection.execute(sql.SQL("SELECT pg_try_advisory_lock({})").format(number))
        except (errors.UndefinedTable, errors.InvalidSchemaName) as missing:
            raise self.absent() from missing
        if not (await asked.fetchone() or (False,))[0]:
            raise LockTaken(
                f"{self.name}: another worker holds the lock; it is free when that one is done, or within a minute "
                "of its death"
            )

    def absent(self) -> PostgresRefused:
        """What to say when there is no buffer."""
        return PostgresRefused(f"{self.name}: there is no buffer; make it with `icefleet cdc install`")

    def _check_version(self, version: object) -> None:
        if version != VERSION:
            raise PostgresRefused(
                f"{self.name}: the buffer is of version {version}, and this icefleet works with {VERSION}; let workers "
                "of one release serve it"
            )

    def _statement(self, text: LiteralString) -> sql.Composed:
        return statement(text, self.schema)

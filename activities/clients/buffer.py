"""The buffer of a pipeline: its tables, who may ingest from it, and whether something waits in it.

What the holder of its lock does stands in `buffer_claims` (take a batch, mark it) and `buffer_letters`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, LiteralString

import psycopg
from psycopg import errors, sql

from activities.clients.buffer_copies import BufferCopies
from activities.clients.buffer_ddl import DROPS, STATEMENTS, VERSION
from activities.clients.buffer_holder import Holder, number_of
from activities.clients.catalogue import is_buffer
from activities.clients.postgres import WATCHED, check_encoding
from activities.core.faults import LockTaken, PostgresRefused

SESSION: LiteralString = (
    "SELECT" + WATCHED + ", set_config('idle_session_timeout', '60000', false), set_config('jit', 'off', false)"
)
"""The server ends the session of a worker that is gone or frozen, so that another gets the lock within a minute."""
RELEASE_SECONDS = 5.0
LOOK_SECONDS = 10.0
"""How often a waiting ingest looks by itself, should a notification be lost."""
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


class Buffer(BufferCopies):
    """One buffer. Every method opens the session that it needs, and closes it."""

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
            except (errors.DependentObjectsStillExist, errors.InsufficientPrivilege):
                stays = f"(schema {self.schema} stays: it is somebody else's, or holds something else)"
                return [f"buffer {self.schema}", stays]
        return [f"buffer {self.schema}"]

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
                # The end of a session is noticed a little later, and until then who comes next finds the lock taken.
                with suppress(psycopg.Error, TimeoutError):
                    async with asyncio.timeout(RELEASE_SECONDS):
                        await connection.execute("SELECT pg_advisory_unlock_all()")

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

"""A source's table as it is at one position of the log: the rows that the stream from there on does not bring."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors, sql

from activities.clients.catalogue import described, no_table, relation_id, table_names, told_table
from activities.clients.pieces import pieces
from activities.clients.postgres import PostgresSettings, faults_of, text_of
from activities.clients.replication import exported_snapshot
from activities.clients.slots import MEMBERSHIPS, PARTLY, leaves_out
from activities.core.eventquery import MISFIT_STATES, EventQuery
from activities.core.faults import PostgresUnavailable, UnsupportedType
from activities.core.sourcetables import SourceTable

PROBE_SECONDS = 600
LISTED_CAUSES = 10
TRIES = 5
"""Times that a table may be altered just while its copy begins."""
STORAGE = """
    WITH RECURSIVE tree (id) AS (
        SELECT %s::oid UNION ALL SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.id
    )
    SELECT array_agg(c.relfilenode::bigint ORDER BY c.oid) FROM pg_catalog.pg_class c JOIN tree ON c.oid = tree.id
"""
MEMBER = (
    "SELECT" + MEMBERSHIPS + "," + PARTLY + "FROM pg_catalog.pg_publication p CROSS JOIN pg_catalog.pg_class c "
    "WHERE p.pubname = %s AND c.oid = %s"
)
"""Of catalogues alone, and no function: those show what is there now, and not what the snapshot shows."""
SETTINGS = """
    SELECT now()::text, set_config('row_security', 'off', true), set_config('jit', 'off', true)
"""
"""Row security must fail a copy, not filter it."""


@dataclass(frozen=True)
class TableView:
    """The table at one position. Nobody can alter it while this is open."""

    table: SourceTable
    lsn: int
    """What was committed before it is seen, and nothing else."""
    taken_at: str
    """The time of it at the source, as text of a timestamptz in UTC."""
    memberships: list[int]
    """By what it belonged to the publication at the position; see `MEMBERSHIPS`."""
    _name: str
    _connection: psycopg.AsyncConnection[Any]

    async def rows(self, query: EventQuery) -> AsyncGenerator[bytes, None]:
        """What a `COPY … TO STDOUT` of text lines sends, in pieces of whole rows.

        Raises:
            UnsupportedType: a value cannot be written; the message says which column's, and what else is wrong.
            PostgresRefused: PostgreSQL says no.
            PostgresUnavailable: the session is gone.
        """
        with faults_of(self._name):
            try:
                await self._connection.execute("SAVEPOINT rows")
                async with aclosing(pieces(self._connection, query.sql)) as found:
                    async for piece in found:
                        yield piece
            except psycopg.Error as failed:
                if (failed.sqlstate or "").startswith(MISFIT_STATES):
                    causes = "; ".join(await self._causes(text_of(failed), query.probes))
                    raise UnsupportedType(
                        f"source table {self.table.identifier}: a row cannot be copied: {causes}; mend what is wrong "
                        "in each of these columns, or set out_of_range of the pipeline, then resume the table"
                    ) from failed
                raise

    async def _causes(self, first: str, probes: Sequence[str]) -> list[str]:
        """Why rows cannot be copied, of each column once, as far as that is found in time."""
        causes, until = [first], time.monotonic() + PROBE_SECONDS
        for probe in probes:
            left = int((until - time.monotonic()) * 1000)
            if left <= 0 or len(causes) >= LISTED_CAUSES:
                break
            await self._connection.execute("ROLLBACK TO SAVEPOINT rows")
            await self._connection.execute(f"SET LOCAL statement_timeout = {left}".encode())
            try:
                await self._connection.execute(probe.encode())
            except errors.QueryCanceled:
                break
            except psycopg.Error as failed:
                if not (failed.sqlstate or "").startswith(MISFIT_STATES):
                    raise
                if (cause := text_of(failed)) not in causes:
                    causes.append(cause)
        return causes


@asynccontextmanager
async def table_view(
    settings: PostgresSettings, schema: str, name: str, slot: str, publication: str
) -> AsyncIterator[TableView]:
    """See a table as it is at one position of the log. `slot` is the name of a temporary slot, gone once it is seen.

    Raises:
        BadRequest: there is no such table.
        PostgresRefused: there is no right to replicate, or to read every row of the table, or the publication leaves
            out rows or columns of it.
        PostgresUnavailable: the source cannot be reached, or the table is altered all the time.
    """
    for _ in range(TRIES):
        connection = await settings.connect()
        try:
            view = await _view(settings, connection, (schema, name), slot, publication)
            if view is not None:
                yield view
                return
        finally:
            await connection.close()
    raise PostgresUnavailable(
        f"{settings.name}: table {schema}.{name} was altered {TRIES} times just while its copy began; try again"
    )


async def _view(
    settings: PostgresSettings,
    connection: psycopg.AsyncConnection[Any],
    wanted: tuple[str, str],
    slot: str,
    publication: str,
) -> TableView | None:
    """The table in a transaction of its own; None when it was altered after the snapshot, and before it was locked.

    PostgreSQL reads with an old snapshot from the table as it is now: one that was rewritten since seems to be empty.
    """
    schema, name = wanted
    with faults_of(settings.name):
        async with exported_snapshot(settings, slot, temporary=True) as exported:
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            await connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(exported.name))
        taken_at = await (await connection.execute(SETTINGS)).fetchone()
        relid = await relation_id(connection, schema, name)
        if relid is None or taken_at is None:
            raise no_table(schema, name, await table_names(connection))
        try:
            await connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.Identifier(schema, name)))
        except errors.UndefinedTable:
            return None
        async with await settings.connect() as fresh:
            is_same = await _looks(connection, relid) == await _looks(fresh, relid)
        told = await described(connection, relid)
        member = await (await connection.execute(MEMBER, (publication, relid))).fetchone()
    if told is None or not is_same:
        return None
    memberships, partly = member or ([], False)
    if partly:
        raise leaves_out(f"{schema}.{name}", publication)
    return TableView(told_table(told), exported.lsn, taken_at[0], memberships, settings.name, connection)


async def _looks(connection: psycopg.AsyncConnection[Any], relid: int) -> tuple[Any, Any]:
    """What is seen of a table, and where its rows lie."""
    lie = await (await connection.execute(STORAGE, (relid,))).fetchone()
    return await described(connection, relid), lie

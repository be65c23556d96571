"""What a buffer holds, for people: counts per table, and dead letters."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import errors
from psycopg.rows import class_row

from activities.clients.buffer import Buffer
from activities.clients.buffer_holder import statement

TABLES = """
    WITH waiting AS (
        SELECT source_schema, source_table, count(*) AS events, min(committed_at) AS oldest, max(commit_lsn) AS newest,
            sum({event_bytes})::bigint AS bytes
        FROM {schema}.events GROUP BY source_schema, source_table
    ), letters AS (
        SELECT source_schema, source_table, count(*) FILTER (WHERE behind IS NULL) AS dead,
            count(*) FILTER (WHERE behind IS NOT NULL) AS behind
        FROM {schema}.dead_letters WHERE state = 'waiting' GROUP BY source_schema, source_table
    )
    SELECT source_schema AS schema, source_table AS name, coalesce(state, 'active') AS state,
        coalesce(cause, '') AS cause, copied_lsn::text, last_lsn::text AS written_lsn,
        coalesce(newest, last_lsn)::text AS buffered_lsn, coalesce(processed_id, 0) AS processed_id, processed_at,
        last_committed_at, coalesce(written, 0) AS written, coalesce(events, 0) AS buffered_events,
        coalesce(bytes, 0) AS buffered_bytes,
        coalesce(extract(epoch FROM clock_timestamp() - oldest), 0)::float8 AS lag_seconds,
        coalesce(dead, 0) AS dead_letters, coalesce(behind, 0) AS waiting_behind
    FROM {schema}.tables FULL JOIN waiting USING (source_schema, source_table)
        LEFT JOIN letters USING (source_schema, source_table)
    ORDER BY source_schema, source_table
"""
PIPELINE = "SELECT buffer_id::text, epoch, slot, captured_lsn::text, captured_at, ended FROM {schema}.pipeline"
LETTERS = """
    SELECT event_id, source_schema AS schema, source_table AS name, operation, commit_lsn::text, ordinal, committed_at,
        (SELECT jsonb_object_agg(name, key -> place::integer - 1)
            FROM unnest(key_columns) WITH ORDINALITY AS u (name, place)) AS key,
        cause, behind, state, reason, failed_at, resolved_at, old_row, new_row
    FROM {schema}.dead_letters
    WHERE (%(every)s OR state = 'waiting')
        AND (%(schema)s = '' OR (source_schema, source_table) = (%(schema)s, %(name)s))
    ORDER BY event_id LIMIT %(limit)s
"""


@dataclass(frozen=True)
class TableStatus:
    """How far one source table is."""

    schema: str
    name: str
    state: str
    """`copying`, `active` or `stopped`."""
    cause: str
    copied_lsn: str | None
    written_lsn: str | None
    """The last commit of which its changelog has heard."""
    buffered_lsn: str | None
    """The last commit that the buffer has brought."""
    processed_id: int
    processed_at: datetime | None
    last_committed_at: datetime | None
    written: int
    """Events that were carried over since the buffer was made."""
    buffered_events: int
    buffered_bytes: int
    lag_seconds: float
    """The age of the oldest event that waits; 0 when none does."""
    dead_letters: int
    waiting_behind: int
    """Events that wait behind them."""


@dataclass(frozen=True)
class PipelineStatus:
    """The buffer as a whole."""

    buffer_id: str
    epoch: int
    slot: str | None
    captured_lsn: str | None
    captured_at: datetime | None
    ended: str | None


@dataclass(frozen=True)
class DeadLetter:
    """One event that could not be written, or waits behind one."""

    event_id: int
    schema: str
    name: str
    operation: str
    commit_lsn: str
    ordinal: int
    committed_at: datetime
    key: dict[str, Any] | None
    cause: str
    behind: int | None
    state: str
    reason: str
    failed_at: datetime
    resolved_at: datetime | None
    old_row: dict[str, Any] | None
    new_row: dict[str, Any] | None


async def status(buffer: Buffer) -> tuple[PipelineStatus | None, list[TableStatus]]:
    """The buffer, and every table that it has heard of.

    Raises:
        PostgresRefused: there is no buffer.
        PostgresUnavailable: the database cannot be reached.
    """
    async with _asked(buffer) as connection:
        pipelines = connection.cursor(row_factory=class_row(PipelineStatus))
        pipeline = await (await pipelines.execute(statement(PIPELINE, buffer.schema))).fetchone()
        tables = connection.cursor(row_factory=class_row(TableStatus))
        return pipeline, await (await tables.execute(statement(TABLES, buffer.schema))).fetchall()


async def letters(
    buffer: Buffer, table: tuple[str, str] | None = None, *, every: bool = False, limit: int = 100
) -> list[DeadLetter]:
    """Dead letters that wait, in order; `every` has also those that were settled.

    Raises:
        PostgresRefused: there is no buffer.
        PostgresUnavailable: the database cannot be reached.
    """
    schema, name = table or ("", "")
    about = {"schema": schema, "name": name, "every": every, "limit": limit}
    async with _asked(buffer) as connection:
        cursor = connection.cursor(row_factory=class_row(DeadLetter))
        return await (await cursor.execute(statement(LETTERS, buffer.schema), about)).fetchall()


@asynccontextmanager
async def _asked(buffer: Buffer) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with buffer.connected() as connection:
        try:
            yield connection
        except (errors.UndefinedTable, errors.InvalidSchemaName) as missing:
            raise buffer.absent() from missing

"""Looking after a buffer between batches: what goes by itself, what waits for people, and what producers are told."""

from dataclasses import dataclass
from typing import Any

import psycopg

from activities.clients.buffer_holder import statement
from activities.clients.buffer_sizes import LIMITS

FOR_PEOPLE = """
    SELECT (SELECT count(*) FROM {schema}.tables WHERE state = 'stopped'),
        (SELECT count(*) FROM {schema}.dead_letters WHERE state = 'waiting' AND behind IS NULL)
"""
PURGE_DUE = """
    UPDATE {schema}.pipeline SET purged_at = clock_timestamp()
    WHERE purged_at < clock_timestamp() - interval '1 hour' RETURNING 1
"""
PURGE = """
    DELETE FROM {schema}.dead_letters d
    WHERE state <> 'waiting' AND resolved_at < clock_timestamp() - make_interval(days => %s)
        AND NOT EXISTS (SELECT FROM {schema}.dead_letters later WHERE later.behind = d.event_id)
        AND coalesce(resolved_at < (
            SELECT e.received_at FROM {schema}.events e
            WHERE e.source_schema = d.source_schema AND e.source_table = d.source_table ORDER BY e.id LIMIT 1
        ), true)
"""
"""One that was requeued stays until it is carried over. Those that others waited behind go an hour after these."""


@dataclass(frozen=True)
class Chores:
    """What config says of it."""

    keep_letters_days: int
    """Letters that were settled longer ago are deleted; once an hour, however often somebody looks."""
    max_events: int
    max_bytes: int
    """What the buffer may hold, for producers that ask it."""


async def look_after(connection: psycopg.AsyncConnection[Any], schema: str, chores: Chores) -> tuple[int, int]:
    """How many tables are stopped, and how many letters wait that wait behind no other one."""
    if (await connection.execute(statement(PURGE_DUE, schema))).rowcount:
        await connection.execute(statement(PURGE, schema), (chores.keep_letters_days,))
    limits = {"events": chores.max_events, "bytes": chores.max_bytes}
    await connection.execute(statement(LIMITS, schema), limits)
    stopped, kept = await (await connection.execute(statement(FOR_PEOPLE, schema))).fetchone() or (0, 0)
    return stopped, kept

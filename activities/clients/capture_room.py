"""What a buffer holds, and letting go of events that no table needs, so that stopped tables hold up no others.

A table that is stopped and is to be copied before it goes on needs none of its events: whatever is in the buffer while
it is stopped was committed before that copy begins.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from activities.clients.buffer_sizes import HELD
from activities.clients.capture_sink import Sink

PIECE = 20_000
"""Events that one statement deletes: it holds the session for a moment only."""
LET_GO = """
    UPDATE {schema}.tables SET let_go = true, copying_lsn = '0/0', cause = %(why)s || cause
    WHERE source_schema = %(schema)s AND source_table = %(name)s AND state = 'stopped' AND captured IS NOT NULL
    RETURNING cause
"""
# Whoever resumes a table waits for the lock on its row, or is seen.
FORGET = """
    WITH needless AS MATERIALIZED (
        SELECT source_schema, source_table FROM {schema}.tables t
        WHERE state = 'stopped' AND copying_lsn = '0/0' AND captured IS NOT NULL AND EXISTS (
            SELECT FROM {schema}.events e
            WHERE (e.source_schema, e.source_table) = (t.source_schema, t.source_table)
        ) FOR UPDATE
    ), ids AS MATERIALIZED (
        SELECT e.id FROM {schema}.events e JOIN needless USING (source_schema, source_table) LIMIT %(piece)s
    ), gone AS (
        DELETE FROM {schema}.events WHERE id = ANY (ARRAY(SELECT id FROM ids)) RETURNING 1
    )
    SELECT count(*) FROM gone
"""
GONE = """
    SELECT source_schema || '.' || source_table, cause FROM {schema}.tables WHERE let_go AND state = 'stopped'
"""

Name = tuple[str, str]


@dataclass
class Held:
    """About how many events a buffer holds, and bytes: counted in a sample of its pages."""

    events: int = 0
    bytes: int = 0
    """Those of tables that go on, or will once they are copied."""
    copying: int = 0
    """The events among them that stay until a copy has ended."""
    stopped: dict[Name, tuple[int, int]] = field(default_factory=dict)
    """Schema and name → events and bytes of a table that is stopped, and would go on with them."""


async def held(buffer: Sink) -> Held:
    """What the buffer holds now."""
    found = Held()
    for schema, name, kind, count, size, part in await buffer.ask(HELD):
        events, bytes_ = int(count / part), int(int(size) / part)
        if kind in {"carried", "copying"}:
            found.events, found.bytes = found.events + events, found.bytes + bytes_
            found.copying += events if kind == "copying" else 0
        elif kind == "stopped":
            found.stopped[schema, name] = events, bytes_
    return found


def beyond(stopped: Mapping[Name, tuple[int, int]], max_events: int, max_bytes: int) -> list[Name]:
    """Which tables' events must go so that those of the others are within both limits: whoever holds most."""
    rest, chosen = dict(stopped), list[Name]()
    while sum(events for events, _ in rest.values()) > max_events or sum(size for _, size in rest.values()) > max_bytes:
        chosen.append(max(rest, key=lambda name: max(rest[name][0] / max_events, rest[name][1] / max_bytes)))
        del rest[chosen[-1]]
    return chosen


async def let_go(buffer: Sink, table: Name, why: str) -> str:
    """Mark a stopped table to be copied anew before it goes on; its whole cause, empty if it is not stopped now."""
    schema, name = table
    told = await buffer.ask(LET_GO, {"schema": schema, "name": name, "why": why})
    return str(told[0][0]) if told else ""


async def forget_needless(buffer: Sink) -> bool:
    """Delete some events of tables that are to be copied before they go on; whether there may be more."""
    ((count,),) = await buffer.ask(FORGET, {"piece": PIECE})
    return int(count) == PIECE


async def gone(buffer: Sink) -> dict[str, str]:
    """Tables that are stopped and whose events were let go, as `schema.table`, and their causes."""
    return {str(table): str(cause) for table, cause in await buffer.ask(GONE)}

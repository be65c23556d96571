"""Dead letters: events that could not be written, and those of the same key that wait behind them.

A key is the text of the key columns' values in their order, for names change while events wait; an event without key
columns has none, and nothing waits behind it. A letter that goes on is a new event of the buffer with the place in the
log that it had, since ids say what was carried over.

A changed key is a delete and an insert. Where the insert lacks values that only the row has which the delete takes
away, the two wait together, and so do later events of both keys: who merges one without the other has lost the values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import errors, sql
from psycopg.rows import class_row

from activities.clients.buffer_claims import ClaimedTable
from activities.clients.buffer_holder import Holder, number_of
from activities.core.faults import BadRequest, LockTaken

EVENT = """
    source_schema, source_table, operation, commit_lsn, ordinal, committed_at, key_columns, old_row, new_row, unchanged
"""
KEYED = """
    {schema}.events e CROSS JOIN LATERAL (
        SELECT jsonb_agg(CASE WHEN e.operation = 'delete' THEN e.old_row ->> name
            ELSE coalesce(e.new_row ->> name, e.old_row ->> name) END ORDER BY place) AS key
        FROM unnest(e.key_columns) WITH ORDINALITY AS u (name, place)
    ) k
"""
ROOTS = """
    (SELECT DISTINCT ON (d.key) d.key, d.event_id AS first, coalesce(d.behind, d.event_id) AS root
        FROM {schema}.dead_letters d
        WHERE d.state = 'waiting' AND d.source_schema = %(schema)s AND d.source_table = %(name)s AND d.key IS NOT NULL
        ORDER BY d.key, d.event_id) r
"""
HALVES = """
    (SELECT d.event_id AS half, coalesce(d.behind, d.event_id) AS root, d.commit_lsn AS lsn, d.ordinal AS place,
            d.operation AS did, cardinality(d.unchanged) > 0 AS lacks
        FROM {schema}.dead_letters d
        WHERE d.state = 'waiting' AND d.source_schema = %(schema)s AND d.source_table = %(name)s
            AND (d.operation = 'delete' OR d.operation = 'insert' AND cardinality(d.unchanged) > 0)) h
"""
LETTER = "event_id, received_at, key, cause, behind," + EVENT
ADD = (
    "INSERT INTO {schema}.dead_letters (" + LETTER + ")"
    " SELECT e.id, e.received_at, k.key, m.cause, CASE WHEN k.key IS NOT NULL THEN coalesce("
    "r.root, nullif(first_value(e.id) OVER (PARTITION BY k.key ORDER BY e.id), e.id)) END,"
    + EVENT
    + "FROM "
    + KEYED
    + "JOIN unnest(%(ids)s::bigint[], %(causes)s::text[]) m (id, cause) ON m.id = e.id"
    " LEFT JOIN " + ROOTS + "ON r.key = k.key AND r.first < e.id"
    " WHERE e.source_schema = %(schema)s AND e.source_table = %(name)s ON CONFLICT DO NOTHING"
)
HOLD = (
    "INSERT INTO {schema}.dead_letters (" + LETTER + ")"
    " SELECT e.id, e.received_at, k.key, 'waits behind event ' || r.root, r.root,"
    + EVENT
    + "FROM "
    + KEYED
    + "JOIN "
    + ROOTS
    + "ON r.key = k.key AND r.first < e.id"
    " WHERE e.source_schema = %(schema)s AND e.source_table = %(name)s AND e.id > %(after)s AND e.id <= %(last_id)s"
    " AND e.operation IN ('insert', 'update', 'delete') ON CONFLICT DO NOTHING"
)
TOGETHER = (
    "INSERT INTO {schema}.dead_letters (" + LETTER + ")"
    " SELECT e.id, e.received_at, k.key, 'is one change of a key with event ' || h.half, h.root,"
    + EVENT
    + "FROM "
    + KEYED
    + "JOIN "
    + HALVES
    + "ON h.lsn = e.commit_lsn AND (e.operation = 'delete' AND h.lacks AND h.place = e.ordinal + 1"
    " OR e.operation = 'insert' AND cardinality(e.unchanged) > 0 AND h.did = 'delete' AND h.place = e.ordinal - 1)"
    " WHERE e.source_schema = %(schema)s AND e.source_table = %(name)s AND e.id > %(after)s AND e.id <= %(last_id)s"
    " ON CONFLICT DO NOTHING"
)
WAITING = """
    SELECT EXISTS (SELECT FROM {schema}.dead_letters
        WHERE state = 'waiting' AND source_schema = %(schema)s AND source_table = %(name)s),
    EXISTS (SELECT FROM {schema}.dead_letters
        WHERE state = 'waiting' AND source_schema = %(schema)s AND source_table = %(name)s OFFSET %(most)s)
"""
CHOSEN = """
    SELECT event_id, source_schema, source_table, behind, state FROM {schema}.dead_letters
    WHERE event_id = ANY(%(ids)s) OR (%(all)s AND state = 'waiting' AND behind IS NULL
        AND source_schema = %(schema)s AND source_table = %(name)s)
    ORDER BY event_id FOR UPDATE
"""
BEHIND = """
    SELECT event_id FROM {schema}.dead_letters
    WHERE state = 'waiting' AND behind = ANY(%s) AND event_id <> ALL(%s) ORDER BY event_id
"""
SEND_AGAIN = (
    "INSERT INTO {schema}.events ("
    + EVENT
    + ") SELECT"
    + EVENT
    + "FROM {schema}.dead_letters WHERE event_id = ANY(%s) ORDER BY commit_lsn, ordinal, event_id"
)
RESOLVE = """
    UPDATE {schema}.dead_letters SET state = %s, reason = %s, resolved_at = clock_timestamp() WHERE event_id = ANY(%s)
"""
STOPPED = """
    SELECT processed_id, sent_id, landed_id, copied_lsn IS NOT NULL AS is_copied, copying_lsn IS NOT NULL AS is_to_copy
    FROM {schema}.tables
    WHERE source_schema = %(schema)s AND source_table = %(name)s AND state = 'stopped'
"""
RESUME = """
    UPDATE {schema}.tables SET state = CASE WHEN copying_lsn IS NULL THEN 'active' ELSE 'copying' END, cause = '',
        asked = asked + 1, processed_id = %(processed_id)s, sent_id = greatest(sent_id, %(position)s), landed_id = 0,
        copied_lsn = CASE WHEN %(is_gone)s THEN NULL ELSE copied_lsn END
    WHERE source_schema = %(schema)s AND source_table = %(name)s AND state = 'stopped'
"""
GOES_ON = """
    SELECT 1 FROM {schema}.tables
    WHERE source_schema = %(schema)s AND source_table = %(name)s AND state <> 'stopped'
"""
LAST = 2**63 - 1
PRODUCERS_TIMEOUT = "5s"


@dataclass(frozen=True)
class Letter:
    """A dead letter, as far as settling it must know."""

    event_id: int
    source_schema: str
    source_table: str
    behind: int | None
    """The letter of the same key that it waits behind."""
    state: str


async def add_letters(holder: Holder, table: ClaimedTable, causes: Mapping[int, str]) -> int:
    """Make events (by id, with causes) dead letters, unless they are; answers how many are new.

    Of one key only the first is a letter by itself; others wait behind it, with causes of their own.
    """
    about = {"schema": table.schema, "name": table.name, "ids": list(causes), "causes": list(causes.values())}
    async with holder.transaction() as connection:
        return (await connection.execute(holder.statement(ADD), about)).rowcount


async def letters_wait(holder: Holder, table: ClaimedTable, most: int) -> tuple[bool, bool]:
    """Whether events of a table wait as dead letters, or behind them; and whether these are more than `most`."""
    about = {"schema": table.schema, "name": table.name, "most": most}
    async with holder.transaction() as connection:
        found = await (await connection.execute(holder.statement(WAITING), about)).fetchone()
    return found or (False, False)


async def hold_back(holder: Holder, table: ClaimedTable, after_id: int) -> int:
    """Let events of a claim behind `after_id` wait behind dead letters of their keys; answers how many are new."""
    about = {"schema": table.schema, "name": table.name, "after": after_id, "last_id": table.last_id}
    async with holder.transaction() as connection:
        return await _hold(holder, connection, about)


async def _hold(holder: Holder, connection: psycopg.AsyncConnection[Any], about: Mapping[str, object]) -> int:
    """Let events wait until none is left that has to, since one that waits may be half of a change of another key."""
    held = 0
    while True:
        held += (await connection.execute(holder.statement(HOLD), about)).rowcount
        halves = (await connection.execute(holder.statement(TOGETHER), about)).rowcount
        if not halves:
            return held
        held += halves


@dataclass(frozen=True)
class Settled:
    """What became of dead letters."""

    changed: int
    """Those that were asked for, and had been waiting."""
    released: int
    """Events that had waited behind them and are in the buffer again."""


async def settle(
    holder: Holder, ids: Sequence[int], table: tuple[str, str] | None, *, drop_because: str | None = None
) -> Settled:
    """Send letters into the buffer again, or drop them for a reason; what waited behind them goes on in order.

    `ids` empty: every letter of `table` that waits by itself. Those that were settled before are left as they are.

    Raises:
        BadRequest: there is no such letter, or it waits behind one that is not settled with it.
        LockTaken: the lock was lost, or a producer is within a transaction for long.
    """
    schema, name = table or ("", "")
    about = {"ids": list(ids), "all": not ids, "schema": schema, "name": name}
    async with holder.transaction() as connection:
        # No event of the same keys may come in between; what has come must wait behind the letters first.
        await _hold_producers(holder, connection)
        cursor = connection.cursor(row_factory=class_row(Letter))
        found = await (await cursor.execute(holder.statement(CHOSEN), about)).fetchall()
        chosen = [letter for letter in found if letter.state == "waiting"]
        _check(holder, ids, found, chosen, drops=drop_because is not None)
        for pair in {(letter.source_schema, letter.source_table) for letter in chosen}:
            sweep = {"schema": pair[0], "name": pair[1], "after": 0, "last_id": LAST}
            await _hold(holder, connection, sweep)
        numbers = [letter.event_id for letter in chosen]
        behind = await (await connection.execute(holder.statement(BEHIND), (numbers, numbers))).fetchall()
        released = [number for (number,) in behind]
        if drop_because is not None:
            await connection.execute(holder.statement(RESOLVE), ("dropped", drop_because, numbers))
        again = sorted(released if drop_because is not None else [*numbers, *released])
        await connection.execute(holder.statement(SEND_AGAIN), (again,))
        await connection.execute(holder.statement(RESOLVE), ("requeued", "", again))
    return Settled(len(chosen), len(released))


async def _hold_producers(holder: Holder, connection: psycopg.AsyncConnection[Any]) -> None:
    """Wait for the lock of producers, but not for one with a large transaction: batches wait meanwhile."""
    number = number_of(holder.schema, "events")
    try:
        await connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(PRODUCERS_TIMEOUT))
        await connection.execute(sql.SQL("SELECT pg_advisory_xact_lock({})").format(number))
    except errors.LockNotAvailable as busy:
        raise LockTaken(
            f"{holder.name}: the capture, or another producer, is writing a large transaction into the buffer, and "
            "letters are settled between two of them; try again when `icefleet cdc status` shows that it was captured"
        ) from busy


def _check(holder: Holder, ids: Sequence[int], found: list[Letter], chosen: list[Letter], *, drops: bool) -> None:
    if missing := sorted(set(ids) - {letter.event_id for letter in found}):
        raise BadRequest(
            f"{holder.name}: no dead letter {', '.join(map(str, missing[:10]))}; `icefleet cdc dead-letters` lists them"
        )
    numbers = {letter.event_id for letter in chosen}
    for letter in chosen:
        if not drops and letter.behind is not None and letter.behind not in numbers:
            raise BadRequest(
                f"dead letter {letter.event_id} of {letter.source_schema}.{letter.source_table} waits behind "
                f"{letter.behind}, which is of the same key; requeue or drop that one, and it goes on by itself"
            )


@dataclass(frozen=True)
class StoppedTable:
    """What the buffer knows of a table that is stopped; see `ClaimedTable`."""

    processed_id: int
    sent_id: int
    landed_id: int
    is_copied: bool
    """Whether its changelog began with a copy."""
    is_to_copy: bool
    """Whether it is copied before it goes on."""


async def stopped_at(holder: Holder, schema: str, name: str) -> StoppedTable | None:
    """How far a table is that is stopped; None: it is not."""
    async with holder.transaction() as connection:
        cursor = connection.cursor(row_factory=class_row(StoppedTable))
        found = await cursor.execute(holder.statement(STOPPED), {"schema": schema, "name": name})
        return await found.fetchone()


async def goes_on(holder: Holder, schema: str, name: str) -> bool:
    """Whether a table is known, and not stopped."""
    async with holder.transaction() as connection:
        found = await connection.execute(holder.statement(GOES_ON), {"schema": schema, "name": name})
        return await found.fetchone() is not None


async def resume(holder: Holder, schema: str, name: str, *, processed_id: int, position: int, is_gone: bool) -> None:
    """Let a stopped table go on from a mark, with a changelog at `position`, or without the one that it had."""
    about = {"schema": schema, "name": name, "processed_id": processed_id, "position": position, "is_gone": is_gone}
    async with holder.transaction() as connection:
        await connection.execute(holder.statement(RESUME), about)

"""Taking a batch from a buffer, and marking that it was carried over."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from psycopg.rows import class_row

from activities.clients.buffer_holder import Holder
from activities.core.changelogs import lsn_number, sequence_number
from activities.core.faults import BadRequest
from activities.core.sourcetables import SourceTable, parse_table

CLAIM = """
    {found}, waiting AS MATERIALIZED (
        SELECT source_schema, source_table FROM {schema}.tables WHERE state <> 'active'
        UNION ALL SELECT * FROM unnest(%(schemas)s::text[], %(names)s::text[])
    ), begun AS MATERIALIZED (
        SELECT * FROM unnest(%(begun_schemas)s::text[], %(begun_names)s::text[]) AS b (source_schema, source_table)
    ), low AS MATERIALIZED (
        SELECT min(first.id) AS id FROM found CROSS JOIN LATERAL (
            SELECT e.id FROM {schema}.events e
            WHERE e.source_schema = found.source_schema AND e.source_table = found.source_table AND e.id > CASE
                WHEN (found.source_schema, found.source_table) IN (SELECT * FROM begun) THEN %(begun_id)s ELSE 0 END
            ORDER BY e.id LIMIT 1
        ) first
        WHERE (found.source_schema, found.source_table) NOT IN (SELECT * FROM waiting)
    ), ready AS NOT MATERIALIZED (
        SELECT *, {event_bytes} AS bytes
        FROM {schema}.events
        WHERE id >= (SELECT id FROM low) AND (source_schema, source_table) NOT IN (SELECT * FROM waiting)
            AND (id > %(begun_id)s OR (source_schema, source_table) NOT IN (SELECT * FROM begun))
    ), seen AS NOT MATERIALIZED (
        SELECT id, bytes FROM ready ORDER BY id LIMIT %(events)s + 1
    ), whole AS MATERIALIZED (
        SELECT count(*) AS events, sum(bytes) AS bytes, max(id) AS last_id FROM seen
    ), unfit AS MATERIALIZED (
        SELECT id, commit_lsn, operation, unchanged FROM {schema}.events WHERE id = (
            SELECT CASE WHEN bytes > %(bytes)s THEN (
                SELECT min(id) FROM (SELECT id, sum(bytes) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) FROM seen) s
                WHERE sum > %(bytes)s
            ) WHEN events > %(events)s THEN last_id END FROM whole
        )
    ), inside AS MATERIALIZED (
        SELECT r.id FROM ready r WHERE r.id < coalesce(
            (SELECT max(b.id) FROM ready b, unfit u
                WHERE b.id < u.id AND u.operation = 'insert' AND cardinality(u.unchanged) > 0),
            (SELECT id FROM unfit)
        ) ORDER BY r.id DESC LIMIT 1
    ), cut AS MATERIALIZED (
        SELECT coalesce(
            (SELECT last_id FROM whole WHERE NOT EXISTS (SELECT FROM unfit)),
            (SELECT r.id FROM ready r WHERE r.id < (SELECT id FROM unfit)
                AND r.commit_lsn <> (SELECT commit_lsn FROM unfit) ORDER BY r.id DESC LIMIT 1),
            (SELECT id FROM inside),
            (SELECT id FROM unfit)
        ) AS last_id
    ), taken AS MATERIALIZED (
        SELECT source_schema, source_table, min(id) AS first_id, max(id) AS last_id, count(*) AS events,
            sum(bytes)::bigint AS bytes, count(*) FILTER (WHERE operation = 'schema') AS schema_events,
            max(commit_lsn)::text AS last_lsn, max(committed_at) AS last_committed_at
        FROM ready WHERE id <= (SELECT last_id FROM cut) GROUP BY source_schema, source_table
    )
    SELECT source_schema AS schema, source_table AS name, first_id, taken.last_id, events, bytes, schema_events,
        taken.last_lsn, taken.last_committed_at, copied_lsn::text, coalesce(processed_id, 0) AS processed_id,
        coalesce(t.sent_id, 0) AS sent_id, coalesce(t.landed_id, 0) AS landed_id,
        (SELECT whole.last_id > cut.last_id FROM whole, cut) AS more
    FROM taken LEFT JOIN {schema}.tables t USING (source_schema, source_table) ORDER BY first_id
"""
"""`unfit` is the first event that is too many. The batch ends before its transaction, or before it if that is larger.
A row whose key changes stays together: the insert may have values that only the row deleted just before it holds.

Of the tables that another claim has `begun`, that one has all events up to its last id, and none comes in below.
Adding up takes long, so sizes are added event by event only where all together are too large.
"""
TO_COPY = """
    SELECT source_schema || '.' || source_table FROM {schema}.tables WHERE state = 'copying'
    ORDER BY source_schema, source_table
"""
REGISTER = """
    INSERT INTO {schema}.tables (source_schema, source_table)
    SELECT * FROM unnest(%s::text[], %s::text[]) ON CONFLICT DO NOTHING
"""
SENT = """
    UPDATE {schema}.tables SET sent_id = greatest(sent_id, %(last_id)s)
    WHERE source_schema = %(schema)s AND source_table = %(name)s
"""
MARK = """
    UPDATE {schema}.tables SET processed_id = greatest(processed_id, %(last_id)s), processed_at = clock_timestamp(),
        last_lsn = %(lsn)s, last_committed_at = %(committed_at)s, written = written + %(written)s,
        landed_id = greatest(landed_id, %(position)s)
    WHERE source_schema = %(schema)s AND source_table = %(name)s
"""
FORGET = """
    DELETE FROM {schema}.events WHERE source_schema = %(schema)s AND source_table = %(name)s AND id <= %(last_id)s
"""
KNOWN = """
    SELECT processed_id, sent_id, landed_id FROM {schema}.tables
    WHERE source_schema = %(schema)s AND source_table = %(name)s
"""
SCHEMAS = """
    SELECT id, commit_lsn::text, ordinal, new_row FROM {schema}.events
    WHERE source_schema = %(schema)s AND source_table = %(name)s AND operation = 'schema'
        AND id > %(after)s AND id <= %(last_id)s AND commit_lsn >= coalesce(%(copied_lsn)s::pg_lsn, '0/0')
    ORDER BY id
"""
FIRST_SCHEMA = """
    SELECT id, commit_lsn::text, ordinal, new_row FROM {schema}.events
    WHERE source_schema = %(schema)s AND source_table = %(name)s AND operation = 'schema' ORDER BY id LIMIT 1
"""
WRITTEN = """
    SELECT count(*) FROM {schema}.events e
    WHERE source_schema = %(schema)s AND source_table = %(name)s AND id <= %(last_id)s AND operation <> 'schema'
        AND NOT EXISTS (SELECT FROM {schema}.dead_letters d WHERE d.event_id = e.id)
"""
STOP = """
    UPDATE {schema}.tables SET state = 'stopped', cause = %(cause)s
    WHERE source_schema = %(schema)s AND source_table = %(name)s AND state = 'active'
"""


@dataclass(frozen=True)
class ClaimedTable:
    """One source table's part of a batch: every event of it from `first_id` up to `last_id`."""

    schema: str
    name: str
    first_id: int
    last_id: int
    events: int
    bytes: int
    """As the buffer stores them."""
    schema_events: int
    last_lsn: str
    last_committed_at: datetime
    copied_lsn: str | None
    """What was committed before it came with the first copy; None: there was no copy."""
    processed_id: int
    """The mark of the batches before."""
    sent_id: int
    """No commit that was sent before says more than this of its position."""
    landed_id: int
    """The position that the changelog is known to have had."""
    more: bool

    @property
    def identifier(self) -> str:
        """`schema.table`."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Claim:
    """A batch."""

    tables: list[ClaimedTable]
    more: bool
    """Whether more was waiting behind it."""
    to_copy: list[str]
    """Tables that wait for their first copy, as `schema.table`; their events wait with them."""


@dataclass(frozen=True)
class SchemaEvent:
    """What a schema event says, and where it stands."""

    id: int
    sequence: str
    table: SourceTable


async def claim(
    holder: Holder,
    max_events: int,
    max_bytes: int,
    *,
    without: Collection[tuple[str, str]] = (),
    behind: Claim | None = None,
) -> Claim:
    """The next events of all tables that are neither stopped nor waiting for their copy, in the order of their ids.

    It ends before the transaction with which it would have more events or bytes; a transaction that is larger than
    that is cut. `without` leaves tables out, and with `behind` it is what follows a claim that is
    yet to be marked. Tables that nobody has heard of are followed from now on.

    Raises:
        LockTaken: the lock was lost.
        PostgresUnavailable: the session is gone.
    """
    schemas, names = [schema for schema, _ in without], [name for _, name in without]
    begun = behind.tables if behind else []
    bounds = {
        "events": max_events,
        "bytes": max_bytes,
        "schemas": schemas,
        "names": names,
        "begun_schemas": [table.schema for table in begun],
        "begun_names": [table.name for table in begun],
        "begun_id": max((table.last_id for table in begun), default=0),
    }
    async with holder.transaction() as connection:
        # In the order of the ids, from the first one on: sorting the buffer would take as long as it is large.
        await connection.execute("SET LOCAL enable_seqscan = off")
        cursor = connection.cursor(row_factory=class_row(ClaimedTable))
        tables = await (await cursor.execute(holder.statement(CLAIM), bounds)).fetchall()
        found = ([table.schema for table in tables], [table.name for table in tables])
        await connection.execute(holder.statement(REGISTER), found)
        to_copy = await (await connection.execute(holder.statement(TO_COPY))).fetchall()
    return Claim(tables, any(table.more for table in tables), [name for (name,) in to_copy])


async def as_known_now(holder: Holder, table: ClaimedTable) -> ClaimedTable:
    """A table's part of a claim, with what batches that ended since have left: marks, and what was sent and landed."""
    about = {"schema": table.schema, "name": table.name}
    async with holder.transaction() as connection:
        row = await (await connection.execute(holder.statement(KNOWN), about)).fetchone()
    processed, sent, landed = row or (table.processed_id, table.sent_id, table.landed_id)
    return replace(table, processed_id=processed, sent_id=sent, landed_id=landed)


async def schema_events(holder: Holder, table: ClaimedTable, after_id: int) -> list[SchemaEvent]:
    """The schema events of a claim behind `after_id`, in order, but for those that came before the first copy.

    Raises:
        BadRequest: one is not of the form that it should have.
    """
    about = {
        "schema": table.schema,
        "name": table.name,
        "after": after_id,
        "last_id": table.last_id,
        "copied_lsn": table.copied_lsn,
    }
    async with holder.transaction() as connection:
        rows = await (await connection.execute(holder.statement(SCHEMAS), about)).fetchall()
    return [_schema_event(holder, table, row) for row in rows]


async def first_schema(holder: Holder, table: ClaimedTable) -> SchemaEvent | None:
    """The first schema event of the table, wherever it stands in the buffer; None: there is none.

    Raises:
        BadRequest: it is not of the form that it should have.
    """
    about = {"schema": table.schema, "name": table.name}
    async with holder.transaction() as connection:
        row = await (await connection.execute(holder.statement(FIRST_SCHEMA), about)).fetchone()
    return _schema_event(holder, table, row) if row else None


def _schema_event(holder: Holder, table: ClaimedTable, row: tuple[Any, ...]) -> SchemaEvent:
    number, lsn, ordinal, told = row
    sequence = sequence_number(lsn_number(lsn), ordinal)
    try:
        parsed = parse_table(table.schema, table.name, told or {})
    except BadRequest as wrong:
        raise BadRequest(
            f"{wrong}; mend new_row of event {number} in {holder.schema}.events by SQL, and then "
            f"`icefleet cdc resume --table {table.identifier}`"
        ) from wrong
    return SchemaEvent(number, sequence, parsed)


async def count_written(holder: Holder, table: ClaimedTable, position: int) -> int:
    """How many of a claim's events a changelog holds whose position is this: no mark followed its commit."""
    about = {"schema": table.schema, "name": table.name, "last_id": min(position, table.last_id)}
    async with holder.transaction() as connection:
        row = await (await connection.execute(holder.statement(WRITTEN), about)).fetchone()
    return int(row[0]) if row else 0


async def set_sent(holder: Holder, table: ClaimedTable) -> None:
    """Remember that from now on the changelog may hold a table's part of a claim.

    A changelog that holds more than was sent is that of a buffer which was set back and gives out ids anew.
    """
    about = {"schema": table.schema, "name": table.name, "last_id": table.last_id}
    async with holder.transaction() as connection:
        await connection.execute(holder.statement(SENT), about)


async def mark(holder: Holder, table: ClaimedTable, written: int, position: int) -> None:
    """Say that a table's part of a batch is carried over, and forget its events.

    `written` of them are in the changelog, whose position is `position`; the others are dead letters, or tell of the
    schema.

    Raises:
        LockTaken: the lock was lost: another one goes on from here.
        PostgresUnavailable: the session is gone; whoever takes the batch again finds it in the changelog.
    """
    about = {
        "schema": table.schema,
        "name": table.name,
        "last_id": table.last_id,
        "lsn": table.last_lsn,
        "committed_at": table.last_committed_at,
        "written": written,
        "position": position,
    }
    async with holder.transaction() as connection:
        await connection.execute(holder.statement(MARK), about)
        await connection.execute(holder.statement(FORGET), about)


async def stop(holder: Holder, table: ClaimedTable, cause: str) -> None:
    """Leave a table out until a person resumes it."""
    about = {"schema": table.schema, "name": table.name, "cause": cause}
    async with holder.transaction() as connection:
        await connection.execute(holder.statement(STOP), about)

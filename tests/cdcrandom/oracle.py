"""What PostgreSQL itself says of its changes: triggers log every row beside it, in the same transaction.

What is rolled back vanishes from the log by itself. Only the position and the time of each commit cannot be had by SQL:
they are read from a replication slot of the oracle's own, of which nothing but the messages that begin a transaction is
looked at.
"""

import json
import struct
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cdcrandom.tables import PREPARE, Table, quoted
from support.ownpostgres import OwnPostgres

SLOT = "oracle"
BEGIN = struct.Struct(">cqqI")
"""`B`, the LSN of the commit, its time in microseconds since 2000, the transaction's id."""
SECONDS_TO_2000 = 946_684_800

SETUP = (
    "CREATE SCHEMA oracle",
    """
    CREATE TABLE oracle.log (
        n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, xid bigint NOT NULL, source text NOT NULL, op text NOT NULL,
        old text, new text, shape jsonb
    )
    """,
    """
    CREATE FUNCTION oracle.shape(wanted oid) RETURNS jsonb LANGUAGE sql AS $$
        SELECT jsonb_agg(jsonb_build_array(a.attnum, a.attname,
            CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod)
            ELSE format_type(a.atttypid, a.atttypmod) END) ORDER BY a.attnum)
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = wanted AND a.attnum > 0 AND NOT a.attisdropped
    $$
    """,
    """
    CREATE FUNCTION oracle.note() RETURNS trigger LANGUAGE plpgsql
    SET TimeZone = 'UTC' SET DateStyle = 'ISO' SET IntervalStyle = 'postgres' SET extra_float_digits = 1
    SET bytea_output = 'hex' AS $$
    BEGIN
        INSERT INTO oracle.log (xid, source, op, old, new, shape) VALUES (
            pg_current_xact_id()::text::bigint, TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, TG_OP, OLD::text, NEW::text,
            oracle.shape(TG_RELID)
        );
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE FUNCTION oracle.note_shape(wanted regclass, called text) RETURNS void LANGUAGE sql AS $$
        INSERT INTO oracle.log (xid, source, op, shape)
        VALUES (pg_current_xact_id()::text::bigint, called, 'SHAPE', oracle.shape(wanted))
    $$
    """,
    "CREATE PUBLICATION oracle FOR TABLE oracle.log (n)",
    f"SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')",
)


@dataclass(frozen=True)
class Column:
    """One column of a table at one time."""

    number: int
    """What stays when it is renamed."""
    name: str
    type: str


Shape = tuple[Column, ...]


@dataclass(frozen=True)
class Logged:
    """One change of one row, or of a whole table."""

    operation: str
    """`INSERT`, `UPDATE`, `DELETE`, `TRUNCATE`, or `SHAPE` when only the columns changed."""
    old: str | None
    new: str | None
    shape: Shape


@dataclass(frozen=True)
class Transaction:
    """What one transaction did to one table, in order."""

    lsn: int
    at: int
    """Microseconds since 1970."""
    changes: tuple[Logged, ...]


def sql_name(table: Table) -> str:
    """The table as SQL has it."""
    return f"{quoted(table.schema)}.{quoted(table.name)}"


async def set_up(source: OwnPostgres, tables: Sequence[Table]) -> None:
    """Make the tables, with triggers that log whatever happens to them from the first row on."""
    await source.run(*SETUP, *PREPARE)
    for table in tables:
        name = sql_name(table)
        await source.run(f"CREATE TABLE {name} ({', '.join(table.columns)})")
        note = "EXECUTE FUNCTION oracle.note()"
        large = [word.split()[0] for word in table.columns if word.startswith("big_")]
        await source.run(
            *(f"ALTER TABLE {name} ALTER COLUMN {column} SET STORAGE EXTERNAL" for column in large),
            f"CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON {name} FOR EACH ROW {note}",
            f"CREATE TRIGGER emptied AFTER TRUNCATE ON {name} FOR EACH STATEMENT {note}",
            shape_note(table),
        )
        if table.full and table.key:
            await source.run(f"ALTER TABLE {name} REPLICA IDENTITY FULL")


def shape_note(table: Table) -> str:
    """SQL that logs a table's columns; it belongs behind every change of them."""
    literal = sql_name(table).replace("'", "''")
    return f"SELECT oracle.note_shape('{literal}', '{table.identifier}')"


async def last_commit(source: OwnPostgres) -> int:
    """The position of the last transaction that wrote to any of the tables."""
    commits = await _commits(source, take=False)
    return max(lsn for lsn, _ in commits.values())


async def read_log(source: OwnPostgres) -> dict[str, list[Transaction]]:
    """Table → its transactions, in the order in which they were committed."""
    commits = await _commits(source, take=True)
    changes: dict[str, dict[int, list[Logged]]] = defaultdict(lambda: defaultdict(list))
    shapes: dict[str, Shape] = {}
    rows = await source.rows("SELECT xid, source, op, old, new, shape::text FROM oracle.log ORDER BY n")
    for xid, table, operation, old, new, text in rows:
        if text not in shapes:
            shapes[text] = tuple(Column(*column) for column in json.loads(text))
        changes[table][xid].append(Logged(operation, old, new, shapes[text]))
    return {table: _in_order(found, commits) for table, found in changes.items()}


def _in_order(found: dict[int, list[Logged]], commits: dict[int, tuple[int, int]]) -> list[Transaction]:
    made = [Transaction(*commits[xid], changes=tuple(changes)) for xid, changes in found.items()]
    return sorted(made, key=lambda transaction: transaction.lsn)


async def _commits(source: OwnPostgres, *, take: bool) -> dict[int, tuple[int, int]]:
    """Transaction → position and time of its commit, of every one that left something in the log."""
    look = "get" if take else "peek"
    rows = await source.rows(
        f"SELECT data FROM pg_logical_slot_{look}_binary_changes('{SLOT}', NULL, NULL, 'proto_version', '1', "
        "'publication_names', 'oracle') WHERE get_byte(data, 0) = 66"
    )
    begun = [BEGIN.unpack(bytes(data)) for (data,) in rows]
    return {xid: (lsn, micros + SECONDS_TO_2000 * 1_000_000) for _, lsn, micros, xid in begun}


async def final_rows(source: OwnPostgres, tables: Sequence[Table]) -> dict[str, tuple[Shape, list[str]]]:
    """Table → its columns and the text of every row, as they are now."""
    found = {}
    for table in tables:
        [(text,)] = await source.rows(f"SELECT oracle.shape('{sql_name(table)}'::regclass)::text")
        rows = await source.rows(f"SELECT t::text FROM {sql_name(table)} t")
        found[table.identifier] = (tuple(Column(*column) for column in json.loads(text)), [row for (row,) in rows])
    return found

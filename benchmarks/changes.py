"""Change events by the hundred thousand, written into a buffer as a capture would write them, by SQL alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.types.json import Jsonb

from activities.clients.postgres import PostgresSettings
from activities.core.sourcetables import SourceColumn, SourceTable, dump_table

TRANSACTION = 100
"""Events of one transaction of the source."""
FIRST_COMMIT = "2026-07-01 00:00:00+00"
STRIDE = 1_000
"""Bytes of log of one transaction."""


@dataclass(frozen=True)
class Column:
    """A column of a source table: its type there and in Arrow, and SQL for the text of its value in row `n`."""

    type: str
    arrow: pa.DataType
    text: str


DECIMAL = ("numeric(12,2)", pa.decimal128(12, 2))
TIMESTAMP = ("timestamp with time zone", pa.timestamp("us", tz="UTC"))
NARROW: Mapping[str, Column] = {
    "id": Column("bigint", pa.int64(), "n"),
    "customer": Column("integer", pa.int32(), "n % 5003"),
    "status": Column("text", pa.string(), "(ARRAY['new', 'paid', 'sent', 'returned'])[1 + n % 4]"),
    "amount": Column(*DECIMAL, "((n % 100000) / 100.0)::numeric(12, 2)"),
    "placed_at": Column(*TIMESTAMP, "timestamptz '2026-07-01' + n * interval '1 second'"),
    "note": Column("text", pa.string(), "'order ' || md5(n::text)"),
}
KINDS = (
    Column("integer", pa.int32(), "(n + {k}) % 5003"),
    Column("text", pa.string(), "'text ' || ((n * {k}) % 100003)"),
    Column(*DECIMAL, "((n + {k}) % 100000 / 100.0)::numeric(12, 2)"),
    Column(*TIMESTAMP, "timestamptz '2026-07-01' + (n + {k}) * interval '1 second'"),
    Column("double precision", pa.float64(), "(n + {k}) / 7.0::float8"),
    Column("date", pa.date32(), "date '2026-07-01' - (n + {k}) % 10000"),
)
WIDE: Mapping[str, Column] = {"id": NARROW["id"]} | {
    f"c{k:02}": Column(kind.type, kind.arrow, kind.text.format(k=k))
    for k, kind in ((k, KINDS[k % len(KINDS)]) for k in range(1, 40))
}


class Changes:
    """A source table's events in one buffer: of ten, seven are inserts, two updates and one a delete."""

    def __init__(self, postgres: PostgresSettings, schema: str, table: str, columns: Mapping[str, Column]) -> None:
        self._postgres = postgres
        self._events = sql.Identifier(schema, "events")
        self.schema = schema
        self.table = table
        self.columns = columns
        self._written = 0

    def connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        """A connection in autocommit mode."""
        return psycopg.connect(**self._postgres.parameters(), autocommit=True)

    def describe(self) -> None:
        """Write the schema event, which comes before the first row."""
        columns = tuple(
            SourceColumn(name, column.type, id=n) for n, (name, column) in enumerate(self.columns.items(), 1)
        )
        told = dump_table(SourceTable("public", self.table, columns, ("id",)))
        with self.connect() as connection:
            connection.execute(
                sql.SQL(
                    "INSERT INTO {} (source_schema, source_table, operation, commit_lsn, ordinal, committed_at, "
                    "key_columns, new_row) VALUES ('public', %s, 'schema', '0/1', 0, %s, '{{id}}', %s)"
                ).format(self._events),
                (self.table, FIRST_COMMIT, Jsonb(told)),
            )

    def fill(self, count: int) -> int:
        """Write `count` further events, and let the server settle; answers the id of the last one."""
        row = sql.SQL(", ").join(
            sql.SQL("{}, ({})::text").format(sql.Literal(name), sql.SQL(column.text))
            for name, column in self.columns.items()
        )
        statement = sql.SQL(
            "INSERT INTO {events} (source_schema, source_table, operation, commit_lsn, ordinal, committed_at, "
            "key_columns, old_row, new_row) SELECT 'public', {table}, operation, "
            "'0/1'::pg_lsn + (1 + n / {size}) * {stride}::numeric, n % {size}, "
            "{first}::timestamptz + n / {size} * interval '1 millisecond', '{{id}}', "
            "CASE WHEN operation = 'delete' THEN jsonb_build_object('id', n::text) END, "
            "CASE WHEN operation <> 'delete' THEN jsonb_build_object({row}) END "
            "FROM (SELECT n, (ARRAY['delete', 'update', 'update', 'insert'])[1 + least(n % 10, 3)] AS operation "
            "FROM generate_series({begin}, {end}) n) made ORDER BY n"
        ).format(
            events=self._events,
            table=self.table,
            size=sql.Literal(TRANSACTION),
            stride=sql.Literal(STRIDE),
            first=FIRST_COMMIT,
            row=row,
            begin=sql.Literal(self._written),
            end=sql.Literal(self._written + count - 1),
        )
        with self.connect() as connection:
            connection.execute(statement)
            self._written += count
            connection.execute(sql.SQL("VACUUM ANALYZE {}").format(self._events))
            connection.execute("CHECKPOINT")
            return int(self._number(connection, sql.SQL("SELECT max(id) FROM {}").format(self._events)))

    def processed(self, connection: "psycopg.Connection[tuple[object, ...]]") -> int:
        """The event up to which the changelog holds everything; raises RuntimeError when the table was stopped."""
        tables = sql.Identifier(self.schema, "tables")
        found = connection.execute(
            sql.SQL("SELECT processed_id, state, cause FROM {} WHERE source_table = %s").format(tables), (self.table,)
        ).fetchone()
        if found and found[1] == "stopped":
            raise RuntimeError(f"{self.table} was stopped: {found[2]}")
        return int(str(found[0])) if found else 0

    def letters(self) -> int:
        """How many events could not be written."""
        with self.connect() as connection:
            table = sql.Identifier(self.schema, "dead_letters")
            return int(self._number(connection, sql.SQL("SELECT count(*) FROM {}").format(table)))

    @staticmethod
    def _number(connection: "psycopg.Connection[tuple[object, ...]]", query: sql.Composed) -> str:
        found = connection.execute(query).fetchone()
        return str(found[0] if found else 0)

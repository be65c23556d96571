"""A buffer of one test's own, and events as a producer writes them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from activities.core.changelogs import lsn_text
from support.ownpostgres import OwnPostgres

SCHEMA = "icefleet_cdc"
NARROW = [
    {"name": "id", "type": "bigint", "id": 1},
    {"name": "name", "type": "text", "id": 2},
    {"name": "amount", "type": "numeric(10,2)", "id": 3},
]
INSERT = (
    "INSERT INTO {}.events (source_schema, source_table, operation, commit_lsn, ordinal, committed_at, "
    "key_columns, old_row, new_row, unchanged) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
)
AT = "2026-03-20 12:00:00+00"


@dataclass(frozen=True)
class Event:
    """One event, as a row of the buffer."""

    operation: str
    new: Mapping[str, Any] | None = None
    old: Mapping[str, Any] | None = None
    table: str = "orders"
    schema: str = "public"
    key: Sequence[str] = ("id",)
    unchanged: Sequence[str] = ()
    at: str = AT

    def values(self, lsn: int, ordinal: int) -> tuple[Any, ...]:
        """For `INSERT`."""
        rows = [None if row is None else Jsonb(dict(row)) for row in (self.old, self.new)]
        where = (self.schema, self.table, self.operation, lsn_text(lsn), ordinal, self.at)
        return (*where, list(self.key), *rows, list(self.unchanged))


def insert(number: Any, name: Any = "a", amount: Any = "1.00", **more: Any) -> Event:
    """A row of the narrow table; `more` are fields of the event."""
    return Event("insert", {"id": number, "name": name, "amount": amount}, **more)


def update(number: Any, name: Any = "b", amount: Any = "2.00", **more: Any) -> Event:
    """A row of the narrow table was changed."""
    return Event("update", {"id": number, "name": name, "amount": amount}, **more)


def delete(number: Any, **more: Any) -> Event:
    """A row of the narrow table is gone."""
    return Event("delete", old={"id": number}, **more)


def truncate(**more: Any) -> Event:
    """Every row of the table is gone."""
    return Event("truncate", key=(), **more)


def schema_event(columns: Sequence[Mapping[str, Any]] = NARROW, key: Sequence[str] = ("id",), **more: Any) -> Event:
    """The table's columns from here on."""
    return Event("schema", {"columns": list(columns), "key": list(key)}, **more)


@dataclass
class Producer:
    """Writes transactions into a buffer; every one has the next LSN."""

    own: OwnPostgres
    lsn: int = 0x100
    step: int = 0x10
    schema: str = SCHEMA
    """Of the buffer."""
    written: list[tuple[int, int, Event]] = field(default_factory=list)
    """LSN, ordinal and event of everything that was written."""

    async def transaction(self, *events: Event, lsn: int | None = None) -> int:
        """Write one transaction; answers its LSN."""
        async with await self.own.settings.connect() as connection, connection.transaction():
            return await self.write(connection, events, lsn=lsn)

    async def transactions(self, transactions: Iterable[Sequence[Event]]) -> None:
        """Write several, in one transaction of the buffer as a capture does."""
        async with await self.own.settings.connect() as connection, connection.transaction():
            for events in transactions:
                await self.write(connection, events)

    async def write(self, connection: AsyncConnection[Any], events: Iterable[Event], *, lsn: int | None = None) -> int:
        """Write one transaction on a connection."""
        if lsn is None:
            self.lsn += self.step
            lsn = self.lsn
        rows = [(lsn, ordinal, event) for ordinal, event in enumerate(events)]
        async with connection.cursor() as cursor:
            await cursor.executemany(
                INSERT.format(self.schema).encode(), [event.values(lsn, ordinal) for lsn, ordinal, event in rows]
            )
        self.written += rows
        return lsn


async def many_rows(own: OwnPostgres, rows: int, *, tables: int = 1, lsn: int = 0x1000, per: int = 1) -> None:
    """Insert events of the narrow table (`per` of them in a transaction) into `t0`, `t1` … in turn, by SQL alone."""
    await own.run(
        f"INSERT INTO {SCHEMA}.events (source_schema, source_table, operation, commit_lsn, ordinal, committed_at, "
        "key_columns, new_row) "
        f"SELECT 'public', 't' || n % {tables}, 'insert', ('0/0'::pg_lsn + {lsn} + (n / {per}) * 16), n % {per}, "
        f"timestamptz '{AT}' + n * interval '1 ms', '{{id}}', "
        "jsonb_build_object('id', n, 'name', 'name ' || n, 'amount', (n % 1000)::text || '.50') "
        f"FROM generate_series(0, {rows} - 1) n"
    )

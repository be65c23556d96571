"""What one would write without icefleet: fetch rows, make an Arrow table of them, append it, delete them."""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from multiprocessing import get_context
from typing import Any

import pyarrow as pa
from changes import Changes
from harness import Memory, timed
from psycopg import sql
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from activities.core.changelogs import lsn_number, sequence_number
from worker.config import load_settings
from worker.lake import open_lake

SYSTEM = {
    "cdc_operation": pa.string(),
    "cdc_sequence_number": pa.string(),
    "cdc_lsn": pa.string(),
    "cdc_timestamp": pa.timestamp("us", tz="UTC"),
    "cdc_unchanged": pa.list_(pa.string()),
}
READ: Mapping[pa.DataType, Callable[[str], Any]] = {
    pa.int32(): int,
    pa.int64(): int,
    pa.float64(): float,
    pa.decimal128(12, 2): Decimal,
    pa.timestamp("us", tz="UTC"): datetime.fromisoformat,
    pa.date32(): date.fromisoformat,
}
"""How a value is read from PostgreSQL's text; strings stay as they are."""


class PlainLoop:
    """The peer of an ingest: the same columns in one table without partitions, with `batch` events a commit.

    It has no lock, no drift, no dead letters and no days to sort rows by, and it repeats rows when it dies.
    """

    def __init__(self, changes: Changes, catalog: Catalog, batch: int) -> None:
        self._changes = changes
        self._events = sql.Identifier(changes.schema, "events")
        self._batch = batch
        columns = changes.columns.items()
        self._read = {name: READ[column.arrow] for name, column in columns if column.arrow in READ}
        self._schema = pa.schema([*SYSTEM.items(), *((name, column.arrow) for name, column in columns)])
        catalog.create_namespace_if_not_exists("plain")
        self.table: Table = catalog.create_table(f"plain.{changes.table}", self._schema)

    def run(self, last: int) -> None:
        """Carry everything up to the event `last` into the table."""
        fetch = sql.SQL(
            "SELECT id, operation, commit_lsn::text, ordinal, committed_at, unchanged, coalesce(new_row, old_row) "
            "FROM {} WHERE operation <> 'schema' ORDER BY id LIMIT {}"
        ).format(self._events, self._batch)
        done = 0
        with self._changes.connect() as connection:
            while done < last:
                found = connection.execute(fetch).fetchall()
                self.table.append(pa.Table.from_pylist([self._row(*row[1:]) for row in found], schema=self._schema))
                done = int(str(found[-1][0]))
                connection.execute(sql.SQL("DELETE FROM {} WHERE id <= {}").format(self._events, done))

    def _row(self, *fetched: Any) -> dict[str, Any]:
        operation, lsn, ordinal, at, unchanged, row = fetched
        for name, read in self._read.items():
            if (text := row.get(name)) is not None:
                row[name] = read(text)
        row["cdc_operation"] = operation
        row["cdc_sequence_number"] = sequence_number(lsn_number(lsn), ordinal)
        row["cdc_lsn"] = lsn
        row["cdc_timestamp"] = at
        row["cdc_unchanged"] = unchanged
        return row


class Peer:
    """A plain loop in a process of its own, ready to run."""

    def __init__(self, pool: ProcessPoolExecutor, memory: Memory) -> None:
        self._pool = pool
        self._memory = memory

    def run(self, last: int) -> float:
        """Seconds that everything up to the event `last` takes."""
        return self._pool.submit(_run, last).result()

    @property
    def growth(self) -> float:
        """Bytes by which the process has grown since it was ready, at its peak."""
        return self._memory.peak - self._memory.idle


@contextmanager
def peer(environment: str, changes: Changes, batch: int) -> Iterator[Peer]:
    """Start one; its table is `plain.` and the name of the source table."""
    context = get_context("spawn")
    with ProcessPoolExecutor(1, context, _prepare, (environment, changes, batch)) as pool:
        pid = pool.submit(os.getpid).result()
        with Memory(pid) as memory:
            yield Peer(pool, memory)


_loops: list[PlainLoop] = []


def _prepare(environment: str, changes: Changes, batch: int) -> None:
    catalog = open_lake(load_settings().environment(environment)).catalog
    _loops.append(PlainLoop(changes, catalog, batch))


def _run(last: int) -> float:
    [loop] = _loops
    return timed(lambda: loop.run(last))

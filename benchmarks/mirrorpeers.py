"""What one would do without icefleet: DuckDB's MERGE INTO, a full rewrite, PyIceberg's upsert.

Each works in a process of its own, so that its memory is its own.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
from harness import Memory, timed
from mirrorchanges import CHANGE, ROW, Batch
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from starter.duck import Duck
from worker.config import load_settings
from worker.lake import open_lake

Apply = Callable[[Batch], object]
PEERS = ("duckdb_merge", "rewrite", "upsert")
SETS = ", ".join(f"{name} = s.{name}" for name in ROW.names[1:])
VALUES = ", ".join(f"s.{name}" for name in ROW.names)


def make_table(catalog: Catalog, name: str, rows: Iterable[pa.Table]) -> Table:
    """A table without partitions, of a file for each piece of rows."""
    namespace = name.partition(".")[0]
    catalog.create_namespace_if_not_exists(namespace)
    table = catalog.create_table(name, ROW)
    for piece in rows:
        table.append(piece)
    return table


def copied(source: Table) -> Iterator[pa.Table]:
    """All rows of a table, some at a time."""
    for batch in source.scan().to_arrow_batch_reader():
        yield pa.Table.from_batches([batch]).select(ROW.names).cast(ROW)


def duckdb_merge(attached: Duck, name: str) -> Apply:
    """Upserts by one MERGE INTO, deletes by one DELETE."""
    duck = attached._duck  # noqa: SLF001 - the peer needs what the command does not offer: tables of this process

    def apply(batch: Batch) -> None:
        duck.register("upserts", batch.upserts)
        duck.register("deletes", batch.deletes)
        duck.execute(
            f"MERGE INTO lake.{name} t USING upserts s ON t.id = s.id WHEN MATCHED THEN UPDATE SET {SETS} "
            f"WHEN NOT MATCHED THEN INSERT ({', '.join(ROW.names)}) VALUES ({VALUES})"
        )
        duck.execute(f"DELETE FROM lake.{name} WHERE id IN (SELECT id FROM deletes)")

    return apply


def rewrite(table: Table) -> Apply:
    """All rows read, those that changed left out, the new ones added, everything written again."""

    def apply(batch: Batch) -> None:
        table.refresh()
        rows = table.scan().to_arrow()
        touched = pa.concat_arrays([*batch.upserts["id"].chunks, *batch.deletes["id"].chunks])
        kept = rows.filter(pc.invert(pc.is_in(rows["id"], value_set=touched)))
        table.overwrite(pa.concat_tables([kept.cast(ROW), batch.upserts]))

    return apply


def upsert(table: Table) -> Apply:
    """PyIceberg's own. It knows no deletes: they are left out, in its favour."""

    def apply(batch: Batch) -> None:
        table.refresh()
        table.upsert(batch.upserts, join_cols=["id"])

    return apply


@dataclass(frozen=True)
class Turn:
    """What a batch took."""

    seconds: float
    growth: float
    """Bytes of resident memory over what the process had when it was ready to begin."""


class Peer:
    """One of PEERS, ready to be given batches for a table. Use as a context manager."""

    def __init__(self, environment: str, peer: str, table: str) -> None:
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), _open, (environment, peer, table))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def apply(self, batch: Batch) -> Turn:
        """What is sent to the process is nobody's time."""
        return self._pool.submit(_turn, Batch(CHANGE.empty_table(), batch.upserts, batch.deletes)).result()


@dataclass
class _Opened:
    """What a peer's process holds."""

    apply: list[Apply] = field(default_factory=list)
    idle: int = 0


_opened = _Opened()


def _open(environment: str, peer: str, name: str) -> None:
    found = load_settings().environment(environment)
    if peer == "duckdb_merge":
        _opened.apply.append(duckdb_merge(Duck(found), name))
    else:
        table = open_lake(found).catalog.load_table(name)
        _opened.apply.append({"rewrite": rewrite, "upsert": upsert}[peer](table))
    _opened.idle = Memory(os.getpid()).idle


def _turn(batch: Batch) -> Turn:
    [apply] = _opened.apply
    with Memory(os.getpid()) as memory:
        seconds = timed(lambda: apply(batch))
    return Turn(seconds, memory.peak - _opened.idle)

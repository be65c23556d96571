"""What one would do without icefleet: DuckDB's MERGE INTO, a full rewrite, PyIceberg's upsert."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from mirrorchanges import ROW, Batch
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from starter.duck import Duck
from worker.config import Environment

Apply = Callable[[Batch], object]
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


@contextmanager
def attached(environment: Environment) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB with the catalog as `lake`."""
    with Duck(environment) as duck:
        yield duck._duck  # noqa: SLF001 - the peer needs what the command does not offer: tables of this process


def duckdb_merge(duck: duckdb.DuckDBPyConnection, name: str) -> Apply:
    """Upserts by one MERGE INTO, deletes by one DELETE."""

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

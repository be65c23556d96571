"""Rows of a mirror's data files, under today's names and types, each with its position."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io.pyarrow import pyarrow_to_schema, schema_to_pyarrow
from pyiceberg.schema import Schema

from activities.core.faults import MirrorForeign
from activities.lake.content import WHOLE_BYTES, Files, named
from activities.lake.live import LiveFile
from activities.lake.positiondeletes import Positions, deleted_rows
from activities.lake.projecting import projected

BATCH_BYTES = 8 * 2**20
"""What rows that are read at once take in Parquet, before they are compressed, more or less."""
FEWEST_ROWS, MOST_ROWS = 1024, 65_536


@dataclass(frozen=True)
class MirrorRows:
    """Some rows of one data file."""

    positions: Positions
    rows: pa.RecordBatch


def live_rows(files: Files, schema: Schema, live: LiveFile, names: Sequence[str] = ()) -> Iterator[MirrorRows]:
    """The rows of a data file that are not deleted, in order and in batches; of some columns, or (none given) of all.

    Raises:
        ObjectRefused, StoreUnavailable: the file cannot be read.
    """
    gone = deleted_rows(files, live)
    wanted = schema.select(*names) if names else schema
    size = live.data.file_size_in_bytes
    is_small = not names and size <= WHOLE_BYTES
    with named(live.path), files.open_most(live.path, size) if is_small else files.open(live.path) as opened:
        projected = _Projection(opened, wanted, live.path)
        start = 0
        for batch in opened.iter_batches(_batch_rows(opened.metadata), columns=projected.columns, use_threads=False):
            positions = np.arange(start, start + batch.num_rows, dtype=np.uint32)
            start += batch.num_rows
            first, stop = np.searchsorted(gone, [positions[0], positions[-1] + 1]) if len(positions) else (0, 0)
            if stop > first:
                kept = np.ones(batch.num_rows, np.bool_)
                kept[gone[first:stop] - positions[0]] = False
                batch, positions = batch.filter(pa.array(kept)), positions[kept]  # noqa: PLW2901 - the rows that are left
            if batch.num_rows:
                yield MirrorRows(positions, projected.fit(batch))


def _batch_rows(metadata: pq.FileMetaData) -> int:
    """How many rows to read at once, so that batches are small: what is done to each has its price, too."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    size = int(sum(group.total_byte_size for group in groups)) // max(1, int(metadata.num_rows))
    return max(FEWEST_ROWS, min(MOST_ROWS, BATCH_BYTES // max(1, size)))


def rows_at(files: Files, schema: Schema, path: str, positions: Positions, names: Sequence[str] = ()) -> pa.Table:
    """The rows at some positions (ascending) of a data file, deleted or not; row groups without one are not read.

    Raises:
        ObjectRefused, StoreUnavailable: the file cannot be read.
    """
    wanted = schema.select(*names) if names else schema
    found: list[pa.RecordBatch] = []
    with named(path), files.open(path) as opened:
        projected = _Projection(opened, wanted, path)
        metadata, start = opened.metadata, 0
        for group in range(metadata.num_row_groups):
            stop = start + metadata.row_group(group).num_rows
            first, last = np.searchsorted(positions, [start, stop])
            if last > first:
                table = opened.read_row_group(group, columns=projected.columns, use_threads=False)
                chosen = table.take(pa.array(positions[first:last].astype(np.int64) - start)).combine_chunks()
                found += [projected.fit(batch) for batch in chosen.to_batches()]
            start = stop
    return pa.Table.from_batches(found, schema=projected.arrow)


class _Projection:
    """From a file's columns to those that are wanted: by field ids, widened, null where the file has none."""

    def __init__(self, opened: pq.ParquetFile, wanted: Schema, path: str) -> None:
        try:
            held = pyarrow_to_schema(opened.schema_arrow, downcast_ns_timestamp_to_us=True)
        except ValueError as wrong:
            raise MirrorForeign(
                f"data file {path} of a mirror has no field ids, so another writer made it ({wrong}); compact the "
                "table with an engine that knows its columns by name, or roll it back to the snapshot before"
            ) from wrong
        self._wanted = wanted
        self.arrow: pa.Schema = schema_to_pyarrow(wanted, include_field_ids=False)
        ids = {field.field_id for field in wanted.fields}
        self._held = Schema(*(field for field in held.fields if field.field_id in ids))
        # Without any column the number of rows would not be known.
        self.columns = [field.name for field in self._held.fields] or opened.schema_arrow.names[:1]

    def fit(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A batch of `columns` as it is wanted, in the very types of Arrow that the library has for Iceberg's."""
        return projected(self._wanted, self._held, batch).cast(self.arrow)

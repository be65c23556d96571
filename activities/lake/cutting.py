"""The rows of several partitions, as one query answers them, as a Parquet file each.

Such a file has the columns, in the types and forms, that ClickHouse's own Parquet has; it only lacks bloom filters,
which nobody needs to find a row among some thousands.
"""

import io
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from activities.core.faults import ResultIncomplete, UnsupportedType
from activities.core.iceberg_types import IcebergType
from activities.lake.fit import misfits
from activities.lake.footers import read_footer

_SECONDS = pa.timestamp("s", "UTC")
_MILLISECONDS = pa.timestamp("ms", "UTC")
"""What a DateTime is in ClickHouse's Parquet; in its Arrow it is a number."""
_COMPRESSION_LEVEL = 3
_WRITING = {"compression": "zstd", "compression_level": _COMPRESSION_LEVEL, "store_schema": False}
_PAGES = {"write_page_index": True, "write_page_checksum": True}


def cut(stream: bytes, types: Mapping[str, IcebergType]) -> dict[int, bytes]:
    """Partition → its file.

    Args:
        stream: A whole Arrow stream, in the order of the partitions, whose last column says each row's.
        types: The types under which the files will be read, by the names of the other columns.

    Raises:
        ResultIncomplete: it is not such a stream.
        UnsupportedType: some column has no right form in such a file; it may have one in ClickHouse's own.
    """
    files: dict[int, bytes] = {}
    try:
        with pa.ipc.open_stream(pa.BufferReader(stream)) as reader:
            for partition, batches in _by_partition(reader):
                if partition in files:
                    raise ResultIncomplete(f"the source sent rows of partition {partition} in two places")
                files[partition] = _file_of(batches, types)
                if len(files) == 1:
                    _check(files[partition], types)
    except pa.ArrowInvalid as broken:
        raise ResultIncomplete(f"the source sent an Arrow stream that cannot be read: {broken}") from broken
    return files


def _by_partition(reader: pa.RecordBatchReader) -> Iterator[tuple[int, list[pa.RecordBatch]]]:
    """Runs of rows that say the same partition; no more than one run and one batch are in memory."""
    current, waiting = 0, list[pa.RecordBatch]()
    for batch in reader:
        partitions = batch.column(batch.num_columns - 1).to_numpy()
        edges = [0, *(np.flatnonzero(np.diff(partitions)) + 1).tolist(), len(partitions)]
        rows = batch.select(range(batch.num_columns - 1))
        for start, stop in pairwise(edges):
            if start == stop:
                continue
            partition = int(partitions[start])
            if waiting and partition != current:
                yield current, waiting
                waiting = []
            current = partition
            waiting.append(rows.slice(start, stop - start))
    if waiting:
        yield current, waiting


def _file_of(batches: list[pa.RecordBatch], types: Mapping[str, IcebergType]) -> bytes:
    table = _formed(pa.Table.from_batches(batches), types)
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, **_WRITING, **_PAGES) as writer:
        writer.write_table(table, row_group_size=table.num_rows)
    return sink.getvalue()


def _formed(table: pa.Table, types: Mapping[str, IcebergType]) -> pa.Table:
    """Moments as moments."""
    for position, field in enumerate(table.schema):
        if str(types[field.name]) == "timestamptz" and pa.types.is_uint32(field.type):
            moments: Any = table.column(position).cast(pa.int64()).cast(_SECONDS).cast(_MILLISECONDS)
            table = table.set_column(position, field.with_type(_MILLISECONDS), moments)
    return table


def _check(file: bytes, types: Mapping[str, IcebergType]) -> None:
    if wrong := misfits(read_footer("", file, len(file)), types):
        raise UnsupportedType(
            f"a file that is made of Arrow would be another one than ClickHouse's: {'; '.join(wrong)}"
        )

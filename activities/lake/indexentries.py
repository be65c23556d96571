"""Entries of an index as Parquet, so that any SQL engine can look into a segment."""

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from activities.core.mirrors import Entries, Keys, Sequences

_SCHEMA = pa.schema(
    [
        pa.field(name, kind, nullable=False)
        for name, kind in (
            ("key_high", pa.uint64()),
            ("key_low", pa.uint64()),
            ("file", pa.uint32()),
            ("row", pa.uint32()),
            ("sequence_high", pa.uint64()),
            ("sequence_low", pa.uint64()),
        )
    ]
)
GROUP_ROWS = 2**17
_ENCODINGS = dict.fromkeys(_SCHEMA.names, "DELTA_BINARY_PACKED")
"""Keys ascend, and the other columns have few bits that count: smaller and three times as quick as PLAIN with zstd."""


class EntriesWriter:
    """Writes entries that ascend, piece by piece, to a file object. Use as a context manager."""

    def __init__(self, sink: Any) -> None:
        self._writer = pq.ParquetWriter(
            sink,
            _SCHEMA,
            use_dictionary=False,
            compression="none",
            column_encoding=_ENCODINGS,
            write_statistics=["key_high"],
            store_schema=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.close()

    def add(self, entries: Entries) -> None:
        """Write entries as a row group or several."""
        columns = [
            *(entries.keys.high, entries.keys.low, entries.file, entries.row),
            *(entries.sequences.high, entries.sequences.low),
        ]
        self._writer.write_table(
            pa.Table.from_arrays([pa.array(column) for column in columns], schema=_SCHEMA), GROUP_ROWS
        )


def read_entries(source: Any) -> Iterator[Entries]:
    """The entries of a Parquet file, a row group at a time.

    Raises:
        ValueError: it is none, or has other columns.
    """
    with pq.ParquetFile(source) as file:
        if file.schema_arrow.names != _SCHEMA.names:
            raise ValueError(f"its columns are {', '.join(file.schema_arrow.names)}")
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, use_threads=False)
            yield _entries(*(_words(column) for column in table.columns))


def _words(column: pa.ChunkedArray) -> Any:
    return column.combine_chunks().to_numpy(zero_copy_only=False)


def _entries(high: Any, low: Any, file: Any, row: Any, sequence_high: Any, sequence_low: Any) -> Entries:
    words = [np.ascontiguousarray(column, np.uint64) for column in (high, low, sequence_high, sequence_low)]
    numbers = [np.ascontiguousarray(column, np.uint32) for column in (file, row)]
    return Entries(Keys(words[0], words[1]), numbers[0], numbers[1], Sequences(words[2], words[3]))

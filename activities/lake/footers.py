"""What the end of a Parquet file says: rows, columns, bounds. The truth about a file is in it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from activities.core.faults import ObjectRefused, UnsupportedType

MAGIC = b"PAR1"
LONG = 2**63 - 1
_TRAILER = 8
"""Length of the footer (4 bytes, little endian) and the magic."""


@dataclass(frozen=True)
class Ends:
    """What a column of a file spans."""

    lowest: Any
    """None when it holds no values."""
    highest: Any
    nulls: int

    def joined(self, other: "Ends") -> "Ends":
        """Both together."""
        lows = [low for low in (self.lowest, other.lowest) if low is not None]
        highs = [high for high in (self.highest, other.highest) if high is not None]
        return Ends(min(lows, default=None), max(highs, default=None), self.nulls + other.nulls)


@dataclass(frozen=True)
class Footer:
    """A file's footer, parsed."""

    key: str
    metadata: pq.FileMetaData
    size: int
    """Bytes of the whole file."""
    made: int = 0
    """When the store says that it was made, in seconds since the epoch; 0 when it was not asked."""
    ours: bool = False
    """Whether icefleet made it, so that it is deleted when no snapshot names it."""

    @property
    def rows(self) -> int:
        """Rows in the file."""
        return int(self.metadata.num_rows)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the top-level columns, in order."""
        return tuple(self.metadata.schema.to_arrow_schema().names)

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """Path of a column that holds values → its position."""
        schema = self.metadata.schema
        return {schema.column(position).path: position for position in range(self.metadata.num_columns)}

    def unbounded(self) -> list[str]:
        """Paths of columns of which some row group holds values and does not say the smallest and the largest one."""
        return [
            self.metadata.schema.column(position).path
            for position in range(self.metadata.num_columns)
            if not all(map(_is_bounded, self._chunks(position)))
        ]

    def check_longs(self, what: str) -> None:
        """Refuse unsigned integers that an Iceberg long would show as negative numbers; `what` is for the message.

        Raises:
            UnsupportedType: a value is 2⁶³ or more, or nothing says that none is.
        """
        for position in range(self.metadata.num_columns):
            column = self.metadata.schema.column(position)
            if "isSigned=false" not in str(column.logical_type) or column.physical_type != "INT64":
                continue
            for chunk in self._chunks(position):
                if not _is_bounded(chunk):
                    raise _beyond_long(what, column.path, "has no largest value in the file's statistics")
                if _says_bounds(chunk) and chunk.statistics.max > LONG:
                    raise _beyond_long(what, column.path, f"holds {chunk.statistics.max}")

    def largest(self, position: int) -> int | None:
        """The largest value of a column of numbers, 0 when it has no values; None when nothing says it."""
        largest = 0
        for chunk in self._chunks(position):
            if not _is_bounded(chunk):
                return None
            if _says_bounds(chunk):
                largest = max(largest, chunk.statistics.max)
        return largest

    def ends(self, position: int) -> Ends | None:
        """The smallest and the largest value of a column, and how many are null; None when nothing says it."""
        found = Ends(None, None, 0)
        for chunk in self._chunks(position):
            if not (_is_bounded(chunk) and chunk.statistics.has_null_count):
                return None
            low, high = (chunk.statistics.min, chunk.statistics.max) if _says_bounds(chunk) else (None, None)
            found = found.joined(Ends(low, high, chunk.statistics.null_count))
        return found

    def _chunks(self, position: int) -> Iterator[pq.ColumnChunkMetaData]:
        for group in range(self.metadata.num_row_groups):
            yield self.metadata.row_group(group).column(position)


def read_ends(key: str, body: bytes, names: Sequence[str]) -> dict[str, Ends]:
    """What top-level columns span of which the footer says nothing: from the whole file in `body`.

    Raises:
        ObjectRefused: the file cannot be read.
    """
    try:
        table = pq.read_table(pa.BufferReader(body), columns=list(names), use_threads=False)
    except (pa.ArrowInvalid, OSError) as broken:
        raise ObjectRefused(f"object {key} cannot be read: {broken}") from broken
    return {name: _ends_of(table.column(name)) for name in names}


def _ends_of(values: pa.ChunkedArray) -> Ends:
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    found = pc.min_max(values)
    return Ends(found["min"].as_py(), found["max"].as_py(), values.null_count)


def _says_bounds(chunk: pq.ColumnChunkMetaData) -> bool:
    return bool(chunk.is_stats_set and chunk.statistics.has_min_max)


def _is_bounded(chunk: pq.ColumnChunkMetaData) -> bool:
    """Whether bounds are said, or there is nothing to be bounded."""
    if _says_bounds(chunk):
        return True
    statistics = chunk.statistics if chunk.is_stats_set else None
    return statistics is not None and statistics.has_null_count and statistics.null_count == chunk.num_values


def _beyond_long(what: str, column: str, why: str) -> UnsupportedType:
    return UnsupportedType(
        f"{what}: column {column} {why}, and a long ends at 2^63-1; write `types: {{{column}: decimal(20, 0)}}` for "
        "the table in tables.yaml, and drop the Iceberg table or export to a new one: no long can become a decimal"
    )


def footer_bytes(key: str, tail: bytes) -> int:
    """How many bytes at the end of the file hold footer and trailer.

    Raises:
        ObjectRefused: `tail`, the last bytes of the file, does not end as a Parquet file does.
    """
    if len(tail) < _TRAILER + len(MAGIC) or tail[-4:] != MAGIC:
        raise ObjectRefused(f"object {key} does not end as a Parquet file does: it was cut short, or is something else")
    return int.from_bytes(tail[-_TRAILER:-4], "little") + _TRAILER


def read_footer(key: str, tail: bytes, size: int) -> Footer:
    """Parse the footer from the last bytes of a file of `size` bytes.

    Raises:
        ObjectRefused: the bytes hold no whole footer.
    """
    length = footer_bytes(key, tail)
    if length > len(tail):
        raise ObjectRefused(f"object {key}: its footer takes {length} bytes, of which {len(tail)} were read")
    try:
        metadata = pq.read_metadata(pa.BufferReader(MAGIC + tail[-length:]))
    except (pa.ArrowInvalid, OSError) as broken:
        raise ObjectRefused(f"object {key} has a footer that cannot be read: {broken}") from broken
    return Footer(key, metadata, size)

"""What the end of a Parquet file says: rows, columns, bounds. The truth about a file is in it."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from activities.core.faults import ObjectRefused

MAGIC = b"PAR1"
LONG = 2**63 - 1
_TRAILER = 8
"""Length of the footer (4 bytes, little endian) and the magic."""


@dataclass(frozen=True)
class Footer:
    """A file's footer, parsed."""

    key: str
    metadata: pq.FileMetaData
    size: int
    """Bytes of the whole file."""
    made: int = 0
    """When the store says that it was made, in seconds since the epoch; 0 when it was not asked."""

    @property
    def rows(self) -> int:
        """Rows in the file."""
        return int(self.metadata.num_rows)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the top-level columns, in order."""
        return tuple(self.metadata.schema.to_arrow_schema().names)

    def beyond_long(self) -> list[str]:
        """Columns of unsigned 64-bit integers whose largest value an Iceberg long would show as a negative number."""
        found = []
        for position in range(self.metadata.num_columns):
            column = self.metadata.schema.column(position)
            if "isSigned=false" not in str(column.logical_type) or column.physical_type != "INT64":
                continue
            for group in range(self.metadata.num_row_groups):
                chunk = self.metadata.row_group(group).column(position)
                if chunk.is_stats_set and chunk.statistics.has_min_max and chunk.statistics.max > LONG:
                    found.append(column.path)
                    break
        return found


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

"""Moves of an index as Parquet, as its blobs hold them."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from activities.core.indexmoves import MOST_STRETCHES, Moves
from activities.lake.remembered import Remembered

MOVES_TYPE = "icefleet-mirror-moves-v1"
_SCHEMA = pa.schema([pa.field(name, pa.uint32(), nullable=False) for name in ("file", "row", "to_file", "to_row")])
known: Remembered[Moves] = Remembered(MOST_STRETCHES, len)
"""SHA-256 → what the blob holds, decoded."""


def dump_moves(moves: Moves) -> bytes:
    """As a Parquet file."""
    columns = [pa.array(column) for column in (moves.file, moves.row, moves.to_file, moves.to_row)]
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_arrays(columns, schema=_SCHEMA),
        sink,
        use_dictionary=False,
        compression="zstd",
        column_encoding=dict.fromkeys(_SCHEMA.names, "DELTA_BINARY_PACKED"),
        store_schema=False,
    )
    return bytes(sink.getvalue())


def load_moves(content: bytes, stretches: int) -> Moves:
    """What `dump_moves` wrote.

    Raises:
        ValueError: it is something else.
    """
    table = pq.read_table(io.BytesIO(content))
    if table.column_names != _SCHEMA.names or table.num_rows != stretches:
        raise ValueError(f"the moves have columns {', '.join(table.column_names)} and {table.num_rows} rows")
    file, row, to_file, to_row = (
        np.ascontiguousarray(column.combine_chunks().to_numpy(zero_copy_only=False), np.uint32)
        for column in table.columns
    )
    return Moves(file, row, to_file, to_row)

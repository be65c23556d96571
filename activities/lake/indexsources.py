"""What an index is made anew from: the rows of a mirror, and the deletes that its changelog remembers."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.schema import Schema

from activities.core.indexsort import rows_of_file, tombstones
from activities.core.mirrors import Entries, MirrorConfig, Sequences
from activities.core.sequences import sequence_words
from activities.lake.changecolumns import sequences_of
from activities.lake.changedeletes import Deletes
from activities.lake.content import Files
from activities.lake.keys import keys_of
from activities.lake.live import LiveFile
from activities.lake.mirrorrows import live_rows


def row_entries(
    config: MirrorConfig, files: Files, schema: Schema, live: Mapping[int, LiveFile], truncated: str
) -> Iterator[Entries]:
    """The entries of all live rows, in batches; `live` is number → data file."""
    names = [*config.primary_keys, config.sequence_column]
    floor = tuple(map(int, sequence_words(truncated))) if truncated else (0, 0)
    for number, file in live.items():
        for part in live_rows(files, schema, file, names):
            columns = [pa.chunked_array([part.rows.column(name)]) for name in config.primary_keys]
            keys = keys_of(columns, f"mirror {config.mirror}")
            sequences = mirror_sequences(config, part.rows.column(config.sequence_column))
            yield rows_of_file(number, part.positions.astype(np.int64), keys, sequences, (floor[0], floor[1]))


def delete_entries(config: MirrorConfig, deletes: Deletes, now: int) -> Iterator[Entries]:
    """The tombstones of all deletes that a changelog has; they are remembered as if merged `now`, in seconds."""
    where = f"changelog {config.changelog}"
    for table in deletes:
        keys = keys_of([table.column(name) for name in config.primary_keys], where)
        column = table.column(config.sequence_column)
        yield tombstones(keys, sequences_of(column, config.sequence_format, where), now)


def mirror_sequences(config: MirrorConfig, column: pa.Array | pa.ChunkedArray) -> Sequences:
    """The sequence numbers of a mirror's rows; a row without one, which others wrote, is older than all."""
    chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    filled = pc.fill_null(chunked, pa.scalar("0" if _is_text(chunked.type) else 0, chunked.type))
    return sequences_of(filled, config.sequence_format, f"mirror {config.mirror}, column {config.sequence_column}")


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))

"""The entries of a mirror's index beside those that its rows would have (I3).

An entry is the key and the sequence number as words, the path of the data file and the row's place in it.
"""

from pathlib import Path

import pyarrow as pa

from activities.core.mirrors import TOMBSTONE, MirrorConfig
from activities.lake.catalog import Lake
from activities.lake.indexcache import cache_at
from activities.lake.indexsources import mirror_sequences
from activities.lake.indexstore import open_index
from activities.lake.keys import keys_of
from activities.lake.live import live_files
from activities.lake.mirror import Mirror
from activities.lake.mirrorrows import live_rows
from activities.mirror_head import live_row_count

Entry = tuple[int, int, int, int, str, int]


def entries_said(lake: Lake, mirror: Mirror, cache: Path) -> list[Entry]:
    """What the index says, sorted, tombstones left out."""
    live, files = live_files(mirror.table), lake.files()
    uuid = str(mirror.table.metadata.table_uuid)
    index = open_index(files.part, cache_at(cache), mirror.index, uuid, live, live_row_count(live))
    entries = index.entries(0, None)
    rows = entries.file != TOMBSTONE
    keys, numbers = entries.keys.take(rows), entries.sequences.take(rows)
    return sorted(
        zip(
            *(keys.high.tolist(), keys.low.tolist(), numbers.high.tolist(), numbers.low.tolist()),
            *([index.files[number] for number in entries.file[rows].tolist()], entries.row[rows].tolist()),
            strict=True,
        )
    )


def entries_there(lake: Lake, config: MirrorConfig, mirror: Mirror) -> list[Entry]:
    """What it would have to say by the rows that are there, sorted."""
    files, found = lake.files(), list[Entry]()
    names = [*config.primary_keys, config.sequence_column]
    for path, file in live_files(mirror.table).items():
        for part in live_rows(files, mirror.table.schema(), file, names):
            columns = [pa.chunked_array([part.rows.column(name)]) for name in names]
            keys = keys_of(columns[:-1], "")
            ages = mirror_sequences(config, columns[-1])
            found += zip(
                *(keys.high.tolist(), keys.low.tolist(), ages.high.tolist(), ages.low.tolist()),
                *([path] * len(keys), part.positions.tolist()),
                strict=True,
            )
    return sorted(found)

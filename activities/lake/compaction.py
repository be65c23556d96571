"""Data files of a mirror rewritten: the same rows in fewer files, without those that are deleted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyiceberg.manifest import DataFile

from activities.core.compactplan import Chosen, FileFacts, choose, due
from activities.core.faults import BadConfig
from activities.core.mirrors import Entries, Keys, MirrorConfig, Sequences, Words
from activities.lake.changecolumns import sequences_of
from activities.lake.content import Files
from activities.lake.keys import keys_of
from activities.lake.live import LiveFile
from activities.lake.mirror import Mirror
from activities.lake.mirrorfiles import MadeMirrorFile, MirrorWriter, all_described
from activities.lake.mirrorrows import live_rows
from activities.lake.positiondeletes import own_deletes
from activities.lake.rowdelta import RowDelta


@dataclass(frozen=True)
class Rewritten:
    """The rows of some files in new ones, on this machine's disk."""

    files: tuple[MadeMirrorFile, ...]
    keys: Keys
    """Of every row, in the order in which they were written."""
    ordinals: Words
    """Of each row: its new file, counted from 0."""
    rows: Words
    """And its position in it."""
    sequences: Sequences

    def entries(self, first_file: int) -> Entries:
        """What the index has to learn, when the first of the files gets the number `first_file`."""
        files = (self.ordinals + first_file).astype(np.uint32)
        return Entries(self.keys, files, self.rows.astype(np.uint32), self.sequences)


def facts(live: Mapping[str, LiveFile]) -> list[FileFacts]:
    """The files in the order in which they came."""
    ordered = sorted(live.values(), key=lambda file: (file.sequence, file.path))
    return [
        FileFacts(
            file.path,
            (file.data.spec_id, tuple(file.data.partition[place] for place in range(len(file.data.partition)))),
            file.data.file_size_in_bytes,
            file.rows,
            min(file.rows, sum(one.record_count for one in file.deletes)),
        )
        for file in ordered
    ]


def compaction_due(live: Mapping[str, LiveFile], config: MirrorConfig) -> str:
    """Why the mirror should be compacted; empty: it need not."""
    return due(facts(live), config.compaction)


def chosen_files(live: Mapping[str, LiveFile], config: MirrorConfig, *, thorough: bool) -> Chosen:
    """What one turn of compaction is to rewrite."""
    return choose(facts(live), config.compaction, thorough=thorough)


def rewrite(
    config: MirrorConfig, mirror: Mirror, files: Files, chosen: Sequence[LiveFile], directory: Path
) -> Rewritten:
    """Write the rows that are left of some files into new ones in `directory`, in their order.

    In memory are a batch of rows, a row group for each partition, and of each row some 50 bytes.

    Raises:
        BadConfig: the mirror lacks a column of the key or the sequence number: it was renamed in the changelog.
        ObjectRefused, StoreUnavailable: a file cannot be read.
    """
    table = mirror.table
    schema, spec = table.schema(), table.spec()
    lacking = {*config.primary_keys, config.sequence_column} - {field.name for field in schema.fields}
    if lacking:
        raise BadConfig(
            f"mirror {config.mirror} has no column {', '.join(sorted(lacking))} yet; merge first, or mend "
            "primary_keys and sequence_column in mirrors.yaml"
        )
    parts: list[_Part] = []
    with MirrorWriter(schema, spec, config.compaction.target_file_bytes, directory) as writer:
        for live in chosen:
            for found in live_rows(files, schema, live):
                rows = pa.Table.from_batches([found.rows])
                placed = writer.add(rows)
                keys = keys_of([rows.column(name) for name in config.primary_keys], f"mirror {config.mirror}")
                where = f"mirror {config.mirror}, column {config.sequence_column}"
                sequences = sequences_of(rows.column(config.sequence_column), config.sequence_format, where)
                parts.append(_Part(keys, placed.files, placed.rows, sequences))
        made = tuple(writer.finish())
    return Rewritten(
        made,
        Keys(_joined(one.keys.high for one in parts), _joined(one.keys.low for one in parts)),
        _joined(one.files for one in parts),
        _joined(one.rows for one in parts),
        Sequences(_joined(one.sequences.high for one in parts), _joined(one.sequences.low for one in parts)),
    )


def delta_of(
    mirror: Mirror,
    rewritten: Rewritten,
    stored: Mapping[int, str],
    chosen: Iterable[LiveFile],
    dangling: Sequence[DataFile],
    summary: Mapping[str, str],
) -> RowDelta:
    """What is to be committed; `stored` is ordinal → path."""
    gone = list(chosen)
    return RowDelta(
        summary,
        add=all_described(mirror.table.metadata, rewritten.files, stored),
        remove=[one.data for one in gone],
        remove_deletes=[*(delete for one in gone for delete in own_deletes(one)), *dangling],
        is_rewrite=True,
    )


@dataclass(frozen=True)
class _Part:
    keys: Keys
    files: np.ndarray[tuple[int], np.dtype[np.uint32]]
    rows: np.ndarray[tuple[int], np.dtype[np.uint32]]
    sequences: Sequences


def _joined(arrays: Iterable[np.ndarray[tuple[int], np.dtype[np.unsignedinteger]]]) -> Words:
    return np.concatenate([np.empty(0, np.uint64), *arrays])

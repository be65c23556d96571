"""Data files of a mirror rewritten: the same rows in fewer files, without those that are deleted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyiceberg.manifest import DataFile

from activities.core import indexmoves
from activities.core.compactplan import Chosen, FileFacts, choose, due
from activities.core.indexmoves import Moves, moves_of
from activities.core.mirrors import Entries, Keys, MirrorConfig, Sequences, Words
from activities.lake.content import Files
from activities.lake.indexsources import mirror_sequences
from activities.lake.indexstore import MirrorIndex
from activities.lake.keys import keys_of
from activities.lake.live import LiveFile
from activities.lake.mirror import Mirror
from activities.lake.mirrorfiles import MadeMirrorFile, MirrorWriter, Places, all_described
from activities.lake.mirrormade import check_named
from activities.lake.mirrorrows import live_rows
from activities.lake.positiondeletes import Deleted, Positions, counts
from activities.lake.rowdelta import RowDelta

_ENDS = 4
"""Stretches that a file makes beside those that deleted rows make: new files may end while it is written."""


@dataclass(frozen=True)
class Part:
    """Some rows of one file that was rewritten."""

    path: str
    """Of the file where they were."""
    positions: Positions
    """And where in it."""
    files: Places
    """Of each row: its new file, counted from 0."""
    rows: Places
    """And its position in it."""
    keyed: tuple[Keys, Sequences] | None = None
    """Its key and its sequence number, if they are wanted."""


@dataclass(frozen=True)
class Rewritten:
    """The rows of some files in new ones, on this machine's disk."""

    files: tuple[MadeMirrorFile, ...]
    parts: tuple[Part, ...]
    """All rows, in the order in which they were written."""

    @property
    def rows(self) -> int:
        """How many there are."""
        return sum(len(one.rows) for one in self.parts)

    def entries(self, first_file: int) -> Entries:
        """What the index has to learn of each row, when the first of the files gets the number `first_file`."""
        keyed = [one.keyed for one in self.parts if one.keyed is not None]
        keys, sequences = [one for one, _ in keyed], [one for _, one in keyed]
        files = (_joined(one.files for one in self.parts) + first_file).astype(np.uint32)
        return Entries(
            Keys(_joined(one.high for one in keys), _joined(one.low for one in keys)),
            files,
            _joined(one.rows for one in self.parts).astype(np.uint32),
            Sequences(_joined(one.high for one in sequences), _joined(one.low for one in sequences)),
        )

    def moves(self, numbers: Mapping[str, int], first_file: int) -> Moves:
        """The same as stretches; `numbers` is path → number of the files that are rewritten."""
        first = np.uint32(first_file)
        return moves_of((numbers[one.path], one.positions, one.files + first, one.rows) for one in self.parts)


@dataclass(frozen=True)
class Stored:
    """What a compaction has brought to the store."""

    data: Mapping[int, str]
    """Ordinal of a new file → its path."""
    deletes: Sequence[DataFile]
    """What is deleted of files that shared a delete file with those that were rewritten."""


def facts(files: Files, live: Mapping[str, LiveFile]) -> list[FileFacts]:
    """The files in the order in which they came.

    Raises:
        ObjectRefused, StoreUnavailable: a delete file cannot be read.
    """
    ordered, deleted = sorted(live.values(), key=lambda file: (file.sequence, file.path)), counts(files, live)
    return [
        FileFacts(
            file.path, file.partition, file.data.file_size_in_bytes, file.rows, min(file.rows, deleted[file.path])
        )
        for file in ordered
    ]


def compaction_due(files: Files, live: Mapping[str, LiveFile], config: MirrorConfig) -> str:
    """Why the mirror should be compacted; empty: it need not."""
    return due(facts(files, live), config.compaction)


def chosen_files(files: Files, live: Mapping[str, LiveFile], config: MirrorConfig, *, thorough: bool) -> Chosen:
    """What one turn of compaction is to rewrite."""
    return choose(facts(files, live), config.compaction, thorough=thorough)


def fits_moves(index: MirrorIndex, chosen: Iterable[FileFacts], live: Mapping[str, LiveFile], spec_id: int) -> bool:
    """Whether an index can learn by stretches where rows go, and need not learn it of each row.

    Of a file that is cut by another spec than `spec_id`, by which new ones are, neighbours may go into different files.
    """
    held = sum(record.stretches for record in index.head.moves)
    more = (one.deleted if live[one.path].data.spec_id == spec_id else one.rows for one in chosen)
    return held + sum(_ENDS + one for one in more) <= indexmoves.MOST_STRETCHES


def rewrite(
    config: MirrorConfig,
    mirror: Mirror,
    files: Files,
    chosen: Sequence[LiveFile],
    directory: Path,
    *,
    keyed: bool,
) -> Rewritten:
    """Write the rows that are left of some files into new ones in `directory`, in their order.

    In memory are a batch of rows, a row group for each partition, and of each row some 12 bytes; with `keyed`, when
    keys and sequence numbers are wanted, too, some 50.

    Raises:
        BadConfig: the mirror lacks a column of the key or the sequence number: it was renamed in the changelog.
        ObjectRefused, StoreUnavailable: a file cannot be read.
    """
    table = mirror.table
    schema, spec = table.schema(), table.spec()
    check_named(config, schema)
    parts: list[Part] = []
    with MirrorWriter(schema, spec, config.compaction.target_file_bytes, directory) as writer:
        for live in chosen:
            for found in live_rows(files, schema, live):
                rows = pa.Table.from_batches([found.rows])
                placed = writer.add(rows)
                words = _words(config, rows) if keyed else None
                parts.append(Part(live.path, found.positions, placed.files, placed.rows, words))
        return Rewritten(tuple(writer.finish()), tuple(parts))


def _words(config: MirrorConfig, rows: pa.Table) -> tuple[Keys, Sequences]:
    keys = keys_of([rows.column(name) for name in config.primary_keys], f"mirror {config.mirror}")
    return keys, mirror_sequences(config, rows.column(config.sequence_column))


def delta_of(
    mirror: Mirror,
    rewritten: Rewritten,
    deleted: Deleted,
    stored: Stored,
    dangling: Sequence[DataFile],
    summary: Mapping[str, str],
) -> RowDelta:
    """What is to be committed; `deleted` are the files that go, and `dangling` are delete files that do as well."""
    return RowDelta(
        summary,
        add=all_described(mirror.table.metadata, rewritten.files, stored.data),
        remove=[one.data for one in deleted.gone],
        add_deletes=stored.deletes,
        remove_deletes=[*deleted.superseded, *dangling],
        is_rewrite=True,
    )


def _joined(arrays: Iterable[np.ndarray[tuple[int], np.dtype[np.unsignedinteger]]]) -> Words:
    return np.concatenate([np.empty(0, np.uint64), *arrays])

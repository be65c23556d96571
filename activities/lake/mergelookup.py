"""What a batch does to a mirror: which keys get a row, which are gone, and which rows of which files go for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pyiceberg.schema import Schema

from activities.core.deciding import Decision, decide
from activities.core.index import Found
from activities.core.mirrors import MirrorConfig, Watermark
from activities.core.sequences import older_than
from activities.core.wordsort import ascending_order
from activities.lake.content import Files
from activities.lake.indexsources import mirror_sequences
from activities.lake.indexstore import MirrorIndex
from activities.lake.live import LiveFile
from activities.lake.mergebatch import Batch
from activities.lake.mirrorrows import live_rows
from activities.lake.positiondeletes import Positions, deleted_rows
from activities.lake.sequencebounds import SequenceBounds

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Lookup:
    """What the index says of a batch's keys, and what follows from it. Arrays belong to `batch.folded`."""

    found: Found
    decision: Decision
    gone: dict[str, Positions]
    """Path of a data file → rows of it that another version or a delete takes the place of."""


@dataclass(frozen=True)
class Truncated:
    """What a truncate takes away."""

    files: frozenset[str] = frozenset()
    """Paths of data files of which nothing is left."""
    gone: Mapping[str, Positions] = field(default_factory=dict)
    """Path of a data file → rows of it that go."""
    rows: int = 0
    """Live rows, in all."""


def look_up(index: MirrorIndex, batch: Batch, before: Watermark) -> Lookup:
    """Decide what becomes of every key of a batch.

    Raises:
        IndexUnusable: the index names files that the mirror has no more.
    """
    folded = batch.folded
    found = index.find(folded.keys)
    decision = decide(
        folded.sequences,
        folded.deletes,
        known=found.known,
        alive=found.live,
        held=found.sequences,
        truncated=folded.truncated,
        horizon=before.horizon,
    )
    return Lookup(found, decision, _by_path(index, found, decision.replaces))


def _by_path(index: MirrorIndex, found: Found, chosen: Flags) -> dict[str, Positions]:
    """Positions of some keys' rows by the path of their file, each ascending."""
    files, rows = found.file[chosen].astype(np.uint64), found.row[chosen]
    # As far up in a word as there is room: that is where words are sorted by counting.
    row_bits, file_bits = (int(some.max(initial=0)).bit_length() for some in (rows, files))
    places = (files << np.uint64(row_bits) | rows) << np.uint64(max(0, 63 - row_bits - file_bits))
    order = ascending_order(places)
    files, rows = files[order], rows[order]
    starts = np.flatnonzero(np.diff(files, prepend=np.uint64(0)))  # files are numbered from 1
    parts = np.split(rows, starts[1:]) if len(rows) else []
    return {index.files[int(number)]: part for number, part in zip(files[starts], parts, strict=True)}


def truncate(
    config: MirrorConfig, files: Files, schema: Schema, bounds: SequenceBounds, live: Mapping[str, LiveFile], below: str
) -> Truncated:
    """Find every live row with a sequence number below that of a truncate, 32 hex digits; `bounds` are the mirror's."""
    dropped, gone, rows = set[str](), dict[str, Positions](), 0
    for path, file in live.items():
        known = bounds.of_file(file.data)
        if known and known[1] < int(below, 16):
            dropped.add(path)
            rows += file.rows - len(deleted_rows(files, file))
            continue
        parts = [
            part.positions[older_than(mirror_sequences(config, part.rows.column(0)), below)]
            for part in live_rows(files, schema, file, [config.sequence_column])
        ]
        positions = np.concatenate([np.empty(0, np.uint32), *parts])
        if len(positions):
            gone[path] = positions
            rows += len(positions)
    return Truncated(frozenset(dropped), gone, rows)

"""The files of one merge: its new rows, what is deleted of files that are there, and its run for the index."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from activities.core.mirrors import TOMBSTONE, Entries, MirrorConfig
from activities.core.mirrorschema import Following
from activities.lake import positiondeletes
from activities.lake.content import Files
from activities.lake.live import LiveFile
from activities.lake.mergebatch import Batch
from activities.lake.mergelookup import Lookup, Truncated
from activities.lake.mergerows import Upserts
from activities.lake.mirror import Mirror
from activities.lake.mirrorfiles import MadeMirrorFile, MirrorWriter, Places
from activities.lake.mirrormade import bounds_followed
from activities.lake.positiondeletes import Deleted, Positions
from activities.lake.rowdelta import RowDelta
from activities.lake.schema import changed


def schema_after(table: Table, following: Following) -> Schema | None:
    """The mirror's schema once it has followed its changelog; None: it is as it was.

    Raises:
        SchemaConflict: somebody changed the mirror's schema so that it cannot.
    """
    if not following.changes:
        return None
    schema_id = 1 + max(known.schema_id for known in table.metadata.schemas)
    return changed(table.schema(), following.changes, last_id=table.metadata.last_column_id, schema_id=schema_id)


def delta_begun(config: MirrorConfig, mirror: Mirror, following: Following) -> RowDelta:
    """A commit by which the mirror follows its changelog's columns, and nothing else.

    Raises:
        SchemaConflict: somebody changed the mirror's schema so that it cannot.
    """
    table = mirror.table
    properties = bounds_followed(config, table, mirror.columns, following.columns)
    return RowDelta({}, schema=schema_after(table, following), properties=properties)


@dataclass(frozen=True)
class NewRows:
    """Rows of a merge, on this machine's disk."""

    files: tuple[MadeMirrorFile, ...]
    ordinals: Places
    """Of each upsert, in the order of keys: its file."""
    rows: Places
    """And its 0-based position in it."""


def write_rows(
    config: MirrorConfig, metadata: TableMetadata, upserts: Iterable[Upserts], count: int, directory: Path
) -> NewRows:
    """Write the rows of all upserts, of which there are `count`, into files in `directory`.

    `metadata` is the mirror's with this commit.
    """
    ordinals, rows = np.zeros(count, np.uint32), np.zeros(count, np.uint32)
    if not count:
        return NewRows((), ordinals, rows)
    target = config.compaction.target_file_bytes
    with MirrorWriter(metadata.schema(), metadata.spec(), target, directory) as writer:
        for part in upserts:
            placed = writer.add(part.rows)
            ordinals[part.order], rows[part.order] = placed.files, placed.rows
        return NewRows(tuple(writer.finish()), ordinals, rows)


def run_of(batch: Batch, lookup: Lookup, new: NewRows, first_file: int, now: int) -> Entries:
    """What the merge changes in the index: the first of its files gets the number `first_file`; `now` is in seconds."""
    decision = lookup.decision
    wins = decision.upserts | decision.deletes
    file = np.full(len(wins), TOMBSTONE, np.uint32)
    row = np.full(len(wins), now, np.uint32)
    file[decision.upserts] = new.ordinals + np.uint32(first_file)
    row[decision.upserts] = new.rows
    return Entries(batch.folded.keys.take(wins), file[wins], row[wins], batch.folded.sequences.take(wins))


def delete_rows(
    files: Files, live: Mapping[str, LiveFile], gone: Mapping[str, Positions], truncated: Truncated
) -> Deleted:
    """Put what goes together with what is deleted already."""
    together = {path: rows for path, rows in gone.items() if path not in truncated.files}
    for path, rows in truncated.gone.items():
        together[path] = np.union1d(together[path], rows) if path in together else rows
    return positiondeletes.delete(files, live, together, truncated.files)

"""Everything that a mirror has merged, as its changelog still has it: to be folded again, and compared."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from activities.core.cutting import Mark
from activities.core.faults import WatermarkLost
from activities.core.mirrors import MirrorConfig, Watermark
from activities.lake.changecolumns import sequences_of
from activities.lake.changemanifests import ChangelogFiles
from activities.lake.changereading import OpenFile, Projection
from activities.lake.changes import ChangelogFile
from activities.lake.content import Files
from activities.lake.storage import metadata_named


@dataclass(frozen=True)
class Merged:
    """Files whose changes are merged."""

    whole: tuple[ChangelogFile, ...]
    part: tuple[ChangelogFile, ...] = ()
    """Of these only the changes up to `until`."""
    until: Mark | None = None

    @property
    def bytes(self) -> int:
        """Of the objects."""
        return sum(file.size for file in (*self.whole, *self.part))


@metadata_named()
def merged(changelog: Table, watermark: Watermark, config: MirrorConfig) -> Merged:
    """What lies before a watermark.

    Raises:
        WatermarkLost: that cannot be told any more.
    """
    files = ChangelogFiles(changelog, config.sequence_column)
    name = f"mirror {config.mirror}: its changelog {'.'.join(changelog.name())}"
    if watermark.changelog_uuid != str(changelog.metadata.table_uuid):
        raise WatermarkLost(f"{name} was dropped and made anew, so there is nothing to compare it with")

    def retained(number: int) -> Snapshot:
        snapshot = changelog.snapshot_by_id(number)
        if snapshot is None:
            raise WatermarkLost(
                f"{name} has let snapshot {number} expire, up to which the mirror has merged, so that nobody can tell "
                "what it has merged; merge what is new, then ask again"
            )
        return snapshot

    whole = [] if watermark.snapshot_id is None else files.live(retained(watermark.snapshot_id))
    if not watermark.partial or watermark.partial_snapshot is None:
        return Merged(tuple(whole))
    begun = files.live(retained(watermark.partial_snapshot), watermark.sequence_number)
    return Merged(tuple(whole), tuple(begun), Mark(int(watermark.partial, 16), watermark.partial_ties))


@metadata_named()
def history_gap(changelog: Table) -> str:
    """Why a changelog may lack changes that it had; empty: its history shows that it lacks none."""
    at = changelog.metadata.current_snapshot_id
    while at is not None:
        snapshot = changelog.snapshot_by_id(at)
        if snapshot is None:
            return "snapshots of it have expired, so that nobody can tell whether it lost changes"
        operation = snapshot.summary.operation if snapshot.summary else None
        if operation not in {Operation.APPEND, Operation.REPLACE}:
            return f"snapshot {at} took rows away from it"
        at = snapshot.parent_snapshot_id
    return ""


def changes_of(found: Merged, wanted: Projection, config: MirrorConfig, files: Files) -> Iterator[pa.Table]:
    """All changes, in the changelog's order, with the columns of `wanted`, of which one is the sequence number.

    Raises:
        ChangeInvalid: a change has no sequence number.
        ObjectRefused, StoreRefused, StoreUnavailable: a file cannot be read.
    """
    for file in found.whole:
        yield from _read(file, wanted, files)
    if found.until is not None:
        yield from _up_to(found.part, found.until, wanted, config, files)


def _read(file: ChangelogFile, wanted: Projection, files: Files) -> Iterator[pa.Table]:
    with files.open_most(file.path, file.size) as parquet:
        source = OpenFile(file, parquet, wanted)
        for group in range(parquet.metadata.num_row_groups):
            yield from source.batches([group])


def _up_to(
    part: Sequence[ChangelogFile], until: Mark, wanted: Projection, config: MirrorConfig, files: Files
) -> Iterator[pa.Table]:
    ties = 0
    for file in part:
        for table in _read(file, wanted, files):
            where = f"changelog {config.changelog}, column {config.sequence_column}"
            sequences = sequences_of(table.column(config.sequence_column), config.sequence_format, where)
            equal = until.equals(sequences)
            counts = until.is_after(sequences)
            if until.ties:
                counts |= equal & (ties + np.cumsum(equal) <= until.ties)
                ties += int(equal.sum())
            else:
                counts |= equal
            yield table.filter(pa.array(counts))

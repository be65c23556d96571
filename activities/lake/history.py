"""What each snapshot of a table changed, oldest first: what there is to announce."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from activities.core.tables import PartitionRule
from activities.lake.files import index_of_file
from activities.lake.storage import metadata_named


@dataclass(frozen=True)
class ChangedFile:
    """A file that a snapshot added."""

    index: int
    path: str
    rows: int
    bytes: int
    replaced: bool
    """The same snapshot removed another file of the partition."""


@dataclass(frozen=True)
class SnapshotFacts:
    """One snapshot of a table, as it is announced."""

    table_uuid: str
    snapshot_id: int
    parent_id: int | None
    sequence_number: int
    operation: str
    timestamp_ms: int
    summary: dict[str, str]
    added: tuple[ChangedFile, ...]
    removed: int
    """Files removed."""


class Announced(NamedTuple):
    """Of which snapshot a table's last announcement was; of none when there was no announcement."""

    snapshot_id: int | None = None
    sequence_number: int = 0
    committed_ms: int | None = None
    """None: nobody says."""


def snapshots_after(
    table: Table, snapshot_id: int | None, sequence_number: int, committed_ms: int | None = None
) -> list[Snapshot]:
    """Ancestors of the head that are newer than the given snapshot, oldest first.

    `snapshot_id` None means all that are left. A snapshot that has expired is placed by its sequence number. A catalog
    that was restored from a backup counts on from an earlier number: what was committed later than a snapshot that is
    not there any more is newer all the same.
    """
    newer: list[Snapshot] = []
    snapshot = table.current_snapshot()
    gone = snapshot_id is not None and table.snapshot_by_id(snapshot_id) is None
    while snapshot is not None:
        if snapshot_id is not None:
            is_later = gone and committed_ms is not None and snapshot.timestamp_ms > committed_ms
            if snapshot.snapshot_id == snapshot_id:
                break
            if (snapshot.sequence_number or 0) <= sequence_number and not is_later:
                break
        newer.append(snapshot)
        parent = snapshot.parent_snapshot_id
        snapshot = table.snapshot_by_id(parent) if parent is not None else None
    return newer[::-1]


@metadata_named()
def snapshot_facts(table: Table, rule: PartitionRule, snapshot: Snapshot) -> SnapshotFacts:
    """What one snapshot added and removed, from the manifests that it wrote itself."""
    added, removed = own_changes(table, snapshot)
    gone = {index_of_file(table, rule, file) for file in removed}
    files = sorted(((index_of_file(table, rule, file), file) for file in added), key=lambda pair: pair[0])
    changed = (
        ChangedFile(index, file.file_path, file.record_count, file.file_size_in_bytes, index in gone)
        for index, file in files
    )
    return facts_of(table, snapshot, changed, removed=len(removed))


def facts_of(table: Table, snapshot: Snapshot, added: Iterable[ChangedFile], *, removed: int) -> SnapshotFacts:
    """The facts of a snapshot whose changes are known."""
    summary = snapshot.summary
    return SnapshotFacts(
        table_uuid=str(table.metadata.table_uuid),
        snapshot_id=snapshot.snapshot_id,
        parent_id=snapshot.parent_snapshot_id,
        sequence_number=snapshot.sequence_number or 0,
        operation=summary.operation.value if summary else "",
        timestamp_ms=snapshot.timestamp_ms,
        summary=dict(summary.additional_properties) if summary else {},
        added=tuple(added),
        removed=removed,
    )


def own_changes(table: Table, snapshot: Snapshot) -> tuple[list[DataFile], list[DataFile]]:
    """The data files that a snapshot added, and those that it removed."""
    added: list[DataFile] = []
    removed: list[DataFile] = []
    for manifest in snapshot.manifests(table.io):
        if manifest.added_snapshot_id != snapshot.snapshot_id or manifest.content != ManifestContent.DATA:
            continue
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False):
            if entry.snapshot_id != snapshot.snapshot_id:
                continue
            if entry.status == ManifestEntryStatus.ADDED:
                added.append(entry.data_file)
            elif entry.status == ManifestEntryStatus.DELETED:
                removed.append(entry.data_file)
    return added, removed

"""What a snapshot of a mirror changed, as it is announced."""

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from activities.lake.history import ChangedFile, SnapshotFacts, own_changes
from activities.lake.storage import metadata_named


@metadata_named()
def mirror_facts(table: Table, snapshot: Snapshot) -> tuple[SnapshotFacts, list[str]]:
    """The facts of one snapshot, and of each file that it added the partition as Iceberg writes a path."""
    added, removed = own_changes(table, snapshot)
    specs, schema, summary = table.specs(), table.schema(), snapshot.summary
    facts = SnapshotFacts(
        table_uuid=str(table.metadata.table_uuid),
        snapshot_id=snapshot.snapshot_id,
        parent_id=snapshot.parent_snapshot_id,
        sequence_number=snapshot.sequence_number or 0,
        operation=summary.operation.value if summary else "",
        timestamp_ms=snapshot.timestamp_ms,
        summary=dict(summary.additional_properties) if summary else {},
        added=tuple(
            ChangedFile(0, file.file_path, file.record_count, file.file_size_in_bytes, replaced=False) for file in added
        ),
        removed=len(removed),
    )
    return facts, [specs[file.spec_id].partition_to_path(file.partition, schema) for file in added]

"""What a snapshot of a mirror changed, as it is announced."""

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from activities.lake.history import ChangedFile, SnapshotFacts, facts_of, own_changes
from activities.lake.partitioning import partition_path
from activities.lake.storage import metadata_named


@metadata_named()
def mirror_facts(table: Table, snapshot: Snapshot) -> tuple[SnapshotFacts, list[str]]:
    """The facts of one snapshot, and of each file that it added the partition as Iceberg writes a path."""
    added, removed = own_changes(table, snapshot)
    changed = (
        ChangedFile(0, file.file_path, file.record_count, file.file_size_in_bytes, replaced=False) for file in added
    )
    facts = facts_of(table, snapshot, changed, removed=len(removed))
    specs, schema = table.specs(), table.schema()
    return facts, [partition_path(specs[file.spec_id], file.partition, schema) for file in added]

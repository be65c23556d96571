"""What a table holds, for somebody who takes nothing for granted: every file of every partition."""

from collections.abc import Iterator

from pyiceberg.table import Table

from activities.core.partitions import Span
from activities.core.tables import PartitionRule
from activities.core.verdicts import HeldFile
from activities.lake.files import live_files, upper_bound
from activities.lake.storage import metadata_named


@metadata_named()
def held_files(table: Table, rule: PartitionRule, version_column: str, span: Span) -> dict[int, list[HeldFile]]:
    """Partition index → all files that hold it, within `span`.

    Raises:
        SchemaConflict: nobody can know which partition a file holds.
    """
    found: dict[int, list[HeldFile]] = {}
    for index, file in live_files(table, rule, span):
        version = upper_bound(table, file, version_column) if version_column else None
        held = HeldFile(file.file_path, file.record_count, file.file_size_in_bytes, version)
        found.setdefault(index, []).append(held)
    return found


@metadata_named()
def files_outside(table: Table, rule: PartitionRule, span: Span) -> list[tuple[int, str]]:
    """Partition index and path of every file that holds a partition outside of `span`, sorted."""
    return sorted(_outside(table, rule, span))


def _outside(table: Table, rule: PartitionRule, span: Span) -> Iterator[tuple[int, str]]:
    for index, file in live_files(table, rule):
        if index not in span:
            yield index, str(file.file_path)


def delete_files(table: Table) -> int:
    """Delete files of the head, as its summary says; tables of exports have none."""
    snapshot = table.current_snapshot()
    summary = snapshot.summary if snapshot is not None else None
    return int(summary.additional_properties.get("total-delete-files", "0")) if summary is not None else 0

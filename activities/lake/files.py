"""Files as the manifests describe them: reading what a table holds, describing what it will."""

from collections.abc import Iterator, Mapping
from typing import Any

from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.typedef import Record
from pyiceberg.types import DateType

from activities.core.faults import ObjectRefused, SchemaConflict
from activities.core.partitions import Span, bounds_of, label_of
from activities.core.planning import ExistingFile
from activities.core.tables import PartitionRule
from activities.lake.filestatistics import statistics_of
from activities.lake.fit import misfits
from activities.lake.footers import Footer
from activities.lake.layout import check_chunks
from activities.lake.schema import shape_of
from activities.lake.storage import metadata_named

SECONDS = 1_000_000
"""Microseconds, in which Iceberg counts, per second."""
DAY = 86_400 * SECONDS


def live_files(table: Table, rule: PartitionRule, span: Span | None = None) -> Iterator[tuple[int, DataFile]]:
    """Partition index and file of everything the head holds, within `span` if one is given.

    Manifests that cannot hold anything of the span are not opened.
    """
    snapshot = table.current_snapshot()
    if snapshot is None:
        return
    for manifest in snapshot.manifests(table.io):
        if span is not None and not _may_hold(table, rule, manifest, span):
            continue
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            file = entry.data_file
            if file.content != DataFileContent.DATA:
                continue
            index = index_of_file(table, rule, file)
            if span is None or index in span:
                yield index, file


@metadata_named()
def existing_files(
    table: Table, rule: PartitionRule, version_column: str, span: Span | None = None
) -> dict[int, ExistingFile]:
    """Partition index → the one file that holds it.

    Raises:
        SchemaConflict: a partition is held by two files, so somebody else wrote to the table.
    """
    found: dict[int, ExistingFile] = {}
    for index, file in live_files(table, rule, span):
        if index in found:
            raise SchemaConflict(
                f"table {'.'.join(table.name())}: partition {label_of(rule, index)} is held by two files, "
                f"{found[index].key} and {file.file_path}; another writer added one. Remove one of them from the table"
            )
        version = upper_bound(table, file, version_column) if version_column else None
        found[index] = ExistingFile(index, file.file_path, file.record_count, version)
    return found


def mean_row_bytes(table: Table) -> float:
    """Bytes of a row in the files that the head holds, as its summary counts them; 0 when it holds none."""
    snapshot = table.current_snapshot()
    summary = snapshot.summary if snapshot is not None else None
    rows = int((summary["total-records"] if summary else None) or 0)
    return int((summary["total-files-size"] if summary else None) or 0) / rows if rows else 0.0


def index_of_file(table: Table, rule: PartitionRule, file: DataFile) -> int:
    """The partition that a file of the table holds.

    Raises:
        SchemaConflict: nobody can know it, or it holds more than one as config cuts them.
    """
    if rule.kind != "integer":
        return int(file.partition[0])
    check_chunks(table, rule)
    lowest = _bound(table, file.lower_bounds, rule.column)
    highest = _bound(table, file.upper_bounds, rule.column)
    if lowest is None or highest is None:
        raise SchemaConflict(
            f"table {'.'.join(table.name())}: file {file.file_path} has no bounds for {rule.column}, "
            "so the partition that it holds cannot be known; replace it by a file with statistics"
        )
    if lowest // rule.chunk_size != highest // rule.chunk_size:
        raise SchemaConflict(
            f"table {'.'.join(table.name())}: file {file.file_path} holds {rule.column} from {lowest} to {highest}, "
            f"which is more than one chunk of {rule.chunk_size}; write chunk_size in tables.yaml as the files have it, "
            "or export to a new table"
        )
    return lowest // rule.chunk_size


def upper_bound(table: Table, file: DataFile, column: str) -> int | None:
    """The newest value of a column in a file, in microseconds for times; None when the manifest has none."""
    return _bound(table, file.upper_bounds, column)


def _bound(table: Table, bounds: dict[int, bytes] | None, column: str) -> int | None:
    field = next((field for field in table.schema().fields if field.name == column), None)
    raw = (bounds or {}).get(field.field_id) if field is not None else None
    if field is None or raw is None:
        return None
    value = int(from_bytes(field.field_type, raw))  # type: ignore[arg-type]
    return value * DAY if isinstance(field.field_type, DateType) else value


def _may_hold(table: Table, rule: PartitionRule, manifest: ManifestFile, span: Span) -> bool:
    if not manifest.partitions:
        return True
    summary = manifest.partitions[0]
    if summary.lower_bound is None or summary.upper_bound is None:
        return True
    spec = table.specs()[manifest.partition_spec_id]
    kind = spec.partition_type(table.schema()).fields[0].field_type
    lowest = int(from_bytes(kind, summary.lower_bound))  # type: ignore[arg-type]
    highest = int(from_bytes(kind, summary.upper_bound))  # type: ignore[arg-type]
    if rule.kind == "integer":
        width = rule.chunk_size * max(1, rule.coarse_chunks)
        lowest, highest = lowest // rule.chunk_size, (highest + width - 1) // rule.chunk_size
    return lowest < span.stop and highest >= span.first


def data_file(
    table: Table, rule: PartitionRule, index: int, path: str, footer: Footer, version_column: str
) -> DataFile:
    """Describe an object as a file of the table, from its footer and with its partition said explicitly.

    Raises:
        ObjectRefused: the object has a column that the table lacks, or has with another type, lacks the bounds that
            planning needs, or holds rows outside its partition.
        UnsupportedType: an unsigned column holds more than the table's long can, or nobody can tell.
    """
    schema = table.schema()
    known = {field.name for field in schema.fields}
    if unknown := [name for name in footer.columns if name not in known]:
        raise ObjectRefused(
            f"object {footer.key} has columns that table {'.'.join(table.name())} lacks: {', '.join(unknown)}"
        )
    if wrong := misfits(footer, shape_of(table).types):
        raise ObjectRefused(
            f"object {footer.key} does not fit table {'.'.join(table.name())}: {'; '.join(wrong)}; it stays out of the "
            "table. Ask for the export again, with force if it was made by an older release"
        )
    footer.check_longs(f"table {'.'.join(table.name())}: object {footer.key}")
    file = new_file(
        table.metadata, partition_record(rule, index), path, footer.size, statistics_of(table.metadata, footer)
    )
    _check_bounds(table, rule, index, file, version_column)
    return file


def new_file(
    metadata: TableMetadata, partition: Record, path: str, size: int, statistics: Mapping[str, Any]
) -> DataFile:
    """Describe a Parquet file of `size` bytes that holds one partition of the table's default spec."""
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=partition,
        file_size_in_bytes=size,
        sort_order_id=None,
        equality_ids=None,
        key_metadata=None,
        **statistics,
    )
    file.spec_id = metadata.default_spec_id
    return file


def partition_record(rule: PartitionRule, index: int) -> Record:
    """The Iceberg partition in which a partition of ours lies."""
    if rule.kind != "integer":
        return Record(index)
    width = rule.chunk_size * max(1, rule.coarse_chunks)
    return Record(index * rule.chunk_size // width * width)


def _check_bounds(table: Table, rule: PartitionRule, index: int, file: DataFile, version_column: str) -> None:
    what = f"object {file.file_path} for partition {label_of(rule, index)} of table {'.'.join(table.name())}"
    lowest = _bound(table, file.lower_bounds, rule.column)
    highest = _bound(table, file.upper_bounds, rule.column)
    if lowest is None or highest is None:
        raise ObjectRefused(f"{what} has no bounds for {rule.column}; its partition cannot be proved")
    field = table.schema().find_field(rule.column)
    if (file.null_value_counts or {}).get(field.field_id, 0):
        raise ObjectRefused(f"{what} has nulls in {rule.column}")
    first, stop = bounds_of(rule, index)
    unit = 1 if rule.kind == "integer" else SECONDS
    if lowest < first * unit or highest >= stop * unit:
        raise ObjectRefused(f"{what} holds {rule.column} from {lowest} to {highest}, outside its partition")
    if version_column and _bound(table, file.upper_bounds, version_column) is None:
        raise ObjectRefused(f"{what} has no bounds for version column {version_column}; it could never be refreshed")

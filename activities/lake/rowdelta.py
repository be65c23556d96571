"""Row deltas: new rows, deleted rows, schema, watermark and tag in one commit, for one head and for no other."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pyiceberg.manifest import DataFile, ManifestContent, ManifestFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Snapshot, SnapshotSummaryCollector, Summary, update_snapshot_summaries
from pyiceberg.table.update import (
    AddSchemaUpdate,
    AssertLastAssignedFieldId,
    SetCurrentSchemaUpdate,
    TableUpdate,
    update_table_metadata,
)

from activities.core.faults import CatalogRefused
from activities.core.mirrors import TAG
from activities.lake.catalog import Lake
from activities.lake.manifests import FileChange, SnapshotManifests
from activities.lake.sending import Attempt, given_up, landed_in, property_updates, tries
from activities.lake.storage import metadata_named

_GONE = "table {} is not in the catalog any more"


class HeadMoved(Exception):  # noqa: N818 - named for what happened; it does not leave the rooms that plan commits
    """Somebody else changed the table since the delta was planned: it must be planned anew."""


class TableGone(HeadMoved):
    """It was dropped, or dropped and made anew."""


@dataclass(frozen=True)
class Manifested:
    """The manifests of a snapshot that a delta makes, written before anything else of it is known."""

    snapshot_id: int
    path: str
    """Of the manifest list."""
    held: Sequence[ManifestFile]
    clean: Callable[[], None]
    """Deletes them."""


@dataclass(frozen=True)
class RowDelta:
    """What a commit changes. Files are stored already, and described for the schema that the table has then."""

    summary: Mapping[str, str]
    """Said by the snapshot: watermark, pointer to the index, counts."""
    add: Sequence[DataFile] = ()
    """Data files."""
    remove: Sequence[DataFile] = ()
    add_deletes: Sequence[DataFile] = ()
    remove_deletes: Sequence[DataFile] = ()
    schema: Schema | None = None
    """The table's from now on; None: as it is."""
    properties: Mapping[str, str | None] = field(default_factory=dict)
    """That change; None: it goes."""
    is_rewrite: bool = False
    """Whether the rows are the same before and after."""
    tag: str | None = TAG
    """What names the new snapshot."""
    merge_at: int | None = None
    """Small manifests of one kind and spec that are put together; None: as many as commits put together."""
    manifested: Manifested | None = None
    """What `manifest` wrote for these files and the table as it was loaded; None: the commit writes it."""

    @property
    def operation(self) -> Operation:
        """What the snapshot calls itself."""
        if self.is_rewrite:
            return Operation.REPLACE
        changes = self.remove or self.add_deletes or self.remove_deletes
        return Operation.OVERWRITE if changes else Operation.APPEND


@dataclass(frozen=True)
class Committed:
    """The snapshot that a commit made."""

    snapshot_id: int
    table: Table
    """The table that holds it, as the catalog knows it: perhaps with what others committed since."""


@metadata_named()
def commit(lake: Lake, table: Table, delta: RowDelta) -> Committed:
    """Make the delta part of the table, as it was loaded when the delta was planned; with its tag on the new snapshot.

    It lands whole or not at all, and after anything but a clean answer the table says what became of it.

    Raises:
        HeadMoved: somebody else committed since the table was loaded; nothing of the delta is there.
        TableGone: so did somebody who dropped the table, or made it anew.
        CommitConflict, CatalogUnavailable: it could not be sent, or nobody knows: its files must stay.
    """
    identifier = ".".join(table.name())
    sent: list[_Staged] = []
    now: Table | None = table
    for may_send in tries():
        if sent:
            now = lake.load(identifier)
        if now is None:
            raise TableGone(_GONE.format(identifier))
        if landed := landed_in(now, sent):
            return Committed(landed.made, now)
        _check_unmoved(identifier, table, now)
        if may_send:
            # What was sent may land at any time: another try has manifests of its own.
            sent.append(_Staged(now, delta, None if sent else delta.manifested))
            if after := _send(lake, identifier, sent[-1]):
                return Committed(sent[-1].made, after)
    raise given_up(lake, identifier, sent[-1], "look for a foreign writer; the merge is tried again")


def _send(lake: Lake, identifier: str, staged: Attempt) -> Table | None:
    """The table with it; None when it is known or suspected not to have landed."""
    try:
        return staged.after if staged.send(lake) else None
    except CatalogRefused as refused:
        # Some catalogs answer a commit to a table that is gone in a way of their own.
        if lake.load(identifier) is None:
            raise TableGone(_GONE.format(identifier)) from refused
        raise


@metadata_named()
def manifest(table: Table, delta: RowDelta) -> Manifested:
    """Write the manifests that the delta will have if the table is still as it was loaded. Blocks.

    Raises:
        MirrorForeign: the head does not hold what is to go.
        StoreRefused, StoreUnavailable: manifests cannot be read or written.
    """
    return _manifested(table, metadata_after(table, delta.schema), delta)


def _manifested(table: Table, metadata: TableMetadata, delta: RowDelta) -> Manifested:
    made = table.metadata.new_snapshot_id()
    manifests = SnapshotManifests(table, metadata, made, delta.merge_at)
    path, held = manifests.write(
        FileChange(delta.add, delta.remove), FileChange(delta.add_deletes, delta.remove_deletes)
    )
    return Manifested(made, path, held, manifests.clean)


def metadata_after(
    table: Table, schema: Schema | None, properties: Mapping[str, str | None] | None = None
) -> TableMetadata:
    """The table's metadata once it has a schema, and properties: what files of a delta are described with."""
    of_schema = () if schema is None else _schema_updates(table, schema)
    updates = (*of_schema, *property_updates(properties or {}))
    return update_table_metadata(table.metadata, updates) if updates else table.metadata


def _schema_updates(table: Table, schema: Schema) -> tuple[TableUpdate, ...]:
    """What makes a schema the table's: one that it had before gets no second id, which catalogs would not give it."""
    known = next((one for one in table.metadata.schemas if one == schema), None)
    if known is not None:
        return (SetCurrentSchemaUpdate.model_validate({"schema-id": known.schema_id}),)
    return AddSchemaUpdate(schema=schema), SetCurrentSchemaUpdate()


def _check_unmoved(identifier: str, planned: Table, now: Table) -> None:
    before, after = planned.metadata, now.metadata
    if before.table_uuid != after.table_uuid:
        raise TableGone(f"table {identifier} was dropped and made anew")
    if before.current_snapshot_id != after.current_snapshot_id:
        raise HeadMoved(f"mirror {identifier}: its head went from {before.current_snapshot_id} to another one")
    known = (before.current_schema_id, before.last_column_id, before.default_spec_id)
    if known != (after.current_schema_id, after.last_column_id, after.default_spec_id):
        raise HeadMoved(f"mirror {identifier}: its schema or its partition spec changed")


class _Staged(Attempt):
    """One try."""

    def __init__(self, table: Table, delta: RowDelta, manifested: Manifested | None) -> None:
        super().__init__(table)
        if delta.schema is not None:
            assigned = {"last-assigned-field-id": table.metadata.last_column_id}
            self.change(_schema_updates(table, delta.schema), [AssertLastAssignedFieldId.model_validate(assigned)])
        # Not what is staged so far: to PyIceberg that is a copy of everything, each time.
        metadata = metadata_after(table, delta.schema)
        manifested = manifested or _manifested(table, metadata, delta)
        self.made = manifested.snapshot_id
        snapshot = {
            "snapshot-id": self.made,
            "parent-snapshot-id": table.metadata.current_snapshot_id,
            "manifest-list": manifested.path,
            "sequence-number": table.metadata.next_sequence_number(),
            "summary": _summary(metadata, delta, manifested.held),
            "schema-id": metadata.current_schema_id,
        }
        self.follow(Snapshot.model_validate(snapshot), delta.tag, manifested.clean)
        self.change_properties(delta.properties)


def _summary(metadata: TableMetadata, delta: RowDelta, held: Iterable[ManifestFile]) -> Summary:
    """Counts of what changed, and of what is there; PyIceberg's own sums cannot go on after a writer without them."""
    collector = SnapshotSummaryCollector()
    # Not by the library's `add_file`: it wants to know what partitions are called, and knows no year after 9999.
    for file in (*delta.add, *delta.add_deletes):
        collector.metrics.add_file(file)
    for file in (*delta.remove, *delta.remove_deletes):
        collector.metrics.remove_file(file)
    head = metadata.current_snapshot()
    # PyIceberg sums up for some operations only.
    summary = Summary(Operation.OVERWRITE, **collector.build(), **delta.summary)
    summary = update_snapshot_summaries(summary, head.summary if head else None)
    files = dict.fromkeys(ManifestContent, 0)
    rows = dict.fromkeys(ManifestContent, 0)
    for manifest in held:
        files[manifest.content] += (manifest.added_files_count or 0) + (manifest.existing_files_count or 0)
        rows[manifest.content] += (manifest.added_rows_count or 0) + (manifest.existing_rows_count or 0)
    summary["total-data-files"], summary["total-records"] = (str(one[ManifestContent.DATA]) for one in (files, rows))
    summary["total-delete-files"] = str(files[ManifestContent.DELETES])
    summary["total-position-deletes"] = str(rows[ManifestContent.DELETES])
    return Summary(delta.operation, **summary.additional_properties)

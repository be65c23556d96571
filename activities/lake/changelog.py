"""Changelog tables: what they say of themselves, and commits in which rows, schema and position travel together.

The position is a table property, set in the same request as the snapshot that brings the rows up to it, and every such
request makes a snapshot and names the head that it follows. So one that is late can land only where nothing happened
since, and the position says for certain what is there, whatever became of an answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import AddSchemaUpdate, AssertLastAssignedFieldId, SetCurrentSchemaUpdate
from pyiceberg.transforms import DayTransform
from pyiceberg.typedef import Record

from activities.core.changelogs import SystemColumns
from activities.core.drift import Change
from activities.core.faults import ChangelogForeign, CommitConflict
from activities.core.iceberg_types import IcebergType, ListOf, Primitive
from activities.lake.catalog import Lake
from activities.lake.files import new_file
from activities.lake.filestatistics import statistics_of
from activities.lake.footers import Footer
from activities.lake.schema import changed, fields_schema, shape_of, table_properties
from activities.lake.sending import Attempt, given_up, landed_in, tries
from activities.lake.storage import metadata_named

PREFIX = "icefleet.cdc."
PIPELINE = PREFIX + "pipeline"
SOURCE_TABLE = PREFIX + "source-table"
BUFFER = PREFIX + "buffer"
POSITION = PREFIX + "position"
COLUMNS = PREFIX + "columns"
SNAPSHOT = PREFIX + "snapshot-id"
COPIED = PREFIX + "copied-lsn"
LAST = PREFIX + "last-sequence"
"""Property: of all rows that were ever written. Summary: of the snapshot's."""
FORMAT = 2
WAY_OUT = "have it copied anew (icefleet cdc install --again), or undo that with an Iceberg client"
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class ChangelogState:
    """A changelog as its pipeline finds it."""

    uuid: str
    buffer_id: str
    """Of the buffer whose event ids `position` counts; empty: of none."""
    pipeline: str
    source_table: str
    """`schema.table`."""
    position: int
    """Every event of the buffer up to this id is there, or was dealt with in another way."""
    copied_lsn: int | None
    """The position of the source's log that its last first copy shows."""
    last_sequence: str
    """The greatest sequence number that was ever written; empty: there is none."""
    columns: str
    """What `ChangelogColumns.dump` wrote."""
    types: Mapping[str, IcebergType]
    """Field → its type, ours included."""
    snapshot_id: int | None
    """The head; None before the first snapshot."""
    rolled_back: bool
    """Whether the pipeline's last snapshot is not part of the table's history any more."""
    schema: Schema
    schema_id: int
    last_field_id: int
    holds_rows: bool
    last_summary: Mapping[str, str]
    """Of the pipeline's last snapshot; empty when there is none, or it has expired."""


@dataclass(frozen=True)
class StoredFile:
    """A Parquet file in the store."""

    path: str
    """As Iceberg writes it, such as `s3://bucket/key`."""
    size: int
    metadata: pq.FileMetaData
    day: date


@dataclass(frozen=True)
class Committed:
    """What became of a commit."""

    snapshot_id: int | None
    """None when another commit had brought the same."""
    landed: bool
    """Whether it was this one that did it."""


def system_types(system: SystemColumns) -> dict[str, IcebergType]:
    """The columns that every changelog has before those of its source."""
    text = Primitive("string")
    kinds = (text, text, text, Primitive("timestamptz"), ListOf(text))
    return dict(zip(system.names, kinds, strict=True))


def create(
    lake: Lake,
    identifier: str,
    fields: Mapping[str, IcebergType],
    system: SystemColumns,
    properties: Mapping[str, str],
) -> None:
    """Make a changelog with our columns and `fields`, unless there is a table of that name already.

    Args:
        lake: The catalog.
        identifier: `namespace.name`.
        fields: Of the source, in order; every one becomes optional.
        system: What our columns are called.
        properties: See `first_properties`.
    """
    schema = fields_schema({**system_types(system), **fields})
    spec = PartitionSpec(
        PartitionField(schema.find_field(system.timestamp).field_id, 1000, DayTransform(), f"{system.timestamp}_day")
    )
    # Merges look for rows by their sequence number, of which half would be cut off.
    whole_bounds = {f"write.metadata.metrics.column.{system.sequence}": "full"}
    lake.make(identifier, schema, spec, {**table_properties(), **whole_bounds, **properties})


def first_properties(pipeline: str, source_table: str, buffer_id: str, columns: str) -> dict[str, str]:
    """What a changelog that holds nothing says of itself."""
    return {
        PIPELINE: pipeline,
        SOURCE_TABLE: source_table,
        BUFFER: buffer_id,
        POSITION: "0",
        COLUMNS: columns,
    }


@metadata_named()
def read_state(lake: Lake, identifier: str) -> ChangelogState | None:
    """What the changelog says of itself; None when the catalog has no such table.

    Raises:
        ChangelogForeign: the table is not one of a pipeline's.
    """
    table = lake.load(identifier)
    return None if table is None else state_of(table)


def state_of(table: Table) -> ChangelogState:
    """The same of a table that was loaded.

    Raises:
        ChangelogForeign: the table is not one of a pipeline's.
    """
    metadata, said, name = table.metadata, table.properties, ".".join(table.name())
    try:
        position = int(said[POSITION])
        copied = said.get(COPIED)
        head = metadata.current_snapshot()
        return ChangelogState(
            uuid=str(metadata.table_uuid),
            buffer_id=said[BUFFER],
            pipeline=said[PIPELINE],
            source_table=said[SOURCE_TABLE],
            position=position,
            copied_lsn=int(copied) if copied else None,
            last_sequence=said.get(LAST, ""),
            columns=said[COLUMNS],
            types=shape_of(table).types,
            snapshot_id=head.snapshot_id if head else None,
            rolled_back=_is_rolled_back(metadata, said.get(SNAPSHOT)),
            schema=table.schema(),
            schema_id=metadata.current_schema_id,
            last_field_id=metadata.last_column_id,
            holds_rows=_holds_rows(head),
            last_summary=_summary_of(metadata, said.get(SNAPSHOT)),
        )
    except (KeyError, ValueError) as wrong:
        raise ChangelogForeign(
            f"table {name} is no changelog of a pipeline: its properties {PREFIX}… lack or garble {wrong}; give the "
            "pipeline another namespace or name template, or drop the table and have it copied anew"
        ) from wrong


def _holds_rows(head: Snapshot | None) -> bool:
    """Whether a reader of the head would see rows; when nobody says, yes."""
    total = head.summary["total-records"] if head and head.summary else None
    return head is not None and total != "0"


def _summary_of(metadata: TableMetadata, snapshot_id: str | None) -> Mapping[str, str]:
    last = None if snapshot_id is None else metadata.snapshot_by_id(int(snapshot_id))
    return {} if last is None or last.summary is None else last.summary.additional_properties


def _is_rolled_back(metadata: TableMetadata, last: str | None) -> bool:
    """Whether the head does not follow the pipeline's last snapshot.

    Other writers may have added and compacted since, and snapshots may have expired.
    """
    if last is None:
        return False
    known = {snapshot.snapshot_id: snapshot for snapshot in metadata.snapshots}
    at = metadata.current_snapshot()
    while at is not None:
        if at.snapshot_id == int(last):
            return False
        if at.summary and at.summary.additional_properties.get(POSITION) is not None:
            return True  # the newest of ours is an older one
        if at.parent_snapshot_id is not None and at.parent_snapshot_id not in known:
            return int(last) in known  # the rest has expired, and it with it
        at = known[at.parent_snapshot_id] if at.parent_snapshot_id is not None else None
    return True


def schema_after(state: ChangelogState, changes: Sequence[Change]) -> Schema:
    """The changelog's schema once `changes` are made: field ids of files are those of this schema.

    Raises:
        SchemaConflict: somebody changed the table, so that they cannot be made.
    """
    return changed(state.schema, changes, last_id=state.last_field_id, schema_id=state.schema_id)


@metadata_named()
def commit(
    lake: Lake,
    identifier: str,
    expected: ChangelogState,
    *,
    changes: Sequence[Change] = (),
    columns_text: str,
    position: int,
    files: Sequence[StoredFile] = (),
    buffer_id: str,
    pipeline: str,
    summary: Mapping[str, str],
    copied_lsn: int | None = None,
) -> Committed:
    """Change the schema, append the files and move the position, in one request that lands whole or not at all.

    Files must have the field ids of `schema_after(expected, changes)`. What others do to the table meanwhile is
    followed, as long as neither its schema nor the pipeline's position moves.

    Raises:
        ChangelogForeign: the table was dropped, made anew, rolled back, or taken over by another pipeline.
        CommitConflict: position or schema moved, so the batch must be planned anew; or other writers won every try.
        CatalogUnavailable: the catalog cannot be reached, or answers every try with an error.
    """
    asked = _Asked(expected, changes, columns_text, position, files, buffer_id, pipeline, summary, copied_lsn)
    sent: list[Attempt] = []
    for may_send in tries():
        table = _load(lake, identifier)
        if landed := landed_in(table, sent):
            return Committed(landed.snapshot_id, landed=True)
        if asked.is_there(identifier, state_of(table)):
            return Committed(None, landed=False)
        if may_send:
            sent.append(asked.staged(table))
            if sent[-1].send(lake):
                return Committed(sent[-1].snapshot_id, landed=True)
    raise given_up(lake, identifier, sent[-1], "look for a foreign writer; the batch is tried again")


def _load(lake: Lake, identifier: str) -> Table:
    table = lake.load(identifier)
    if table is None:
        raise ChangelogForeign(f"changelog {identifier} is not in the catalog any more; {WAY_OUT}")
    return table


@dataclass(frozen=True)
class _Asked:
    """What a commit is to do, against whatever head it meets."""

    expected: ChangelogState
    changes: Sequence[Change]
    columns: str
    position: int
    files: Sequence[StoredFile]
    buffer_id: str
    pipeline: str
    summary: Mapping[str, str]
    copied_lsn: int | None

    def is_there(self, identifier: str, now: ChangelogState) -> bool:
        """Whether the table holds this, by whatever commit; raises when it cannot be added to the table any more."""
        before, where = self.expected, f"changelog {identifier}"
        if now.uuid != before.uuid:
            raise ChangelogForeign(f"{where} was dropped and made anew; {WAY_OUT}")
        if now.rolled_back and not before.rolled_back:
            raise ChangelogForeign(
                f"{where} was rolled back: its history lacks the pipeline's last snapshot; {WAY_OUT}"
            )
        is_copied = self.copied_lsn is None or now.copied_lsn == self.copied_lsn
        if now.buffer_id == self.buffer_id and now.position >= self.position and is_copied:
            return True
        if now.buffer_id not in {before.buffer_id, self.buffer_id}:
            raise ChangelogForeign(f"{where} was filled from another buffer ({now.buffer_id}); {WAY_OUT}")
        if (now.buffer_id, now.position, now.copied_lsn) != (before.buffer_id, before.position, before.copied_lsn):
            raise CommitConflict(f"{where} went on from event {before.position} to {now.position} meanwhile")
        if (now.schema_id, now.last_field_id) != (before.schema_id, before.last_field_id):
            raise CommitConflict(f"{where}: somebody changed its schema meanwhile; the batch is planned anew")
        return False

    def staged(self, table: Table) -> Attempt:
        """One try for this head."""
        attempt = Attempt(table)
        if self.changes:
            # The ids are those of `schema_after`: schema and last id are as they were.
            schema_id = 1 + max(known.schema_id for known in table.metadata.schemas)
            schema = changed(table.schema(), self.changes, last_id=table.metadata.last_column_id, schema_id=schema_id)
            assigned = {"last-assigned-field-id": self.expected.last_field_id}
            attempt.change(
                [AddSchemaUpdate(schema=schema), SetCurrentSchemaUpdate()],
                [AssertLastAssignedFieldId.model_validate(assigned)],
            )
        said = {PIPELINE: self.pipeline, POSITION: str(self.position)}
        attempt.snapshot({**self.summary, **said}, _described(attempt.metadata, self.files))
        copied = {} if self.copied_lsn is None else {COPIED: str(self.copied_lsn)}
        last = max(table.properties.get(LAST, ""), self.summary.get(LAST, ""))
        attempt.change_properties(
            {
                **said,
                BUFFER: self.buffer_id,
                COLUMNS: self.columns,
                SNAPSHOT: str(attempt.snapshot_id),
                LAST: last,
                **copied,
            }
        )
        return attempt


def _described(metadata: TableMetadata, files: Iterable[StoredFile]) -> list[DataFile]:
    """The files as the manifest has them, from their footers and with the day said explicitly."""
    return [
        new_file(
            metadata,
            Record((file.day - _EPOCH).days),
            file.path,
            file.size,
            statistics_of(metadata, Footer(file.path, file.metadata, file.size)),
        )
        for file in files
    ]

"""Mirror tables: making them, and what their head says of how far they have merged."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot, ancestors_of

from activities.core.faults import BadConfig, MirrorForeign
from activities.core.mirrors import INDEX, TAG, WATERMARK, IndexPointer, MirrorConfig, Watermark
from activities.lake.catalog import Lake
from activities.lake.mirrormade import (
    CHANGELOG,
    COLUMNS,
    PARTITION,
    check_source,
    identity,
    merged_columns,
    partition_said,
    partition_spec,
)
from activities.lake.schema import fields_schema, table_properties, to_pure
from activities.lake.storage import metadata_named

FORMAT = 2
READERS = {"read.parquet.vectorization.enabled": "false"}
"""For Iceberg's own readers, such as Spark's: for long their vectorized ones refused the encodings that mirrors have.

The sessions of those that know them may ask for vectorized reads all the same: what a session says goes before.
"""
WAY_OUT = "have it begin again (icefleet mirrors merge --bootstrap), or undo that with an Iceberg client"


@dataclass(frozen=True)
class Mirror:
    """A mirror as a merge finds it."""

    table: Table
    """As it was loaded: what is committed is committed to this head."""
    watermark: Watermark | None
    """None: nothing was ever merged."""
    index: IndexPointer | None
    """Of the snapshot that holds the watermark; None: there is none, or it cannot be read."""
    said_by: int | None
    """The snapshot that holds the watermark."""
    columns: dict[str, str]
    """Name → field id of the changelog's columns that the mirror's were made from."""

    @property
    def identifier(self) -> str:
        """`namespace.table`."""
        return ".".join(self.table.name())

    @property
    def head(self) -> int | None:
        """The newest snapshot."""
        return self.table.metadata.current_snapshot_id

    @property
    def foreign_since(self) -> bool:
        """Whether others committed after our last merge: the index does not know what they did."""
        return self.said_by != self.head

    def moved_ms(self, head: int | None) -> int:
        """When the first snapshot after an earlier head was committed, milliseconds since 1970; 0: nobody knows."""
        later = ancestors_of(self.table.current_snapshot(), self.table.metadata)
        return next((one.timestamp_ms for one in later if one.parent_snapshot_id == head), 0)


def create(lake: Lake, config: MirrorConfig, changelog: Table) -> None:
    """Make the mirror's table, unless there is one of that name already.

    Raises:
        BadConfig: the changelog lacks columns that config names, is written otherwise, or cannot be partitioned so.
        SchemaConflict: it has a type that tables of format 2 cannot have.
    """
    columns = merged_columns(config, changelog.schema())
    check_source(config, changelog)
    schema = fields_schema({column.name: to_pure(column.field_type) for column in columns})
    ids = {column.name: str(column.field_id) for column in columns}
    cut = {PARTITION: partition_said(config, ids)}
    properties = {**table_properties(), **identity(config, changelog.schema()), **cut, **READERS}
    lake.make(config.mirror, schema, partition_spec(config, schema), properties)


@metadata_named()
def read(lake: Lake, config: MirrorConfig) -> Mirror | None:
    """The mirror as it is now; None when the catalog has no such table.

    Raises:
        MirrorForeign: the table is none of ours, of another format, or was rolled back.
        BadConfig: it is the mirror of another changelog.
    """
    table = lake.load(config.mirror)
    return None if table is None else state_of(config, table)


def state_of(config: MirrorConfig, table: Table) -> Mirror:
    """The same of a table that was loaded."""
    _check_ours(config, table)
    where, said = f"mirror {config.mirror}", table.properties
    ours = _newest_of_ours(where, table)
    if ours is None or ours.summary is None:
        columns = _columns(where, said.get(COLUMNS, ""))
        _check_columns(where, table, columns)
        return Mirror(table, None, None, None, columns)
    watermark = Watermark.load(str(ours.summary[WATERMARK]), config.mirror)
    _check_columns(where, table, watermark.columns)
    _check_identity(config, table, watermark.columns, ours)
    pointer = ours.summary[INDEX]
    index = IndexPointer.load(str(pointer)) if pointer else None
    return Mirror(table, watermark, index, ours.snapshot_id, watermark.columns)


@metadata_named()
def read_anew(lake: Lake, config: MirrorConfig) -> Mirror | None:
    """The mirror as if nothing had ever been merged, whatever became of it since; None when there is no such table.

    Raises:
        MirrorForeign: the table is none of ours, or of another format.
        BadConfig: it is the mirror of another changelog.
    """
    table = lake.load(config.mirror)
    if table is None:
        return None
    _check_ours(config, table)
    return Mirror(table, None, None, None, {})


def _check_ours(config: MirrorConfig, table: Table) -> None:
    where, said = f"mirror {config.mirror}", table.properties
    if table.format_version != FORMAT:
        raise MirrorForeign(
            f"{where} has format version {table.format_version}, and {FORMAT} is what merges write; give the mirror "
            "another name in mirrors.yaml, or drop the table and have it made anew"
        )
    if CHANGELOG not in said:
        raise MirrorForeign(
            f"table {config.mirror} is there already and no mirror of ours: it lacks the property {CHANGELOG}; give "
            "the mirror another name in mirrors.yaml"
        )
    if said[CHANGELOG] != config.changelog:
        raise BadConfig(
            f"{where} is that of {said[CHANGELOG]}, and mirrors.yaml makes it from {config.changelog}; give the new "
            "mirror another name, or drop the table"
        )


def _check_columns(where: str, table: Table, merged: Iterable[str]) -> None:
    """See that the columns are there that merges brought, and that none must have values."""
    fields = table.schema().fields
    if lost := sorted(set(merged) - {field.name for field in fields}):
        raise MirrorForeign(
            f"{where} lacks {', '.join(lost)}, which merges brought: somebody dropped or renamed them in the mirror; "
            "undo that with an Iceberg client, or drop the table and have it made anew"
        )
    if required := [field.name for field in fields if field.required]:
        raise MirrorForeign(
            f"{where}: somebody made {', '.join(required)} required, and a row may lack any value; make them optional "
            "again with an Iceberg client"
        )


def _check_identity(config: MirrorConfig, table: Table, merged: Iterable[str], ours: Snapshot) -> None:
    """See that the columns are those that the last merge knew by their names: another one's values are not theirs."""
    known = next((schema for schema in table.metadata.schemas if schema.schema_id == ours.schema_id), None)
    if known is None:
        return
    before, now = ({field.name: field.field_id for field in schema.fields} for schema in (known, table.schema()))
    if others := sorted(name for name in merged if name in before and before[name] != now[name]):
        raise MirrorForeign(
            f"mirror {config.mirror}: {', '.join(others)} are not the columns that merges brought under these names: "
            "somebody dropped or renamed those in the mirror; rename them back with an Iceberg client, or have the "
            f"mirror begin again (icefleet mirrors merge {config.mirror} --bootstrap)"
        )


def is_said(snapshot: Snapshot) -> bool:
    """Whether a snapshot holds a watermark."""
    return bool(snapshot.summary and snapshot.summary[WATERMARK])


def needed(table: Table) -> set[int]:
    """Snapshots that must not expire: the head and what leads from it to the last one that merged.

    By them a merge that comes later sees that nobody rolled the mirror back, whatever others committed meanwhile.
    """
    return {one.snapshot_id for one in _line(table)}


def _line(table: Table) -> list[Snapshot]:
    """The head and its ancestors, as far as the newest with a watermark or the last one that is known."""
    line: list[Snapshot] = []
    for one in ancestors_of(table.current_snapshot(), table.metadata):
        line.append(one)
        if is_said(one):
            break
    return line


def _newest_of_ours(where: str, table: Table) -> Snapshot | None:
    """The newest snapshot with a watermark, the head included; it must be the one that the tag is on."""
    metadata = table.metadata
    tag = metadata.refs.get(TAG)
    head = metadata.current_snapshot()
    line = _line(table)
    ours = line[-1] if line and is_said(line[-1]) else None
    if tag is not None and (ours is None or ours.snapshot_id != tag.snapshot_id):
        if _is_cut(line, table.snapshot_by_id(tag.snapshot_id)):
            raise MirrorForeign(
                f"{where}: others let snapshots expire that lay between its head and snapshot {tag.snapshot_id}, the "
                f"last one that merged (tag {TAG}), so nobody can tell whether the mirror was rolled back; make that "
                "snapshot the current one again (set_current_snapshot of an Iceberg client): of merges nothing is "
                "lost, and what others wrote since is taken back; or have it begin again (icefleet mirrors merge "
                "--bootstrap)"
            )
        raise MirrorForeign(
            f"{where} was rolled back: its history lacks snapshot {tag.snapshot_id}, the last one that merged "
            f"(tag {TAG}); {WAY_OUT}"
        )
    if tag is None and ours is None and head is not None:
        raise MirrorForeign(
            f"{where} holds snapshots, and none of them nor a tag {TAG} says how far it has merged; {WAY_OUT}"
        )
    return ours


def _is_cut(line: list[Snapshot], merged: Snapshot | None) -> bool:
    """Whether the line ends where a snapshot has expired, and all of it came after the one that merged."""
    last = line[-1] if line else None
    if last is None or merged is None or is_said(last) or last.parent_snapshot_id is None:
        return False
    return (last.sequence_number or 0) > (merged.sequence_number or 0)


def _columns(where: str, text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
        return {str(name): str(number) for name, number in found.items()}
    except (ValueError, AttributeError) as wrong:
        raise MirrorForeign(
            f"{where}: its property {COLUMNS} is not what was written: {text[:100]!r}; {WAY_OUT}"
        ) from wrong

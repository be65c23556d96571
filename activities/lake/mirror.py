"""Mirror tables: making them, and what their head says of how far they have merged."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot, ancestors_of
from pyiceberg.transforms import (
    BucketTransform,
    IdentityTransform,
    Transform,
    TruncateTransform,
    UnknownTransform,
    VoidTransform,
    parse_transform,
)
from pyiceberg.types import NestedField

from activities.core.faults import BadConfig, MirrorForeign
from activities.core.mirrors import INDEX, PREFIX, TAG, WATERMARK, IndexPointer, MirrorConfig, Watermark
from activities.lake.catalog import Lake
from activities.lake.schema import fields_schema, table_properties, to_pure
from activities.lake.storage import metadata_named

CHANGELOG = PREFIX + "changelog"
"""Property: identifier of the changelog."""
KEYS = PREFIX + "keys"
"""Property: field ids in the changelog of the primary key, as JSON."""
COLUMNS = PREFIX + "columns"
"""Property: `Watermark.columns` as they were when the table was made, as JSON."""
FORMAT = 2
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


def merged_columns(config: MirrorConfig, changelog: Schema) -> list[NestedField]:
    """The changelog's columns that the mirror has, too.

    Raises:
        BadConfig: the changelog lacks columns that config names; or there is no key.
    """
    names = {column.name for column in changelog.fields}
    wrong = [
        f"{where}: the changelog has no column {name!r}"
        for where, wanted in (
            ("primary_keys", config.primary_keys),
            ("sequence_column", (config.sequence_column,)),
            ("operation_column", (config.operation_column,)),
            ("partition", tuple(column for column, _ in config.partition)),
        )
        for name in wanted
        if name not in names
    ]
    left_out = {config.operation_column, *config.metadata_columns}
    needed = (*config.primary_keys, config.sequence_column, *(column for column, _ in config.partition))
    wrong += [f"column {name!r} is needed and cannot be left out" for name in needed if name in left_out]
    if not config.primary_keys:
        wrong.append("primary_keys: there must be one at least, since a mirror holds one row for each key")
    if wrong:
        raise BadConfig(f"mirror {config.mirror} of {config.changelog}: {'; '.join(wrong)}; mend mirrors.yaml")
    return [column for column in changelog.fields if column.name not in left_out]


def create(lake: Lake, config: MirrorConfig, changelog: Table) -> None:
    """Make the mirror's table, unless there is one of that name already.

    Raises:
        BadConfig: the changelog lacks columns that config names, or cannot be partitioned so.
        SchemaConflict: it has a type that tables of format 2 cannot have.
    """
    columns = merged_columns(config, changelog.schema())
    schema = fields_schema({column.name: to_pure(column.field_type) for column in columns})
    properties = {**table_properties(), **identity(config, changelog.schema())}
    lake.make(config.mirror, schema, partition_spec(config, schema), properties)


def identity(config: MirrorConfig, changelog: Schema) -> dict[str, str]:
    """The properties that say whose mirror a table is, and by which of the changelog's columns."""
    ids = {column.name: str(column.field_id) for column in merged_columns(config, changelog)}
    return {
        # A merge reads old rows by file and row; the sequence number tells how new a file is.
        f"write.metadata.metrics.column.{config.sequence_column}": "full",
        CHANGELOG: config.changelog,
        KEYS: json.dumps([ids[name] for name in config.primary_keys]),
        COLUMNS: json.dumps(ids, ensure_ascii=False),
    }


def partition_spec(config: MirrorConfig, schema: Schema) -> PartitionSpec:
    """How config has the mirror cut.

    Raises:
        BadConfig: there is no such transform, or not for that type.
    """
    fields, wrong = list[PartitionField](), list[str]()
    for number, (name, text) in enumerate(config.partition, 1000):
        column = schema.find_field(name)
        try:
            transform = parse_transform(text)
        except ValueError:
            transform = UnknownTransform(text)
        if isinstance(transform, UnknownTransform | VoidTransform):
            wrong.append(f"{name}: merges cannot cut by {text!r}")
        elif not transform.can_transform(column.field_type):
            wrong.append(f"{name}: {text} cannot be made of {column.field_type}")
        else:
            fields.append(PartitionField(column.field_id, number, transform, _called(name, transform)))
    if wrong:
        raise BadConfig(f"mirror {config.mirror}: partition: {'; '.join(wrong)}; mend mirrors.yaml")
    return PartitionSpec(*fields)


def _called(column: str, transform: Transform[Any, Any]) -> str:
    """What a partition field is called."""
    match transform:
        case IdentityTransform():
            return column
        case BucketTransform():
            return f"{column}_bucket"
        case TruncateTransform():
            return f"{column}_trunc"
        case _:
            return f"{column}_{transform}"


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


def check_keys(config: MirrorConfig, mirror: Mirror, changelog: Schema) -> None:
    """See that the mirror was made with the keys that config has now.

    Raises:
        BadConfig: it was not; or the changelog lacks columns that config names.
    """
    ids = {column.name: str(column.field_id) for column in merged_columns(config, changelog)}
    known = mirror.table.properties.get(KEYS, "")
    if json.dumps([ids[name] for name in config.primary_keys]) != known:
        raise BadConfig(
            f"mirror {config.mirror} was made with another key (fields {known} of {config.changelog}) than "
            f"primary_keys {', '.join(config.primary_keys)} of mirrors.yaml; undo that, or drop the table and have it "
            "made anew"
        )


def is_said(snapshot: Snapshot) -> bool:
    """Whether a snapshot holds a watermark."""
    return bool(snapshot.summary and snapshot.summary[WATERMARK])


def _newest_of_ours(where: str, table: Table) -> Snapshot | None:
    """The newest snapshot with a watermark, the head included; it must be the one that the tag is on."""
    metadata = table.metadata
    tag = metadata.refs.get(TAG)
    head = metadata.current_snapshot()
    ours = next((one for one in ancestors_of(head, metadata) if is_said(one)), None)
    if tag is not None and (ours is None or ours.snapshot_id != tag.snapshot_id):
        raise MirrorForeign(
            f"{where} was rolled back: its history lacks snapshot {tag.snapshot_id}, the last one that merged "
            f"(tag {TAG}); {WAY_OUT}"
        )
    if tag is None and ours is None and head is not None:
        raise MirrorForeign(
            f"{where} holds snapshots, and none of them nor a tag {TAG} says how far it has merged; {WAY_OUT}"
        )
    return ours


def _columns(where: str, text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
        return {str(name): str(number) for name, number in found.items()}
    except (ValueError, AttributeError) as wrong:
        raise MirrorForeign(
            f"{where}: its property {COLUMNS} is not what was written: {text[:100]!r}; {WAY_OUT}"
        ) from wrong

"""What a mirror is made of, by config and changelog; and whether config still says what it was made by."""

import json
from collections.abc import Mapping
from typing import Any

from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import (
    BucketTransform,
    IdentityTransform,
    Transform,
    TruncateTransform,
    UnknownTransform,
    VoidTransform,
    parse_transform,
)
from pyiceberg.types import DecimalType, DoubleType, FloatType, IcebergType, ListType, NestedField, StringType, UUIDType

from activities.core.drift import ChangelogColumns
from activities.core.faults import BadConfig
from activities.core.mirrors import PREFIX, MirrorConfig
from activities.lake import changelog as changelogs
from activities.lake.schema import manifest_name

CHANGELOG = PREFIX + "changelog"
"""Property: identifier of the changelog."""
KEYS = PREFIX + "keys"
"""Property: field ids in the changelog of the primary key, as JSON."""
COLUMNS = PREFIX + "columns"
"""Property: `Watermark.columns` as they were when the table was made, as JSON."""
SEQUENCE = PREFIX + "sequence"
"""Property: field id in the changelog of the sequence number, and how it says a number, as JSON."""

_METRICS = "write.metadata.metrics.column."

PARTITION = PREFIX + "partition"
"""Property: field ids in the changelog and transforms by which the table was cut when it was made, as JSON."""


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
    left_out = {config.operation_column, config.unchanged_column, *config.metadata_columns}
    needed = (*config.primary_keys, config.sequence_column, *(column for column, _ in config.partition))
    wrong += [f"column {name!r} is needed and cannot be left out" for name in needed if name in left_out]
    if not config.primary_keys:
        wrong.append("primary_keys: there must be one at least, since a mirror holds one row for each key")
    if wrong:
        raise BadConfig(f"mirror {config.mirror} of {config.changelog}: {'; '.join(wrong)}; mend mirrors.yaml")
    return [column for column in changelog.fields if column.name not in left_out]


def identity(config: MirrorConfig, changelog: Schema) -> dict[str, str]:
    """The properties that say whose mirror a table is, and by which of the changelog's columns."""
    ids = {column.name: str(column.field_id) for column in merged_columns(config, changelog)}
    return {
        # A merge reads old rows by file and row; the sequence number tells how new a file is.
        f"{_METRICS}{config.sequence_column}": "full",
        CHANGELOG: config.changelog,
        KEYS: _keys(config, ids),
        SEQUENCE: _sequence(config, changelog),
        COLUMNS: json.dumps(ids, ensure_ascii=False),
    }


def bounds_followed(
    config: MirrorConfig, mirror: Table, before: Mapping[str, str], after: Mapping[str, str]
) -> dict[str, str | None]:
    """How properties of the mirror change that name its sequence column, which has another name than before.

    Args:
        config: The mirror's.
        mirror: Its table.
        before: Name → field id of the changelog's columns that the mirror's were made from.
        after: The same as it is to be.
    """
    if f"{_METRICS}{config.sequence_column}" in mirror.properties:
        return {}
    number = after[config.sequence_column]
    old = (f"{_METRICS}{name}" for name, known in before.items() if known == number)
    gone = dict.fromkeys(name for name in old if name in mirror.properties)
    return {**gone, f"{_METRICS}{config.sequence_column}": "full"}


def check_made(config: MirrorConfig, mirror: Table, changelog: Schema) -> None:
    """See that the mirror was made with the keys and sequence numbers that config has now.

    Raises:
        BadConfig: it was not; or the changelog lacks columns that config names.
    """
    where = f"mirror {config.mirror}"
    ids = {column.name: str(column.field_id) for column in merged_columns(config, changelog)}
    known = mirror.properties.get(KEYS, "")
    if _keys(config, ids) != known:
        raise BadConfig(
            f"{where} was made with another key (fields {known} of {config.changelog}) than "
            f"primary_keys {', '.join(config.primary_keys)} of mirrors.yaml; undo that, or drop the table and have it "
            "made anew"
        )
    known, now = mirror.properties.get(SEQUENCE, "none"), _sequence(config, changelog)
    if known != now:
        raise BadConfig(
            f"{where} was made with other sequence numbers (field and format {known} of {config.changelog}) than "
            f"sequence_column {config.sequence_column} and sequence_format {config.sequence_format} of mirrors.yaml "
            f"say ({now}), and what is newer cannot be told from one to the other; undo that, or have the mirror begin "
            "again (icefleet mirrors merge --bootstrap)"
        )


def check_source(config: MirrorConfig, changelog: Table) -> None:
    """See that config takes a changelog of our own ingest as that writes it: else rows are wrong, and nobody sees it.

    Raises:
        BadConfig: it has another key, of deleted rows it may have nothing else; or it lists what updates do not carry
            in another column.
    """
    said = changelog.properties.get(changelogs.COLUMNS)
    if not said:
        return
    known, where = ChangelogColumns.load(said), f"mirror {config.mirror}"
    if known.columns and not known.key:
        raise BadConfig(
            f"{where}: the source's table of {config.changelog} has no key, so that its changes do not say which rows "
            "they are about, and it cannot have a mirror; give it a primary key that is not deferrable, and have it "
            "copied anew (icefleet cdc install --again)"
        )
    if known.key and set(known.key) != set(config.primary_keys):
        raise BadConfig(
            f"{where}: primary_keys are {', '.join(config.primary_keys)} in mirrors.yaml, and rows of "
            f"{config.changelog} are told apart by {', '.join(known.key)} at the source: by other columns, deletes and "
            "changes would leave rows that are gone. Name these there; where the key has changed, have the table "
            "copied anew (icefleet cdc install --again) and the mirror begin again (icefleet mirrors merge --bootstrap)"
        )
    fields = {column.field for column in known.columns}
    lists = [one.name for one in changelog.schema().fields if isinstance(one.field_type, ListType)]
    if (ours := [name for name in lists if name not in fields]) and config.unchanged_column not in ours:
        raise BadConfig(
            f"{where}: unchanged_column is {config.unchanged_column} in mirrors.yaml, and {config.changelog} lists in "
            f"{ours[0]} what updates do not carry: long values that did not change would become null. Name it there"
        )


def check_named(config: MirrorConfig, mirror: Schema) -> None:
    """See that the mirror has the columns by which its rows are known, under the names that config has.

    Raises:
        BadConfig: it lacks one: it was renamed in the changelog, which the next merge follows.
    """
    lacking = {*config.primary_keys, config.sequence_column} - {field.name for field in mirror.fields}
    if lacking:
        raise BadConfig(
            f"mirror {config.mirror} has no column {', '.join(sorted(lacking))} yet; merge first, or mend "
            "primary_keys and sequence_column in mirrors.yaml"
        )


def check_partition(config: MirrorConfig, mirror: Table, columns: Mapping[str, str], changelog: Schema) -> None:
    """See that a config that was changed says how the table is cut; a spec that others changed is followed as it is.

    Args:
        config: The mirror's.
        mirror: Its table.
        columns: Name → field id of the changelog's columns that the mirror's were made from.
        changelog: The changelog's schema, which `check_made` has seen.

    Raises:
        BadConfig: it says something else.
    """
    ids = {column.name: str(column.field_id) for column in merged_columns(config, changelog)}
    wanted = partition_said(config, ids)
    schema = mirror.schema()
    cut = [(schema.find_column_name(field.source_id), str(field.transform)) for field in mirror.spec().fields]
    # By a column that the changelog has no more a table stays cut, and config cannot say so.
    live = [[number, how] for name, how in cut if (number := columns.get(name or "")) in ids.values()]
    if wanted == mirror.properties.get(PARTITION) or sorted(json.loads(wanted)) == sorted(live):
        return
    said, there = (", ".join(f"{name} ({how})" for name, how in parts) for parts in (config.partition, cut))
    raise BadConfig(
        f"mirror {config.mirror} is partitioned by {there or 'nothing'}, and by {said or 'nothing'} in mirrors.yaml, "
        "which is only read when a mirror is made; undo that, or change the table's partition spec with an Iceberg "
        "client, which merges follow, or drop the table and have it made anew"
    )


def partition_said(config: MirrorConfig, ids: Mapping[str, str]) -> str:
    """What PARTITION is by config; `ids` are field ids of the changelog's columns."""
    return json.dumps([[ids[name], how] for name, how in config.partition])


def _keys(config: MirrorConfig, ids: Mapping[str, str]) -> str:
    return json.dumps([ids[name] for name in config.primary_keys])


def _sequence(config: MirrorConfig, changelog: Schema) -> str:
    column = next(one for one in changelog.fields if one.name == config.sequence_column)
    text = "decimal" if config.sequence_format == "decimal" else "hex"
    return json.dumps([str(column.field_id), text if isinstance(column.field_type, StringType) else "number"])


def partition_spec(config: MirrorConfig, schema: Schema) -> PartitionSpec:
    """How config has the mirror cut.

    Raises:
        BadConfig: there is no such transform, or not for that type.
    """
    fields, wrong = list[PartitionField](), list[str]()
    for number, (name, text) in enumerate(config.partition, 1000):
        column = schema.find_field(name)
        kind = column.field_type
        try:
            transform = parse_transform(text)
        except ValueError:
            transform = UnknownTransform(text)
        if isinstance(transform, UnknownTransform | VoidTransform):
            wrong.append(f"{name}: merges cannot cut by {text!r}")
        elif not transform.can_transform(kind):
            wrong.append(f"{name}: {text} cannot be made of {kind}")
        elif _is_misread(transform, kind):
            wrong.append(f"{name}: DuckDB or ClickHouse would not find all rows of tables cut by {text} of {kind}")
        else:
            fields.append(PartitionField(column.field_id, number, transform, _called(name, transform)))
    if wrong:
        raise BadConfig(f"mirror {config.mirror}: partition: {'; '.join(wrong)}; mend mirrors.yaml")
    return PartitionSpec(*fields)


def _is_misread(transform: Transform[Any, Any], kind: IcebergType) -> bool:
    """Whether engines look elsewhere: they hash UUIDs in another order of bytes, and have two zeros or one."""
    is_cut = isinstance(transform, TruncateTransform) and isinstance(kind, DecimalType)
    return is_cut or isinstance(kind, FloatType | DoubleType | UUIDType)


def _called(column: str, transform: Transform[Any, Any]) -> str:
    """What a partition field is called."""
    column = manifest_name(column)
    match transform:
        case IdentityTransform():
            return column
        case BucketTransform():
            return f"{column}_bucket"
        case TruncateTransform():
            return f"{column}_trunc"
        case _:
            return f"{column}_{transform}"

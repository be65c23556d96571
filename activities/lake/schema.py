"""From the type policy's pure types to PyIceberg's, and how a table of ours is laid out."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform, HourTransform, Transform, TruncateTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from activities.core import types as pure
from activities.core.columns import ExportColumn
from activities.core.drift import AddField, Change, RenameField
from activities.core.evolution import TableShape
from activities.core.faults import SchemaConflict
from activities.core.tables import PartitionRule

NAME_MAPPING = "schema.name-mapping.default"
"""The property by which readers find a column in files without field ids, as ClickHouse writes them."""
_NO_NAME = re.compile(r"^[0-9]|[^A-Za-z0-9_]")
_PRIMITIVES: dict[str, IcebergType] = {
    str(kind): kind
    for kind in (
        BinaryType(),
        BooleanType(),
        DateType(),
        DoubleType(),
        FloatType(),
        IntegerType(),
        LongType(),
        StringType(),
        TimestampType(),
        TimestamptzType(),
        TimeType(),
        UUIDType(),
    )
}


def iceberg_schema(columns: tuple[ExportColumn, ...]) -> Schema:
    """The columns as an Iceberg schema: every one optional, ids given in order."""
    return fields_schema({column.name: column.iceberg for column in columns})


def fields_schema(fields: Mapping[str, pure.IcebergType]) -> Schema:
    """The same of names and their types."""
    ids = itertools.count(1)
    numbered = [(next(ids), name, kind) for name, kind in fields.items()]
    return Schema(*(_optional(number, name, kind, ids) for number, name, kind in numbered))


def to_pyiceberg(kind: pure.IcebergType, ids: Iterator[int]) -> IcebergType:
    """One pure type as PyIceberg's; nested fields take their ids from `ids`."""
    match kind:
        case pure.ListOf(element):
            return ListType(next(ids), to_pyiceberg(element, ids), element_required=False)
        case pure.MapOf(key, value):
            key_id, value_id = next(ids), next(ids)
            return MapType(key_id, to_pyiceberg(key, ids), value_id, to_pyiceberg(value, ids), value_required=False)
        case pure.StructOf(fields):
            numbered = [(next(ids), name, inner) for name, inner in fields]
            return StructType(
                *(
                    NestedField(number, name, to_pyiceberg(inner, ids), required=False)
                    for number, name, inner in numbered
                )
            )
        case pure.Primitive(name):
            return _primitive(name)


def _primitive(name: str) -> IcebergType:
    if name in _PRIMITIVES:
        return _PRIMITIVES[name]
    if name.startswith("decimal("):
        precision, scale = name[len("decimal(") : -1].split(",")
        return DecimalType(int(precision), int(scale))
    if name.startswith("fixed["):
        return FixedType(int(name[len("fixed[") : -1]))
    raise SchemaConflict(f"Iceberg has no type {name!r}; the type policy and the lake disagree")


def to_pure(kind: IcebergType) -> pure.IcebergType:
    """PyIceberg's type as the type policy's."""
    match kind:
        case ListType():
            return pure.ListOf(to_pure(kind.element_type))
        case MapType():
            return pure.MapOf(to_pure(kind.key_type), to_pure(kind.value_type))
        case StructType():
            return pure.StructOf(tuple((field.name, to_pure(field.field_type)) for field in kind.fields))
        case _:
            return pure.Primitive(str(kind))


def shape_of(table: Table | None) -> TableShape:
    """The table's columns today; no columns when there is no table."""
    if table is None:
        return TableShape({})
    fields = table.schema().fields
    return TableShape(
        types={field.name: to_pure(field.field_type) for field in fields},
        required=frozenset(field.name for field in fields if field.required or _holds_required(field.field_type)),
    )


def _holds_required(kind: IcebergType) -> bool:
    match kind:
        case ListType():
            return kind.element_required or _holds_required(kind.element_type)
        case MapType():
            return kind.value_required or _holds_required(kind.value_type)
        case StructType():
            return any(field.required or _holds_required(field.field_type) for field in kind.fields)
        case _:
            return False


def evolved(schema: Schema, wanted: Mapping[str, pure.IcebergType], *, last_id: int, schema_id: int) -> Schema:
    """The schema in which every column of `wanted` has its type; what it lacks is added, optional, at the end.

    Args:
        schema: The table's, whose ids, documentation and order stay.
        wanted: Types that are those of the schema, or wider as Iceberg allows.
        last_id: The highest id that the table has ever given to a field.
        schema_id: The new schema's own.
    """
    ids = itertools.count(last_id + 1)
    kept = [
        field.model_copy(update={"field_type": _grown(field.field_type, wanted[field.name], ids)})
        if field.name in wanted
        else field
        for field in schema.fields
    ]
    names = {field.name for field in schema.fields}
    added = [_optional(next(ids), name, kind, ids) for name, kind in wanted.items() if name not in names]
    return Schema(*kept, *added, schema_id=schema_id, identifier_field_ids=schema.identifier_field_ids)


def changed(schema: Schema, changes: Iterable[Change], *, last_id: int, schema_id: int) -> Schema:
    """The schema after `changes`, one after the other: fields are added at the end, renamed, widened, never dropped.

    Ids stay with their fields, so that files written before are read under the new names; new ones follow `last_id`.

    Raises:
        SchemaConflict: the schema has no such field, or has one of that name already.
    """
    ids, fields = itertools.count(last_id + 1), list(schema.fields)
    for change in changes:
        places = {field.name: place for place, field in enumerate(fields)}
        name = change.old if isinstance(change, RenameField) else change.name
        new = change.new if isinstance(change, RenameField) else change.name
        if (name in places) == isinstance(change, AddField) or (new != name and new in places):
            raise SchemaConflict(
                f"{change} cannot be made to a table with the columns {', '.join(places)}; somebody changed its "
                "schema. Undo that with an Iceberg client, or drop the table and have it copied anew"
            )
        if isinstance(change, AddField):
            fields.append(_optional(next(ids), name, change.type, ids))
            continue
        field = fields[places[name]]
        kind = field.field_type if isinstance(change, RenameField) else _grown(field.field_type, change.type, ids)
        fields[places[name]] = field.model_copy(update={"name": new, "field_type": kind})
    return Schema(*fields, schema_id=schema_id, identifier_field_ids=schema.identifier_field_ids)


def _optional(number: int, name: str, kind: pure.IcebergType, ids: Iterator[int]) -> NestedField:
    return NestedField(number, name, to_pyiceberg(kind, ids), required=False)


def _grown(kind: IcebergType, wanted: pure.IcebergType, ids: Iterator[int]) -> IcebergType:
    match kind, wanted:
        case ListType(), pure.ListOf(element):
            return kind.model_copy(update={"element_type": _grown(kind.element_type, element, ids)})
        case MapType(), pure.MapOf(_, value):
            return kind.model_copy(update={"value_type": _grown(kind.value_type, value, ids)})
        case StructType(), pure.StructOf(fields):
            kept = [
                field.model_copy(update={"field_type": _grown(field.field_type, inner, ids)})
                for field, (_, inner) in zip(kind.fields, fields, strict=False)
            ]
            return StructType(*kept, *(_optional(next(ids), name, inner, ids) for name, inner in fields[len(kept) :]))
        case _:
            return kind if to_pure(kind) == wanted else to_pyiceberg(wanted, ids)


def partition_spec(schema: Schema, rule: PartitionRule) -> PartitionSpec:
    """Days and hours as they are; integer chunks coarsely, since a small file need not be a partition."""
    source = schema.find_field(rule.column)
    suffix = {"daily": "day", "hourly": "hour", "integer": "trunc"}[rule.kind]
    name = manifest_name(f"{rule.column}_{suffix}")
    return PartitionSpec(PartitionField(source.field_id, 1000, transform_of(rule), name))


def manifest_name(name: str) -> str:
    """A name for a field of partitions as Avro has names: readers give up at manifests with others, such as `größe`."""
    return _NO_NAME.sub(lambda found: f"_x{ord(found[0]):X}", name)


def transform_of(rule: PartitionRule) -> Transform[Any, Any]:
    """How Iceberg cuts the partition column."""
    transforms: dict[str, Transform[Any, Any]] = {
        "daily": DayTransform(),
        "hourly": HourTransform(),
        "integer": TruncateTransform(width=max(1, rule.chunk_size * max(1, rule.coarse_chunks))),
    }
    return transforms[rule.kind]


def table_properties() -> dict[str, str]:
    """How tables of ours are made: commits are never re-applied blindly.

    The name mapping comes afterwards: it holds the ids of fields, which are the catalog's to give.
    """
    return {
        "commit.retry.num-retries": "0",
        "commit.manifest-merge.enabled": "true",
        "commit.manifest.min-count-to-merge": "20",
        "write.metadata.delete-after-commit.enabled": "true",
        "write.metadata.previous-versions-max": "20",
        "write.summary.partition-limit": "0",
    }

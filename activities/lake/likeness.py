"""Whether two Parquet files have the same columns, and under which types their values can be compared.

Types are compared by what they mean to whoever reads the file: whether a column may be null, and in which order columns
stand, makes no difference.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from activities.core.iceberg_types import IcebergType, ListOf, MapOf, Primitive, StructOf
from activities.lake.checksums import is_bytes

_BIGINT = Primitive("decimal(38, 0)")


@dataclass(frozen=True)
class Likeness:
    """What two schemas differ in, in words, and how the columns that both have can be compared."""

    differences: tuple[str, ...]
    types: Mapping[str, IcebergType]


def likeness(left: pa.Schema, right: pa.Schema) -> Likeness:
    """Hold two files' schemas against each other."""
    mine, theirs = dict(zip(left.names, left.types, strict=True)), dict(zip(right.names, right.types, strict=True))
    differences = [f"column {name} is only on the left" for name in mine if name not in theirs]
    differences += [f"column {name} is only on the right" for name in theirs if name not in mine]
    types: dict[str, IcebergType] = {}
    for name in sorted(set(mine) & set(theirs)):
        one, other = _said(mine[name]), _said(theirs[name])
        common = _common(mine[name], theirs[name])
        if common is not None:
            types[name] = common
        if one != other or common is None:
            beyond = "" if common is not None else ", which cannot be compared"
            differences.append(f"column {name} is {one} on the left and {other} on the right{beyond}")
    return Likeness(tuple(differences), types)


def _bare(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        return _bare(kind.storage_type)
    return _bare(kind.value_type) if pa.types.is_dictionary(kind) else kind


def _said(kind: pa.DataType) -> str:
    """A type in words, without what only says whether there may be nulls."""
    if isinstance(kind, pa.BaseExtensionType):
        return str(kind)
    kind = _bare(kind)
    if pa.types.is_map(kind):
        return f"map<{_said(kind.key_type)}, {_said(kind.item_type)}>"
    if _is_list(kind):
        return f"list<{_said(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{field.name}: {_said(field.type)}' for field in kind)}>"
    return str(kind)


def _common(left: pa.DataType, right: pa.DataType) -> IcebergType | None:
    """The type that holds the values of both; None when there is none."""
    left, right = _bare(left), _bare(right)
    if pa.types.is_map(left) and pa.types.is_map(right):
        key, value = _common(left.key_type, right.key_type), _common(left.item_type, right.item_type)
        return MapOf(key, value) if key is not None and value is not None else None
    if _is_list(left) and _is_list(right):
        element = _common(left.value_type, right.value_type)
        return ListOf(element) if element is not None else None
    if pa.types.is_struct(left) and pa.types.is_struct(right):
        return _common_struct(left, right)
    return _common_primitive(left, right)


def _common_struct(left: pa.StructType, right: pa.StructType) -> IcebergType | None:
    mine, theirs = {field.name: field.type for field in left}, {field.name: field.type for field in right}
    if set(mine) != set(theirs):
        return None
    fields = [(name, _common(kind, theirs[name])) for name, kind in mine.items()]
    known = tuple((name, kind) for name, kind in fields if kind is not None)
    return StructOf(known) if len(known) == len(fields) else None


def _common_primitive(left: pa.DataType, right: pa.DataType) -> IcebergType | None:
    both = (left, right)
    if all(map(_is_whole, both)):
        return _BIGINT if pa.uint64() in both else Primitive("long")
    if all(pa.types.is_decimal(kind) or pa.types.is_integer(kind) for kind in both):
        scales = {kind.scale if pa.types.is_decimal(kind) else 0 for kind in both}
        return Primitive(f"decimal(38, {scales.pop()})") if len(scales) == 1 else None
    for name, fits in _FAMILIES.items():
        if all(map(fits, both)):
            return Primitive(name)
    return None


def _is_whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


_FAMILIES = {
    "float": pa.types.is_float32,
    "double": pa.types.is_floating,
    "date": pa.types.is_date,
    "timestamptz": pa.types.is_timestamp,
    "binary": is_bytes,
}
"""Iceberg type → what it can hold the values of; the narrower one first."""

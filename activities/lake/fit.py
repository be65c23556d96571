"""Whether a Parquet file may be read under the types of an Iceberg table: by what its footer says, column by column."""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from activities.core.evolution import Types
from activities.core.iceberg_types import IcebergType, ListOf, MapOf, StructOf, decimal_parts
from activities.lake.footers import Footer

_INTEGERS = frozenset({"None", "Int"})
_SMALL_BITS = 16
"""Unsigned integers of so many bits fit into a signed one of 32."""


def misfits(footer: Footer, types: Types) -> list[str]:
    """What of the file an engine could not read right under `types`, in words; empty when all of it can be.

    A file may have fewer columns than the table, and narrower ones where Iceberg allows that a column is widened.
    """
    known = {path: kind for name, column in types.items() for path, kind in _leaves(name, column)}
    found = []
    for position in range(footer.metadata.num_columns):
        column = footer.metadata.schema.column(position)
        kind = known.get(column.path)
        if kind is None:
            found.append(f"{column.path} is no field of the table")
        elif not is_legal(kind, column):
            found.append(f"{column.path} is {type_text(column)} in the file and {kind} in the table")
    return found


def type_text(column: Any) -> str:
    """The type of a file's column, in Parquet's words."""
    logical = str(column.logical_type)
    return str(column.physical_type) if logical == "None" else f"{column.physical_type} {logical}"


def logical_type(column: Any) -> Mapping[str, Any]:
    """What Parquet says that the bytes of a column mean."""
    return _parsed(column.logical_type.to_json())


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Mapping[str, Any]:
    logical: dict[str, Any] = json.loads(text)
    return logical


def _leaves(path: str, kind: IcebergType) -> Iterator[tuple[str, str]]:
    """Paths of the values inside a column, as Parquet writes them, and the primitive type of each."""
    match kind:
        case ListOf(element):
            yield from _leaves(f"{path}.list.element", element)
        case MapOf(key, value):
            yield from _leaves(f"{path}.key_value.key", key)
            yield from _leaves(f"{path}.key_value.value", value)
        case StructOf(fields):
            for name, inner in fields:
                yield from _leaves(f"{path}.{name}", inner)
        case _:
            yield path, str(kind)


def is_legal(kind: str, column: Any) -> bool:
    """Whether a file of ours may hold a column in this form under this primitive type."""
    physical, logical = column.physical_type, logical_type(column)
    name = logical["Type"]
    parts = decimal_parts(kind)
    if parts is not None:
        return bool(name == "Decimal" and logical["scale"] == parts[1] and logical["precision"] <= parts[0])
    if kind.startswith("fixed["):
        return bool(physical == "FIXED_LEN_BYTE_ARRAY" and f"fixed[{column.length}]" == kind)
    legal: dict[str, bool] = {
        "boolean": physical == "BOOLEAN",
        "int": physical == "INT32" and name in _INTEGERS and _fits_signed(logical),
        "long": physical in {"INT32", "INT64"} and name in _INTEGERS,
        "float": physical == "FLOAT",
        "double": physical in {"FLOAT", "DOUBLE"},
        "string": physical == "BYTE_ARRAY" and name == "String",
        "binary": physical == "BYTE_ARRAY",
        "uuid": name == "UUID",
        "date": name == "Date",
        "timestamptz": is_time(logical, utc=True),
        "timestamp": is_time(logical, utc=False),
    }
    return legal.get(kind, False)


def _fits_signed(logical: Mapping[str, Any]) -> bool:
    return bool(logical.get("isSigned", True) or logical["bitWidth"] <= _SMALL_BITS)


def is_time(logical: Mapping[str, Any], *, utc: bool) -> bool:
    """Whether it is a moment in milli- or microseconds, said to be of UTC or of no zone."""
    units = {"milliseconds", "microseconds"}
    return bool(logical["Type"] == "Timestamp" and logical["isAdjustedToUTC"] == utc and logical["timeUnit"] in units)

"""Whether a file that others made can be adopted: what PyIceberg, DuckDB and ClickHouse all read right from it.

Found out by trying (docs/guides/adopting.md has the table, tests/types/test_adopted.py keeps it true). It is wider than
`activities.lake.fit`, by which our own files are judged, and narrower where a reader's filter would lose rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from activities.core.adopting import TYPE, UNKNOWN_COLUMN, VALUE, Refusal
from activities.core.evolution import Types
from activities.core.iceberg_types import IcebergType, ListOf, MapOf, Primitive, StructOf
from activities.lake.fit import is_legal, is_time, logical_type, type_text
from activities.lake.footers import LONG, Footer

INT = 2**31 - 1
_WIDTH_OF_INT = 32
_WIDEST_DECIMAL = 38
_SIMPLE = {
    "BOOLEAN": "boolean",
    "FLOAT": "float",
    "DOUBLE": "double",
    "INT32": "int",
    "INT64": "long",
    "BYTE_ARRAY": "binary",
}
_ANNOTATED = {"String": "string", "Date": "date", "UUID": "uuid"}
_BARE = "to Parquet they are bytes and not text, which DuckDB shows escaped"
_ENUM = "it is an Enum, by which PyIceberg cannot filter"


@dataclass(frozen=True)
class Leaf:
    """A column of the file that holds values, and the field of the table that it is."""

    position: int
    path: str
    """As the file has it."""
    known: str
    """As the table would write it: elements of lists have had two names."""
    kind: str
    repeated: bool
    """Within a list or a map: no reader filters by it."""
    column: Any


def leaves(footer: Footer, types: Types) -> tuple[list[Leaf], list[str]]:
    """The file's columns that the table has, and paths of those that it lacks."""
    known = _known(tuple(types.items()))
    schema = footer.metadata.schema
    places = footer.positions.items()
    found = [Leaf(position, *known[path], schema.column(position)) for path, position in places if path in known]
    return found, [path for path in footer.positions if path not in known]


@lru_cache(maxsize=64)
def _known(types: tuple[tuple[str, IcebergType], ...]) -> Mapping[str, tuple[str, str, str, bool]]:
    """The same for every file of a page: path in a file → that, the path in ours, the type, whether it is repeated."""
    return {field[0]: field for name, kind in types for field in _fields(name, name, kind, repeated=False)}


def _fields(path: str, known: str, kind: IcebergType, *, repeated: bool) -> Iterator[tuple[str, str, str, bool]]:
    match kind:
        case ListOf(element):
            for name in ("element", "item"):
                yield from _fields(f"{path}.list.{name}", f"{known}.list.element", element, repeated=True)
        case MapOf(key, value):
            for name, inner in (("key", key), ("value", value)):
                yield from _fields(f"{path}.key_value.{name}", f"{known}.key_value.{name}", inner, repeated=True)
        case StructOf(fields):
            for name, inner in fields:
                yield from _fields(f"{path}.{name}", f"{known}.{name}", inner, repeated=repeated)
        case _:
            yield path, known, str(kind), repeated


def unreadable(footer: Footer, types: Types) -> Refusal | None:
    """Why not all three readers could read the file right under `types`; None when they can.

    A column that the file lacks reads null. Only what is of the wrong type is told when there are values as well.
    """
    if unknown := [name for name in footer.columns if name not in types]:
        near = {name.lower(): name for name in types}
        alike = "".join(
            f"; {name} differs from {near[name.lower()]} in letter case" for name in unknown if name.lower() in near
        )
        return Refusal(
            UNKNOWN_COLUMN,
            f"{', '.join(unknown)}: PyIceberg cannot read a table of which a file has more columns than it{alike}; "
            "name them under 'extra_columns' to make them columns of the table",
        )
    found, strange = leaves(footer, types)
    wrong = [f"{path} is no field of the table" for path in strange]
    wrong += [text for leaf in found if (text := _wrong_type(leaf))]
    if wrong:
        return Refusal(TYPE, "; ".join(wrong))
    values = [text for leaf in found if (text := _wrong_value(footer, leaf))]
    return Refusal(VALUE, "; ".join(values)) if values else None


def bounded_by_footer(leaf: Leaf) -> bool:
    """Whether the footer's bounds of a column are those of its type in the table, as for our own files."""
    return is_legal(leaf.kind, leaf.column) and leaf.path == leaf.known


def _wrong_type(leaf: Leaf) -> str:
    logical, physical = logical_type(leaf.column), leaf.column.physical_type
    name = logical["Type"]
    why = ""
    if leaf.kind == "binary" and name == "String":
        why = "to Parquet it is text, which DuckDB cannot turn into bytes"
    elif is_legal(leaf.kind, leaf.column) or _is_wider(leaf.kind, leaf.column):
        return ""
    elif leaf.kind == "string" and physical == "BYTE_ARRAY":
        why = _ENUM if name == "Enum" else _BARE
    elif leaf.kind == "string" and physical == "FIXED_LEN_BYTE_ARRAY":
        why = _BARE
    elif leaf.kind in {"timestamptz", "date"} and physical in {"INT32", "INT64"} and name in {"None", "Int"}:
        why = "PyIceberg and DuckDB take no number for a time"
    elif leaf.kind == "timestamptz" and logical.get("timeUnit") == "nanoseconds":
        why = "digits below a microsecond would be cut"
    elif leaf.kind == "uuid" and physical == "FIXED_LEN_BYTE_ARRAY":
        why = "without its annotation nobody knows the order of a UUID's bytes"
    text = f"{leaf.path} is {type_text(leaf.column)} in the file and {leaf.kind} in the table"
    return f"{text} ({why})" if why else text


def _is_wider(kind: str, column: Any) -> bool:
    """What our own files never hold, and readers read right all the same."""
    if kind == "int":
        return _is_unsigned_int(column)
    return kind == "timestamptz" and is_time(logical_type(column), utc=False)


def _is_unsigned_int(column: Any) -> bool:
    logical = logical_type(column)
    unsigned = not logical.get("isSigned", True)
    return bool(column.physical_type == "INT32" and unsigned and logical["bitWidth"] == _WIDTH_OF_INT)


def _wrong_value(footer: Footer, leaf: Leaf) -> str:
    if _is_unsigned_int(leaf.column) and (leaf.kind == "int" or not leaf.repeated):
        most, why = INT, "an int ends at 2^31-1" if leaf.kind == "int" else "PyIceberg filters it as an int, to 2^31-1"
    elif leaf.column.physical_type == "INT64" and not logical_type(leaf.column).get("isSigned", True):
        most, why = LONG, "a long ends at 2^63-1"
    else:
        return ""
    largest = footer.largest(leaf.position)
    if largest is None:
        return f"{leaf.path} has no largest value in the file's statistics, and {why}"
    return f"{leaf.path} holds {largest}, and {why}" if largest > most else ""


def type_of(footer: Footer, name: str) -> IcebergType | None:
    """The Iceberg type under which all three read an extra column; None when there is none, or it has parts."""
    for position in range(footer.metadata.num_columns):
        column = footer.metadata.schema.column(position)
        if column.path == name and column.max_repetition_level == 0:
            return _type_of(column)
    return None


def _type_of(column: Any) -> IcebergType | None:
    logical, physical = logical_type(column), column.physical_type
    name = logical["Type"]
    if name == "Decimal":
        text = f"decimal({logical['precision']}, {logical['scale']})" if logical["precision"] <= _WIDEST_DECIMAL else ""
    elif name == "Timestamp":
        text = "" if logical["timeUnit"] == "nanoseconds" else "timestamptz"
    elif name in _ANNOTATED:
        text = _ANNOTATED[name]
    elif _is_unsigned_int(column):
        text = "long"
    elif name in {"None", "Int", "Enum"}:
        fixed = physical == "FIXED_LEN_BYTE_ARRAY"
        text = f"fixed[{column.length}]" if fixed else _SIMPLE.get(physical, "")
    else:
        text = ""
    return Primitive(text) if text else None

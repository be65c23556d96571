"""What each of PostgreSQL's types becomes in Iceberg.

What has no type there is carried as PostgreSQL's own text of the value, so nothing is lost, whatever a database has
been taught. Arrays become lists, unless their elements are of a type that might stand between other signs than commas
in the array's text (`box`, types of extensions): those are carried as the text of the whole array.
"""

import re
from dataclasses import dataclass

from activities.core.faults import UnsupportedType
from activities.core.iceberg_types import IcebergType, ListOf, Primitive
from activities.core.sourcetables import SourceColumn

_PLAIN = {
    "boolean": "boolean",
    "smallint": "int",
    "integer": "int",
    "bigint": "long",
    "real": "float",
    "double precision": "double",
    "bytea": "binary",
    "uuid": "uuid",
    "date": "date",
    "time without time zone": "time",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
}
_ALIASES = {
    "bool": "boolean",
    "int2": "smallint",
    "int4": "integer",
    "int": "integer",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "decimal": "numeric",
    "time": "time without time zone",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
}
"""What people write; `format_type` writes the long names."""
_TEXTS = (
    "text, name, char, varchar, character, character varying, bpchar, citext, json, jsonb, jsonpath, xml, hstore, "
    "ltree, interval, timetz, time with time zone, money, bit, varbit, bit varying, inet, cidr, macaddr, macaddr8, "
    "oid, tid, xid, xid8, cid, pg_lsn, tsvector, tsquery, point, line, lseg, path, polygon, circle, regclass, regtype"
)
_KNOWN = frozenset({*_PLAIN, *_TEXTS.split(", "), '"char"', "numeric"})
"""Types whose arrays have commas between their elements."""
_MADE = frozenset({"enum", "composite", "range", "multirange"})
"""Kinds of types that people make; they are carried as text, and their arrays have commas, too."""
_NO_TYPES = frozenset({"", "-", "???", "record", "unknown", "void"})
_MODIFIERS = re.compile(r"\(([^()]*)\)")
_DIGITS = re.compile(r"\s*(\d+)\s*(?:,\s*(\d+)\s*)?", re.ASCII)
_BRACKETS = re.compile(r"(\[\d*\])+$", re.ASCII)
_WIDEST_DECIMAL = 38


@dataclass(frozen=True)
class Form:
    """How the values of a column are carried."""

    element: Primitive
    """The Iceberg type of a value, or of an element of it."""
    array: bool = False
    """Whether values are lists."""
    json: bool = False
    """Whether values are JSON texts."""

    @property
    def iceberg(self) -> IcebergType:
        """The column's type in Iceberg."""
        return ListOf(self.element) if self.array else self.element


def iceberg_of(column: SourceColumn) -> IcebergType:
    """What a column becomes.

    Raises:
        UnsupportedType: its type is no type.
    """
    return form_of(column).iceberg


def form_of(column: SourceColumn) -> Form:
    """How a column's values are carried.

    Raises:
        UnsupportedType: its type is no type.
    """
    text = column.type.strip()
    if text in _NO_TYPES:
        raise UnsupportedType(
            f"column {column.name}: {column.type!r} is no type that a column can have; write what PostgreSQL's "
            "`format_type` says into the schema event, or drop the column at the source"
        )
    array = _BRACKETS.search(text) is not None
    if column.kind == "domain" and column.base:
        text = column.base.strip()
        array |= _BRACKETS.search(text) is not None
    name, modifiers = _taken_apart(_BRACKETS.sub("", text))
    if array and column.kind not in _MADE and name not in _KNOWN:
        return Form(Primitive("string"))
    return Form(Primitive(_element(column.kind, name, modifiers)), array, json=name in {"json", "jsonb"} and not array)


def _element(kind: str, name: str, modifiers: str) -> str:
    if kind in _MADE:
        return "string"
    return _decimal(modifiers) if name == "numeric" else _PLAIN.get(name, "string")


def _decimal(modifiers: str) -> str:
    """`numeric(P, S)` as a decimal if Iceberg has one of so many digits, else its text."""
    digits = _DIGITS.fullmatch(modifiers)
    precision, scale = (int(digits[1]), int(digits[2] or 0)) if digits else (0, 0)
    return f"decimal({precision}, {scale})" if scale <= precision and 1 <= precision <= _WIDEST_DECIMAL else "string"


def _taken_apart(text: str) -> tuple[str, str]:
    """A type's usual name and its modifiers: `timestamp(3)` is `timestamp without time zone` and `3`."""
    text = text.removeprefix("pg_catalog.")
    if '"' in text:
        return text, ""
    modifiers = _MODIFIERS.search(text)
    name = " ".join(_MODIFIERS.sub(" ", text).split())
    name = "interval" if name.startswith("interval ") else name
    return _ALIASES.get(name, name), modifiers[1] if modifiers else ""

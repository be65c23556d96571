"""Iceberg's types as a small tree with a readable text, so that the core need not know a library for them."""

import re
from dataclasses import dataclass

from activities.core.faults import BadConfig
from activities.core.sqltext import quote_identifier, skip_quoted, unquote

_NAMES = frozenset(
    {
        "boolean",
        "int",
        "long",
        "float",
        "double",
        "string",
        "binary",
        "uuid",
        "date",
        "time",
        "timestamp",
        "timestamptz",
        "timestamp_ns",
        "timestamptz_ns",
    }
)
_DECIMAL = re.compile(r"decimal\(\s*(\d{1,2})\s*,\s*(\d{1,2})\s*\)", re.ASCII)
_FIXED = re.compile(r"fixed\[\s*(\d{1,9})\s*\]", re.ASCII)
_WORD = re.compile(r"[A-Za-z0-9_]+", re.ASCII)
_WIDEST_DECIMAL = 38


@dataclass(frozen=True)
class Primitive:
    """A type without parts, such as `long`, `timestamptz`, `decimal(20, 0)` or `fixed[66]`."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class ListOf:
    """`list<element>`."""

    element: "IcebergType"

    def __str__(self) -> str:
        return f"list<{self.element}>"


@dataclass(frozen=True)
class MapOf:
    """`map<key, value>`."""

    key: "IcebergType"
    value: "IcebergType"

    def __str__(self) -> str:
        return f"map<{self.key}, {self.value}>"


@dataclass(frozen=True)
class StructOf:
    """`struct<name: type, …>`; names that are more than letters, digits and `_` stand in backticks."""

    fields: tuple[tuple[str, "IcebergType"], ...]

    def __str__(self) -> str:
        return f"struct<{', '.join(f'{_field_name(name)}: {kind}' for name, kind in self.fields)}>"


IcebergType = Primitive | ListOf | MapOf | StructOf


def parse_iceberg(text: str) -> IcebergType:
    """The tree whose `str()` is `text`; spaces are free.

    Raises:
        BadConfig: The text is no Iceberg type.
    """
    text = text.strip()
    outer, bracket, rest = text.partition("<")
    if bracket and rest.endswith(">"):
        items = _split(rest[:-1])
        if outer == "list" and len(items) == 1:
            return ListOf(parse_iceberg(items[0]))
        if outer == "map" and len(items) == len(("key", "value")):
            return MapOf(parse_iceberg(items[0]), parse_iceberg(items[1]))
        if outer == "struct" and items:
            return StructOf(tuple(_parse_field(item, text) for item in items))
    return Primitive(_primitive_name(text))


def widens(old: IcebergType, new: IcebergType) -> bool:
    """Whether Iceberg may change a column from `old` to `new`, files written before included.

    int → long, float → double, a decimal of more digits and the same scale; struct fields may be added at the end.
    """
    if old == new:
        return True
    match old, new:
        case Primitive(), Primitive():
            return _primitive_widens(old.name, new.name)
        case ListOf(), ListOf():
            return widens(old.element, new.element)
        case MapOf(), MapOf():
            return old.key == new.key and widens(old.value, new.value)
        case StructOf(), StructOf():
            kept = new.fields[: len(old.fields)]
            return [name for name, _ in kept] == [name for name, _ in old.fields] and all(
                widens(before, after) for (_, before), (_, after) in zip(old.fields, kept, strict=True)
            )
        case _:
            return False


def decimal_parts(name: str) -> tuple[int, int] | None:
    """Precision and scale of `decimal(P, S)`; None for every other primitive."""
    match = _DECIMAL.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def _primitive_widens(old: str, new: str) -> bool:
    before, after = decimal_parts(old), decimal_parts(new)
    if before and after:
        return before[1] == after[1] and before[0] <= after[0]
    return (old, new) in {("int", "long"), ("float", "double")}


def _primitive_name(text: str) -> str:
    if text in _NAMES:
        return text
    parts = decimal_parts(text)
    if parts and parts[1] <= parts[0] and 1 <= parts[0] <= _WIDEST_DECIMAL:
        return f"decimal({parts[0]}, {parts[1]})"
    fixed = _FIXED.fullmatch(text)
    if fixed and int(fixed[1]) > 0:
        return f"fixed[{int(fixed[1])}]"
    raise BadConfig(
        f"{text!r} is no Iceberg type: write int, long, float, double, boolean, string, binary, uuid, date, "
        "timestamptz, decimal(P, S), fixed[N], list<…>, map<…, …> or struct<name: …>"
    )


def _field_name(name: str) -> str:
    return name if _WORD.fullmatch(name) else quote_identifier(name)


def _parse_field(item: str, whole: str) -> tuple[str, IcebergType]:
    end = skip_quoted(item, 0) if item.startswith("`") else item.find(":")
    name, rest = item[: max(end, 0)].strip(), item[max(end, 0) :].strip()
    if not name or not rest.startswith(":"):
        raise BadConfig(f"{whole!r} is no Iceberg type: fields of a struct are written as name: type")
    return unquote(name), parse_iceberg(rest[1:])


def _split(text: str) -> list[str]:
    items, depth, begin, position = [], 0, 0, 0
    while position < len(text):
        sign = text[position]
        if sign == "`":
            position = skip_quoted(text, position)
            continue
        depth += (sign in "<([") - (sign in ">)]")
        if sign == "," and depth == 0:
            items.append(text[begin:position].strip())
            begin = position + 1
        position += 1
    items.append(text[begin:].strip())
    return items

"""ClickHouse's type texts as a tree, such as `Array(Nullable(UInt64))` or `Tuple(a String, b Map(String, Bool))`."""

import re
from dataclasses import dataclass

from activities.core.faults import UnsupportedType
from activities.core.sqltext import quote_identifier, skip_quoted, split_call, unquote

_WRAPPERS = frozenset({"Nullable", "LowCardinality", "Array"})
_FIELDS = frozenset({"Tuple", "Nested"})
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*(?=\s)", re.ASCII)
_PLAIN_ARGUMENT = re.compile(r"\d+|'(?:[^'\\]|\\.|'')*'", re.ASCII)
_DEEPEST = 32


@dataclass(frozen=True)
class ClickHouseType:
    """A type: a name with either `elements` (types inside it, `fields` naming those of a tuple) or raw `arguments`."""

    name: str
    elements: tuple["ClickHouseType", ...] = ()
    fields: tuple[str, ...] = ()
    """One name for each element of a Tuple or Nested; elements without a name are called `1`, `2`, …"""
    named: bool = False
    arguments: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.named:
            inner = [f"{quote_identifier(name)} {item}" for name, item in zip(self.fields, self.elements, strict=True)]
        else:
            inner = [str(element) for element in self.elements] or list(self.arguments)
        return f"{self.name}({', '.join(inner)})" if inner else self.name


def parse_type(text: str) -> ClickHouseType:
    """The tree of a type as `system.columns` writes it.

    Raises:
        UnsupportedType: The text is no type.
    """
    return _parse(text, text, 0)


def bare_type(text: str) -> tuple[str, tuple[str, ...]]:
    """Name and arguments of the type inside Nullable, LowCardinality and SimpleAggregateFunction."""
    bare = unwrap(parse_type(text))
    return bare.name, bare.arguments


def unwrap(tree: ClickHouseType) -> ClickHouseType:
    """The type inside Nullable, LowCardinality and SimpleAggregateFunction (whose values are plain ones)."""
    while tree.name in {"Nullable", "LowCardinality", "SimpleAggregateFunction"}:
        tree = tree.elements[0]
    return tree


def inside(tree: ClickHouseType) -> tuple[set[str], set[str]]:
    """The names of all tuple fields, and of all types, anywhere in a type."""
    fields, kinds = set(tree.fields), {tree.name}
    for element in tree.elements:
        more_fields, more_kinds = inside(element)
        fields |= more_fields
        kinds |= more_kinds
    return fields, kinds


def is_plain(tree: ClickHouseType) -> bool:
    """Whether all arguments are numbers or closed string literals, so that the text may be written into SQL."""
    return all(_PLAIN_ARGUMENT.fullmatch(argument) for argument in tree.arguments) and all(
        is_plain(element) for element in tree.elements
    )


def _parse(text: str, whole: str, depth: int) -> ClickHouseType:
    call = split_call(text)
    if call is None or call.rest or depth > _DEEPEST:
        raise UnsupportedType(f"{whole!r} is no ClickHouse type that can be read")
    arguments = call.arguments or ()
    if call.name in _WRAPPERS and len(arguments) == 1:
        return ClickHouseType(call.name, (_parse(arguments[0], whole, depth + 1),))
    if call.name == "Variant" or (call.name == "Map" and len(arguments) == len(("key", "value"))):
        return ClickHouseType(call.name, tuple(_parse(item, whole, depth + 1) for item in arguments))
    if call.name in _FIELDS and arguments:
        return _parse_fields(call.name, arguments, whole, depth)
    if call.name == "SimpleAggregateFunction" and len(arguments) == len(("function", "type")):
        return ClickHouseType(call.name, (_parse(arguments[1], whole, depth + 1),))
    if call.name in _WRAPPERS | _FIELDS | {"Map", "SimpleAggregateFunction"}:
        raise UnsupportedType(f"{whole!r} is no ClickHouse type that can be read")
    return ClickHouseType(call.name, arguments=arguments)


def _parse_fields(name: str, items: tuple[str, ...], whole: str, depth: int) -> ClickHouseType:
    pairs = [_split_field(item) for item in items]
    elements = tuple(_parse(text, whole, depth + 1) for _, text in pairs)
    named = all(field for field, _ in pairs)
    fields = tuple(field or str(position) for position, (field, _) in enumerate(pairs, 1))
    return ClickHouseType(name, elements, fields, named)


def _split_field(item: str) -> tuple[str, str]:
    """A field's name ("" when it has none) and its type's text."""
    if item[0] in '`"':
        end = skip_quoted(item, 0)
        return unquote(item[:end]), item[end:].strip()
    match = _FIELD.match(item)
    return (match[0], item[match.end() :].strip()) if match else ("", item)

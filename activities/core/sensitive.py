"""Which columns may say who or where somebody is, by their names and types. In doubt they do: a person decides."""

import re
from collections.abc import Iterator, Sequence

from activities.core.clickhouse_types import ClickHouseType, inside, parse_type
from activities.core.tables import SENSITIVE

_ADDRESS_TYPES = frozenset({"IPv4", "IPv6"})
_OPAQUE = frozenset({"Variant", "JSON", "Object"})
"""Types that say what they hold in their arguments, and are not taken apart."""
_SHORT = 3
_TAIL = r"(?:v?\d+|s|addr(?:ess(?:es)?)?)*"
_SPLITS = (
    re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", re.ASCII),
    # Two abbreviations in a row have no border; one and a word have: HTTPIPPort.
    re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+", re.ASCII),
)
_SEPARATOR = re.compile(r"[^A-Za-z0-9]+", re.ASCII)
HARMLESS = frozenset(
    {
        *("tip", "zip", "gzip", "skip", "ship", "chip", "clip", "flip", "slip", "strip", "trip", "grip", "gossip"),
        *("membership", "relationship", "ownership", "leadership", "partnership"),
        *("eip", "bip", "ipfs", "ipns", "ipc"),
    }
)
"""Words that begin or end with a short pattern by chance. One that is missing here costs a decision; an ending for all
of them would cost addresses: `hostip` ends like `tip`, `peerip` like `trip`."""


def looks_sensitive(name: str, patterns: Sequence[str] = SENSITIVE) -> bool:
    """Whether a name holds one of the patterns, however it is spelled: `client_ip`, `clientip`, `geoCity`, `peerid`.

    A pattern is held when its letters stand in the name, separators and case aside. One word of up to three letters
    (`ip`) would then be in half of English, and is held when a word of the name begins with it, or ends with it before
    a version, a number, a plural or `addr`/`address`: `ipv4`, `srcip`, `clientipaddress`, not `description`, `tip`.
    """
    return any(_holds(name, pattern) for pattern in patterns)


def may_identify(name: str, kind: str, patterns: Sequence[str]) -> bool:
    """By a column's name, by the names of fields inside it, or by an address type anywhere in it.

    Raises:
        UnsupportedType: The text of the column's type is no type.
    """
    tree = parse_type(kind)
    return (
        looks_sensitive(name, patterns)
        or not _ADDRESS_TYPES.isdisjoint(inside(tree)[1])
        or any(looks_sensitive(path, patterns) for path, _ in fields(name, tree))
        or any(looks_sensitive(text, patterns) or _names_address(text) for text in _opaque(tree))
    )


def field_may_identify(path: str, tree: ClickHouseType, patterns: Sequence[str]) -> bool:
    """By the name of a field, by what it adds to the name of that in which it lies (`peer.id`), or by its type."""
    parent, _, field = path.rpartition(".")
    return (
        looks_sensitive(field, patterns)
        or any(_holds(path, pattern) and not _holds(parent, pattern) for pattern in patterns)
        or _is_address(tree)
    )


def fields(path: str, tree: ClickHouseType) -> Iterator[tuple[str, ClickHouseType]]:
    """`column.field` and the type of every field inside a column, also in arrays and maps."""
    names = tree.fields or ("",) * len(tree.elements)
    for name, element in zip(names, tree.elements, strict=True):
        inner = f"{path}.{name}" if name else path
        if name:
            yield inner, element
        yield from fields(inner, element)


def _holds(name: str, pattern: str) -> bool:
    letters = pattern.replace("_", "")
    if "_" in pattern or len(letters) > _SHORT:
        return letters in _SEPARATOR.sub("", name).lower()
    words = {word.lower() for split in _SPLITS for word in split.split(name)}
    return any(_is_of(word, letters) for word in words)


def _is_of(word: str, letters: str) -> bool:
    """Whether a word begins with a short pattern, or ends with it and a tail, and is no harmless one."""
    ending = re.fullmatch(rf"(.*?{letters}){_TAIL}", word)
    stem = ending[1] if ending else word
    return (ending is not None or word.startswith(letters)) and (stem == letters or stem not in HARMLESS)


def _is_address(tree: ClickHouseType) -> bool:
    """Whether a type holds addresses itself, in arrays and maps too; fields inside it answer for themselves."""
    return (
        tree.name in _ADDRESS_TYPES
        or any(_names_address(text) for text in _told(tree))
        or (not tree.fields and any(_is_address(element) for element in tree.elements))
    )


def _told(tree: ClickHouseType) -> tuple[str, ...]:
    return tree.arguments if tree.name in _OPAQUE else ()


def _opaque(tree: ClickHouseType) -> Iterator[str]:
    """What types that are not taken apart say of what they hold."""
    yield from _told(tree)
    for element in tree.elements:
        yield from _opaque(element)


def _names_address(text: str) -> bool:
    return not _ADDRESS_TYPES.isdisjoint(_SEPARATOR.split(text))

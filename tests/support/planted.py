"""Values that nobody else has, put where people can be recognised by them, and the search for what is left of them.

A column's planted values follow from its type and its name, so that they fit whatever table they go into. `NEEDLES`
holds every form that one of them may take: as text, as hexadecimal, and as the bytes of either order.
"""

import re
import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

MARK = "PLANTED"
"""What all planted texts begin with: within the 16 characters that Iceberg keeps of a text's bounds."""
ADDRESS = IPv6Address("fd5e:c7e7:1cef:1ee7:fd5e:c7e7:1cef:1ee7")
OLD_ADDRESS = IPv4Address("203.0.113.77")
LONGITUDE, LATITUDE = -77.0312345678, 38.9712345678
NUMBER = int.from_bytes(b"PLANTED2")

_MAPPED = b"\xff\xff" + OLD_ADDRESS.packed
_HALF = ADDRESS.packed[:8]


def _orders(name: str, packed: bytes) -> dict[str, bytes]:
    return {f"{name} bytes": packed, f"{name} bytes reversed": packed[::-1]}


NEEDLES: dict[str, bytes] = {
    "text": MARK.encode(),
    "text reversed": MARK.encode()[::-1],
    "text in hexadecimal": MARK.encode().hex().encode(),
    "text in capital hexadecimal": MARK.encode().hex().upper().encode(),
    "text in UTF-16": MARK.encode("utf-16-le"),
    "address": b"fd5e:c7e7",
    "address as a UUID": b"fd5ec7e7-1cef-1ee7",
    "address in hexadecimal": _HALF.hex().encode(),
    "address in capital hexadecimal": _HALF.hex().upper().encode(),
    "address reversed in hexadecimal": _HALF[::-1].hex().encode(),
    "address as a number": str(int(ADDRESS)).encode(),
    "old address": str(OLD_ADDRESS).encode(),
    "old address as a number": str(int(OLD_ADDRESS)).encode(),
    "old address in hexadecimal": _MAPPED.hex().encode(),
    "number": str(NUMBER).encode(),
    # What a float keeps of them is enough.
    "longitude": b"77.03123",
    "latitude": b"38.97123",
    **_orders("address", _HALF),
    **_orders("old address", _MAPPED),
    **_orders("longitude", struct.pack(">d", LONGITUDE)),
    **_orders("latitude", struct.pack(">d", LATITUDE)),
}
"""No shorter than six bytes, so that compressed pages do not hold one of them by chance."""


class Piece(NamedTuple):
    """Something that was left behind: what it is, where it was found, and its bytes."""

    kind: str
    where: str
    data: bytes


class Finding(NamedTuple):
    """A needle in a piece."""

    kind: str
    where: str
    needle: str


def findings(pieces: Iterable[Piece]) -> Iterator[Finding]:
    """Every needle in every piece."""
    for piece in pieces:
        for name, needle in NEEDLES.items():
            if needle in piece.data:
                yield Finding(piece.kind, piece.where, name)


def bare_kind(kind: str) -> str:
    """A ClickHouse type without Nullable and LowCardinality."""
    while wrapped := re.fullmatch(r"(?:Nullable|LowCardinality)\((.*)\)", kind):
        kind = wrapped[1]
    return kind


def planted(name: str, kind: str, row: str) -> str:
    """SQL of what is planted into a column: `name` and `kind` (its ClickHouse type) decide, `row` is the row's number.

    Every third row of a column that may be NULL is NULL.
    """
    value = _value(name, bare_kind(kind), row)
    return f"CAST(if({row} % 3 = 2, NULL, {value}) AS {kind})" if "Nullable" in kind else f"CAST({value} AS {kind})"


_BY_TYPE = {
    "IPv4": f"'{OLD_ADDRESS}'",
    "UUID": f"'{ADDRESS.packed.hex()}'",
    "UInt32": f"'{int(OLD_ADDRESS)}'",
    "Int64": f"'{NUMBER}'",
    "UInt64": f"'{NUMBER}'",
    "UInt128": f"'{int(ADDRESS)}'",
}


def _value(name: str, bare: str, row: str) -> str:
    if "longitude" in name or "latitude" in name:
        return f"'{LONGITUDE if 'longitude' in name else LATITUDE}'"
    if bare in _BY_TYPE:
        return _BY_TYPE[bare]
    if bare == "IPv6" or name.rpartition("_")[2] == "ip":
        return f"if({row} % 2 = 0, '{ADDRESS}', '{'::ffff:' if bare == 'IPv6' else ''}{OLD_ADDRESS}')"
    return f"concat('{MARK}: {name} ', toString({row} % 5), ' ñ')"

"""What a value is in the lake, from the text in which the source answers it."""

import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from ipaddress import IPv6Address
from typing import Any

from support.lakereaders import plain_value

Decode = Callable[[Any], Any]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def of(value: Decode) -> Decode:
    """NULL stays NULL."""
    return lambda given: None if given is None else value(given)


def same(value: Any) -> Any:
    return value


def boolean(value: bool) -> Any:  # noqa: FBT001 - a value, not a switch
    return ("bool", value)


def double(text: str) -> Any:
    return ("float", repr(float(text)))


def single(text: str) -> Any:
    """As a double that holds the same number."""
    [value] = struct.unpack("<f", struct.pack("<f", float(text)))
    return ("float", repr(value))


def number(text: str) -> Any:
    return plain_value(Decimal(text))


def from_hex(text: str) -> Any:
    return ("bytes", text.lower())


def utf8(text: str) -> Any:
    return ("bytes", text.encode().hex())


def unpadded(text: str) -> str:
    """What ClickHouse holds equal to the padded text."""
    return text.rstrip("\0")


def packed(text: str) -> Any:
    """An IPv6 address as its 16 bytes."""
    return ("bytes", IPv6Address(text).packed.hex())


def little_endian(size: int, *, signed: bool) -> Decode:
    return lambda text: ("bytes", int(text).to_bytes(size, "little", signed=signed).hex())


def nanoseconds(text: str) -> int:
    """Of an ISO time in UTC, since 1970."""
    whole, _, digits = text.removesuffix("Z").partition(".")
    seconds = (datetime.fromisoformat(whole).replace(tzinfo=UTC) - EPOCH) // timedelta(seconds=1)
    return seconds * 10**9 + int(digits.ljust(9, "0"))


def moment(text: str) -> Any:
    """An ISO time in UTC; what is below a microsecond must be zero."""
    microseconds, rest = divmod(nanoseconds(text), 1000)
    assert not rest, f"{text} has no place in microseconds"
    return ("time", microseconds)


def cut(text: str) -> Any:
    """An ISO time in UTC; what is below a microsecond is dropped, towards 1970."""
    return ("time", int(Decimal(nanoseconds(text)) / 1000))


def list_of(element: Decode) -> Decode:
    return lambda values: tuple(of(element)(one) for one in values)


def map_of(key: Decode, value: Decode) -> Decode:
    """Pairs in any order."""
    return lambda pairs: ("map", tuple(sorted(((key(k), of(value)(v)) for k, v in pairs.items()), key=repr)))


def struct_of(**fields: Decode) -> Decode:
    """A named tuple comes as an object, a nameless one, whose fields are `_1`, `_2` here, as a list."""
    named = {name.removeprefix("_"): decode for name, decode in fields.items()}

    def decode(value: Any) -> Any:
        given = value if isinstance(value, dict) else dict(zip(named, value, strict=True))
        return ("struct", tuple((name, of(part)(given[name])) for name, part in named.items()))

    return decode

"""PostgreSQL's own text of rows and values, as plain values that can be held against what readers of the lake say.

Whatever wrote the changelog took another way: this reads what `row::text` shows, and shares no code with it.
"""

import re
import struct
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
INFINITE = ("time", "infinite")
"""A time that is no moment."""
_FIELD = re.compile(r'"((?:[^"\\]++|""|\\\\)*+)"|([^,)]*+)')
_ELEMENT = re.compile(r'"((?:[^"\\]++|\\.)*+)"|([^,}]++)', re.DOTALL)


def parse_row(text: str) -> list[str | None]:
    """The fields of a row as `row::text` has it; None is NULL."""
    assert text[0] == "(", text[:40]
    found: list[str | None] = []
    at = 1
    while True:
        field = _FIELD.match(text, at)
        assert field is not None, text[at : at + 40]
        quoted, plain = field.groups()
        if quoted is not None:
            found.append(quoted.replace('""', '"').replace("\\\\", "\\"))
        else:
            found.append(plain or None)
        at = field.end() + 1
        if text[at - 1] == ")":
            assert at == len(text), text[at : at + 40]
            return found


def parse_array(text: str) -> list[str | None]:
    """The elements of an array of one dimension, `{1,NULL,"a \\"b\\""}`."""
    assert text[0] == "{", text[:40]
    assert text[-1] == "}", text[-40:]
    found: list[str | None] = []
    for element in _ELEMENT.finditer(text, 1, len(text) - 1):
        quoted, plain = element.groups()
        if quoted is not None:
            found.append(re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL))
        else:
            found.append(None if plain == "NULL" else plain)
    return found


def value_of(kind: str, text: str | None) -> Any:
    """A value of a type (as `format_type` writes it), from its text, in the form that `support.lakereaders` answers."""
    if text is None:
        return None
    if kind.endswith("[]"):
        return tuple(value_of(kind[:-2], element) for element in parse_array(text))
    name = kind.partition("(")[0]
    if name == "numeric":
        return _decimal(text) if "(" in kind else text
    simple = SIMPLE.get(kind) or SIMPLE.get(name)
    return simple(text) if simple else text


def _decimal(text: str) -> Any:
    value = Decimal(text)
    return int(value) if value == value.to_integral_value() else ("decimal", f"{value:f}".rstrip("0"))


def _real(text: str) -> Any:
    return ("float", repr(struct.unpack("f", struct.pack("f", float(text)))[0]))


def _double(text: str) -> Any:
    return ("float", repr(float(text)))


def _timestamptz(text: str) -> Any:
    if text == "infinity":
        return INFINITE
    return ("time", (datetime.fromisoformat(text) - EPOCH) // MICROSECOND)


def _timestamp(text: str) -> Any:
    return ("time", (datetime.fromisoformat(text).replace(tzinfo=UTC) - EPOCH) // MICROSECOND)


def clock(value: time) -> Any:
    """A time of day."""
    return ("clock", ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond)


SIMPLE = {
    "smallint": int,
    "integer": int,
    "bigint": int,
    "boolean": lambda text: ("bool", text == "t"),
    "real": _real,
    "double precision": _double,
    "bytea": lambda text: ("bytes", text.removeprefix("\\x")),
    "timestamp with time zone": _timestamptz,
    "timestamp without time zone": _timestamp,
    "date": date.fromisoformat,
    "time without time zone": lambda text: clock(time.fromisoformat(text)),
}
"""Type → what makes a value of its text; everything else is carried as text."""

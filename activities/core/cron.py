"""Cron expressions of five fields, as people write them and as Temporal's calendars hold them."""

import re
from dataclasses import dataclass

from activities.core.faults import BadConfig

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_SUNDAY_TOO = 7
"""Cron's second name of Sunday."""
_PART = re.compile(r"(\*|(\w+)(?:-(\w+))?)(?:/(\d{1,4}))?", re.ASCII)


@dataclass(frozen=True)
class Field:
    """What one field may hold: its name, its bounds (both inclusive) and the names of its values."""

    name: str
    first: int
    last: int
    names: tuple[str, ...] = ()


FIELDS = (
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day of the month", 1, 31),
    Field("month", 1, 12, _MONTHS),
    Field("day of the week", 0, 6, _DAYS),
)

Range = tuple[int, int, int]
"""First and last value, both inclusive, and the step between values."""
Cron = tuple[tuple[Range, ...], ...]
"""The ranges of each of `FIELDS`. A moment must match all five (days of the month *and* of the week)."""


def parse_cron(text: str) -> Cron:
    """Read `minute hour day month weekday`.

    Raises:
        BadConfig: it is no such expression, naming the field that is wrong.
    """
    words = text.split()
    if len(words) != len(FIELDS):
        raise BadConfig(
            f"{text!r} is no cron expression: write five fields, minute hour day month weekday, such as 0 4 * * *"
        )
    return tuple(
        tuple(_range(field, part) for part in word.split(",")) for field, word in zip(FIELDS, words, strict=True)
    )


def cron_text(cron: Cron) -> str:
    """The expression, in the one form that equal expressions share when they list their values alike."""
    return " ".join(",".join(_text(field, one) for one in ranges) for field, ranges in zip(FIELDS, cron, strict=True))


def _range(field: Field, part: str) -> Range:
    found = _PART.fullmatch(part)
    if found is None:
        raise BadConfig(f"{part!r} is no {field.name}: write *, 5, 1-5, */6 or a list of them")
    step = int(found[4] or 1)
    if found[1] == "*":
        first, last = field.first, field.last
    else:
        first = _value(field, found[2])
        # `5/15` means from 5 on
        last = _value(field, found[3]) if found[3] else field.last if found[4] else first
    if last < first:
        raise BadConfig(f"{part!r} is no range of a {field.name}: it ends before it starts")
    if not 0 < step <= field.last:
        raise BadConfig(f"{part!r} is no {field.name}: a step is from 1 to {field.last}")
    return (first, last, step if last > first else 1)


def _value(field: Field, word: str) -> int:
    if word.lower() in field.names:
        return field.names.index(word.lower()) + field.first
    value = int(word) if word.isdecimal() else -1
    if field.names == _DAYS and value == _SUNDAY_TOO:
        return field.first
    if not field.first <= value <= field.last:
        raise BadConfig(f"{word!r} is no {field.name}: it goes from {field.first} to {field.last}")
    return value


def _text(field: Field, one: Range) -> str:
    first, last, step = one
    if first == last:
        return str(first)
    values = "*" if (first, last) == (field.first, field.last) else f"{first}-{last}"
    return values if step == 1 else f"{values}/{step}"

"""Objects that no snapshot names: how old one must be to go, and the line that no commit may cross.

Before anything is deleted, a line is drawn in the table itself (`activities.lake.orphans.draw_line`): a property that
says up to which time unnamed objects may be gone, in a snapshot of its own. A commit that was staged before cannot
land any more, because the head moved; one that is staged later sees the line, and refuses objects older than it.
"""

import re
from collections.abc import Mapping

from activities.core.faults import BadRequest, ObjectRefused

PROPERTY = "icefleet.orphans-before"
"""Table property: seconds since the epoch. What was made before, and is named by no snapshot, is never adopted."""
_AGE = re.compile(r"(\d{1,9})\s*([smhd])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_age(text: str) -> int:
    """Seconds of an age such as `24h`, `90m`, `7d` or `30s`.

    Raises:
        BadRequest: it is no age.
    """
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise BadRequest(f"{text!r} is no age: write a whole number and s, m, h or d, such as 24h")
    return int(found[1]) * _SECONDS[found[2]]


def age_text(seconds: int) -> str:
    """The age as `parse_age` reads it, in the largest unit that fits."""
    unit = next(unit for unit in "dhms" if seconds % _SECONDS[unit] == 0)
    return f"{seconds // _SECONDS[unit]}{unit}"


def check_age(text: str, least: int) -> int:
    """Seconds of an age that is old enough for a deletion.

    Raises:
        BadRequest: it is no age, or a younger object than `least` seconds would go.
    """
    seconds = parse_age(text)
    if seconds < least:
        raise BadRequest(
            f"older than {text} is too young to go: what an attempt has just uploaded is still to be committed or "
            f"adopted. At least {age_text(least)} (the longest that an attempt to export and one to commit may take); "
            "only `export.orphan_age_seconds` in environments.yaml allows less"
        )
    return seconds


def line_of(properties: Mapping[str, str]) -> int:
    """The time, in seconds since the epoch, up to which unnamed objects may be gone; 0 when nothing was deleted."""
    return int(properties.get(PROPERTY, "0"))


def check_line(properties: Mapping[str, str], key: str, made: int) -> None:
    """Refuse to commit an object that may be gone, or be about to go.

    Raises:
        ObjectRefused: it was made before the line, when no snapshot named it.
    """
    line = line_of(properties)
    if made < line:
        raise ObjectRefused(
            f"object {key} was made at {made}, and what no snapshot named at {line} (seconds since the epoch) is being "
            "deleted as an orphan; ask for the partition again, and it is exported anew"
        )

"""Expected partitions without rows: remembered as ranges under the day on which they were last looked at."""

import json
from datetime import date

from activities.core.partitions import Ranges

PROPERTY = "icefleet.empty"


def known_empty(text: str, *, since: date | None = None) -> Ranges:
    """The partitions found empty on `since` or later; all of them without it. `text` is the property's value."""
    found = Ranges.from_pairs(())
    for day, pairs in _read(text).items():
        if since is None or date.fromisoformat(day) >= since:
            found = found.union(Ranges.from_pairs((first, stop) for first, stop in pairs))
    return found


def remember_empty(text: str, found: Ranges, held: Ranges, today: date) -> str:
    """The property's new value: `found` was empty today, and what the table holds by now is empty no more."""
    days: dict[str, list[tuple[int, int]]] = {}
    found = found.difference(held)
    for day, pairs in _read(text).items():
        older = Ranges.from_pairs((first, stop) for first, stop in pairs).difference(held)
        older = older.union(found) if day == today.isoformat() else older.difference(found)
        days[day] = list(older.pairs())
    days.setdefault(today.isoformat(), list(found.pairs()))
    kept = {day: pairs for day, pairs in sorted(days.items()) if pairs}
    return json.dumps(kept, separators=(",", ":")) if kept else ""


def _read(text: str) -> dict[str, list[list[int]]]:
    days: dict[str, list[list[int]]] = json.loads(text) if text else {}
    return days

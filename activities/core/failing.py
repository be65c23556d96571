"""Partitions that fail every time: remembered in a table property, and left out of what is due for a growing time.

A partition counts once for each request for whatever is due that it failed in. After so many in a row it is
suspended: a day, then two, then four, at most seven. One that failed and is not suspended is tried after all others,
so that a bound is not used up by what fails. Once it is committed, or found empty, it is forgotten.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from activities.core.faults import BadRequest
from activities.core.partitions import Ranges, index_of, label_of
from activities.core.tables import PartitionRule

PROPERTY = "icefleet.failing"
REMEMBERED = 300
"""The most partitions that the property names, since every version of the table's metadata holds it. Beyond, those that
failed least often are not remembered, then the oldest tries: they are tried each time, as if they had never failed."""
FIRST_WAIT = 86_400
LONGEST_WAIT = 7 * 86_400
FORGOTTEN = 30 * 86_400
"""Seconds after which a try says nothing any more: whatever is still due is tried every week at least."""


@dataclass(frozen=True)
class Failing:
    """A partition that failed: how often in a row, when it was last tried (unix seconds), and the fault's name."""

    count: int
    last: float
    cause: str

    def waits_until(self, suspend_after: int) -> float:
        """When it is due again, in unix seconds; 0 while it has not failed often enough to wait."""
        if not suspend_after or self.count < suspend_after:
            return 0
        doublings = min(self.count - suspend_after, 10)
        return self.last + min(FIRST_WAIT << doublings, LONGEST_WAIT)


def failing_of(text: str, rule: PartitionRule) -> dict[int, Failing]:
    """Index → what is remembered. `text` is the property's value; what the rule cannot read any more is left out."""
    found: dict[int, Failing] = {}
    for label, (count, last, cause) in (json.loads(text) if text else {}).items():
        try:
            found[index_of(rule, label)] = Failing(count, last, cause)
        except BadRequest:
            continue  # the table has been cut otherwise since
    return found


def remember_failing(text: str, rule: PartitionRule, failed: Mapping[int, str], gone: Ranges, at: float) -> str:
    """The property's new value: `failed` (index → cause) failed at `at` (unix seconds), and `gone` fails no more.

    Said twice with the same `at`, a failure counts once.
    """
    kept = {
        index: one
        for index, one in failing_of(text, rule).items()
        if index not in gone and (one.last + FORGOTTEN > at or index in failed)
    }
    for index, cause in failed.items():
        before = kept.get(index, Failing(0, 0, ""))
        if before.last < at and index not in gone:
            kept[index] = Failing(before.count + 1, at, cause)
    heaviest = sorted(kept.items(), key=lambda item: (-item[1].count, -item[1].last, -item[0]))[:REMEMBERED]
    written = {label_of(rule, index): [one.count, one.last, one.cause] for index, one in sorted(heaviest)}
    return json.dumps(written, separators=(",", ":")) if written else ""


@dataclass(frozen=True)
class SetAside:
    """What a request for whatever is due does not simply take in order."""

    suspended: Mapping[int, tuple[Failing, float]]
    """Index → what is remembered, and when it is due again."""
    last: frozenset[int]
    """Tried after all others."""


NOTHING = SetAside({}, frozenset())


def set_aside(failing: Mapping[int, Failing], suspend_after: int, now: int) -> SetAside:
    """Who is suspended at `now` (unix seconds), and who is tried last; nobody when `suspend_after` is 0."""
    if not suspend_after:
        return NOTHING
    until = {index: one.waits_until(suspend_after) for index, one in failing.items()}
    suspended = {index: (failing[index], time) for index, time in until.items() if time > now}
    return SetAside(suspended, frozenset(failing) - frozenset(suspended))

"""When runs of an index are folded and when they go into its base, so that no merge ever pays for the whole base.

A merge writes its changes as a run. Twelve runs become one of the next level, as long as that stays small. When runs
are a fair share of the base, they are marked as being merged, and following merges bring them into the base range by
range, each so much as its own changes owe: the work is done before the next such round begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

FAN = 12
"""Runs of one level that are folded."""
LARGEST_FOLD = 2**21
"""Entries above which runs are not folded any more: they wait for the base. So do those of which twelve would be more,
such as what a mirror begins with leaves: folded with what comes after them, they would be written again each time."""
SHARE = 0.75
"""Of the base's entries: so many in runs begin a round of merging. Each change then costs (1 + 1/SHARE) entries of the
base that are written anew."""
OWED = 1.05 * (1 + 1 / SHARE)
"""Entries of the base that a change makes due while a round goes on: somewhat more than keeps pace. Merges that fold
runs take no step, and leave what they owe to the next ones."""
STEP = 2**17
"""Entries that must be due before a step is made: each makes lines in the head."""
PARTS = 32
"""Of the base: what a step merges is some of them, so there are enough for steps to be small."""
SMALLEST_PART, LARGEST_PART = 2**17, 2**20
"""Entries of a part of the base, more or less."""
AT_ONCE = 2**17
"""Entries that are left to merge which are merged without waiting."""


@dataclass(frozen=True)
class Run:
    """A run, for planning."""

    level: int
    rows: int


def is_due(runs: Sequence[Run]) -> bool:
    """Whether runs are to be folded, or a round of merging is to begin."""
    return sum(1 for run in runs if run.level == 0) >= FAN


def to_fold(runs: Sequence[Run]) -> int:
    """How many of the newest runs (given newest first, so that levels ascend) are to become one; 0: none."""
    folded, small = 0, list(takewhile(lambda run: run.rows <= LARGEST_FOLD // FAN, runs))
    for level in sorted({run.level for run in small}):
        upto = sum(1 for run in small if run.level <= level)
        count = upto - folded + (1 if folded else 0)  # what was folded so far would be one more of this level
        if count < FAN or sum(run.rows for run in small[:upto]) > LARGEST_FOLD:
            break
        folded = upto
    return folded


def begins_round(runs: Sequence[Run], base_rows: int) -> bool:
    """Whether runs are enough to be merged into the base."""
    return is_due(runs) and sum(run.rows for run in runs) >= SHARE * base_rows


def part_rows(rows: int) -> int:
    """How many entries a part has of a base with so many."""
    return min(LARGEST_PART, max(SMALLEST_PART, rows // PARTS))


def step_rows(owed: int, left: int) -> int:
    """How many of the `left` entries (of the base and of the runs) are to be merged now, about; 0: wait."""
    if left <= AT_ONCE or owed >= left:
        return left
    return owed if owed >= STEP else 0

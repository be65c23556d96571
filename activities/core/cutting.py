"""Where a snapshot with more changes than fit into memory is cut: by sequence number.

A piece ends with a transaction where it can, and never between the two halves of a key update, since the insert may
need what the delete before it takes away. Where many changes have one sequence number, it ends among them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from activities.core.mirrors import Sequences, Words

Indices = npt.NDArray[np.int64]
_WORD_BITS = 64
_LAST_WORD = 2**_WORD_BITS - 1
_SLACK = 65_536
_MORE = 2
"""Changes beyond a piece that show where it may end: one more may be part of it, and one follows."""


@dataclass(frozen=True, order=True)
class Mark:
    """Up to where changes of a snapshot are merged."""

    sequence: int
    """All changes with a smaller sequence number are."""
    ties: int = 0
    """Of those with this number the first so many, in the changelog's order; 0: all."""

    def equals(self, sequences: Sequences) -> npt.NDArray[np.bool_]:
        """Which have this number."""
        return _is(sequences, self.sequence)

    def is_after(self, sequences: Sequences) -> npt.NDArray[np.bool_]:
        """Which have a smaller one."""
        return ~_above(sequences, self.sequence) & ~_is(sequences, self.sequence)


@dataclass(frozen=True)
class Span:
    """Changes that are read together, and the ends of their sequence numbers; None: nobody says."""

    rows: int
    low: int | None = None
    high: int | None = None


def needed(spans: Sequence[Span], after: Mark | None, rows: int) -> list[int]:
    """Which spans may hold one of the `rows` changes that come first after a mark, or one of the next `_MORE`."""
    left = [place for place, span in enumerate(spans) if not _is_passed(span, after)]
    bound, within = None, 0
    known = [spans[place] for place in left if spans[place].low is not None and spans[place].high is not None]
    for span in sorted(known, key=lambda one: one.high or 0):
        if after is None or (span.low or 0) > after.sequence:
            within += span.rows
        if within >= rows + _MORE:
            bound = span.high
            break
    return [place for place in left if bound is None or (low := spans[place].low) is None or low <= bound]


def _is_passed(span: Span, after: Mark | None) -> bool:
    if after is None or span.high is None:
        return False
    return span.high < after.sequence + (0 if after.ties else 1)


@dataclass(frozen=True)
class Cut:
    """The changes of a piece, in the changelog's order."""

    groups: Indices
    """The group of each, as it was added."""
    rows: Indices
    """Its row in the group."""
    until: Mark | None
    """Up to where the snapshot is merged then; None: all of it."""


class Smallest:
    """Finds the changes that come first after a mark, among many that are added in the changelog's order.

    Memory follows `rows`, not how many are added.
    """

    def __init__(self, rows: int, after: Mark | None, delete: int) -> None:
        self._rows, self._after, self._delete = rows, after, delete
        self._ties = 0
        self._limit: int | None = None
        nothing = np.empty(0, dtype=np.uint64)
        none = np.empty(0, dtype=np.int64)
        self._held = _Held(nothing, nothing, np.empty(0, dtype=np.bool_), none, none)
        self._new: list[_Held] = []

    def add(self, sequences: Sequences, operations: npt.NDArray[Any], group: int, first: int) -> None:
        """Changes of a group, whose rows begin at `first`."""
        chosen = np.flatnonzero(self._may_count(sequences))
        rows = chosen + first
        high, low = sequences.high[chosen], sequences.low[chosen]
        groups = np.full(len(chosen), group, dtype=np.int64)
        self._new.append(_Held(high, low, operations[chosen] == self._delete, groups, rows))
        if sum(len(one.rows) for one in self._new) > _SLACK + self._rows:
            self._settle()
            if len(self._held.rows) > self._rows + _MORE:
                self._shrink()

    def cut(self) -> Cut:
        """The piece."""
        self._settle()
        held, order = self._held, self._held.order()
        if len(order) <= self._rows:
            return Cut(held.groups, held.rows, None)
        ordered = held.take(order)
        end = self._end(ordered)
        chosen = np.sort(order[:end])
        return Cut(held.groups[chosen], held.rows[chosen], self._mark(ordered, end))

    def _may_count(self, sequences: Sequences) -> npt.NDArray[np.bool_]:
        counts = np.ones(len(sequences), dtype=np.bool_)
        if self._after is not None:
            counts = _above(sequences, self._after.sequence)
            if self._after.ties:
                equal = _is(sequences, self._after.sequence)
                counts |= equal & (self._ties + np.cumsum(equal) > self._after.ties)
                self._ties += int(equal.sum())
        if self._limit is not None:
            counts &= Mark(self._limit).is_after(sequences)
        return counts

    def _settle(self) -> None:
        self._held = _joined([self._held, *self._new])
        self._new = []

    def _shrink(self) -> None:
        order = self._held.order()[: self._rows + _MORE]
        self._limit = self._held.number(int(order[-1]))
        self._held = self._held.take(np.sort(order))

    def _end(self, changes: "_Held") -> int:
        """How many of the sorted changes make the piece."""
        least = max(1, self._rows // 2)
        high, low = changes.high[: self._rows + 1], changes.low[: self._rows + 1]
        transactions = np.flatnonzero(high[1:] != high[:-1]) + 1
        numbers = np.flatnonzero((high[1:] != high[:-1]) | (low[1:] != low[:-1])) + 1
        if len(transactions) and transactions[-1] >= least:
            return int(transactions[-1])
        end = int(numbers[-1]) if len(numbers) and numbers[-1] >= least else self._rows
        if changes.deletes[end - 1] and not changes.deletes[end]:
            # Before the delete and whatever repeats it: merged by itself, it would leave nothing for the insert.
            earlier = numbers[numbers < end]
            parted = changes.deletes[earlier - 1] & ~changes.deletes[earlier] & (high[earlier - 1] == high[earlier])
            return int(earlier[~parted][-1]) if not parted.all() else end + 1
        return end

    def _mark(self, changes: "_Held", end: int) -> Mark | None:
        if end == len(changes.rows):
            return None
        last = changes.number(end - 1)
        if changes.number(end) != last:
            return Mark(last)
        earlier = self._after.ties if self._after is not None and self._after.sequence == last else 0
        same = _is(Sequences(changes.high[:end], changes.low[:end]), last)
        return Mark(last, earlier + int(same.sum()))


@dataclass(frozen=True)
class _Held:
    """Some changes."""

    high: Words
    low: Words
    deletes: npt.NDArray[np.bool_]
    groups: Indices
    rows: Indices

    def take(self, chosen: Indices) -> "_Held":
        return _Held(self.high[chosen], self.low[chosen], self.deletes[chosen], self.groups[chosen], self.rows[chosen])

    def order(self) -> Indices:
        """By sequence number, those with the same one as they are."""
        order: Indices = np.lexsort((self.low, self.high))
        return order

    def number(self, place: int) -> int:
        return int(self.high[place]) << _WORD_BITS | int(self.low[place])


def _joined(parts: Sequence[_Held]) -> _Held:
    return _Held(
        np.concatenate([one.high for one in parts]),
        np.concatenate([one.low for one in parts]),
        np.concatenate([one.deletes for one in parts]),
        np.concatenate([one.groups for one in parts]),
        np.concatenate([one.rows for one in parts]),
    )


def _above(sequences: Sequences, number: int) -> npt.NDArray[np.bool_]:
    high, low = np.uint64(number >> _WORD_BITS), np.uint64(number & _LAST_WORD)
    return np.asarray((sequences.high > high) | ((sequences.high == high) & (sequences.low > low)))


def _is(sequences: Sequences, number: int) -> npt.NDArray[np.bool_]:
    high, low = np.uint64(number >> _WORD_BITS), np.uint64(number & _LAST_WORD)
    return np.asarray((sequences.high == high) & (sequences.low == low))

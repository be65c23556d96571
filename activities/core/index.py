"""The index of a mirror's keys, as arrays: looking up, folding, merging.

The index is what several segments say together, each a sorted array of entries: of a key that is in more than one, the
newest segment's entry counts. Segments are given newest first, everywhere.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from activities.core.indexsegments import Flags, Items, Rows, Segment, passes
from activities.core.mirrors import TOMBSTONE, Entries, Keys, Sequences, Words

_AT_ONCE = 2**16
"""Keys that are looked for together: each takes some hundred bytes meanwhile."""


@dataclass(frozen=True)
class Found:
    """What the index says of some keys, in their order."""

    known: Flags
    """False: the index has neither a row nor a tombstone of the key; the other arrays hold zeros."""
    file: npt.NDArray[np.uint32]
    """0: the key was deleted."""
    row: npt.NDArray[np.uint32]
    """0-based position in the data file; of a deleted key, when that was merged, in seconds since 1970."""
    sequences: Sequences

    @classmethod
    def nothing(cls, count: int) -> Self:
        """What an empty index says of `count` keys."""
        words, numbers = np.zeros((2, count), np.uint64), np.zeros((2, count), np.uint32)
        return cls(np.zeros(count, np.bool_), numbers[0], numbers[1], Sequences(words[0], words[1]))

    @property
    def live(self) -> Flags:
        """Which keys have a row."""
        live: Flags = self.known & (self.file != TOMBSTONE)
        return live


def find(segments: Iterable[Segment], keys: Keys) -> Found:
    """Look up keys that are sorted by `high` (then it is quick) and may repeat."""
    if np.any(keys.high[1:] < keys.high[:-1]):
        order = np.argsort(keys.high, kind="stable")
        return _unordered(find(segments, keys.take(order)), order)
    found = Found.nothing(len(keys))
    for segment in segments:
        if len(segment):
            _look(segment, keys, found)
    return found


def _unordered(found: Found, order: Rows) -> Found:
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return Found(found.known[back], found.file[back], found.row[back], found.sequences.take(back))


def _look(segment: Segment, keys: Keys, found: Found) -> None:
    """Write down what a segment knows of keys that no newer one knew."""
    spread = segment.spread
    first = int(keys.high.searchsorted(np.uint64(spread.first), "left"))
    stop = int(keys.high.searchsorted(np.uint64(spread.last), "right"))
    maybe = ~found.known[first:stop]
    if len(segment.sieve):
        maybe &= passes(segment, keys.high[first:stop])
    asked = np.flatnonzero(maybe) + first
    for begin in range(0, len(asked), _AT_ONCE):
        _note(segment, keys, asked[begin : begin + _AT_ONCE], found)


def _note(segment: Segment, keys: Keys, asked: Rows, found: Found) -> None:
    """Write down what a segment knows of some of the keys."""
    there, items = segment.lookup(keys.high[asked])
    asked = asked[there]
    other = np.flatnonzero(items["key_low"] != keys.low[asked])
    if len(other):  # keys that share a `high`: go on by `low`
        items[other] = _among_equals(segment.items, keys.take(asked[other]))
        right = np.flatnonzero(items["key_low"] == keys.low[asked])
        asked, items = asked[right], items[right]
    found.known[asked] = True
    found.file[asked], found.row[asked] = items["file"], items["row"]
    found.sequences.high[asked], found.sequences.low[asked] = items["sequence_high"], items["sequence_low"]


def _among_equals(items: Items, keys: Keys) -> Items:
    """Of the items with the `high` of each key, which there are: the first whose `low` is not smaller, or the last."""
    held, at = items["key_high"], np.empty(len(keys), np.int64)
    for place, (high, low) in enumerate(zip(keys.high, keys.low, strict=True)):
        first, stop = bisect_left(held, high), bisect_right(held, high)
        at[place] = min(first + bisect_left(items["key_low"][first:stop], low), stop - 1)
    return items[at]


def nothing() -> Entries:
    """No entries."""
    words, numbers = np.empty(0, np.uint64), np.empty(0, np.uint32)
    return Entries(Keys(words, words), numbers, numbers, Sequences(words, words))


def taken(entries: Entries, rows: npt.NDArray[Any] | slice) -> Entries:
    """Some entries: by indices that ascend, a mask, or a slice (then nothing is copied)."""
    keys, sequences = entries.keys, entries.sequences
    return Entries(
        Keys(keys.high[rows], keys.low[rows]),
        entries.file[rows],
        entries.row[rows],
        Sequences(sequences.high[rows], sequences.low[rows]),
    )


def between(entries: Entries, first: int, stop: int | None) -> Entries:
    """Those with `first <= key.high < stop`; no `stop`: all from `first` on. Nothing is copied."""
    high = entries.keys.high
    begin = bisect_left(high, first)  # `searchsorted` would copy columns that do not lie by themselves
    end = len(high) if stop is None else bisect_left(high, stop)
    return taken(entries, slice(begin, end))


def fold(segments: Sequence[Entries]) -> Entries:
    """What segments, newest first, say together."""
    if len(segments) == 1:
        return segments[0]
    every = joined(segments)
    return taken(every, _newest(every.keys))


def ordered(entries: Entries) -> Entries:
    """Entries in any order as a segment; of a key that comes more than once the first one counts."""
    return taken(entries, _newest(entries.keys))


def joined(segments: Sequence[Entries]) -> Entries:
    """All entries, one segment behind the other: no segment any more."""
    if not segments:
        return nothing()
    return Entries(
        Keys(
            np.concatenate([segment.keys.high for segment in segments]),
            np.concatenate([segment.keys.low for segment in segments]),
        ),
        np.concatenate([segment.file for segment in segments]),
        np.concatenate([segment.row for segment in segments]),
        Sequences(
            np.concatenate([segment.sequences.high for segment in segments]),
            np.concatenate([segment.sequences.low for segment in segments]),
        ),
    )


def _newest(keys: Keys) -> Rows:
    """The first occurrence of every key, in the order of the keys."""
    order = np.argsort(keys.high, kind="stable")  # merges what is sorted in pieces already, in linear time
    high, low = keys.high[order], keys.low[order]
    again = np.zeros(len(order), np.bool_)
    np.equal(high[1:], high[:-1], out=again[1:])
    if np.any(low[1:][again[1:]] != low[:-1][again[1:]]):  # different keys that share a `high`
        order = np.lexsort((keys.low, keys.high))
        high, low = keys.high[order], keys.low[order]
        again[1:] = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    return order[~again]


Together = Callable[[Sequence[Entries]], Entries]


def merge(segments: Sequence[Entries], rows: int, together: Together = fold) -> Iterator[Entries]:
    """The same as `fold`, in ascending pieces, each made of at most one and a half times `rows` entries.

    Only keys that share a `high` come in one piece however many they are. `together` may be something else than `fold`
    that makes one segment of several, key by key.
    """
    sources = [segment for segment in segments if len(segment)]
    begins = [0] * len(sources)
    for border in _borders(sources, rows):
        ends = [bisect_left(source.keys.high, border) for source in sources]
        parts = [taken(source, slice(*ends_of)) for source, *ends_of in zip(sources, begins, ends, strict=True)]
        begins = ends
        yield from _together(parts, together)
    rest = [taken(source, slice(begin, None)) for source, begin in zip(sources, begins, strict=True)]
    yield from _together(rest, together)


def _together(parts: Sequence[Entries], together: Together) -> Iterator[Entries]:
    held = [part for part in parts if len(part)]
    if held:
        yield together(held)


def _borders(sources: Sequence[Entries], rows: int) -> Words:
    """Ascending `high` words between which lie about `rows` entries of all sources together."""
    if not sources:
        return np.empty(0, np.uint64)
    stride = max(1, rows // (2 * len(sources)))
    samples = np.sort(np.concatenate([source.keys.high[stride - 1 :: stride] for source in sources]))
    each = max(1, rows // stride)
    return np.unique(samples[each - 1 :: each])


@dataclass(frozen=True)
class Kept:
    """What is left of entries, and what those that went could have said."""

    entries: Entries
    forgotten: tuple[int, int] | None
    """The greatest sequence number (high, low) of tombstones that went by age; None: none did."""


def without_truncated(entries: Entries, truncated: tuple[int, int]) -> Entries:
    """Without what is older than the newest truncate: nothing of it counts any more, here or in older segments."""
    if truncated == (0, 0):
        return entries
    older = _older(entries.sequences, truncated)
    return taken(entries, ~older) if older.any() else entries


def forgetful(entries: Entries, cut: int) -> Kept:
    """Without tombstones that were merged before `cut` (seconds since 1970); for entries that lie above no others."""
    old = (entries.file == TOMBSTONE) & (entries.row < cut)
    if not old.any():
        return Kept(entries, None)
    return Kept(taken(entries, ~old), greatest(entries.sequences.take(old)))


def without_older(found: Found, truncated: tuple[int, int]) -> Found:
    """What was found, knowing nothing of what is older than the newest truncate."""
    if truncated == (0, 0):
        return found
    return Found(found.known & ~_older(found.sequences, truncated), found.file, found.row, found.sequences)


def greatest(sequences: Sequences) -> tuple[int, int]:
    """The greatest sequence number, as (high, low); of none (0, 0)."""
    if not len(sequences):
        return 0, 0
    high = sequences.high.max()
    return int(high), int(sequences.low[sequences.high == high].max())


def _older(sequences: Sequences, than: tuple[int, int]) -> Flags:
    high, low = np.uint64(than[0]), np.uint64(than[1])
    older: Flags = (sequences.high < high) | ((sequences.high == high) & (sequences.low < low))
    return older

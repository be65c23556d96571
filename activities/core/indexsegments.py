"""A segment of an index with what makes lookups quick: a directory of its entries, and a sieve."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from activities.core.mirrors import Entries, Keys, Sequences, Words

Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Bits = npt.NDArray[np.uint8]
Items = npt.NDArray[Any]

FENCED = 8
"""Entries of which one is in the directory: that takes a byte for each, and what lies between is in one page."""
SIEVE_SLOTS = 16
"""For each entry, at least."""
FEW = 64
"""Rows that are so few, in a segment, that each is probably in a page of its own."""
PROBES = 2
"""Bits of the sieve for each key, beside the first one: of the keys that a segment lacks, all but one in some hundred
are told without a search. Who looks at a bit that is not there takes no other."""
NEAR_BITS = 15
NEAR = 2**NEAR_BITS
"""Slots among which all bits of a key lie: those of a page."""
LARGEST_SIEVE = 2**26
_PIECE = 2**17
ENTRY = np.dtype(
    [
        *((name, np.uint64) for name in ("key_high", "key_low", "sequence_high", "sequence_low")),
        *((name, np.uint32) for name in ("file", "row")),
    ]
)
"""All that is said of a key lies together: of a large index, what is looked at of a key is in one page."""
_WORDS = ENTRY.itemsize // 8


def items_of(entries: Entries) -> Items:
    """Entries as an array of ENTRY."""
    items = np.empty(len(entries), ENTRY)
    items["key_high"], items["key_low"] = entries.keys.high, entries.keys.low
    items["sequence_high"], items["sequence_low"] = entries.sequences.high, entries.sequences.low
    items["file"], items["row"] = entries.file, entries.row
    return items


def entries_in(items: Items) -> Entries:
    """The same the other way round; nothing is copied."""
    return Entries(
        Keys(items["key_high"], items["key_low"]),
        items["file"],
        items["row"],
        Sequences(items["sequence_high"], items["sequence_low"]),
    )


class Read(Protocol):
    """Reads single items of an array that lies in a file."""

    def __call__(self, rows: Rows, width: int) -> Items:
        """For each row, `width` items from there on: an array of shape (rows, width)."""


@dataclass(frozen=True)
class Segment:
    """Entries with a directory of them, by which a key is found in a step or two, whatever their number."""

    items: Items
    """Of ENTRY, sorted by key."""
    fences: Words
    """The first `key_high` of each `FENCED` entries."""
    sieve: Bits
    """A Bloom filter of the keys, whose bits lie in the keys' order. Empty: there is none."""
    read: Read | None = None
    """Of a segment that is mapped from a file: few items are read sooner than their pages are mapped."""

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def entries(self) -> Entries:
        """The items as columns; nothing is copied."""
        return entries_in(self.items)

    def lookup(self, high: Words) -> tuple[Rows, Items]:
        """Of words of which none is less than the first key's: which of them a key has, by their places among `high`,
        and an item of each.
        """  # noqa: D205 - two sentences that belong together
        at = (np.searchsorted(self.fences, high, "right") - 1) * FENCED
        width = min(FENCED, len(self.items))
        np.minimum(at, len(self.items) - width, out=at)
        if self.read and len(at) <= FEW:
            near = self.read(at, width)
        elif width < FENCED:
            near = self.items[at[:, None] + np.arange(width)]
        else:
            items = self._last_not_greater(at, high)
            known = np.flatnonzero(items["key_high"] == high)
            return known, items[known]
        same = near["key_high"] == high[:, None]
        known = np.flatnonzero(same.any(axis=1))
        return known, near[known, same[known].argmax(axis=1)]

    def _last_not_greater(self, at: Rows, high: Words) -> Items:
        """For each word the last item that is not greater, of the `FENCED` ones from its row on."""
        words = self.items.view(np.uint64)  # of an item, `key_high` is the first
        places = at * _WORDS
        step = FENCED // 2
        while step:
            places += (words.take(places + step * _WORDS) <= high) * (step * _WORDS)
            step //= 2
        return self.items.take(places // _WORDS)

    @cached_property
    def spread(self) -> "Spread":
        """Over what its keys are spread: the first and the last need not be looked for each time."""
        return spread_of(self.items["key_high"])


def segment_of(entries: Entries) -> Segment:
    """Entries that are in memory, with a directory and a sieve."""
    high = entries.keys.high
    return Segment(items_of(entries), fences_of(high), sieve_of(high))


def fences_of(high: Words) -> Words:
    """The directory of keys that ascend."""
    return np.ascontiguousarray(high[::FENCED])


def sieve_of(high: Words) -> Bits:
    """The sieve of keys that ascend: of each, the bit of its slot and `PROBES` more that lie near by."""
    sieve = np.zeros(min(_power(SIEVE_SLOTS * len(high)), LARGEST_SIEVE) // 8, np.uint8)
    spread, near = spread_of(high), _near(sieve)
    for piece in _pieces(high):
        places = spread.slots(piece, len(sieve) * 8)
        begin, stop = int(places[0]) & ~near, (int(places[-1]) | near) + 1
        there = np.zeros(stop - begin, np.bool_)
        there[places - begin] = True
        for probe in range(PROBES):
            there[_probed(places, piece, probe, near) - begin] = True
        sieve[begin >> 3 : stop >> 3] |= np.packbits(there, bitorder="little")
    return sieve


def passes(segment: Segment, high: Words) -> Flags:
    """Which keys are not told by the sieve to be none of the segment's."""
    sieve, near = segment.sieve, _near(segment.sieve)
    places = segment.spread.slots(high, len(sieve) * 8)
    flags = _are_set(sieve, places)
    for probe in range(PROBES):
        left = np.flatnonzero(flags)
        flags[left] = _are_set(sieve, _probed(places[left], high[left], probe, near))
    return flags


def _are_set(sieve: Bits, places: Rows) -> Flags:
    bits = sieve.take(places >> 3)
    bits >>= (places & 7).astype(np.uint8)
    bits &= 1
    return bits.view(np.bool_)


def _near(sieve: Bits) -> int:
    near: int = min(len(sieve) * 8, NEAR) - 1
    return near


def _probed(places: Rows, high: Words, probe: int, near: int) -> Rows:
    """The slots of one more bit: those around the first one, chosen by low bits of the key, which say nothing of it."""
    low = (high >> np.uint64(probe * NEAR_BITS)).view(np.int64)
    return (places & ~near) | (low & near)


def _pieces(high: Words) -> Iterator[Words]:
    return (high[begin : begin + _PIECE] for begin in range(0, len(high), _PIECE))


def _power(count: int) -> int:
    return 1 << max(count - 1, 1).bit_length()


@dataclass(frozen=True)
class Spread:
    """The first and the last of keys that ascend."""

    first: int
    last: int

    def slots(self, high: Words, count: int) -> Rows:
        """Where words lie that are not less than the first and not more than the last, among `count` slots."""
        shift = max(0, (self.last - self.first).bit_length() - (count.bit_length() - 1))
        places = high - np.uint64(self.first)
        places >>= np.uint64(shift)
        return places.view(np.int64)  # there are never so many that the highest bit counts


def spread_of(high: Words) -> Spread:
    """Over what keys are spread that ascend."""
    return Spread(int(high[0]), int(high[-1])) if len(high) else Spread(0, 0)

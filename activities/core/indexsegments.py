"""A segment of an index with what makes lookups quick: a directory of its entries, and a sieve."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from activities.core.mirrors import Entries, Words

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
REST = np.dtype([("key_low", np.uint64), ("sequence_low", np.uint64), ("file", np.uint32), ("row", np.uint32)])
"""What is looked at of a key whose higher word was found lies in one place: then one page has it."""


class Told(NamedTuple):
    """Of some entries: what lies beside each other in a file."""

    key_low: Words
    sequence_low: Words
    file: npt.NDArray[np.uint32]
    row: npt.NDArray[np.uint32]


class Read(Protocol):
    """Reads single items of arrays that lie in a file."""

    def ahead(self, items: Items, rows: Rows, width: int) -> None:
        """Have what will be asked for be fetched, all of it at once."""

    def __call__(self, items: Items, rows: Rows, width: int) -> Items:
        """Of an array, for each row, `width` items from there on: an array of shape (rows, width)."""


@dataclass(frozen=True)
class Segment:
    """Entries with a directory of them, by which a key is found in a step or two, whatever their number."""

    entries: Entries
    fences: Words
    """The first `high` of each `FENCED` entries."""
    sieve: Bits
    """A Bloom filter of the keys, whose bits lie in the keys' order. Empty: there is none."""
    read: Read | None = None
    """Of a segment that is mapped from a file: few items are read sooner than their pages are mapped."""
    rest: Items | None = None
    """Of such a segment: what `REST` says of each entry."""

    def __len__(self) -> int:
        return len(self.entries)

    def some(self, items: Items, rows: Rows) -> Items:
        """Some items of one of its arrays."""
        if self.read and self._are_few(items, rows):
            return self.read(items, rows, 1).reshape(-1)
        return items[rows]

    def from_each(self, items: Items, rows: Rows, width: int) -> Items:
        """The same with those that follow: an array of shape (rows, width). So many there must be behind each row."""
        if self.read and self._are_few(items, rows):
            return self.read(items, rows, width)
        return items.take(rows[:, None] + np.arange(width))

    def told(self, rows: Rows) -> Told:
        """What is told of some entries."""
        if self.rest is not None and self._are_few(self.rest, rows):
            found = self.some(self.rest, rows)
            return Told(*(found[name] for name in Told._fields))
        entries = self.entries
        return Told(entries.keys.low[rows], entries.sequences.low[rows], entries.file[rows], entries.row[rows])

    def ahead(self, rows: Rows, width: int) -> None:
        """Have what can be asked of some entries, and of those that follow, be fetched: there is one wait for all."""
        for items in (self.entries.keys.high, self.entries.sequences.high, self.rest):
            if self.read and items is not None and self._are_few(items, rows):
                self.read.ahead(items, rows, width)

    def _are_few(self, items: Items, rows: Rows) -> bool:
        return len(rows) <= FEW and bool(items.strides[0])

    @cached_property
    def spread(self) -> "Spread":
        """Over what its keys are spread: the first and the last need not be looked for each time."""
        return spread_of(self.entries.keys.high)


def segment_of(entries: Entries) -> Segment:
    """Entries that are in memory, with a directory and a sieve."""
    high = entries.keys.high
    return Segment(entries, fences_of(high), sieve_of(high))


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

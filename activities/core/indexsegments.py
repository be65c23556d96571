"""A segment of an index with what makes lookups quick: a directory of its entries, and a sieve."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from activities.core.mirrors import Entries, Words

Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Starts = npt.NDArray[np.uint32]
Bits = npt.NDArray[np.uint8]

SIEVE_SLOTS = 16
"""For each entry, at least: so many keys of sixteen that a segment lacks are told without a search."""
LARGEST_SIEVE = 2**26
_PIECE = 2**17


@dataclass(frozen=True)
class Segment:
    """Entries with a directory of them, by which a key is found in a step or two, whatever their number."""

    entries: Entries
    starts: Starts
    """Between the first key and the last one, keys are spread over a power of two of buckets by the highest bits: where
    each bucket begins, and behind the last one the number of entries."""
    sieve: Bits
    """The same for many more slots: a bit for each that says whether there is any key. Empty: there is no sieve."""

    def __len__(self) -> int:
        return len(self.entries)


def segment_of(entries: Entries) -> Segment:
    """Entries that are in memory, with a directory and a sieve."""
    high = entries.keys.high
    return Segment(entries, starts_of(high), sieve_of(high))


def starts_of(high: Words) -> Starts:
    """The directory of keys that ascend."""
    starts = np.zeros(_power(len(high)) + 1, np.uint32)
    for piece in _pieces(high):
        places = slots(high, piece, len(starts) - 1) + 1
        counted = np.bincount(places - places[0])
        starts[places[0] : places[0] + len(counted)] += counted.astype(np.uint32)
    return np.cumsum(starts, out=starts)


def sieve_of(high: Words) -> Bits:
    """The sieve of keys that ascend."""
    sieve = np.zeros(min(_power(SIEVE_SLOTS * len(high)), LARGEST_SIEVE) // 8, np.uint8)
    for piece in _pieces(high):
        places = slots(high, piece, len(sieve) * 8)
        first, last = int(places[0]) >> 3, int(places[-1]) >> 3
        there = np.zeros((last - first + 1) * 8, np.bool_)
        there[places - first * 8] = True
        sieve[first : last + 1] |= np.packbits(there, bitorder="little")
    return sieve


def passes(segment: Segment, high: Words) -> Flags:
    """Which keys are not told by the sieve to be none of the segment's."""
    places = slots(segment.entries.keys.high, high, len(segment.sieve) * 8)
    bits = segment.sieve.take(places >> 3)
    places &= 7
    bits >>= places.astype(np.uint8)
    bits &= 1
    return bits.view(np.bool_)


def _pieces(high: Words) -> Iterator[Words]:
    return (high[begin : begin + _PIECE] for begin in range(0, len(high), _PIECE))


def _power(count: int) -> int:
    return 1 << max(count - 1, 1).bit_length()


def slots(keys: Words, high: Words, count: int) -> Rows:
    """Where words lie that are not less than the first of `keys` and not more than the last, among `count` slots."""
    first, last = int(keys[0]), int(keys[-1])
    shift = max(0, (last - first).bit_length() - (count.bit_length() - 1))
    places = high - np.uint64(first)
    places >>= np.uint64(shift)
    return places.view(np.int64)  # there are never so many that the highest bit counts

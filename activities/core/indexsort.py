"""Entries that nobody has put in order, of an index that is made anew: a key's row counts and not its tombstone, and of
several of a kind the one with the greatest sequence number.
"""  # noqa: D205 - one sentence that says what the file is about

import numpy as np

from activities.core.index import joined, taken
from activities.core.indexsegments import Flags, Rows
from activities.core.mirrors import TOMBSTONE, Entries, Keys, Sequences


def rows_of_file(
    file: int, positions: Rows, keys: Keys, sequences: Sequences, at_least: tuple[int, int] = (0, 0)
) -> Entries:
    """The entries of rows of one data file, in any order.

    `at_least` is the number of the newest truncate: whatever is older loses against such a row, also if the row has a
    smaller number (when somebody else wrote it).
    """
    high, low = np.uint64(at_least[0]), np.uint64(at_least[1])
    older = (sequences.high < high) | ((sequences.high == high) & (sequences.low < low))
    raised = Sequences(np.where(older, high, sequences.high), np.where(older, low, sequences.low))
    return Entries(keys, np.full(len(keys), file, np.uint32), positions.astype(np.uint32), raised)


def tombstones(keys: Keys, sequences: Sequences, merged_at: int) -> Entries:
    """The entries of keys that were deleted, in any order; `merged_at` in seconds since 1970."""
    return Entries(keys, np.full(len(keys), TOMBSTONE, np.uint32), np.full(len(keys), merged_at, np.uint32), sequences)


class Ordering:
    """Makes segments of entries in any order, and counts rows whose key another row has."""

    def __init__(self) -> None:
        self.doubled = 0

    def together(self, some: list[Entries]) -> Entries:
        """One segment of everything."""
        entries = joined(some)
        order, again = _order(entries)
        rows = entries.file[order] != TOMBSTONE
        self.doubled += int(np.count_nonzero(again & rows))
        return taken(entries, order[~again])


def _order(entries: Entries) -> tuple[Rows, Flags]:
    """Entries by key, what counts first; and which of them have the key of the one before."""
    keys, sequences = entries.keys, entries.sequences
    order = np.argsort(keys.high)
    high = keys.high[order]
    same = np.zeros(len(order), np.bool_)
    np.equal(high[1:], high[:-1], out=same[1:])
    if not same.any():
        return order, same
    shared = same.copy()
    shared[:-1] |= same[1:]
    some = order[shared]
    ranks = (
        *(some, ~sequences.low[some], ~sequences.high[some], entries.file[some] == TOMBSTONE),
        *(keys.low[some], keys.high[some]),
    )
    order[shared] = some[np.lexsort(ranks)]
    low = keys.low[order]
    same[1:] &= low[1:] == low[:-1]
    return order, same

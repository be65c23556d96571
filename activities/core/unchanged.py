"""Where the values are that an update does not carry, since they are long and did not change.

They are those of the row as it was just before: what the key's older changes of the batch carry, or what the mirror
holds. A key update comes as a delete and, with the next sequence number, an insert; what the insert does not carry is
the deleted row's.
"""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from activities.core.fold import DELETE, INSERT, Changes, Folded, Places
from activities.core.mirrors import Sequences
from activities.core.sequences import newer, older_than

Flags = npt.NDArray[np.bool_]

_NONE, _UNCLEAR = -1, -2
"""Of deletes: there is none, or there are several."""


class Known(Protocol):
    """What the mirror has of folded keys, as long as they are and in their order."""

    @property
    def known(self) -> Flags:
        """Whether it remembers the key, be it as a row or as one that was deleted."""

    @property
    def live(self) -> Flags:
        """Whether it has a row of it."""

    @property
    def sequences(self) -> Sequences:
        """The sequence number of what it remembers."""


@dataclass(frozen=True)
class Sources:
    """For each value that a final change does not carry, where it is; four arrays of the same length.

    Where `events` and `keys` are both -1, nobody has the value.
    """

    finals: Places
    """Which of the folded changes lacks it: an index of `Folded.rows`, ascending within a column."""
    columns: Places
    """Which column."""
    events: Places
    """The change of the batch that carries it, or -1."""
    keys: Places
    """An index of `Folded.keys`: the mirror's row of that key has it; or -1."""

    def __len__(self) -> int:
        return len(self.finals)

    def of(self, finals: Places) -> Self:
        """Those of some folded changes (indices of `Folded.rows`, ascending); `finals` then counts among these."""
        places = np.searchsorted(finals, self.finals)
        kept = np.append(finals, _NONE)[places] == self.finals
        return type(self)(places[kept], self.columns[kept], self.events[kept], self.keys[kept])

    @property
    def old_keys(self) -> Places:
        """Indices of `Folded.keys`, ascending, of which the mirror's row is needed."""
        return np.unique(self.keys[self.keys >= 0])


def resolve(changes: Changes, folded: Folded, unchanged: Flags | None, mirror: Known) -> Sources:
    """Where the values are that final changes lack; changes that lose against the mirror lack nothing.

    Args:
        changes: The batch.
        folded: What is left of it.
        unchanged: Which values changes do not carry, as changes and columns; None: they carry all.
        mirror: What the mirror has of `folded.keys`.
    """
    nothing = np.empty(0, dtype=np.int64)
    found = [(nothing, nothing, nothing, nothing)]
    if unchanged is not None and len(folded):
        walk = _Walk(changes, folded, unchanged, mirror)
        found += [walk.column(column) for column in np.flatnonzero(unchanged.any(axis=0)).tolist()]
    return Sources(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def needed(changes: Changes, folded: Folded, unchanged: Flags | None, mirror: Known) -> Places:
    """Changes, ascending, that are folded and resolved as the whole batch is: the final ones and whatever told them.

    Also together with further changes, so that a batch of any size may come in parts; but for what a key's row had
    been before it was another key's, when the two come in different parts: then nobody may have a value.
    """
    if unchanged is None or not len(folded):
        return np.sort(folded.rows)
    walk = _Walk(changes, folded, unchanged, mirror)
    for column in np.flatnonzero(unchanged.any(axis=0)).tolist():
        walk.column(column)
    return np.unique(np.concatenate([folded.rows, *walk.looked_at]))


class _Walk:
    """From final changes back to what they lack. Places are those of `Folded.order`: by key, then by age."""

    def __init__(self, changes: Changes, folded: Folded, unchanged: Flags, mirror: Known) -> None:
        order = self.order = folded.order
        sequences, operations = changes.sequences.take(order), changes.operations[order]
        self.key_of = np.repeat(np.arange(len(folded)), folded.ends - folded.starts)
        self.last = folded.ends - 1
        # What is not newer than what the mirror has is part of that: the mirror's row stands in its place.
        merged = mirror.known[self.key_of] & ~newer(sequences, mirror.sequences.take(self.key_of))
        self.fresh = folded.starts + np.bincount(self.key_of[merged], minlength=len(folded))
        self.live = mirror.live & ~older_than(mirror.sequences, folded.truncated)
        self.deletes = operations == DELETE
        self.unchanged = unchanged[order] & ~self.deletes[:, np.newaxis]
        inserts = np.flatnonzero((operations == INSERT) & self.unchanged.any(axis=1))
        self.deleted_before = np.full(len(order), _NONE)
        self.deleted_before[inserts] = _deletes_before(sequences, inserts, np.flatnonzero(self.deletes))
        self.looked_at: list[Places] = []
        """Changes of the batch that told where values are."""

    def column(self, column: int) -> tuple[Places, Places, Places, Places]:
        """Finals that lack the column, the column, and for each the change or the key whose row has it."""
        lacks = self.unchanged[:, column]
        settling = ~lacks | (self.deleted_before != _NONE)
        # At each place the newest change up to it that tells where the value is, if it is one of its key.
        settled = np.append(np.maximum.accumulate(np.where(settling, np.arange(len(lacks)), -1)), -1)
        finals = np.flatnonzero(lacks[self.last] & (self.last >= self.fresh))
        events, keys = np.full(len(finals), _NONE), np.full(len(finals), _NONE)
        pending, owners, at = np.arange(len(finals)), finals, self.last[finals]
        while len(pending):
            told = settled[at]
            is_merged = told < self.fresh[owners]
            self.looked_at.append(self.order[told[~is_merged]])
            of_mirror = is_merged & self.live[owners]
            keys[pending[of_mirror]] = owners[of_mirror]
            carried = ~is_merged & ~lacks[told] & ~self.deletes[told]
            events[pending[carried]] = self.order[told[carried]]
            # The rest lacks it too, and was another key's row before.
            moved = ~is_merged & lacks[told] & (self.deleted_before[told] != _UNCLEAR)
            pending, deletes = pending[moved], self.deleted_before[told[moved]]
            owners = self.key_of[deletes]
            self.looked_at.append(self.order[deletes])
            # A delete that the mirror has merged leaves nothing of the row.
            going = deletes >= self.fresh[owners]
            pending, owners, at = pending[going], owners[going], deletes[going] - 1
        return finals, np.full(len(finals), column), events, keys


def _deletes_before(sequences: Sequences, inserts: Places, deletes: Places) -> Places:
    """For each insert the delete that has the sequence number before its own."""
    low = sequences.low[inserts] - np.uint64(1)
    high = sequences.high[inserts] - (sequences.low[inserts] == 0)
    near = deletes[np.isin(sequences.low[deletes], low)]  # mostly few, so that these may be looked at one by one
    at: dict[tuple[int, int], int] = {}
    for place, number in zip(near.tolist(), _numbers(sequences.high[near], sequences.low[near]), strict=True):
        at[number] = _UNCLEAR if number in at else place
    return np.array([at.get(number, _NONE) for number in _numbers(high, low)], dtype=np.int64)


def _numbers(high: npt.NDArray[np.uint64], low: npt.NDArray[np.uint64]) -> list[tuple[int, int]]:
    return list(zip(high.tolist(), low.tolist(), strict=True))

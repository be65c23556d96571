"""Changes of a batch, folded to the newest one of each key.

Sorting is what costs: keys are sorted once, by their first word; what comes more than once is then put in order among
itself, by one word that holds key and age.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from activities.core.mirrors import Keys, Sequences
from activities.core.sequences import ascending, greatest, older_than
from activities.core.wordsort import ascending_order

INSERT, UPDATE, DELETE, TRUNCATE = 0, 1, 2, 3
"""What `Changes.operations` holds."""

Places = npt.NDArray[np.int64]
"""Indices of changes in their batch, or of keys among the folded ones."""
_RANK_BITS = np.uint64(32)
_RANK = np.uint64(2**32 - 1)


@dataclass(frozen=True)
class Changes:
    """A batch of changes, in the order of the changelog; all arrays have the same length."""

    keys: Keys
    """Of truncates they do not matter."""
    sequences: Sequences
    operations: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.operations)


@dataclass(frozen=True)
class Folded:
    """What is left of a batch: one change for each key, sorted by key; the first five arrays belong together."""

    rows: Places
    """Which change it is."""
    keys: Keys
    sequences: Sequences
    deletes: npt.NDArray[np.bool_]
    """Whether it is a delete; if not, it brings a row."""
    starts: Places
    """Where the key's changes begin in `order`; the last of them is the one in `rows`."""
    order: Places
    """All changes that count, sorted by key and then by age: no truncate, nothing older than one, no second change
    with the same key and sequence number."""
    truncated: str
    """The sequence number of the newest truncate, this batch's or an earlier one's; empty: there was none."""
    superseded: int
    """Changes that a newer one made void: one of the same key, or a truncate."""
    ties: int
    """Changes with the key and sequence number of one that came before: they do not count."""
    twins: tuple[Places, Places]
    """Pairs of changes that were taken for changes of one key: whoever hashes keys should see that they are."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ends(self) -> Places:
        """Where each key's changes end in `order`: one behind the last of them."""
        return np.append(self.starts, len(self.order))[1:]


def fold(changes: Changes, truncated: str = "") -> Folded:
    """The newest change of each key; of two with the same sequence number the one that comes first.

    Args:
        changes: The batch.
        truncated: The sequence number of the newest truncate before this batch; what is older does not count.
    """
    is_truncate = changes.operations == TRUNCATE
    floor = max(truncated, greatest(changes.sequences.take(is_truncate)))
    counted = len(changes) - int(is_truncate.sum())
    if floor:
        kept = np.flatnonzero(~is_truncate & ~older_than(changes.sequences, floor))
        order = kept[_sorted(changes.keys.take(kept), changes.sequences.take(kept))]
    else:
        order = _sorted(changes.keys, changes.sequences)
    keys, sequences = changes.keys.take(order), changes.sequences.take(order)
    again = _repeats(keys.high, keys.low)
    ties = again & _repeats(sequences.high, sequences.low)
    twins = (order[:-1][again[1:]], order[1:][again[1:]])
    valid = np.flatnonzero(~ties)
    starts = np.flatnonzero(~again[valid])
    last = valid[np.append(starts, len(valid))[1:] - 1]
    rows = order[last]
    return Folded(
        rows=rows,
        keys=keys.take(last),
        sequences=sequences.take(last),
        deletes=changes.operations[rows] == DELETE,
        starts=starts,
        order=order[valid],
        truncated=floor,
        superseded=counted - int(ties.sum()) - len(rows),
        ties=int(ties.sum()),
        twins=twins,
    )


def _repeats(*words: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Whether each is the same as the one before it, in all words."""
    found = np.zeros(len(words[0]), dtype=np.bool_)
    if len(found):
        found[1:] = words[0][1:] == words[0][:-1]
        for word in words[1:]:
            found[1:] &= word[1:] == word[:-1]
    return found


def _sorted(keys: Keys, sequences: Sequences) -> Places:
    """Indices by key, then sequence number, then place."""
    order = ascending_order(keys.high)
    again = _repeats(keys.high[order])
    several = again.copy()
    several[:-1] |= again[1:]
    if several.any():
        groups = np.cumsum(~again)[several]
        order[several] = _sorted_groups(order[several], groups, keys, sequences)
    return order


def _sorted_groups(rows: Places, groups: npt.NDArray[Any], keys: Keys, sequences: Sequences) -> Places:
    """The same of rows whose keys share their first word with another's; `groups` ascends with that word."""
    oldest_first = np.sort(rows)
    ages = sequences.take(oldest_first)
    if not ascending(ages):  # mostly they do ascend: a changelog is written in that order
        oldest_first = oldest_first[np.lexsort((ages.low, ages.high))]
    rank = np.empty(len(sequences), dtype=np.uint64)
    rank[oldest_first] = np.arange(len(rows), dtype=np.uint64)
    second = keys.low[rows]
    if np.any((groups[1:] == groups[:-1]) & (second[1:] != second[:-1])):
        return rows[np.lexsort((rank[rows], second, groups))]
    placed = np.sort(groups.astype(np.uint64) << _RANK_BITS | rank[rows])
    return oldest_first[(placed & _RANK).astype(np.int64)]

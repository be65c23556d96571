"""Where rows went when files were rewritten: what an index learns of a compaction, instead of an entry for each row.

Rows that stay in their order are a stretch, and a deleted row ends one. An entry that names a file that is gone is
brought to where its row is now when somebody finds it, and for good when its segment is written anew.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from activities.core.mirrors import Entries

MOST_STRETCHES = 2**20
"""Stretches that an index may have: beyond that it learns of each row. A stretch takes 24 bytes of memory."""
Numbers = npt.NDArray[np.uint32]
_ROW_BITS = np.uint64(32)


@dataclass(frozen=True)
class Moves:
    """What one commit moved: stretches, sorted by the place where they were; all arrays have the same length."""

    file: Numbers
    """Number of the data file that was rewritten."""
    row: Numbers
    """Where in it the stretch begins; it ends where the next one does."""
    to_file: Numbers
    to_row: Numbers

    def __len__(self) -> int:
        return len(self.file)

    @cached_property
    def _begins(self) -> npt.NDArray[np.uint64]:
        return _places(self.file, self.row)

    @cached_property
    def _holds(self) -> npt.NDArray[np.bool_]:
        """By number of a file: whether it is one of those; the last one speaks for all that are greater."""
        holds = np.zeros(int(self.file.max(initial=0)) + 2, np.bool_)
        holds[self.file] = True
        return holds

    def follow(self, file: Numbers, row: Numbers) -> tuple[Numbers, Numbers]:
        """Where rows are now, of which some were in these files. Of rows that were deleted it says anything."""
        mine = np.flatnonzero(self._holds[np.minimum(file, len(self._holds) - 1)])
        if not len(mine):
            return file, row
        at = np.searchsorted(self._begins, _places(file[mine], row[mine]), "right") - 1
        there = (at >= 0) & (self.file[at] == file[mine])
        mine, at = mine[there], at[there]
        went, place = file.copy(), row.copy()
        went[mine] = self.to_file[at]
        place[mine] = self.to_row[at] + (row[mine] - self.row[at])
        return went, place


def moves_of(went: Iterable[tuple[int, Numbers, Numbers, Numbers]]) -> Moves:
    """The stretches of rows that went somewhere.

    Args:
        went: Number of a file, rows of it that ascend, and of each its new file's number and its row there. A file's
            rows may come in several parts, one after the other.
    """
    parts = [_stretches(*part) for part in went if len(part[1])]
    columns = [np.concatenate([np.empty(0, np.uint32), *(part[number] for part in parts)]) for number in range(5)]
    order = np.argsort(_places(columns[0], columns[1]), kind="stable")
    file, row, last, to_file, to_row = (column[order] for column in columns)
    # What goes on from one part to the next is one stretch.
    begins = np.ones(len(file), np.bool_)
    begins[1:] = (np.diff(file) != 0) | (row[1:] != last[:-1] + 1) | (np.diff(to_file) != 0)
    begins[1:] |= np.diff(to_row) != np.diff(row)
    return Moves(file[begins], row[begins], to_file[begins], to_row[begins])


def _stretches(file: int, rows: Numbers, to_files: Numbers, to_rows: Numbers) -> tuple[Numbers, ...]:
    """Of the stretches of a part, which has rows: file, first and last row, new file and first row there."""
    begins = np.ones(len(rows), np.bool_)
    begins[1:] = (np.diff(rows) != 1) | (np.diff(to_rows) != 1) | (np.diff(to_files) != 0)
    first = np.flatnonzero(begins)
    last = rows[np.append(first[1:], len(rows)) - 1]
    return np.full(len(first), file, np.uint32), rows[first], last, to_files[first], to_rows[first]


def follow(moves: Sequence[Moves], file: Numbers, row: Numbers) -> tuple[Numbers, Numbers]:
    """Where rows are after several moves, given oldest first: what one brought somewhere another may have moved on."""
    for one in moves:
        file, row = one.follow(file, row)
    return file, row


def moved(moves: Sequence[Moves], entries: Entries) -> Entries:
    """The same entries, with rows where they are now. Those of rows that were deleted name any row: they must lie
    below newer ones.
    """  # noqa: D205 - two sentences that belong together
    if not moves:
        return entries
    file, row = follow(moves, entries.file, entries.row)
    return entries if file is entries.file else Entries(entries.keys, file, row, entries.sequences)


def _places(file: Numbers, row: Numbers) -> npt.NDArray[np.uint64]:
    return file.astype(np.uint64) << _ROW_BITS | row

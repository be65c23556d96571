"""What an index learns of a compaction says of every row that is left where it went."""

import numpy as np
import pytest

from activities.core.indexmoves import Moves, follow, moved, moves_of
from support.indexes import entries_of, rows_of


def numbers(values):
    return np.asarray(list(values), np.uint32)


@pytest.mark.parametrize("seed", range(20))
def test_rows_are_followed_through_one_rewriting_after_the_other(seed):
    rng = np.random.default_rng(seed)
    # Row → (file, position) of every row that is still there; files are rewritten at random, and rows deleted.
    there = {row: (1 + row // 50, row % 50) for row in range(400)}
    first, next_file, steps = dict(there), 9, []
    for _ in range(5):
        for row in [row for row in there if rng.random() < 0.1]:
            del there[row]
        chosen = {file for file, _ in there.values() if rng.random() < 0.6}
        targets = rng.integers(next_file, next_file + 3, 400)  # partitions of another spec mix them
        grouped = rng.random() < 0.7
        counts, went = dict.fromkeys(range(next_file, next_file + 3), 0), []
        for file in sorted(chosen, reverse=bool(rng.integers(2))):
            rows = sorted((place, row) for row, (where, place) in there.items() if where == file)
            for part in (rows[:7], rows[7:]):
                to = [int(targets[file] if grouped else targets[row]) for _, row in part]
                to_rows = [counts.__setitem__(one, counts[one] + 1) or counts[one] - 1 for one in to]
                went.append((file, numbers(place for place, _ in part), numbers(to), numbers(to_rows)))
                there |= {row: (one, place) for (_, row), one, place in zip(part, to, to_rows, strict=True)}
        steps.append(moves_of(went))
        next_file += 3
    asked = sorted(there)
    file, row = follow(steps, numbers(first[one][0] for one in asked), numbers(first[one][1] for one in asked))
    assert list(zip(file.tolist(), row.tolist(), strict=True)) == [there[one] for one in asked]


def test_rows_that_stay_in_their_order_are_one_stretch_and_a_deleted_one_ends_it():
    rows = numbers([0, 1, 2, 5, 6, 9])
    found = moves_of(
        [(3, rows[:2], numbers([7, 7]), numbers([10, 11])), (3, rows[2:], numbers([7] * 4), numbers(range(12, 16)))]
    )
    assert (found.row.tolist(), found.to_row.tolist()) == ([0, 5, 9], [10, 13, 15])


def test_tombstones_and_rows_of_other_files_stay_as_they_are():
    entries = entries_of(
        {(1, 0): (0, 5, (0, 1)), (2, 0): (2, 6, (0, 1)), (3, 0): (9, 7, (0, 1)), (4, 0): (4, 2, (0, 1))}
    )
    steps = [moves_of([(4, numbers([2]), numbers([12]), numbers([0]))])]
    assert rows_of(moved(steps, entries)) == rows_of(entries) | {(4, 0): (12, 0, (0, 1))}
    assert entries.file.tolist() == [0, 2, 9, 4]


def test_nothing_that_moved_is_nothing():
    nothing = moves_of([(1, numbers([]), numbers([]), numbers([]))])
    assert len(nothing) == 0
    file, row = nothing.follow(numbers([0, 1]), numbers([5, 6]))
    assert (file.tolist(), row.tolist()) == ([0, 1], [5, 6])
    assert isinstance(nothing, Moves)


def test_a_stretch_goes_on_from_one_part_of_a_file_to_the_next_and_ends_where_a_row_is_deleted():
    parts = [
        (4, numbers([0, 1, 2]), numbers([9, 9, 9]), numbers([0, 1, 2])),
        (4, numbers([3, 4]), numbers([9, 9]), numbers([3, 4])),
        (4, numbers([6, 7]), numbers([9, 9]), numbers([5, 6])),
        (4, numbers([8]), numbers([9]), numbers([8])),
        (5, numbers([9]), numbers([9]), numbers([9])),
    ]
    found = moves_of(parts)
    columns = (found.file, found.row, found.to_file, found.to_row)
    assert [column.tolist() for column in columns] == [[4, 4, 4, 5], [0, 6, 8, 9], [9, 9, 9, 9], [0, 5, 8, 9]]

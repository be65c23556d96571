"""Cutting a snapshot that is too large: every change in exactly one piece, in the order of their numbers."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.core.cutting import Mark, Smallest, Span, needed
from activities.core.mirrors import Sequences

INSERT, DELETE = 0, 2
WORD = 2**64


def arrays(numbers):
    high = np.array([number >> 64 for number in numbers], dtype=np.uint64)
    return Sequences(high, np.array([number % WORD for number in numbers], dtype=np.uint64))


@dataclass
class Group:
    """A row group: (sequence number, operation) of each row."""

    changes: list[tuple[int, int]]
    has_statistics: bool = True

    @property
    def span(self):
        numbers = [number for number, _ in self.changes]
        return Span(len(numbers), min(numbers), max(numbers)) if self.has_statistics else Span(len(numbers))


def one_piece(groups, after, rows):
    """The changes of one piece as (group, row), where it ends, and how many groups were read."""
    places = needed([group.span for group in groups], after, rows)
    found = Smallest(rows, after, DELETE)
    for place in places:
        changes = groups[place].changes
        for first in range(0, len(changes), 3):
            batch = changes[first : first + 3]
            operations = np.array([operation for _, operation in batch], dtype=np.uint8)
            found.add(arrays([number for number, _ in batch]), operations, place, first)
    cut = found.cut()
    return list(zip(cut.groups.tolist(), cut.rows.tolist(), strict=True)), cut.until, len(places)


def all_pieces(groups, rows):
    after, found = None, []
    while True:
        chosen, after, _ = one_piece(groups, after, rows)
        found.append(chosen)
        if after is None:
            return found
        assert chosen, "a piece that brings nothing would come for ever"
        assert len(found) <= sum(len(group.changes) for group in groups), "the same changes come again and again"


def sequence_of(groups, place):
    return groups[place[0]].changes[place[1]][0]


GROUPS = st.lists(
    st.builds(
        Group,
        st.lists(
            st.tuples(
                st.one_of(
                    st.integers(0, 5),
                    st.integers(0, 4).map(lambda high: high * WORD + 1),
                    st.integers(0, 2**128 - 1),
                ),
                st.sampled_from([INSERT, INSERT, 1, DELETE, 3]),
            ),
            min_size=1,
            max_size=12,
        ),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@given(GROUPS, st.integers(1, 20), st.booleans())
def test_pieces_hold_every_change_once_in_the_order_of_their_numbers(groups, rows, settles_often):
    """Cases 58 and 59, for whatever numbers, ties, order of files, and missing statistics."""
    with pytest.MonkeyPatch.context() as patch:
        if settles_often:
            patch.setattr("activities.core.cutting._SLACK", 1)
        pieces = all_pieces(groups, rows)
    everything = [(group, row) for group, one in enumerate(groups) for row in range(len(one.changes))]
    assert sorted(place for piece in pieces for place in piece) == everything
    assert all(piece == sorted(piece) for piece in pieces)  # the changelog's order within a piece
    assert all(len(piece) <= rows + 1 for piece in pieces)
    in_order = sorted(everything, key=lambda place: (sequence_of(groups, place), place))
    ended = 0
    for piece in pieces:
        assert (
            sorted(piece, key=lambda place: (sequence_of(groups, place), place)) == in_order[ended : ended + len(piece)]
        )
        ended += len(piece)


@given(GROUPS, st.integers(2, 20))
def test_no_piece_ends_between_a_delete_and_what_follows_it_in_its_transaction(groups, rows):
    """Case 13: an insert with a new key may need the values of the row that is deleted just before it."""
    pieces = all_pieces(groups, rows)
    in_order = [place for piece in pieces for place in sorted(piece, key=lambda one: (sequence_of(groups, one), one))]
    ended = 0
    for piece in pieces[:-1]:
        ended += len(piece)
        (last, last_is), (following, following_is) = (
            groups[place[0]].changes[place[1]] for place in in_order[ended - 1 : ended + 1]
        )
        assert last_is != DELETE or following_is == DELETE or last >> 64 != following >> 64


def test_a_piece_ends_with_a_transaction_when_one_ends_in_its_second_half():
    changes = [(lsn * WORD + ordinal, INSERT) for lsn in range(1, 4) for ordinal in range(7)]
    assert [len(piece) for piece in all_pieces([Group(changes)], 10)] == [7, 7, 7]


def test_a_transaction_that_is_larger_than_a_piece_is_cut_within():
    """Case 59."""
    changes = [(WORD + ordinal, INSERT) for ordinal in range(25)]
    assert [len(piece) for piece in all_pieces([Group(changes)], 10)] == [10, 10, 5]


def test_a_delete_alone_goes_with_the_insert_that_follows():
    changes = [(WORD, DELETE), (WORD + 1, INSERT), (WORD + 2, INSERT)]
    assert [len(piece) for piece in all_pieces([Group(changes)], 1)] == [2, 1]


def test_a_delete_that_comes_more_than_once_goes_with_the_insert_that_follows_case_1():
    """Merged by itself, its first copy would leave nothing that the insert could live of."""
    twice = Group([(0x10 * WORD, DELETE), (0x10 * WORD, DELETE), (0x10 * WORD + 1, INSERT), (0x10 * WORD + 2, INSERT)])
    assert [len(piece) for piece in all_pieces([twice], 2)] == [3, 1]
    before = Group([(0x10 * WORD - 1, INSERT), *twice.changes])
    assert [len(piece) for piece in all_pieces([before], 3)] == [1, 3, 1]


def test_changes_with_one_number_are_cut_in_the_order_of_the_changelog():
    """Case 12: rows of a snapshot, all with the number 0."""
    groups = [Group([(0, INSERT)] * 5), Group([(0, INSERT)] * 4 + [(7, INSERT)])]
    chosen, until, _ = one_piece(groups, None, 3)
    assert (chosen, until) == ([(0, 0), (0, 1), (0, 2)], Mark(0, 3))
    chosen, until, _ = one_piece(groups, until, 3)
    assert (chosen, until) == ([(0, 3), (0, 4), (1, 0)], Mark(0, 6))
    chosen, until, _ = one_piece(groups, until, 3)
    assert (chosen, until) == ([(1, 1), (1, 2), (1, 3)], Mark(0))
    assert one_piece(groups, until, 3) == ([(1, 4)], None, 1)


def test_of_groups_that_follow_each_other_only_those_at_the_mark_are_read():
    groups = [Group([(number, INSERT) for number in range(first, first + 10)]) for first in range(0, 1000, 10)]
    assert one_piece(groups, Mark(499), 15)[2] == 2
    assert one_piece(groups, Mark(494), 15)[2] == 3


def test_memory_follows_the_piece_and_not_the_snapshot():
    """Case 58."""
    found = Smallest(100, None, DELETE)
    inserts = np.zeros(10_000, dtype=np.uint8)
    for batch in range(100):
        found.add(arrays(range(10**6 - 10_000 * batch, 10**6 - 10_000 * (batch + 1), -1)), inserts, 0, batch * 10_000)
        assert sum(len(one.rows) for one in [found._held, *found._new]) < 80_000
    assert found.cut().rows.tolist() == list(range(10**6 - 100, 10**6))

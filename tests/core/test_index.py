"""The index's arrays say what a dict would, whatever the order in which runs are folded and merged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.core import index
from activities.core.index import find, fold, forgetful, merge, nothing, without_older, without_truncated
from activities.core.indexsegments import passes, segment_of
from activities.core.indexsort import Ordering, rows_of_file, tombstones
from activities.core.mirrors import Entries, Keys, Sequences
from support.indexes import entries_of, found_of, keys_of, random_entries, rows_of

HIGHS = st.sampled_from([0, 1, 2, 3, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
KEYS = st.tuples(HIGHS, st.integers(0, 5) | st.just(2**64 - 1))
VALUES = st.tuples(st.integers(0, 3), st.integers(0, 9), st.tuples(st.integers(0, 3), st.integers(0, 3)))
SEGMENTS = st.lists(st.dictionaries(KEYS, VALUES, max_size=30), max_size=6)
EVERY_KEY = keys_of([(high, low) for high in (0, 1, 2, 3, 4, 2**63, 2**64 - 1) for low in range(7)])


def together(newest_first):
    """What segments say together, as a dict does it."""
    known = {}
    for segment in reversed(newest_first):
        known |= segment
    return known


@given(SEGMENTS, st.lists(KEYS, max_size=40))
def test_the_newest_segment_that_has_a_key_counts_also_among_keys_of_equal_hashes_case_16(segments, asked):
    known = together(segments)
    keys = keys_of(asked)
    found = find([segment_of(entries_of(segment)) for segment in segments], keys)
    assert found_of(keys, found) == {key: known[key] for key in asked if key in known}


@given(SEGMENTS, st.integers(1, 20))
def test_folding_and_merging_say_what_a_dict_says_case_38(segments, rows):
    known = together(segments)
    entries = [entries_of(segment) for segment in segments]
    assert rows_of(fold(entries)) == known
    pieces = list(merge(entries, rows))
    assert [key for piece in pieces for key in rows_of(piece)] == sorted(known)
    assert rows_of(fold(pieces)) == known


@given(SEGMENTS, st.data())
def test_neighbours_may_be_folded_in_any_grouping_case_38(segments, data):
    known, held = together(segments), [entries_of(segment) for segment in segments]
    while len(held) > 1:
        first = data.draw(st.integers(0, len(held) - 2))
        last = data.draw(st.integers(first + 2, len(held)))
        held[first:last] = [fold(held[first:last])]
    assert rows_of(fold(held)) == known


def test_thousands_of_keys_that_two_segments_share_are_the_newer_one_s_case_38():
    old = random_entries(np.random.default_rng(8), 20_000, sequence=1)
    new = Entries(old.keys, old.file, old.row + np.uint32(1), old.sequences)
    assert (fold([new, old]).row == new.row).all()
    assert (find([segment_of(new), segment_of(old)], old.keys).row == new.row).all()


def test_probes_in_any_order_get_their_own_answers():
    entries = random_entries(np.random.default_rng(3), 5000)
    order = np.random.default_rng(4).permutation(len(entries))
    found = find([segment_of(entries)], entries.keys.take(order))
    assert (found.row == entries.row[order]).all()
    assert found.known.all()


def test_a_hundred_thousand_keys_are_found_among_others_that_are_not_there():
    rng = np.random.default_rng(5)
    entries = random_entries(rng, 300_000)
    base, run = index.taken(entries, slice(0, None, 2)), random_entries(rng, 1000)
    found = find([segment_of(run), segment_of(base)], entries.keys)
    assert (found.known == (np.arange(len(entries)) % 2 == 0)).all()
    assert (found.file[::2] == base.file).all()


@pytest.mark.parametrize("high", [0, 7, 2**64 - 1])
def test_keys_that_all_share_one_hash_are_told_apart_case_16(high):
    known = {(high, low): (1, low % 97, (0, low)) for low in range(0, 4000, 2)}
    keys = keys_of([(high, low) for low in range(4000)])
    assert found_of(keys, find([segment_of(entries_of(known))], keys)) == known


def test_keys_that_crowd_in_one_corner_are_found():
    known = {(number, 0): (1, number, (0, 1)) for number in range(3000)} | {(2**64 - 1, 0): (2, 1, (0, 1))}
    keys = keys_of([*known, (3001, 0), (2**63, 0)])
    assert found_of(keys, find([segment_of(entries_of(known))], keys)) == known


def test_merging_looks_at_no_more_than_it_may_at_once():
    rng = np.random.default_rng(6)
    low_half = random_entries(rng, 20_000)
    low_half = index.between(low_half, 0, 2**63)
    segments = [low_half, random_entries(rng, 10_000), random_entries(rng, 100)]
    looked_at = []

    def counting(parts):
        looked_at.append(sum(map(len, parts)))
        return fold(parts)

    pieces = list(merge(segments, 1000, counting))
    assert max(looked_at) <= 1500
    assert rows_of(fold(pieces)) == rows_of(fold(segments))


def test_old_tombstones_go_and_say_up_to_which_number_nothing_is_remembered():
    known = {(1, 0): (0, 99, (1, 7)), (2, 0): (0, 99, (1, 9)), (3, 0): (0, 100, (5, 0)), (4, 0): (1, 3, (9, 9))}
    kept = forgetful(entries_of(known), 100)
    assert set(rows_of(kept.entries)) == {(3, 0), (4, 0)}
    assert kept.forgotten == (1, 9)
    assert forgetful(entries_of(known), 99).forgotten is None


def test_nothing_older_than_a_truncate_is_known_and_the_truncates_own_number_is():
    known = {(1, 0): (1, 0, (4, 9)), (2, 0): (1, 1, (5, 0)), (3, 0): (1, 2, (5, 1)), (4, 0): (1, 3, (3, 99))}
    entries = entries_of(known)
    assert set(rows_of(without_truncated(entries, (5, 0)))) == {(2, 0), (3, 0)}
    found = without_older(find([segment_of(entries)], entries.keys), (5, 0))
    assert found.known.tolist() == [False, True, True, False]


def test_of_no_segments_nothing_is_known():
    assert not find([], EVERY_KEY).known.any()
    assert not find([segment_of(nothing())], EVERY_KEY).known.any()
    assert len(fold([])) == 0
    assert list(merge([], 10)) == []


UNSORTED = st.lists(st.tuples(KEYS, VALUES), max_size=40)


def rank(value):
    """What counts first, for a person: rows before tombstones, then the greatest number."""
    return (value[0] == 0, -value[2][0], -value[2][1])


@given(st.lists(UNSORTED, max_size=4))
def test_unordered_entries_become_a_segment_in_which_rows_count_before_tombstones(batches):
    ordering, expected, counted = Ordering(), {}, 0
    for key, value in (one for batch in batches for one in batch):
        counted += key in expected and value[0] != 0 and expected[key][0] != 0
        if key not in expected or rank(value) < rank(expected[key]):
            expected[key] = value
    made = ordering.together([unordered(batch) for batch in batches])
    assert list(rows_of(made)) == sorted(expected)
    assert {key: rank(value) for key, value in rows_of(made).items()} == {k: rank(v) for k, v in expected.items()}
    assert ordering.doubled == counted


def unordered(batch):
    parts = [nothing(), *(entries_of({key: value}) for key, value in batch)]
    return index.joined(parts)


def test_rows_that_are_older_than_a_truncate_count_as_if_they_were_as_new():
    keys = Keys(np.arange(3, dtype=np.uint64), np.zeros(3, np.uint64))
    sequences = Sequences(np.array([1, 2, 3], np.uint64), np.array([0, 5, 6], np.uint64))
    entries = rows_of_file(4, np.arange(3), keys, sequences, at_least=(2, 6))
    assert [value[2] for value in rows_of(entries).values()] == [(2, 6), (2, 6), (3, 6)]
    assert isinstance(tombstones(keys, sequences, 17), Entries)
    assert rows_of(tombstones(keys, sequences, 17))[1, 0] == (0, 17, (2, 5))


@pytest.mark.parametrize("count", [1, 40, 5_000, 200_000])
def test_a_sieve_lets_all_keys_through_that_a_segment_has_and_hardly_one_in_a_hundred_of_the_others(count):
    rng = np.random.default_rng(count)
    entries = random_entries(rng, count)
    segment, high = segment_of(entries), entries.keys.high
    assert passes(segment, high).all()
    others = np.sort(rng.integers(high[0], high[-1], 20_000, dtype=np.uint64, endpoint=True))
    others = others[~np.isin(others, high)]
    assert passes(segment, others).sum() <= 0.015 * 20_000

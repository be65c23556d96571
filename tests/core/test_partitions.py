from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.core.faults import BadConfig, BadRequest
from activities.core.partitions import Ranges, Span, bounds_of, expected_span, index_of, label_of, span_of
from activities.core.tables import NetworkRange, PartitionRule, TableConfig

DAILY = PartitionRule("daily", "at")
HOURLY = PartitionRule("hourly", "at")
CHUNKED = PartitionRule("integer", "number", chunk_size=1000)

indices = st.integers(min_value=0, max_value=40_000)
sets = st.frozensets(st.integers(min_value=-50, max_value=50))


def config(rule, lag=0):
    return TableConfig("block", "default", "local.default", rule, (), lag=lag)


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("rule", "label", "index"),
    [
        (DAILY, "1970-01-01", 0),
        (DAILY, "2024-03-20", 19_802),
        (HOURLY, "1970-01-01T00", 0),
        (HOURLY, "2024-03-20T05", 19_802 * 24 + 5),
        (CHUNKED, "0", 0),
        (CHUNKED, "20000000", 20_000),
    ],
)
def test_labels_and_indices_are_what_people_read(rule, label, index):
    assert label_of(rule, index) == label
    assert index_of(rule, label) == index


@given(st.sampled_from([DAILY, HOURLY, CHUNKED]), indices)
def test_a_label_names_its_partition_and_bounds_meet(rule, index):
    assert index_of(rule, label_of(rule, index)) == index
    assert bounds_of(rule, index)[1] == bounds_of(rule, index + 1)[0]


@pytest.mark.parametrize(
    ("rule", "label", "complaint"),
    [
        (DAILY, "2024-02-30", "not a date"),
        (DAILY, "2024-3-2", "not a date"),
        (DAILY, "20240302", "not a date"),
        (DAILY, "1969-12-31", "out of range"),
        (DAILY, "2106-01-01", "out of range"),
        (DAILY, "٢٠٢٤-٠٣-٢٠", "not a date"),
        (HOURLY, "2024-03-20", "not an hour"),
        (HOURLY, "2024-03-20T24", "not an hour"),
        (HOURLY, "2024-02-30T01", "not a date"),
        (CHUNKED, "-1", "not a value of number"),
        (CHUNKED, "1e6", "not a value of number"),
        (CHUNKED, str(2**63), "not a value of number"),
        (CHUNKED, "", "not a value of number"),
    ],
)
def test_a_label_that_names_nothing_is_refused_with_the_right_spelling(rule, label, complaint):
    with pytest.raises(BadRequest, match=complaint):
        index_of(rule, label)


def test_a_plain_date_means_all_hours_of_it():
    day = 19_802 * 24
    assert span_of(HOURLY, "2024-03-20", "2024-03-20") == Span(day, day + 24)
    assert span_of(HOURLY, "2024-03-20T05", "2024-03-21") == Span(day + 5, day + 48)
    assert span_of(HOURLY, "2024-03-20", "2024-03-20T05") == Span(day, day + 6)


def test_a_value_inside_a_chunk_means_the_chunk():
    assert span_of(CHUNKED, "1500", "3999") == Span(1, 4)
    assert span_of(CHUNKED, "2000", "2000") == Span(2, 3)


@pytest.mark.parametrize(
    ("rule", "first", "last"),
    [(DAILY, "2024-03-20", "2024-03-19"), (HOURLY, "2024-03-20T05", "2024-03-20T04"), (CHUNKED, "1500", "1400")],
)
def test_a_range_that_ends_before_it_starts_is_refused(rule, first, last):
    with pytest.raises(BadRequest, match="ends before it starts"):
        span_of(rule, first, last)


def test_a_day_is_closed_when_its_end_and_the_lag_have_passed():
    network = NetworkRange("mainnet", "2024-03-01")
    late = config(DAILY, lag=3600)
    first, day = index_of(DAILY, "2024-03-01"), index_of(DAILY, "2024-03-20")
    assert expected_span(late, network, now=at("2024-03-21T00:59:59"), head=None) == (
        Span(first, day),
        Span(day, day + 2),
    )
    assert expected_span(late, network, now=at("2024-03-21T01:00:00"), head=None) == (
        Span(first, day + 1),
        Span(day + 1, day + 2),
    )


def test_a_chunk_is_closed_when_the_head_and_the_lag_are_past_it():
    network = NetworkRange("mainnet", "0")
    assert expected_span(config(CHUNKED), network, now=0, head=1999) == (Span(0, 2), Span(2, 2))
    assert expected_span(config(CHUNKED), network, now=0, head=1998) == (Span(0, 1), Span(1, 2))
    assert expected_span(config(CHUNKED, lag=64), network, now=0, head=2062) == (Span(0, 1), Span(1, 3))
    assert expected_span(config(CHUNKED, lag=64), network, now=0, head=2063) == (Span(0, 2), Span(2, 3))
    assert expected_span(config(CHUNKED), network, now=0, head=None) == (Span(0, 0), Span(0, 0))


def test_a_network_that_ended_expects_nothing_later():
    ended = NetworkRange("holesky", "2024-03-01", "2024-03-02")
    first = index_of(DAILY, "2024-03-01")
    assert expected_span(config(DAILY), ended, now=at("2025-01-01"), head=None) == (
        Span(first, first + 2),
        Span(first + 2, first + 2),
    )


def test_an_hourly_network_that_ended_on_a_date_includes_its_last_hour():
    ended = NetworkRange("holesky", "2024-03-01", "2024-03-01")
    closed, _ = expected_span(config(HOURLY), ended, now=at("2025-01-01"), head=None)
    assert len(closed) == 24


def test_a_network_that_has_not_begun_expects_nothing():
    closed, opened = expected_span(config(DAILY), NetworkRange("next", "2030-01-01"), now=at("2024-03-20"), head=None)
    assert (len(closed), len(opened)) == (0, 0)


def test_a_malformed_network_range_names_table_and_network():
    with pytest.raises(BadConfig, match="block, network mainnet: 'soon' is not a date"):
        expected_span(config(DAILY), NetworkRange("mainnet", "soon"), now=0, head=None)


def test_a_chunk_size_of_nothing_is_refused():
    with pytest.raises(BadConfig, match="chunk_size is 0"):
        bounds_of(PartitionRule("integer", "number"), 1)


@given(st.sampled_from([DAILY, HOURLY, CHUNKED]), st.integers(0, 2**32), st.integers(0, 10**6))
def test_closed_partitions_are_over_and_open_ones_follow(rule, now, lag):
    network = NetworkRange("mainnet", "0" if rule is CHUNKED else "1970-01-01")
    closed, opened = expected_span(config(rule, lag), network, now=now, head=now)
    assert closed.stop == opened.first
    reached = now + 1 if rule is CHUNKED else now
    assert all(bounds_of(rule, index)[1] + lag <= reached for index in closed.intersect(Span(closed.stop - 1, 2**40)))
    assert bounds_of(rule, closed.stop)[1] + lag > reached
    assert bounds_of(rule, opened.stop - 1)[0] <= now < bounds_of(rule, opened.stop - 1)[1] or not opened


@given(st.tuples(indices, indices).map(sorted), st.tuples(indices, indices).map(sorted), indices)
def test_an_intersection_of_spans_holds_what_both_hold(one, other, index):
    left, right = Span(*one), Span(*other)
    assert (index in left.intersect(right)) == (index in left and index in right)
    assert len(left) == left.stop - left.first


def test_a_span_cannot_run_backwards():
    with pytest.raises(ValueError, match="cannot end before it starts"):
        Span(2, 1)


@given(sets, sets)
def test_ranges_behave_as_sets_do(left, right):
    one, other = Ranges.from_indices(left), Ranges.from_indices(right)
    assert set(one.union(other)) == left | right
    assert set(one.intersection(other)) == left & right
    assert set(one.difference(other)) == left - right
    assert list(one) == sorted(left)
    assert len(one) == len(left)
    assert bool(one) == bool(left)
    assert all((index in one) == (index in left) for index in range(-52, 53))


@given(sets, sets)
def test_equal_sets_of_ranges_are_equal_and_canonical(left, right):
    joined = Ranges.from_indices(left).union(Ranges.from_indices(right))
    assert joined == Ranges.from_indices(left | right)
    assert hash(joined) == hash(Ranges.from_indices(left | right))
    pairs = joined.pairs()
    assert all(first < stop for first, stop in pairs)
    assert all(before[1] < after[0] for before, after in pairwise(pairs))
    assert Ranges.from_pairs(reversed(pairs)) == joined


def test_a_range_of_ten_million_costs_nothing():
    everything = Ranges.from_span(Span(0, 10_000_000))
    hole = everything.difference(Ranges.from_indices([5_000_000]))
    assert hole.pairs() == ((0, 5_000_000), (5_000_001, 10_000_000))
    assert len(hole) == 9_999_999
    assert 5_000_000 not in hole
    assert hole.union(Ranges.from_indices([5_000_000])) == everything

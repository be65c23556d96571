"""The state of every expected partition, run-length encoded, and what is said of it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.core.coverage import STATES, Bounds, Coverage, Run, runs_of, runs_over, sentence, sets_of, worst_of
from activities.core.faults import BadRequest
from activities.core.partitions import Ranges, Span, index_of
from activities.core.planning import ExistingFile, SurveyedPartition
from activities.core.tables import PartitionRule

DAYS = PartitionRule("daily", "at")
HOURS = PartitionRule("hourly", "at")
CHUNKS = PartitionRule("integer", "number", chunk_size=1000)
NONE = Ranges.from_pairs(())


def files(*indices, rows=10, version=5):
    return {index: ExistingFile(index, f"key-{index}", rows, version) for index in indices}


def source(*indices, rows=10, version=5):
    return {index: SurveyedPartition(index, rows, version) for index in indices}


def states(existing, surveyed, *, opened=0, empty=NONE, suspended=NONE):
    closed, still_open = Span(10, 16), Span(16, 16 + opened)
    sets = sets_of(closed, still_open, existing, surveyed, empty=empty, suspended=suspended, has_version=True)
    assert sum(map(len, sets.values())) == len({index for indices in sets.values() for index in indices})
    assert set(Span(10, 16 + opened)) | set(existing) == {index for indices in sets.values() for index in indices}
    runs = runs_over(Span(10, 16 + opened), sets)
    return [state for run in runs for state in [run.state] * run.count]


def seen(rule, first, *runs):
    return Coverage("blocks", "mainnet", rule, first=first, runs=tuple(Run(*run) for run in runs), asked=True)


def test_each_partition_has_the_state_that_table_and_source_give_it():
    existing = files(10, 11, 12) | files(16)
    surveyed = source(10) | source(11, version=6) | source(12, rows=9) | source(13)
    found = states(existing, surveyed, opened=2)
    assert found == ["there", "stale", "shrunk", "missing", "empty", "empty", "there", "open"]


def test_without_a_source_only_what_is_remembered_is_empty_and_nothing_is_stale():
    found = states(files(10, 12), None, empty=Ranges.from_indices([11, 12, 30]))
    assert found == ["there", "empty", "there", "missing", "missing", "missing"]


def test_what_the_source_has_by_now_is_missing_although_it_is_remembered_as_empty():
    assert states({}, source(11), empty=Ranges.from_indices([10, 11]))[:2] == ["empty", "missing"]


def test_what_is_left_out_is_suspended_unless_it_is_there():
    existing, surveyed = files(10, 11), source(10, 12) | source(11, version=6)
    found = states(existing, surveyed, suspended=Ranges.from_indices([10, 11, 12, 13, 40]))
    assert found == ["there", "suspended", "suspended", "empty", "empty", "empty"]


@given(st.lists(st.sampled_from(STATES), max_size=60), st.integers(0, 50), st.integers(1, 24))
def test_runs_hold_what_went_in_and_a_group_shows_its_worst(drawn, first, width):
    runs = runs_of(drawn)
    assert [state for run in runs for state in [run.state] * run.count] == drawn
    assert all(one.state != other.state for one, other in pairwise(runs))
    one = Coverage("blocks", "mainnet", DAYS, first=first, runs=runs)
    group, worst = worst_of(one, width)
    expected = [
        max((STATES.index(state) for at, state in enumerate(drawn, first) if at // width == number), default=None)
        for number in range(group, group + len(worst))
    ]
    assert [STATES.index(state) for state in worst] == expected
    assert sum(one.counts.values()) == len(drawn) == len(one.span)


def test_a_day_of_hours_is_as_bad_as_its_worst_hour():
    midnight = index_of(HOURS, "2024-03-20T00")
    one = seen(HOURS, midnight, ("there", 24), ("there", 23), ("missing", 1), ("there", 3), ("open", 5))
    assert worst_of(one, 24) == (index_of(DAYS, "2024-03-20"), ["there", "missing", "open"])


def test_a_sentence_counts_what_is_there_and_names_the_first_gaps():
    first = index_of(DAYS, "2024-03-01")
    gaps = [("missing", 2), ("there", 1)] * 4
    one = seen(DAYS, first, ("empty", 1), ("there", 1), *gaps, ("stale", 1), ("open", 2))
    assert sentence(one) == (
        "5 of 14 there; 8 missing: 2024-03-03 … 2024-03-04, 2024-03-06 … 2024-03-07, 2024-03-09 … 2024-03-10 "
        "and 1 more; 1 stale: 2024-03-15; 1 empty; 2 open"
    )
    assert one.newest() == "2024-03-15"
    assert sentence(Coverage("blocks", "mainnet", DAYS)) == "nothing is expected yet"


@pytest.mark.parametrize(
    ("rule", "bounds", "everything", "meant"),
    [
        (DAYS, ("1970-01-03", ""), Span(0, 9), Span(2, 9)),
        (DAYS, ("", "1970-01-03"), Span(0, 9), Span(0, 3)),
        (DAYS, ("1970-01-02T05", "1970-01-03T01"), Span(0, 9), Span(1, 3)),
        (HOURS, ("1970-01-02", "1970-01-02"), Span(0, 90), Span(24, 48)),
        (HOURS, ("1970-01-02T05", ""), Span(0, 90), Span(29, 90)),
        (CHUNKS, ("2000", "4999"), Span(0, 9), Span(2, 5)),
        (CHUNKS, ("1970-01-03", ""), Span(0, 9), Span(0, 9)),
        (DAYS, ("2000", ""), Span(0, 9), Span(0, 9)),
        (DAYS, ("1971-01-01", ""), Span(0, 9), Span(365, 365)),
    ],
)
def test_dates_bound_times_and_numbers_bound_chunks(rule, bounds, everything, meant):
    assert Bounds(*bounds).span(rule, everything) == meant


@pytest.mark.parametrize(
    ("rules", "bounds", "wrong"),
    [
        ([DAYS, CHUNKS], ("2024-13-01", ""), "'2024-13-01' is not a date"),
        ([DAYS], ("2000", ""), "'2000' bounds none of these tables"),
        ([CHUNKS], ("", "2024-03-01"), "'2024-03-01' bounds none of these tables"),
        ([DAYS], ("2024-03-02", "2024-03-01"), "the range ends before it starts"),
    ],
)
def test_bounds_that_no_table_could_mean_are_refused(rules, bounds, wrong):
    with pytest.raises(BadRequest, match=wrong):
        Bounds(*bounds).check(rules)

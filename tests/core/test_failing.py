"""Partitions that fail every time wait longer and longer, are tried last, and are forgotten once they do not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.contracts.failing import OF_THE_PARTITION
from activities.core import faults
from activities.core.failing import FORGOTTEN, REMEMBERED, Failing, failing_of, remember_failing, set_aside
from activities.core.partitions import Ranges, index_of
from activities.core.tables import PartitionRule

DAYS = PartitionRule("daily", "at")
HOUR, DAY = 3_600, 86_400
NOON = 1_700_000_000
NOTHING = Ranges.from_pairs(())
INDEX = index_of(DAYS, "2024-03-20")


def fail(text: str, at: int, *indices: int, cause: str = "UnsupportedType") -> str:
    return remember_failing(text, DAYS, dict.fromkeys(indices, cause), NOTHING, at)


def test_the_property_reads_well_and_counts_a_failure_that_is_told_twice_once():
    text = fail(fail("", NOON, INDEX), NOON, INDEX)
    assert text == '{"2024-03-20":[1,1700000000,"UnsupportedType"]}'
    assert failing_of(fail(text, NOON + DAY, INDEX, cause="TimedOut"), DAYS) == {
        INDEX: Failing(2, NOON + DAY, "TimedOut")
    }


@pytest.mark.parametrize(
    ("failures", "days"), [(1, 0), (2, 0), (3, 1), (4, 2), (5, 4), (6, 7), (7, 7), (100, 7), (10_000, 7)]
)
def test_after_three_failures_in_a_row_it_waits_a_day_then_twice_as_long_and_a_week_at_most(failures, days):
    text = json.dumps({"2024-03-20": [failures, NOON, "TimedOut"]})
    failing = failing_of(text, DAYS)
    just_before = set_aside(failing, 3, NOON + days * DAY - 1)
    assert (INDEX in just_before.suspended) == bool(days)
    assert (INDEX in just_before.last) == (not days)
    if days:
        assert just_before.suspended[INDEX][1] == NOON + days * DAY
    after = set_aside(failing, 3, NOON + days * DAY)
    assert (dict(after.suspended), after.last) == ({}, frozenset({INDEX}))
    never = set_aside(failing, 0, NOON)
    assert (dict(never.suspended), never.last) == ({}, frozenset())


def test_what_is_committed_or_found_empty_is_forgotten_and_so_is_what_nobody_tried_for_a_month():
    text = fail("", NOON, 1, 2, 3)
    text = remember_failing(text, DAYS, {2: "TimedOut"}, Ranges.from_indices([1, 2]), NOON + DAY)
    assert set(failing_of(text, DAYS)) == {3}
    assert remember_failing(text, DAYS, {}, NOTHING, NOON + FORGOTTEN) == ""
    again = failing_of(fail(text, NOON + FORGOTTEN, 3), DAYS)
    assert again[3].count == 2, "a partition that still fails is not forgotten while it is told"


def test_a_table_that_is_cut_otherwise_forgets_what_it_cannot_read():
    assert failing_of(fail("", NOON, 1, 2), PartitionRule("hourly", "at")) == {}


def test_no_more_than_some_hundred_are_remembered_the_most_stubborn_first():
    everything = range(1_000, 1_000 + 2 * REMEMBERED)
    text = fail(fail("", NOON, 1_500), NOON + HOUR, *everything)
    failing = failing_of(text, DAYS)
    assert len(failing) == REMEMBERED
    assert failing[1_500].count == 2
    assert max(failing) == everything[-1]
    assert len(text) < 20_000


@given(st.lists(st.tuples(st.sets(st.integers(0, 20)), st.sets(st.integers(0, 20))), max_size=8))
def test_a_count_is_the_number_of_failures_since_the_last_success(runs):
    text, counts, at = "", dict[int, int](), NOON
    for failed, committed in runs:
        at += DAY
        text = remember_failing(text, DAYS, dict.fromkeys(failed, "Bug"), Ranges.from_indices(committed), at)
        counts = {index: count for index, count in counts.items() if index not in committed}
        counts |= {index: counts.get(index, 0) + 1 for index in failed - committed}
        assert {index: one.count for index, one in failing_of(text, DAYS).items()} == counts


def test_only_what_may_be_the_partitions_own_counts():
    away = {name for name, fault in vars(faults).items() if getattr(fault, "retryable", False)}
    assert OF_THE_PARTITION & away == {"ResultIncomplete"}
    known = {name for name, found in vars(faults).items() if isinstance(found, type)}
    assert OF_THE_PARTITION - known == {"Bug", "TimedOut"}

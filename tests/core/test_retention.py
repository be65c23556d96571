"""Which snapshots may go: never the head, never what is protected, and only what has not been the state for long."""

from hypothesis import given
from hypothesis import strategies as st

from activities.contracts.upkeep import REFRESH_SECONDS
from activities.core.retention import Moment, expirable
from activities.core.upkeep import copy_mark, is_copy
from workflows.policies import REFRESH

LINE = [Moment(number, number - 1 if number else None, 1_000 * number) for number in range(6)]
"""Snapshot 0 was made at second 0, each of the others a second after the one before."""


def test_a_snapshot_goes_once_its_successor_is_old_enough_however_old_it_is_itself():
    assert expirable(LINE, 5, (), keep=1, before_ms=3_500) == [0, 1, 2]
    assert expirable(LINE, 5, (), keep=1, before_ms=99_000) == [0, 1, 2, 3, 4]
    lately = [Moment(0, None, 0), Moment(1, 0, 98_000)]
    assert expirable(lately, 1, (), keep=1, before_ms=90_000) == []


def test_the_newest_of_the_line_and_whatever_is_protected_stay():
    assert expirable(LINE, 5, {1}, keep=3, before_ms=99_000) == [0, 2]
    assert expirable(LINE, 5, (), keep=0, before_ms=99_000) == [0, 1, 2, 3, 4]
    assert expirable([], None, (), keep=3, before_ms=99_000) == []


def test_what_was_rolled_back_goes_once_something_was_committed_after_it():
    back = [*LINE[:3], Moment(7, 2, 2_500)]
    assert expirable(back, 2, (), keep=1, before_ms=99_000) == [0, 1]
    after = [*back, Moment(8, 2, 4_000)]
    assert expirable(after, 8, (), keep=1, before_ms=99_000) == [0, 1, 2, 7]


@given(st.integers(0, 5), st.sets(st.integers(0, 5)), st.integers(0, 9), st.integers(0, 7_000))
def test_the_head_and_the_newest_always_stay(head, protected, keep, before_ms):
    gone = expirable(LINE, head, protected, keep=keep, before_ms=before_ms)
    kept = {one.snapshot_id for one in LINE} - set(gone)
    assert head in kept
    assert protected <= kept
    assert set(range(max(0, head - keep + 1), head + 1)) <= kept
    assert all(number + 1 <= head and LINE[number + 1].made_ms < before_ms for number in gone)


def test_no_recipe_of_an_export_is_that_of_a_copy():
    assert is_copy(copy_mark("a/b.parquet"))
    assert not is_copy("0123456789abcdef0123456789abcdef")


def test_a_loop_waits_for_a_lost_worker_until_no_copy_of_it_can_arrive_any_more():
    assert REFRESH["start_to_close_timeout"].total_seconds() == REFRESH_SECONDS
    assert "heartbeat_timeout" not in REFRESH

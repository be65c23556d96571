"""Runs stay few, and no merge does more on the base than its own changes owe."""

import pytest

from activities.core import indexplan
from activities.core.indexplan import Run, begins_round, is_due, step_rows, to_fold


def test_twelve_runs_become_one_and_twelve_of_those_one_of_the_next_level():
    assert to_fold([Run(0, 10)] * 11) == 0
    assert to_fold([Run(0, 10)] * 12) == 12
    assert to_fold([*[Run(0, 10)] * 12, *[Run(1, 120)] * 10]) == 12
    assert to_fold([*[Run(0, 10)] * 12, *[Run(1, 120)] * 11]) == 23
    assert to_fold([*[Run(0, 10)] * 12, *[Run(1, 120)] * 11, *[Run(2, 1440)] * 11]) == 34


def test_what_is_large_is_not_folded_again():
    large = indexplan.LARGEST_FOLD // 2
    assert to_fold([*[Run(0, 10)] * 12, *[Run(1, large)] * 11]) == 12
    assert to_fold([Run(0, large)] * 12) == 0


def test_what_comes_after_runs_that_are_large_is_folded_without_them():
    first = [Run(0, 1_000_000)] * 26
    assert to_fold([*[Run(0, 1_000)] * 11, *first]) == 0
    assert to_fold([*[Run(0, 1_000)] * 12, *first]) == 12
    assert to_fold([*[Run(0, 1_000)] * 12, *[Run(1, 12_000)] * 11, *first]) == 23
    assert to_fold([Run(0, 1_000), *first, *[Run(0, 1_000)] * 11]) == 0


def test_a_step_is_as_large_as_what_is_owed_or_all_that_is_left():
    assert step_rows(indexplan.STEP - 1, 10 * indexplan.STEP) == 0
    assert step_rows(indexplan.STEP + 5, 10 * indexplan.STEP) == indexplan.STEP + 5
    assert step_rows(0, indexplan.AT_ONCE) == indexplan.AT_ONCE
    assert step_rows(700_000, 700_000) == 700_000


@pytest.mark.parametrize(
    ("base", "changes"), [(10_000_000, 100_000), (10_000_000, 1_000), (100_000_000, 100_000), (1_000, 10)]
)
def test_over_many_merges_the_work_is_a_few_times_the_changes_and_lookups_meet_few_segments(base, changes):
    runs, left, owed, written, most, merged_once = [], 0, 0, 0, 0, False
    merges = int(1.5 * base / changes)
    for _ in range(merges):
        runs.insert(0, Run(0, changes))
        work, owed = changes, owed + int(indexplan.OWED * changes)
        if is_due(runs) and not left and begins_round(runs, base):
            left, runs, owed, merged_once = base + sum(run.rows for run in runs), [], 0, True
        elif count := to_fold(runs) if is_due(runs) else 0:
            work = sum(run.rows for run in runs[:count])
            runs[:count] = [Run(runs[count - 1].level + 1, work)]
        elif left and (wanted := min(left, step_rows(owed, left))):
            left, owed, work = left - wanted, owed - wanted, work + wanted
        written += work
        most = max(most, len(runs))
    assert merged_once
    assert written <= merges * changes * 6
    assert most <= 12 + 11 + 11 + base // 2_000_000

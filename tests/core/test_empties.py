"""Empty partitions are remembered as ranges under the day on which they were looked at."""

import json
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from activities.core.empties import known_empty, remember_empty
from activities.core.partitions import Ranges

NOTHING = Ranges.from_pairs(())
SETS = st.sets(st.integers(0, 60), max_size=30)
FIRST = date(2024, 3, 1)


def ranges(indices):
    return Ranges.from_indices(indices)


@given(st.lists(st.tuples(SETS, SETS, st.integers(0, 3)), max_size=6))
def test_what_is_remembered_is_what_was_last_found_and_not_filled_since(looks):
    text, today, found_on = "", FIRST, {}
    for found, held, days in looks:
        today += timedelta(days=days)
        text = remember_empty(text, ranges(found), ranges(held), today)
        found_on = {index: day for index, day in found_on.items() if index not in held}
        found_on |= dict.fromkeys(found - held, today)
        assert set(known_empty(text)) == set(found_on)
        for since in (today, today - timedelta(days=2)):
            assert set(known_empty(text, since=since)) == {index for index, day in found_on.items() if day >= since}


@given(SETS, SETS)
def test_a_partition_is_remembered_under_one_day_only(earlier, later):
    text = remember_empty("", ranges(earlier), NOTHING, FIRST)
    text = remember_empty(text, ranges(later), NOTHING, FIRST + timedelta(days=1))
    listed = [
        index for pairs in json.loads(text or "{}").values() for first, stop in pairs for index in range(first, stop)
    ]
    assert sorted(listed) == sorted(earlier | later)


def test_ten_thousand_neighbours_take_a_line():
    text = remember_empty("", Ranges.from_pairs([(0, 10_000)]), NOTHING, FIRST)
    assert text == '{"2024-03-01":[[0,10000]]}'
    assert len(known_empty(text)) == 10_000


def test_nothing_to_remember_is_written_as_nothing():
    text = remember_empty("", ranges({3}), NOTHING, FIRST)
    assert remember_empty(text, NOTHING, ranges({3}), FIRST) == ""
    assert known_empty("") == NOTHING


def test_looking_again_on_the_same_day_changes_nothing():
    text = remember_empty("", ranges({1, 2, 9}), NOTHING, FIRST)
    assert remember_empty(text, ranges({2}), NOTHING, FIRST) == text

"""A backfill in one line: what is done, how fast it goes, and how long the rest takes."""

from typing import Any

from starter.backfill_shown import Pace, asked_for, lasting, words_of


def progress(**fields: Any) -> dict[str, Any]:
    lanes = [{"total": 600, "expected": 0, "status": "running"}, {"total": 400, "expected": 0, "status": "waiting"}]
    counts = {"exported": 0, "rows": 0, "bytes": 0, "failed": 0, "expected": 0}
    rest = {"partitions_per_second": 0.0, "seconds_left": None, "paused": False, "tables": {"running": 1, "waiting": 1}}
    return {"lanes": lanes, **counts, **rest, **fields}


def test_rate_and_time_left_are_told_while_the_first_slice_is_still_under_way():
    pace = Pace()
    first, second = progress(), progress(expected=100, exported=50, rows=5_000, bytes=2_500_000)
    pace.note(first, 1000.0)
    assert words_of(first) == "0/2 tables, 0 partitions, 0 rows, 0.0 MB"
    pace.note(second, 1010.0)
    assert words_of(second) == ("0/2 tables, 50 partitions, 5,000 rows, 2.5 MB, 5.0 partitions/s, about 90 s left")


def test_only_what_still_is_to_be_looked_at_counts_and_what_nobody_knows_is_not_guessed():
    known = progress()
    known["lanes"][1] |= {"status": "skipped", "expected": 30}
    assert asked_for(known) == 630
    known["lanes"][0]["total"] = None
    assert asked_for(known) is None
    pace = Pace()
    pace.note(progress(), 0.0)
    known["expected"] = 100
    pace.note(known, 10.0)
    assert known["seconds_left"] is None


def test_durations_are_as_people_say_them():
    assert [lasting(seconds) for seconds in (90, 600, 7_140, 9_000)] == ["90 s", "10 min", "119 min", "2 h 30 min"]

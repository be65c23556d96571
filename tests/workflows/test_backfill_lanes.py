"""What a backfill keeps of its tables: where each is, what came of it, and little enough to be carried along."""

import json
from typing import Any

from activities.contracts.backfill import LISTED_FAILURES, LONGEST_MESSAGE, BackfillRequest, Lane, TableEstimate
from activities.contracts.export import ExportReport, FailedPartition
from workflows.backfill_lanes import MARKS, RESTS, Lanes, LaneState, slice_of
from workflows.backfill_seen import details_of, progress_of, rates, report_of, seconds_left

NOW = 1_700_000_000.0


def lanes_of(count: int = 3, *, total: int | None = 100, max_parallel: int = 2) -> Lanes:
    return Lanes([LaneState.of(Lane(f"events_{n}", "mainnet", total)) for n in range(count)], max_parallel=max_parallel)


def begin(lanes: Lanes, now: float = NOW) -> list[LaneState]:
    begun = lanes.startable(now)
    for lane in begun:
        lane.began_slice(f"{lane.name}/{lane.slices + 1}", now)
    return begun


def report(status: str = "complete", **fields: Any) -> ExportReport:
    return ExportReport(**{"status": status, "expected": 10, "exported": 10, "rows": 100, "missing": 10, **fields})


def test_tables_are_worked_on_in_order_and_one_is_finished_before_the_next_begins():
    lanes = lanes_of(4)
    first, second = begin(lanes)
    assert (first.name, second.name) == ("mainnet.events_0", "mainnet.events_1")
    assert begin(lanes) == []
    lanes.take(first, report(cursor="2024-03-10"), NOW)
    assert begin(lanes) == [first]
    assert slice_of(BackfillRequest(["*"]), first).after == "2024-03-10"
    lanes.take(first, report(), NOW)
    assert (first.state, begin(lanes)[0].name) == ("done", "mainnet.events_2")


def test_a_slice_is_bounded_and_of_the_priority_of_ranges_also_without_a_range():
    (lane, _) = begin(lanes_of())
    lane.from_, lane.to = "5", "9"
    asked = slice_of(BackfillRequest(["*"], partitions_per_request=7, force=True), lane)
    assert (asked.priority, asked.max_partitions, asked.force, asked.from_, asked.to) == (2, 7, True, "5", "9")
    assert slice_of(BackfillRequest(["*"]), lane).priority == 2
    allowed = [
        slice_of(BackfillRequest(["*"], force=True, allow_shrink=may), lane).allow_shrink for may in (True, False)
    ]
    assert allowed == [True, False]


def test_fewer_at_once_ends_nothing_and_more_at_once_begins_at_once():
    lanes = lanes_of(4)
    first, second = begin(lanes)
    lanes.max_parallel = 1
    lanes.take(first, report(), NOW)
    assert (begin(lanes), lanes.running) == ([], [second])
    lanes.max_parallel = 3
    assert len(begin(lanes)) == 2


def test_a_table_of_which_slices_put_partitions_off_is_gone_through_once_more_and_counted_once():
    lanes = lanes_of(1)
    (lane,) = begin(lanes)
    lanes.take(lane, report(cursor="2024-03-10", put_off=1, suspended=2), NOW)
    begin(lanes)
    lanes.take(lane, report(), NOW)
    assert (lane.state, lane.cursor) == ("waiting", "")
    assert LaneState.load(lane.dump()) == lane
    begin(lanes)
    lanes.take(lane, report(expected=20, exported=1, present=19, put_off=1), NOW)
    assert (lane.state, lane.report.expected, lane.report.exported) == ("done", 20, 21)
    assert lane.report.suspended == 2


def test_a_table_of_which_partitions_moved_is_not_done():
    lanes = lanes_of(1)
    (lane,) = begin(lanes)
    lanes.take(lane, report(exported=9, open=1, moved=1), NOW)
    told = report_of(lanes, dry_run=False)
    assert (lane.state, told.status, told.moved, told.failed) == ("partial", "partial", 1, 0)
    assert told.message == ("9 partitions with 100 rows committed to 1 table, 1 got rows whenever they were exported")


def test_a_forced_table_that_fails_in_every_slice_fails_although_each_exported_something():
    lanes = lanes_of(1)
    now = NOW
    for rest in (*RESTS, 0):
        (lane,) = begin(lanes, now)
        lanes.take(lane, report("failed", forced=10, exported=5, cause="SourceUnavailable", message="away"), now)
        now += rest
    assert (lane.state, lane.report.cause) == ("failed", "SourceUnavailable")


def test_a_table_of_which_the_source_has_nothing_at_the_dates_is_done_at_once():
    lanes = Lanes([LaneState.of(Lane("blocks", "mainnet", 0, nothing=True))], max_parallel=1)
    assert (begin(lanes), lanes.ended) == ([], True)
    assert report_of(lanes, dry_run=False).status == "nothing_to_do"


def test_what_a_withdrawn_slice_exported_counts_and_what_it_looked_at_is_looked_at_again():
    lanes = lanes_of(1)
    (lane,) = begin(lanes)
    lanes.paused = True
    assert list(lanes.unwanted()) == [lane]
    lane.withdrawn = True
    assert list(lanes.unwanted()) == []
    lanes.take(lane, report("cancelled", exported=4, rows=40), NOW)
    assert (lane.state, lane.cursor, lane.report.exported, lane.report.rows, lane.report.expected) == (
        "waiting",
        "",
        4,
        40,
        0,
    )
    assert begin(lanes) == []
    lanes.paused = False
    assert begin(lanes) == [lane]
    lanes.take(lane, report(exported=6, present=4, rows=60), NOW)
    assert (lane.state, lane.report.exported, lane.report.rows, lane.report.expected) == ("done", 10, 100, 10)


def test_a_loop_that_somebody_else_cancelled_fails_its_table_alone():
    lanes = lanes_of(2)
    first, second = begin(lanes)
    lanes.take(first, report("cancelled", message="the export loop was cancelled"), NOW)
    lanes.take(second, report(), NOW)
    ended = report_of(lanes, dry_run=False)
    assert (ended.status, ended.tables) == ("partial", {"failed": 1, "done": 1})
    assert [(one.table, one.cause, one.message) for one in ended.failures] == [
        ("mainnet.events_0", "Cancelled", "the export loop was cancelled")
    ]


def test_a_fault_that_may_pass_is_waited_for_longer_and_longer_and_gives_its_place_to_others():
    lanes = lanes_of(2, max_parallel=1)
    fault: dict[str, Any] = {"exported": 0, "cause": "SourceUnavailable", "message": "no answer", "who": "operator"}
    now = NOW
    for rest in RESTS:
        (lane,) = begin(lanes, now)
        assert lane.name == "mainnet.events_0"
        lanes.take(lane, report("failed", failed=1, **fault), now)
        assert lanes.startable(now)[0].name == "mainnet.events_1"
        assert lanes.next_wake(now) == rest
        assert "SourceUnavailable: no answer" in details_of(lanes, now, dry_run=False)
        now += rest
    assert lanes.failures == []
    (lane,) = begin(lanes, now)
    lanes.take(lane, report("failed", failed=1, **fault), now)
    assert (lane.state, lane.report.cause, lane.report.failed) == ("failed", "SourceUnavailable", 0)
    assert lanes.next_wake(now) is None


def test_a_fault_that_stays_fails_its_table_at_once():
    lanes = lanes_of(1)
    (lane,) = begin(lanes)
    lanes.lost(lane, "BadConfig", "x" * 10_000, "operator", NOW)
    ended = report_of(lanes, dry_run=False)
    assert (ended.status, ended.cause, ended.who) == ("failed", "BadConfig", "operator")
    assert len(ended.failures[0].message) == LONGEST_MESSAGE


def test_skipping_takes_tables_networks_and_patterns_and_nothing_that_is_done():
    lanes = lanes_of(4)
    first, second = begin(lanes)
    lanes.take(first, report(), NOW)
    assert lanes.skip("events_1")
    assert lanes.skip("mainnet.events_[23]")
    assert not lanes.skip("events_0")
    assert not lanes.skip("unknown")
    assert list(lanes.unwanted()) == [second]
    second.withdrawn = True
    lanes.take(second, report("cancelled"), NOW)
    assert [lane.state for lane in lanes.every] == ["done", "skipped", "skipped", "skipped"]
    assert report_of(lanes, dry_run=False).status == "complete"


def test_the_rate_is_told_over_the_last_slices_and_the_time_left_from_what_was_asked_for():
    lanes = lanes_of(2, max_parallel=1)
    (lane,) = begin(lanes, NOW)
    lanes.take(lane, report(expected=20, exported=10, rows=1000, cursor="c"), NOW + 10)
    assert rates(lanes, NOW + 10) == {
        "looked_per_second": 2.0,
        "partitions_per_second": 1.0,
        "rows_per_second": 100.0,
    }
    assert seconds_left(lanes, NOW + 10) == (80 + 100) / 2
    lanes.every[1].report.total = None
    assert seconds_left(lanes, NOW + 10) is None
    assert progress_of(lanes, NOW + 10, dry_run=False)["seconds_left"] is None


def test_a_backfill_of_all_tables_is_carried_and_shown_in_little_room_however_many_partitions_it_has_done():
    lanes = lanes_of(400, max_parallel=400)
    failures = [FailedPartition(f"2024-03-{n:02}", "SourceMoved", "m" * 5_000, "nobody") for n in range(50)]
    snapshots = [str(10**18 + n) for n in range(1_000)]
    for _ in range(30):
        for lane in begin(lanes):
            lanes.take(lane, report(cursor="2024-03-10", failures=failures, failed=50, snapshots=snapshots), NOW)
    assert (len(lanes.failures), len(lanes.marks)) == (LISTED_FAILURES, MARKS)
    carried = json.dumps(lanes.dump())
    assert len(carried) < 250_000
    assert len(json.dumps(progress_of(lanes, NOW, dry_run=False))) < 400_000
    assert len(details_of(lanes, NOW, dry_run=False)) < 20_000
    again = Lanes.load(json.loads(carried))
    assert again == lanes
    assert again.every[0].report.snapshots == 30_000


def test_a_dry_run_sums_what_the_tables_would_get():
    lanes = lanes_of(2)
    for lane in lanes.every:
        lanes.estimated(lane, TableEstimate(10, 4, 5, 1, 0, 0, 0, 2, 600, 1_500_000, "table"))
    ended = report_of(lanes, dry_run=True)
    assert (ended.status, ended.missing, ended.stale, ended.rows) == ("dry_run", 10, 2, 1200)
    assert ended.message == (
        "2 tables would get 12 partitions (10 missing, 2 stale, 0 forced) with about 1,200 rows and 3.0 MB; "
        "8 are there, 0 empty, 4 open; nothing was written"
    )

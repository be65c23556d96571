"""What people ask for and what they get: ranges, force, dry runs, late rows, and what is still open."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError

from activities.contracts.export import ExportReport
from support.findings import findings_of


def counts(report: ExportReport) -> dict[str, int]:
    """Expected partitions and what each of them was; stale and forced ones were present before."""
    return {name: getattr(report, name) for name in ("expected", "present", "missing", "empty", "exported", "open")}


def balanced(report: ExportReport) -> bool:
    """Every expected partition is exactly one of these, and everything that was to be done was."""
    planned = report.missing + report.stale + report.forced
    return (
        report.expected == report.present + report.missing + report.empty
        and planned == report.exported + report.already_there + report.failed
    )


async def announced(fleet: Any, table: str = "events") -> list[list[str]]:
    """The partitions of each snapshot, in the order of the snapshots."""
    return [[partition["partition"] for partition in event["partitions"]] for event in await fleet.events(table)]


async def test_a_range_counts_what_it_expects_what_is_there_and_what_is_missing(fleet):
    await fleet.make_days(days=4, rows=10)  # 17 to 20 March
    async with fleet.worker():
        narrow = await fleet.request(from_="2024-03-18", to="2024-03-19")
        wide = await fleet.request(from_="2024-03-10", to="2024-03-31")
        again = await fleet.request(from_="2024-03-17", to="2024-03-20")
    assert counts(narrow) == {"expected": 2, "present": 0, "missing": 2, "empty": 0, "exported": 2, "open": 0}
    # 10 to 16 March hold nothing, and the network ends on the 20th.
    assert counts(wide) == {"expected": 11, "present": 2, "missing": 2, "empty": 7, "exported": 2, "open": 0}
    assert counts(again) == {"expected": 4, "present": 4, "missing": 0, "empty": 0, "exported": 0, "open": 0}
    assert all(balanced(report) for report in (narrow, wide, again))
    assert (narrow.rows, wide.rows, again.status, again.snapshots) == (20, 20, "nothing_to_do", [])
    assert [len(report.snapshots) for report in (narrow, wide)] == [1, 1]


async def test_a_request_with_a_bound_stops_there_and_names_where_the_next_one_goes_on(fleet):
    await fleet.make_days(days=4, rows=10)  # 17 to 20 March
    async with fleet.worker():
        first = await fleet.request(max_partitions=3)
        second = await fleet.request(max_partitions=3, after=first.cursor)
        oldest = await fleet.request(from_="2024-03-10", force=True, max_partitions=2, oldest_first=True)
        refused = await fleet.start(max_partitions=-1)
        with pytest.raises(WorkflowFailureError) as failed:
            await refused.result()
    assert (first.exported, first.cursor, first.status) == (3, "2024-03-18", "complete")
    assert "its bound of 3 is met, and what lies after 2024-03-18 is left" in first.message
    assert (second.exported, second.cursor, second.present) == (1, "", 0)
    assert (oldest.exported, oldest.cursor) == (2, "2024-03-18")
    assert "field 'max_partitions' is -1" in str(failed.value.cause)
    assert await announced(fleet) == [
        ["2024-03-18", "2024-03-19", "2024-03-20"],
        ["2024-03-17"],
        ["2024-03-17", "2024-03-18"],
    ]


async def test_a_range_may_be_open_on_either_side(fleet):
    await fleet.make_days(days=4, rows=10)
    async with fleet.worker():
        up_to = await fleet.request(to="2024-03-17")
        since = await fleet.request(from_="2024-03-20")
        before = await fleet.request(to="2024-02-01")
        after = await fleet.request(from_="2024-05-01")
    assert (up_to.expected, up_to.exported) == (17, 1)
    assert (since.expected, since.exported) == (1, 1)
    # Outside of what the network has: not wrong, and nothing to do. A schedule may well ask so.
    assert [(report.status, report.expected) for report in (before, after)] == [("nothing_to_do", 0)] * 2
    assert [name for name, _ in fleet.files()] == ["2024/3/17.parquet", "2024/3/20.parquet"]


@pytest.mark.parametrize(
    ("fields", "days"),
    [({}, ["20", "19", "18"]), ({"oldest_first": True}, ["18", "19", "20"])],
    ids=["newest first", "oldest first"],
)
async def test_the_order_of_the_work_is_the_one_asked_for(fleet, fields, days):
    fleet.set_export(partitions_per_commit=1, partitions_per_plan=2, parallel_partitions=1)
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker():
        report = await fleet.request(**fields)
        assert balanced(report)
        await fleet.loop_ended()
    assert await announced(fleet) == [[f"2024-03-{day}"] for day in days]


async def test_force_exports_again_beside_what_is_there_and_once(fleet):
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker():
        await fleet.request()
        forced = await fleet.request(from_="2024-03-19", to="2024-03-20", force=True)
        await fleet.loop_ended()
    assert (forced.status, forced.forced, forced.exported, forced.rows) == ("complete", 2, 2, 20)
    assert (forced.expected, forced.present, forced.missing) == (2, 2, 0)
    names = [name for name, _ in fleet.files()]
    assert names[0] == "2024/3/18.parquet"
    assert [name[:10] for name in names[1:]] == ["2024/3/19-", "2024/3/20-"]
    assert await announced(fleet) == [["2024-03-18", "2024-03-19", "2024-03-20"], ["2024-03-19", "2024-03-20"]]
    assert [partition.get("replaced", False) for partition in (await fleet.events())[1]["partitions"]] == [True, True]


async def test_force_does_not_shrink_what_the_table_holds(fleet):
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker():
        await fleet.request()
        await fleet.run_sql(
            f"ALTER TABLE {fleet.database}.events DELETE WHERE number >= 14 SETTINGS mutations_sync = 1"
        )
        forced = await fleet.request(force=True)
        await fleet.loop_ended()
    assert (forced.shrunk, forced.forced, forced.exported) == (["2024-03-19"], 1, 1)
    assert [rows for _, rows in fleet.files()] == [10, 10]
    assert [found["partition"] for found in (await findings_of(fleet))[-1]["partitions"]] == ["2024-03-19"]


async def test_force_and_leave_to_shrink_make_the_table_follow_the_source(fleet):
    """Nothing is left of one day: its file goes, in the snapshot that replaces the other ones."""
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker():
        await fleet.request()
        await fleet.run_sql(
            f"ALTER TABLE {fleet.database}.events DELETE WHERE number >= 14 SETTINGS mutations_sync = 1"
        )
        seen = await fleet.request(from_="2024-03-01")
        bounded = await fleet.request(
            from_="2024-03-01", force=True, allow_shrink=True, dry_run=True, oldest_first=True, max_partitions=1
        )
        done = await fleet.request(from_="2024-03-01", force=True, allow_shrink=True)
        after = await fleet.request(from_="2024-03-01")
        await fleet.loop_ended()
    assert (seen.status, seen.shrunk) == ("nothing_to_do", ["2024-03-19", "2024-03-18"])
    assert (bounded.forced, bounded.cursor) == (1, "2024-03-18"), "a removal counts against the bound, also ahead"
    assert (done.forced, done.exported, done.removed, done.rows, len(done.snapshots)) == (3, 2, 1, 14, 1)
    assert done.message.endswith(", 1 removed that the source holds nothing of any more")
    assert (after.status, after.shrunk) == ("nothing_to_do", [])
    assert [rows for _, rows in fleet.files()] == [4, 10]
    event = (await fleet.events())[-1]
    assert (event["filesRemoved"], [one["partition"] for one in event["partitions"]]) == (
        "3",
        ["2024-03-19", "2024-03-20"],
    )
    found = [[one["partition"] for one in event.get("partitions", [])] for event in await findings_of(fleet)]
    assert found == [["2024-03-19", "2024-03-18"], []]


async def test_a_dry_run_reports_the_plan_and_writes_nothing_anywhere(fleet):
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker() as context:
        report = await fleet.request(dry_run=True)
        await fleet.loop_ended()
        assert (report.status, report.missing, report.expected, report.exported) == ("dry_run", 3, 20, 0)
        assert report.message == (
            f"{fleet.network}.events would get 3 missing, 0 stale and 0 forced partitions; 0 are there, 17 empty, "
            "0 open; nothing was written"
        )
        assert not context.lake.catalog.namespace_exists(fleet.network)
        assert not context.lake.catalog.table_exists(f"{fleet.network}.events")
        found = await context.store._s3.list_objects_v2(Bucket="icefleet", Prefix=f"xatu/{fleet.network}/")
        assert found["KeyCount"] == 0
        last = await context.bus.last(f"icefleet.{fleet.name}.snapshot.{fleet.network}.events")
        assert last is None
        # Neither does a dry run over a table that is there: not even what was found empty is remembered.
        await fleet.request(from_="2024-03-20")
        before = fleet.table().metadata
        forced = await fleet.request(dry_run=True, force=True)
        await fleet.loop_ended()
    assert (forced.missing, forced.forced, forced.exported) == (2, 1, 0)
    assert fleet.table().metadata == before
    assert len(await fleet.events()) == 1


async def test_late_rows_of_an_empty_partition_beyond_the_look_back_come_with_the_next_explicit_request(fleet):
    await fleet.make_days(days=1, rows=10)
    async with fleet.worker():
        first = await fleet.request()
        await fleet.insert("events", "toDateTime('2024-03-05 12:00:00', 'UTC')", 7)
        due = await fleet.request()
        explicit = await fleet.request(from_="2024-03-05", to="2024-03-06")
        after = await fleet.request()
    assert (first.expected, first.missing, first.empty) == (20, 1, 19)
    assert (due.status, due.empty) == ("nothing_to_do", 19)
    assert (explicit.exported, explicit.rows, explicit.missing, explicit.empty) == (1, 7, 1, 1)
    assert (after.status, after.present, after.empty) == ("nothing_to_do", 2, 18)
    assert all(balanced(report) for report in (first, due, explicit, after))


async def test_late_rows_with_a_newer_version_replace_the_file(fleet):
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker():
        await fleet.request()
        late = "toDateTime('2024-03-20 12:00:00', 'UTC')"
        await fleet.insert("events", late, 5, updated="2024-04-02 00:00:00", offset=1000)
        report = await fleet.request()
    assert (report.stale, report.exported, report.rows, report.present) == (1, 1, 15, 2)
    assert balanced(report)
    assert [rows for _, rows in fleet.files()] == [10, 15]


@pytest.mark.parametrize("group", ["daily", "hourly"])
async def test_the_partition_that_is_still_open_is_never_exported(fleet, group):
    now = datetime.now(UTC)
    yesterday = (now - timedelta(days=1)).date()
    await fleet.run_sql(
        f"CREATE TABLE {fleet.database}.events (updated DateTime, at DateTime, number UInt64, name String, "
        "network String) ENGINE = ReplacingMergeTree(updated) ORDER BY (network, at, number)"
    )
    fleet.add_table(group, "events", "at", network={"start_date": yesterday.isoformat()})
    await fleet.insert("events", "toDateTime(now('UTC'), 'UTC') - 3600 * number", 24)
    async with fleet.worker():
        due = await fleet.request()
        today = datetime.now(UTC).date().isoformat()
        forced = await fleet.request(from_=yesterday.isoformat(), to=today, force=True)
    later = datetime.now(UTC)
    held = [name for name, _ in fleet.files()]
    still_open = f"{later.year}/{later.month}/{later.day}" + (f"/{later.hour}" if group == "hourly" else "")
    assert held
    assert not [name for name in held if name.split(".")[0].split("-")[0] == still_open]
    assert (due.open, forced.open) == (1, 1)
    assert balanced(due)


async def make_chunks(fleet: Any, numbers: str, rows: int) -> None:
    await fleet.run_sql(
        f"CREATE TABLE {fleet.database}.chunks (updated DateTime, number UInt64, network String) "
        "ENGINE = ReplacingMergeTree(updated) ORDER BY (network, number)"
    )
    fleet.add_table("chunked", "chunks", "number", types={"number": "long"})
    await insert_chunks(fleet, numbers, rows)


async def insert_chunks(fleet: Any, numbers: str, rows: int) -> None:
    await fleet.run_sql(
        f"INSERT INTO {fleet.database}.chunks SELECT toDateTime('2024-04-01 00:00:00', 'UTC'), {numbers}, "
        f"'{fleet.network}' FROM numbers({rows})"
    )


async def test_integer_partitions_wait_for_the_head_to_pass_them(fleet):
    await make_chunks(fleet, "number", 2500)
    async with fleet.worker():
        first = await fleet.request("chunks")
        waiting = await fleet.request("chunks", from_=2000, to=2999)
        await insert_chunks(fleet, "2500 + number", 500)
        second = await fleet.request("chunks")
    assert (first.expected, first.exported, first.rows, first.open) == (2, 2, 2000, 1)
    assert (waiting.status, waiting.expected, waiting.open) == ("nothing_to_do", 0, 1)
    # 2999 is there: its chunk is closed, and the next one has not begun.
    assert (second.expected, second.exported, second.rows, second.open) == (3, 1, 1000, 0)
    assert fleet.files("chunks") == [("1000/0.parquet", 1000), ("1000/1000.parquet", 1000), ("1000/2000.parquet", 1000)]


async def test_a_range_of_integers_takes_every_chunk_that_it_touches(fleet):
    await make_chunks(fleet, "number", 3000)
    async with fleet.worker():
        since = await fleet.request("chunks", from_=2500)
        between = await fleet.request("chunks", from_=500, to="1000")
    assert (since.expected, since.exported, since.rows) == (1, 1, 1000)
    assert (between.expected, between.exported, between.rows) == (2, 2, 2000)


async def test_hours_are_asked_for_by_hour_or_by_day(fleet):
    fleet.set_export(parallel_partitions=8)
    await fleet.make_hours(hours=26, rows=10)
    async with fleet.worker():
        hours = await fleet.request(from_="2024-03-20T03", to="2024-03-20T05")
        day = await fleet.request(from_="2024-03-20", to="2024-03-20")
        rest = await fleet.request()
    assert (hours.expected, hours.exported, hours.rows) == (3, 3, 30)
    assert (day.expected, day.present, day.exported) == (24, 3, 21)
    assert (rest.missing, rest.exported, rest.empty) == (2, 2, 20 * 24 - 26)
    assert ("2024/3/20/3.parquet", 10) in fleet.files()
    assert ("2024/3/19/23.parquet", 10) in fleet.files()


async def test_late_rows_replace_a_day_within_the_look_back_and_an_older_one_only_when_it_is_asked_for(fleet):
    fleet.set_export(look_back_days=2)
    await fleet.make_days(days=4, rows=10)  # 17 to 20 March, where the network ends
    async with fleet.worker():
        await fleet.request()
        for day in (18, 19):
            at = f"toDateTime('2024-03-{day} 12:00:00', 'UTC')"
            await fleet.insert("events", at, 1, updated="2024-04-02 00:00:00", offset=100)
        due = await fleet.request()
        again = await fleet.request()
        asked = await fleet.request(from_="2024-03-17", to="2024-03-18")
    assert [(report.stale, report.exported, report.rows) for report in (due, again, asked)] == [
        (1, 1, 11),
        (0, 0, 0),
        (1, 1, 11),
    ]
    assert await announced(fleet) == [
        [f"2024-03-{day}" for day in (17, 18, 19, 20)],
        ["2024-03-19"],
        ["2024-03-18"],
    ]

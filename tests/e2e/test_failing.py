"""A partition that fails every time waits, and keeps no other one waiting."""

import asyncio
import json

from activities.core.failing import PROPERTY
from activities.core.faults import StoreUnavailable
from support.backfills import backfill
from support.fleet import Fleet
from support.gate import failing_at

BAD = "2024-03-20"


def remembered(fleet: Fleet) -> dict[str, list[object]]:
    return json.loads(fleet.table().properties.get(PROPERTY, "") or "{}")


async def test_what_fails_uses_up_no_bound_is_suspended_and_comes_back_when_a_person_asks_for_it(fleet):
    await fleet.make_days(days=3, rows=10, types={"number": "long"})
    await fleet.insert("events", f"toDateTime('{BAD} 05:00:00', 'UTC')", 1, offset=2**63)
    async with fleet.worker():
        first = await fleet.request(max_partitions=1)
        assert (first.failed, first.failures[0].partition) == (1, BAD)
        assert remembered(fleet)[BAD][0] == 1
        assert fleet.table().snapshots() == [], "what is remembered makes no snapshot"
        second = await fleet.request(max_partitions=1)
        third = await fleet.request(max_partitions=1)
        assert [len(one.snapshots) for one in (second, third)] == [1, 1], "the others are next"
        assert [name for name, _ in fleet.files()] == ["2024/3/18.parquet", "2024/3/19.parquet"]
        for count in (2, 3):
            again = await fleet.request(max_partitions=1)
            assert (again.failed, again.suspended, remembered(fleet)[BAD][0]) == (1, 0, count)

        due = await fleet.request()
        assert (due.status, due.failed, due.suspended, due.missing) == ("nothing_to_do", 0, 1, 0)
        [one] = due.suspensions
        assert (one.partition, one.cause, one.failures) == (BAD, "UnsupportedType", 3)
        assert "1 suspended after failing every time" in due.message
        dry = await fleet.request(dry_run=True)
        assert (dry.suspended, dry.missing) == (1, 0)
        covered, compared = await asyncio.gather(
            fleet.command("coverage", "--from", "2024-03-17", "--json"), fleet.command("tables", "--source", "--json")
        )
        assert json.loads(covered[1])[0]["ranges"] == {
            "empty": [["2024-03-17", "2024-03-17"]],
            "there": [["2024-03-18", "2024-03-19"]],
            "suspended": [[BAD, BAD]],
        }
        [seen] = json.loads(compared[1])
        assert {name: seen["source"][name] for name in ("present", "missing", "suspended")} == {
            "present": 2,
            "missing": 0,
            "suspended": 1,
        }

        asked = await fleet.request(from_=BAD, to=BAD)
        assert (asked.failed, asked.suspended, remembered(fleet)[BAD][0]) == (1, 0, 3)
        await fleet.run_sql(
            f"ALTER TABLE {fleet.database}.events DELETE WHERE number >= 9223372036854775808 "
            "SETTINGS mutations_sync = 1"
        )
        assert (await fleet.request()).suspended == 1
        assert (await fleet.request(from_=BAD, to=BAD)).exported == 1
        assert remembered(fleet) == {}
        assert (await fleet.request()).suspended == 0


async def test_what_is_away_says_nothing_about_a_partition(fleet):
    fleet.set_export(partition_attempts=1)
    await fleet.make_days(days=1, rows=10)
    async with fleet.worker():
        for _ in range(4):
            async with failing_at("before-upload", lambda: StoreUnavailable("no answer"), times=1):
                report = await fleet.request()
            assert (report.failed, report.suspended) == (1, 0)
        assert remembered(fleet) == {}
        assert (await fleet.request()).exported == 1


async def test_a_backfill_of_whatever_is_due_also_reaches_what_failed_before(fleet):
    await fleet.make_days(days=3, rows=10, types={"number": "long"})
    await fleet.insert("events", f"toDateTime('{BAD} 05:00:00', 'UTC')", 1, offset=2**63)
    async with fleet.worker():
        assert (await fleet.request(max_partitions=1)).failed == 1
        await fleet.run_sql(
            f"ALTER TABLE {fleet.database}.events DELETE WHERE number >= 9223372036854775808 "
            "SETTINGS mutations_sync = 1"
        )
        done = await backfill(fleet, "events", partitions_per_request=1)
    # What failed comes last, and every slice before the end meets its bound without it.
    assert (done.status, done.exported, done.failed) == ("complete", 3, 0)
    assert remembered(fleet) == {}

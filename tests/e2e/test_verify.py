"""A table held against its source: what is sound is proved, and whatever is not is named."""

import asyncio
import json
import uuid
from typing import Any

from temporalio.client import WorkflowHandle

from activities.contracts.verify import VERIFY_WORKFLOW, VerifyReport
from support.evidence import _bucket, make_slow, prefix_of
from support.findings import findings_of
from support.fleet import Fleet, eventually


async def start(fleet: Fleet, table: str = "events", **fields: Any) -> WorkflowHandle[Any, VerifyReport]:
    payload = {"environment": fleet.name, "network": fleet.network, "table": table}
    payload |= {name.rstrip("_"): value for name, value in fields.items()}
    return await fleet.temporal.start_workflow(
        VERIFY_WORKFLOW, payload, id=f"verify-{uuid.uuid4()}", task_queue=fleet.queue, result_type=VerifyReport
    )


async def verify(fleet: Fleet, table: str = "events", **fields: Any) -> VerifyReport:
    return await asyncio.wait_for((await start(fleet, table, **fields)).result(), 60)


def kinds(report: VerifyReport) -> dict[str, str]:
    return {finding.partition: finding.kind for finding in report.findings}


async def said(fleet: Fleet, kind: str) -> dict[str, str]:
    """Partition → what is wrong with it, as the newest event has them."""
    event = (await findings_of(fleet, kind=kind))[-1]
    assert (event["table"], event["kind"]) == (f"{fleet.network}.events", kind)
    return {one["partition"]: one["detail"] for one in event.get("partitions", [])}


def remove_object(fleet: Fleet, day: str) -> None:
    with _bucket(fleet) as client:
        key = f"{prefix_of(fleet)}databases/{fleet.database}/events/2024/3/{day}.parquet"
        client.delete_object(Bucket="icefleet", Key=key)


def append_twin(fleet: Fleet, day: str) -> None:
    """A foreign writer brings a partition a second time."""
    table = fleet.table()
    [twin] = [task.file for task in table.scan().plan_files() if task.file.file_path.endswith(f"/{day}.parquet")]
    with table.transaction() as foreign, foreign.update_snapshot().fast_append() as append:
        append.append_data_file(twin)


async def test_what_was_exported_is_proved_and_whatever_happened_since_is_named(fleet):
    # A page of two partitions and a run of one page: a long range in small.
    fleet.set_export(partitions_per_plan=2, pages_per_run=1)
    await fleet.make_days(days=6, rows=100, network={"start_date": "2024-03-14", "end_date": "2024-03-20"})
    events = f"{fleet.database}.events"
    async with fleet.worker():
        await fleet.request()
        proved = await verify(fleet, deep=True)
        assert (proved.status, proved.expected, proved.read, proved.found) == ("proved", 7, 6, 0)
        assert proved.counts == {"proved": 6, "empty": 1}
        assert (proved.rows, proved.not_compared) == (600, {})
        code, output, errors = await fleet.command("verify", "events", "-n", fleet.network, "--json")
        assert code == 0, errors
        assert json.loads(output)["counts"] == {"proved": 6, "empty": 1}

        await fleet.insert("events", "toDateTime('2024-03-14 12:00:00', 'UTC')", 3, offset=900)
        late = "toDateTime('2024-03-15 12:00:00', 'UTC')"
        await fleet.insert("events", late, 3, updated="2024-04-02 00:00:00", offset=900)
        await fleet.run_sql(
            f"ALTER TABLE {events} DELETE WHERE toDate(at) = '2024-03-16' AND number % 10 = 1 "
            "SETTINGS mutations_sync = 2"
        )
        remove_object(fleet, "17")
        await fleet.run_sql(
            f"ALTER TABLE {events} UPDATE name = 'other' WHERE toDate(at) = '2024-03-18' AND number % 100 = 7 "
            "SETTINGS mutations_sync = 2"
        )
        await asyncio.to_thread(append_twin, fleet, "19")
        found = await verify(fleet, deep=True)
        assert kinds(found) == {
            "2024-03-14": "missing",
            "2024-03-15": "stale",
            "2024-03-16": "shrunk",
            "2024-03-17": "gone",
            "2024-03-18": "checksum",
            "2024-03-19": "duplicate",
        }
        assert (found.status, found.found, found.read, found.counts["proved"]) == ("findings", 6, 2, 1)
        details = {one.partition: f"{one.kind}: {one.message}" for one in found.findings}
        of_values = {"2024-03-18": details.pop("2024-03-18")}
        assert await said(fleet, "verify") == details
        assert await said(fleet, "values") == of_values
        events = len(await findings_of(fleet, kind="verify"))
        newest = await verify(fleet, newest=1)
        assert (newest.status, newest.expected) == ("proved", 1)
        code, output, _ = await fleet.command("verify", "events", "-n", fleet.network, "--from", "2024-03-17")
        assert code == 3
        assert "  gone 2024-03-17: the table names s3://icefleet/" in output
        assert "checksum" not in output, "values are read only when asked to"
        assert len(await findings_of(fleet, kind="verify")) == events, "nothing has gone where somebody looked"
        assert await said(fleet, "values") == of_values, "which only a deep look can take back"

        await fleet.request(from_="2024-03-14", to="2024-03-18", force=True, allow_shrink=True)
        assert kinds(await verify(fleet, deep=True)) == {"2024-03-19": "duplicate"}
        assert await said(fleet, "verify") == {"2024-03-19": details["2024-03-19"]}
        assert await said(fleet, "values") == {}


async def test_a_file_outside_of_the_expected_range_is_unexpected(fleet):
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker():
        await fleet.request()
    fleet.add_table("daily", "events", "at", network={"start_date": "2024-03-20", "end_date": "2024-03-20"})
    async with fleet.worker():
        found = await verify(fleet, deep=True)
    assert (kinds(found), found.counts) == ({"2024-03-19": "unexpected"}, {"proved": 1, "unexpected": 1})


async def reading(fleet: Fleet) -> list[dict[str, Any]]:
    return await fleet.sql(
        f"SELECT query_id FROM system.processes WHERE startsWith(Settings['log_comment'], "
        f"'icefleet verify {fleet.network}.slow partition')"
    )


async def test_rows_that_come_while_values_are_read_leave_a_partition_open_and_a_cancelled_one_reads_no_more(fleet):
    await fleet.make_days(days=1, rows=100)
    await make_slow(fleet, 0)
    async with fleet.worker():
        assert (await fleet.request("slow")).exported == 1
        await make_slow(fleet, 0.03)
        handle = await start(fleet, "slow", deep=True)
        await eventually(lambda: reading(fleet))
        await fleet.run_sql(
            f"INSERT INTO {fleet.database}.slow_rows SELECT * REPLACE (toUInt64(900) AS number) "
            f"FROM {fleet.database}.events LIMIT 1"
        )
        moved = await asyncio.wait_for(handle.result(), 60)
        assert (moved.status, moved.found, moved.counts["open"]) == ("proved", 0, 1)

        await fleet.run_sql(
            f"ALTER TABLE {fleet.database}.slow_rows DELETE WHERE number = 900 SETTINGS mutations_sync = 2"
        )
        handle = await start(fleet, "slow", deep=True)
        await eventually(lambda: reading(fleet))
        await handle.cancel()

        async def ended() -> bool:
            described = await handle.describe()
            return described.status is not None and described.status.name == "CANCELED"

        await eventually(ended)
        assert await reading(fleet) == []

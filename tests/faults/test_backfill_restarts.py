"""The server is killed in the middle of a backfill and comes back with its data; the workers are never restarted."""

import asyncio

from activities.contracts.export import PROGRESS_QUERY
from deploy.local.stack import Stack
from support.backfills import start_backfill
from support.fleet import Fleet, eventually
from support.gate import gate_at

TABLES = ("events_a", "events_b")
DAYS = range(15, 21)


async def test_a_backfill_outlives_its_server_with_every_partition_and_every_event_there_exactly_once(
    tmp_path, monkeypatch
):
    with Stack(tmp_path / "stack") as stack:
        monkeypatch.setenv("ICEFLEET_LOCAL_DIR", str(stack.directory))
        async with Fleet(stack, tmp_path / "config") as fleet:
            await outlive(fleet)


async def outlive(fleet: Fleet) -> None:
    """Kill the server once while partitions are on their way, and once while a commit is."""
    fleet.set_export(partitions_per_commit=2)
    for table in TABLES:
        await fleet.make_days(table, days=len(DAYS), rows=10)
    async with fleet.worker():
        async with gate_at("before-upload", let_by=5) as gate:
            handle = await start_backfill(fleet, "events_*", partitions_per_request=4)
            await gate.reached()
            await asyncio.to_thread(fleet.stack.kill, "temporal")
            gate.open()  # what runs ends, and cannot tell it
            await asyncio.to_thread(fleet.stack.start, ["temporal"])
        async with gate_at("after-commit", let_by=1) as gate:
            await gate.reached()
            await asyncio.to_thread(fleet.stack.kill, "temporal")
            gate.open()
            await asyncio.to_thread(fleet.stack.start, ["temporal"])
        report = await asyncio.wait_for(handle.result(), 60)
        for table in TABLES:
            await fleet.loop_ended(table)
        progress = await handle.query(PROGRESS_QUERY)
    assert (report.status, report.failed) == ("complete", 0)
    assert report.exported + report.already_there == len(DAYS) * len(TABLES)
    assert (progress["status"], progress["in_flight"]) == ("complete", {})
    for table in TABLES:
        assert fleet.files(table) == [(f"2024/3/{day}.parquet", 10) for day in DAYS]
        snapshots = [str(snapshot.snapshot_id) for snapshot in fleet.table(table).snapshots()]
        events = await eventually(lambda table=table: fleet.events(table))
        assert [event["snapshotId"] for event in events] == snapshots
        told = [one["partition"] for event in events for one in event["partitions"]]
        assert sorted(told) == [f"2024-03-{day}" for day in DAYS]

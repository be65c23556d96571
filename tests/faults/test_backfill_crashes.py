"""A worker is killed in the middle of a backfill, or the backfill itself is: the tables know how far it was."""

import asyncio
import signal

from support.backfills import backfill, progress_when, start_backfill
from support.gate import gate_at

DAYS = [(f"2024/3/{day}.parquet", 10) for day in range(15, 21)]


async def test_a_backfill_outlives_a_killed_worker_and_every_partition_is_there_exactly_once(fleet):
    fleet.set_export(partitions_per_commit=2)
    tables = ("events_a", "events_b")
    for table in tables:
        await fleet.make_days(table, days=6, rows=10)
    with fleet.worker_process(failpoint="after-commit:3") as process:
        handle = await start_backfill(fleet, "events_*", partitions_per_request=4)
        exit_code = await asyncio.wait_for(asyncio.to_thread(process.wait), 60)
    committed = sum(len(fleet.files(table)) for table in tables)
    async with fleet.worker():
        report = await asyncio.wait_for(handle.result(), 60)
        fresh = await backfill(fleet, "events_*")
        for table in tables:
            await fleet.loop_ended(table)
    assert exit_code == -signal.SIGKILL
    assert 4 <= committed < 12, "the worker was to die in the middle"
    assert (report.status, report.exported + report.already_there) == ("complete", 12)
    for table in tables:
        assert fleet.files(table) == DAYS
        announced = [one["partition"] for event in await fleet.events(table) for one in event["partitions"]]
        assert sorted(announced) == [f"2024-03-{day}" for day in range(15, 21)]
    assert (fresh.status, fresh.exported, fresh.present) == ("nothing_to_do", 0, 12)


async def test_a_backfill_that_was_terminated_and_is_started_again_does_what_is_missing_and_no_more(fleet):
    fleet.set_export(partitions_per_commit=2)
    await fleet.make_days(days=6, rows=10)
    async with fleet.worker():
        async with gate_at("before-commit", let_by=1) as gate:
            first = await start_backfill(fleet, "events", partitions_per_request=2)
            await gate.reached()
            await progress_when(first, exported=2)
            await first.terminate()
            again = await start_backfill(fleet, "events", partitions_per_request=2)
            await progress_when(again, tables={"running": 1})
            gate.open()
            report = await asyncio.wait_for(again.result(), 60)
        await fleet.loop_ended()
    assert fleet.files() == DAYS
    assert len(fleet.table("events").snapshots()) == 3
    assert (report.status, report.exported, report.present) == ("complete", 2, 4)

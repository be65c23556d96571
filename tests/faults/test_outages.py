"""Catalog, NATS or the loop itself is away for a while: everything is done afterwards, and nothing twice."""

import asyncio
from datetime import timedelta

from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from activities.contracts.export import ExportActivities
from activities.export import Export
from support.evidence import make_slow, retried, running_exports, source_rows, table_rows
from support.faultproxy import Hold, HttpFaults, TcpFaults
from support.fleet import eventually
from support.onequeue import OneQueue, activities_of
from worker.registered import SANDBOX
from workflows import door
from workflows.export_table import ExportTable
from workflows.request_export import RequestExport


async def all_once(fleet, snapshots, table="events"):
    """Rows equal to the source's, one event per snapshot, in the snapshots' order."""
    found = [str(snapshot.snapshot_id) for snapshot in fleet.table(table).snapshots()]
    assert len(found) == snapshots
    assert [event["snapshotId"] for event in await fleet.events(table)] == found
    assert table_rows(fleet, table) == await source_rows(fleet, table)


async def test_a_catalog_that_is_away_while_work_is_planned_is_waited_for(fleet):
    await fleet.make_days(days=3, rows=50)
    async with TcpFaults(fleet.stack.ports["catalog"]) as catalog:
        fleet.point(catalog=catalog.port)
        async with fleet.worker():
            assert (await fleet.request(from_="2024-03-18", to="2024-03-18")).exported == 1
            await fleet.loop_ended()
            await catalog.refuse()
            request = await fleet.start()
            said = await eventually(lambda: retried(fleet, "plan_partitions"))
            await catalog.mend()
            report = await asyncio.wait_for(request.result(), 30)
            await fleet.loop_ended()
    assert f"catalog http://127.0.0.1:{catalog.port}" in said
    assert (report.status, report.exported) == ("complete", 2)
    await all_once(fleet, snapshots=2)


async def test_a_catalog_that_goes_away_before_the_commit_delays_it_and_nothing_else(fleet):
    await fleet.make_days(days=1, rows=100)
    table = await make_slow(fleet)
    async with TcpFaults(fleet.stack.ports["catalog"]) as catalog:
        fleet.point(catalog=catalog.port)
        async with fleet.worker():
            request = await fleet.start(table)
            await eventually(lambda: running_exports(fleet))
            await catalog.refuse()
            said = await eventually(lambda: retried(fleet, "commit_partitions", table))
            await catalog.mend()
            report = await asyncio.wait_for(request.result(), 30)
            await fleet.loop_ended(table)
    assert f"catalog http://127.0.0.1:{catalog.port}" in said
    assert (report.status, report.exported, report.failed) == ("complete", 1, 0)
    await all_once(fleet, snapshots=1, table=table)


async def test_a_catalog_that_hangs_for_some_tables_holds_up_no_other_work_of_the_worker(fleet):
    stuck = [f"stuck{number}" for number in range(5)]
    for name in ("events", *stuck):
        await fleet.make_days(name, days=1, rows=50)
    async with HttpFaults(fleet.stack.ports["catalog"]) as catalog:
        fleet.point(catalog=catalog.port)
        hold = Hold()
        held = catalog.on(hold, path="/tables/stuck", times=None)
        async with fleet.worker(slots=30):
            waiting = [await fleet.start(name) for name in stuck]
            await eventually(lambda: held.times_struck >= len(stuck))
            report = await fleet.request("events", seconds=10)
            assert (report.status, report.exported) == ("complete", 1)
            await fleet.loop_ended("events")
            hold.released.set()
            for request in waiting:
                assert (await asyncio.wait_for(request.result(), 30)).status == "complete"
    await all_once(fleet, snapshots=1)


async def test_nats_that_is_away_holds_nothing_up_and_its_events_arrive_late_and_once(fleet):
    await fleet.make_days(days=3, rows=50)
    fleet.set_export(partitions_per_commit=1)
    async with TcpFaults(fleet.stack.ports["nats"]) as nats:
        fleet.point(nats=nats.port)
        await nats.refuse()
        async with fleet.worker():
            report = await fleet.request()
            assert (report.status, report.exported, len(report.snapshots)) == ("complete", 3, 3)
            said = await eventually(lambda: retried(fleet, "announce_snapshots"))
            assert await fleet.events() == []
            await nats.mend()
            await fleet.loop_ended()
    assert f"NATS nats://127.0.0.1:{nats.port}" in said
    await all_once(fleet, snapshots=3)


async def test_nats_that_hangs_in_the_middle_holds_no_later_request_up(fleet):
    await fleet.make_days(days=2, rows=50)
    async with TcpFaults(fleet.stack.ports["nats"]) as nats:
        fleet.point(nats=nats.port)
        async with fleet.worker():
            assert (await fleet.request(from_="2024-03-19", to="2024-03-19")).exported == 1
            await fleet.loop_ended()
            nats.hang()
            report = await fleet.request(seconds=10)
            assert (report.status, report.exported) == ("complete", 1)
            await nats.mend()
            await fleet.loop_ended()
    await all_once(fleet, snapshots=2)


async def test_a_terminated_loop_is_brought_back_by_the_request_that_waits_for_it(fleet, monkeypatch):
    monkeypatch.setattr(door, "FIRST_REMINDER", timedelta(seconds=2))
    await fleet.make_days(days=1, rows=2_000)
    table = await make_slow(fleet)
    async with fleet.context() as context:
        # The sandbox would load the module anew, with a reminder that no test can wait for.
        ours = SANDBOX.restrictions.with_passthrough_modules("workflows.request_export", "workflows.door")
        async with Worker(
            fleet.temporal,
            task_queue=fleet.queue,
            workflows=[RequestExport, ExportTable],
            activities=[*activities_of(Export(context), ExportActivities), OneQueue().find_queues],
            workflow_runner=SandboxedWorkflowRunner(restrictions=ours),
            max_heartbeat_throttle_interval=timedelta(seconds=1),
            default_heartbeat_throttle_interval=timedelta(seconds=1),
        ):
            request = await fleet.start(table)
            await eventually(lambda: running_exports(fleet))
            await fleet.loop(table).terminate("the test wishes so")
            await make_slow(fleet, 0)
            report = await asyncio.wait_for(request.result(), 30)
            await fleet.loop_ended(table)
    assert (report.status, report.exported, report.rows) == ("complete", 1, 2_000)
    assert fleet.files(table) == [("2024/3/20.parquet", 2_000)]
    await all_once(fleet, snapshots=1, table=table)

"""MaintainTables: what fails keeps no other table from being kept in order, and a bad request names everything."""

import asyncio
import json
import uuid
from dataclasses import replace

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities import maintaining, unserved
from activities.context import OtherTables
from activities.contracts import maintain as contract
from activities.contracts.maintain import MAINTAIN_WORKFLOW, MIRROR, MaintainedTable, MaintainReport, MaintainRequest
from activities.core.faults import BadRequest
from activities.unserved import has_worker
from support.changelogs import PIPELINE, opened
from support.fleet import eventually


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """The fleet has long started: whoever is not there yet does not come."""
    monkeypatch.setattr(unserved, "STARTING_SECONDS", 0)


async def start(fleet, **fields):
    return await fleet.temporal.start_workflow(
        MAINTAIN_WORKFLOW,
        {"environment": fleet.name, **fields},
        id=f"maintain-{uuid.uuid4()}",
        task_queue=fleet.queue,
        result_type=MaintainReport,
    )


async def test_tables_are_found_by_identifier_name_pattern_and_kind(fleet):
    await fleet.make_days(days=1, rows=1)
    await fleet.make_days("others", days=1, rows=1)
    async with fleet.context() as exports, opened(fleet) as orders:
        await orders.create()
        namespace = orders.identifier.rpartition(".")[0]
        others = OtherTables({PIPELINE: namespace}, ("shop.orders",), "cdc-queue", "merge-queue")
        context = replace(exports, others=others)

        async def found(*tables, kinds=()):
            request = MaintainRequest(list(tables), fleet.name, list(kinds))
            resolved = await maintaining.resolve_tables(context, request)
            return [(one.table, one.kind, one.task_queue) for one in resolved.tables]

        events, other = [(f"{fleet.network}.{name}", "export", "") for name in ("events", "others")]
        log, mirror = (orders.identifier, "changelog", "cdc-queue"), ("shop.orders", "mirror", "merge-queue")
        assert sorted(await found()) == sorted([events, other, log, mirror])
        assert await found("events", "shop.*") == [events, mirror]
        assert await found("*orders*") == [log, mirror]
        assert await found(kinds=["changelog"]) == [log]
        wrong = MaintainRequest(["evnts"], fleet.name, ["exports"], max_parallel=0)
        with pytest.raises(BadRequest) as refused:
            await maintaining.resolve_tables(context, wrong)
    assert str(refused.value) == (
        "field 'kinds' may hold export, changelog, mirror; it holds 'exports'; "
        "field 'max_parallel' is a number from 1 to 100; it is 0; "
        f"no table of environment {fleet.name} fits 'evnts'; did you mean `events`?"
    )


@workflow.defn
class Nothing:
    """Something to serve a queue with."""

    @workflow.run
    async def run(self) -> None:
        """Nothing."""


async def leave(fleet):
    """Somebody took what waits for the loops of mirrors, and does so no more."""
    queue = fleet.settings().environment(fleet.name).temporal.merge_task_queue
    runner = UnsandboxedWorkflowRunner()
    async with Worker(fleet.temporal, task_queue=queue, workflows=[Nothing], workflow_runner=runner):
        await eventually(lambda: has_worker(fleet.temporal, queue))


async def test_while_a_fleet_starts_workers_that_are_not_there_yet_are_waited_for(fleet, monkeypatch):
    queue = fleet.settings().environment(fleet.name).temporal.merge_task_queue
    table = MaintainedTable("shop.a", MIRROR, task_queue=queue)
    assert await unserved.unserved_marked(fleet.temporal, [table], "") == [replace(table, unserved=queue)]
    monkeypatch.setattr(unserved, "STARTING_SECONDS", float("inf"))
    looking = asyncio.create_task(unserved.unserved_marked(fleet.temporal, [table], ""))
    await leave(fleet)
    assert await asyncio.wait_for(looking, 20) == [table]


async def test_a_table_that_fails_keeps_no_other_from_it_however_many_runs_that_takes(fleet, monkeypatch):
    """The mirror's request is never answered, until somebody gives it up; a page of tables is three."""
    monkeypatch.setattr(contract, "TABLES_PER_RUN", 3)
    fleet.set_export(keep_snapshots=1, snapshot_age_seconds=0)
    fleet.set_mirrors({"changelog_table": "shop.log", "mirror_table": "shop.orders", "primary_keys": ["id"]})
    for number in range(4):
        await fleet.make_days(f"t{number}", days=1, rows=1)
    await fleet.make_days(days=1, rows=3)
    await leave(fleet)
    async with fleet.worker():
        await fleet.request()
        code, said, _ = await fleet.command("maintain", "events", "--dry-run", "--json", "-e", fleet.name)
        dry = json.loads(said)
        handle = await start(fleet, max_parallel=2)
        mirror = fleet.temporal.get_workflow_handle(f"{handle.id}/shop.orders")
        await eventually(lambda: has_begun(mirror))
        seen = await handle.query("progress")
        await mirror.terminate()
        report = await handle.result()
        bad = await start(fleet, tables=["nothing"])
        with pytest.raises(WorkflowFailureError) as failed:
            await bad.result()
    assert (code, dry["status"], dry["tables"]) == (0, "dry_run", 1)
    assert (seen["tables"], "shop.orders" in seen["running"]) == (6, True)
    assert (report.status, report.tables, report.ended) == ("partial", 6, {"nothing_to_do": 5, "failed": 1})
    assert report.problems == ["shop.orders: Failed: Terminated"]
    assert failed.value.cause.type == "BadRequest"


async def has_begun(handle):
    """Whether somebody has started it."""
    try:
        return await handle.describe()
    except RPCError:
        return None


async def test_a_cancelled_request_ends_with_what_it_has_asked_for(fleet):
    fleet.set_mirrors({"changelog_table": "shop.log", "mirror_table": "shop.orders", "primary_keys": ["id"]})
    await leave(fleet)
    async with fleet.worker():
        handle = await start(fleet)
        mirror = fleet.temporal.get_workflow_handle(f"{handle.id}/shop.orders")
        await eventually(lambda: has_begun(mirror))
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        assert (await handle.describe()).status.name == "CANCELED"
        await eventually(lambda: cancel_is_requested(mirror))  # the server passes it on by itself


async def test_what_nobody_serves_fails_at_once_and_what_never_ends_is_waited_for_once_for_each_kind(
    fleet, monkeypatch
):
    """Else one kind of work without workers would keep the whole fleet from upkeep for days."""
    mirrors = ("shop.a", "shop.b", "shop.c")
    fleet.set_mirrors(
        *({"changelog_table": "shop.log", "mirror_table": name, "primary_keys": ["id"]} for name in mirrors)
    )
    await fleet.make_days(days=1, rows=1)
    queue = fleet.settings().environment(fleet.name).temporal.merge_task_queue
    async with fleet.worker():
        unserved = await (await start(fleet)).result()
        monkeypatch.setattr(contract, "MAINTAIN_SECONDS", 6)
        await leave(fleet)
        silent = await (await start(fleet, max_parallel=1)).result()
    exports = {"nothing_to_do": 1, "failed": 3}
    assert (unserved.status, unserved.ended, unserved.who) == ("partial", exports, "operator")
    why = f"Unserved: no worker serves task queue {queue}; start one, and the next request sees to the table"
    assert unserved.problems == [f"{name}: {why}" for name in mirrors]
    assert (silent.status, silent.ended) == ("partial", exports)
    first, *others = silent.problems
    assert first.startswith("shop.a: TimedOut: start to close time-out")
    why = "Unserved: not asked, since the upkeep of shop.a did not end; look at that one first"
    assert others == [f"shop.b: {why}", f"shop.c: {why}"]


async def cancel_is_requested(handle):
    """Whether the door has been told, also while nobody serves it."""
    kinds = [event.event_type async for event in handle.fetch_history_events()]
    return EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED in kinds


async def test_a_request_that_still_runs_fails_its_own_table_and_no_other(fleet):
    """Such as that of a MaintainTables which was terminated, and started again under its id."""
    await fleet.make_days(days=1, rows=1)
    await fleet.make_days("others", days=1, rows=1)
    first = f"maintain-{uuid.uuid4()}"
    held = f"{first}/{fleet.network}.events"
    await fleet.temporal.start_workflow("MergeOnce", {"mirror": "none"}, id=held, task_queue="nobody-serves-this")
    async with fleet.worker():
        request = {"environment": fleet.name, "kinds": ["export"]}
        report = await fleet.temporal.execute_workflow(
            MAINTAIN_WORKFLOW, request, id=first, task_queue=fleet.queue, result_type=MaintainReport
        )
    await fleet.temporal.get_workflow_handle(held).terminate()
    assert (report.status, report.ended) == ("partial", {"nothing_to_do": 1, "failed": 1})
    assert report.problems == [f"{fleet.network}.events: Failed: its request {held} still runs; end it, or wait for it"]

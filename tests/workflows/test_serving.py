"""The loop serves everybody: by priority, once each, with the report at whoever asked."""

import asyncio
from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.testing import ActivityEnvironment

from activities.contracts.export import (
    LOOP_WORKFLOW,
    PROGRESS_QUERY,
    SUBMIT_SIGNAL,
    WITHDRAW_SIGNAL,
    ExportReport,
    PlanInput,
    SubmittedRequest,
)
from activities.export import Export
from support.fleet import Fleet, eventually
from support.gate import gate_at

ONE_AT_A_TIME = {"partitions_per_commit": 1, "pages_per_run": 1, "parallel_partitions": 1}
"""Every partition is a page, and after every page the loop continues as new."""


async def announced(fleet: Fleet, table: str = "events") -> list[str]:
    """Every partition of every snapshot, in the order of the snapshots."""
    return [partition["partition"] for event in await fleet.events(table) for partition in event["partitions"]]


async def runs_of(fleet: Fleet, table: str = "events") -> list[str]:
    """The loop's runs by status, as the list of workflows knows them."""
    query = f"WorkflowId = '{fleet.loop(table).id}'"
    return [str(run.status.name) async for run in fleet.temporal.list_workflows(query) if run.status is not None]


async def waits_with(fleet: Fleet, requests: int, table: str = "events") -> None:
    """Wait until the loop has that many requests, begun or not."""

    async def there() -> bool:
        progress = await fleet.loop(table).query(PROGRESS_QUERY)
        return len(progress["requests"]) + progress["waiting"] == requests

    await eventually(there)


async def submitted_by(fleet: Fleet, request: WorkflowHandle[Any, Any]) -> SubmittedRequest:
    """What the door sends to the loop for this request."""

    async def scheduled() -> Any:
        async for event in request.fetch_history_events():
            found = event.activity_task_scheduled_event_attributes
            if found.activity_type.name == "deliver_request":
                return (await fleet.temporal.data_converter.decode(found.input.payloads, [SubmittedRequest]))[0]
        return None

    answer: SubmittedRequest = await eventually(scheduled)
    return answer


async def plans_for(fleet: Fleet, submitted: SubmittedRequest, table: str = "events") -> int:
    """How often the loop, in all its runs, has looked at table and source for a request."""
    count = 0
    async for run in fleet.temporal.list_workflows(f"WorkflowId = '{fleet.loop(table).id}'"):
        async for event in fleet.temporal.get_workflow_handle(run.id, run_id=run.run_id).fetch_history_events():
            scheduled = event.activity_task_scheduled_event_attributes
            if scheduled.activity_type.name == "plan_partitions":
                (plan,) = await fleet.temporal.data_converter.decode(scheduled.input.payloads, [PlanInput])
                count += plan.request_id == submitted.id
    return count


async def test_what_is_due_is_served_before_the_next_page_of_a_range(fleet):
    fleet.set_export(partitions_per_commit=1, parallel_partitions=1)
    await fleet.make_days(days=4, rows=10)
    async with fleet.worker():
        async with gate_at("before-commit") as gate:
            backfill = await fleet.start(to="2024-03-19")
            await gate.reached()
            due = await fleet.start()
            await waits_with(fleet, 2)
            gate.open()
            reports: list[ExportReport] = await asyncio.gather(backfill.result(), due.result())
        await fleet.loop_ended()
    # The first page of the range was under way; then all that was due, newest first.
    assert await announced(fleet) == ["2024-03-19", "2024-03-20", "2024-03-18", "2024-03-17"]
    assert [(report.missing, report.exported, report.already_there) for report in reports] == [(3, 1, 2), (3, 3, 0)]
    assert [report.rows for report in reports] == [10, 30]


async def test_a_priority_that_is_said_goes_before_what_is_due(fleet):
    fleet.set_export(partitions_per_commit=1, parallel_partitions=1)
    await fleet.make_days(days=4, rows=10)
    async with fleet.worker():
        async with gate_at("before-commit") as gate:
            due = await fleet.start()
            await gate.reached()
            urgent = await fleet.start(to="2024-03-17", priority=0)
            await waits_with(fleet, 2)
            gate.open()
            await asyncio.gather(due.result(), urgent.result())
        await fleet.loop_ended()
    assert await announced(fleet) == ["2024-03-20", "2024-03-17", "2024-03-19", "2024-03-18"]


async def test_a_request_delivered_twice_is_served_once(fleet):
    fleet.set_export(**ONE_AT_A_TIME)
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker() as context:
        await fleet.request()
        async with gate_at("before-commit", let_by=1) as gate:
            forced = await fleet.start(force=True)
            await gate.reached()
            submitted = await submitted_by(fleet, forced)
            for _ in range(2):
                # What the door does when it has waited for long; also while the loop continues as new.
                await fleet.loop().signal(SUBMIT_SIGNAL, submitted)
            gate.open()
            report = await forced.result()
        await fleet.loop_ended()
        events = len(await fleet.events())
        planned = await plans_for(fleet, submitted)
        # Once more, when the loop is gone and has forgotten: the table still knows what was forced.
        await ActivityEnvironment().run(Export(context).withdraw_request, submitted)
        await fleet.temporal.start_workflow(
            LOOP_WORKFLOW,
            {"environment": fleet.name, "table": "events", "network": fleet.network},
            id=fleet.loop().id,
            task_queue=fleet.queue,
            start_signal=SUBMIT_SIGNAL,
            start_signal_args=[submitted],
        )
        await fleet.loop_ended()
    assert (report.forced, report.exported) == (3, 3)
    assert planned == 1
    assert events == 3 + 3
    assert len(await fleet.events()) == events


async def test_force_survives_continuing_as_new_after_every_page(fleet):
    fleet.set_export(**ONE_AT_A_TIME, partitions_per_plan=2)
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker():
        missing = await fleet.request()
        forced = await fleet.request(force=True, from_="2024-03-01")
        await fleet.loop_ended()
    days = [f"2024-03-{day}" for day in range(20, 17, -1)]
    assert await announced(fleet) == days * 2
    assert (missing.expected, missing.missing, missing.empty, missing.exported, missing.rows) == (20, 3, 17, 3, 30)
    assert (forced.expected, forced.present, forced.forced, forced.empty) == (20, 3, 3, 17)
    assert (forced.exported, forced.rows, forced.already_there, len(set(forced.snapshots))) == (3, 30, 0, 3)
    assert (await runs_of(fleet)).count("CONTINUED_AS_NEW") >= 4


async def test_a_forced_request_goes_on_where_a_terminated_loop_left_it(fleet):
    fleet.set_export(**ONE_AT_A_TIME)
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker() as context:
        await fleet.request()
        async with gate_at("before-commit", let_by=1) as gate:
            request = await fleet.start(force=True)
            await gate.reached()
            await fleet.loop().terminate("the machine is gone")
            gate.open()
        # The reminder of the door, which would come by itself half a minute after the first delivery.
        await deliver_again(fleet, context, await submitted_by(fleet, request))
        report: ExportReport = await asyncio.wait_for(request.result(), 30)
        await fleet.loop_ended()
    forced = (await announced(fleet))[3:]
    assert sorted(forced) == [f"2024-03-{day}" for day in range(18, 21)]
    assert report.status in {"complete", "nothing_to_do"}
    assert report.present == report.expected - report.empty == 3
    assert [len(name.split("/")[-1].split("-")) for name, _ in fleet.files()] == [2] * 3


async def deliver_again(fleet: Fleet, context: Any, submitted: SubmittedRequest) -> None:
    """`deliver_request`, whose task queue is the one of the worker that runs it."""
    environment = ActivityEnvironment()
    environment.info = environment.default_info().__class__(
        **{**vars(environment.default_info()), "task_queue": fleet.queue}
    )
    await environment.run(Export(context).deliver_request, submitted)


async def test_every_request_that_arrives_while_the_loop_continues_as_new_gets_its_own_report(fleet):
    fleet.set_export(**ONE_AT_A_TIME)
    await fleet.make_days(days=4, rows=10)
    days = [f"2024-03-{day}" for day in range(17, 21)]
    async with fleet.worker():
        async with gate_at("before-upload") as gate:
            first = await fleet.start()
            await gate.reached()
            gate.open()
            requests = [await fleet.start(from_=day, to=day) for day in days for _ in range(2)]
            reports: list[ExportReport] = await asyncio.wait_for(
                asyncio.gather(*(request.result() for request in requests)),
                25,  # before the door would deliver again what the loop had lost
            )
        whole: ExportReport = await first.result()
        await fleet.loop_ended()
    assert sorted(await announced(fleet)) == days
    assert [report.expected for report in reports] == [1] * 8
    # Each day was exported by exactly one of those who asked for it, and every report says so of its own day.
    assert whole.exported + sum(report.exported for report in reports) == len(days)
    assert whole.missing == whole.exported + whole.already_there
    for report in reports:
        assert (report.exported + report.already_there + report.present) == 1
        assert report.failures == []


async def test_each_of_several_waiting_requesters_gets_the_report_of_its_own_request(fleet):
    await fleet.make_days(days=3, rows=10)
    await fleet.insert("events", "toDateTime('2024-03-20 00:00:00', 'UTC')", 5, offset=500)
    async with fleet.worker(), gate_at("before-commit") as gate:
        requests = [await fleet.start(from_="2024-03-18", to="2024-03-18")]
        await gate.reached()
        requests += [
            await fleet.start(from_="2024-03-20", to="2024-03-20"),
            await fleet.start(from_="2024-03-19", to="2024-03-19", dry_run=True),
            await fleet.start(from_="2024-03-02", to="2024-03-04"),
        ]
        await waits_with(fleet, 4)
        gate.open()
        reports: list[ExportReport] = await asyncio.gather(*(request.result() for request in requests))
    assert [(report.status, report.expected, report.rows) for report in reports] == [
        ("complete", 1, 10),
        ("complete", 1, 15),
        ("dry_run", 1, 0),
        ("nothing_to_do", 3, 0),
    ]


async def test_the_loop_completes_when_nothing_is_left_and_the_next_request_starts_it_anew(fleet):
    await fleet.make_days(days=1, rows=10)
    async with fleet.worker():
        await fleet.request()
        assert await fleet.loop_ended() == "COMPLETED"
        first = (await fleet.loop().describe()).run_id
        await fleet.request()
        assert await fleet.loop_ended() == "COMPLETED"
        second = (await fleet.loop().describe()).run_id
    assert first != second


async def test_a_signal_that_no_loop_can_read_harms_nobody(fleet):
    await fleet.make_days(days=2, rows=10)
    fleet.set_export(**ONE_AT_A_TIME)
    async with fleet.worker():
        async with gate_at("before-commit") as gate:
            request = await fleet.start()
            await gate.reached()
            await fleet.loop().signal(SUBMIT_SIGNAL, "2024-03-20")
            await fleet.loop().signal(SUBMIT_SIGNAL, SubmittedRequest("by-hand", "", {"tabel": "events"}))
            await fleet.loop().signal(SUBMIT_SIGNAL, args=[])
            await fleet.loop().signal(WITHDRAW_SIGNAL, args=[])
            await fleet.loop().signal(WITHDRAW_SIGNAL, "nobody")
            gate.open()
            report: ExportReport = await asyncio.wait_for(request.result(), 20)
        assert await fleet.loop_ended() == "COMPLETED"
    assert (report.status, report.exported) == ("complete", 2)

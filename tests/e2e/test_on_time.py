"""What is due is on time while a backfill keeps every slot of the workers busy."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from activities import failpoints
from activities.contracts.due import DUE_WORKFLOW, DueReport
from support.backfills import start_backfill
from support.fleet import Fleet, eventually
from support.gate import gate_at

TABLES = ("events_a", "events_b", "events_c")
DUE_TABLE = "events_a"
SLOTS = 2
SECONDS_PER_PARTITION = 0.1
OLD_HOURS = [f"2024-03-20T{hour:02}" for hour in range(4, 22)]
NEW_HOURS = ["2024-03-20T23", "2024-03-20T22"]
IN_BETWEEN = 4
"""Slots that may become free, and be given away, while Temporal brings what was scheduled to where it waits."""


@dataclass
class Step:
    """An activity of a loop as its history tells it; times in nanoseconds since the epoch."""

    name: str
    request: str
    """Id of the request that it served; empty for commits."""
    priority: int
    scheduled: int
    number: int
    """Of the event that scheduled it."""
    started: int = 0


@dataclass
class Life:
    """What a loop did, in order."""

    steps: dict[int, Step] = field(default_factory=dict)
    arrived: dict[str, int] = field(default_factory=dict)
    """Request id → number of the event that brought it."""

    def of(self, name: str, request: str = "") -> list[Step]:
        """Activities of a name, in the order in which they were scheduled."""
        return [step for step in self.steps.values() if step.name == name and step.request.startswith(request)]

    def arrival(self, request: str) -> int:
        """Number of the event that brought a request."""
        (number,) = [number for name, number in self.arrived.items() if name.startswith(request)]
        return number


def passed_by(waiting: Step, others: list[Step]) -> list[Step]:
    """Of others that waited already when this one came to wait, those that began before it."""
    return [step for step in others if step.scheduled < waiting.scheduled < step.started < waiting.started]


async def life_of(fleet: Fleet, table: str) -> Life:
    """The history of a loop's newest run."""
    life = Life()
    async for event in fleet.loop(table).fetch_history_events():
        if event.HasField("workflow_execution_signaled_event_attributes"):
            signal = event.workflow_execution_signaled_event_attributes
            if signal.signal_name == "submit":
                life.arrived[json.loads(signal.input.payloads[0].data)["id"]] = event.event_id
        elif event.HasField("activity_task_scheduled_event_attributes"):
            asked = event.activity_task_scheduled_event_attributes
            request = json.loads(asked.input.payloads[0].data).get("request_id", "")
            life.steps[event.event_id] = Step(
                asked.activity_type.name,
                request,
                asked.priority.priority_key,
                event.event_time.ToNanoseconds(),
                event.event_id,
            )
        elif event.HasField("activity_task_started_event_attributes"):
            begun = event.activity_task_started_event_attributes
            life.steps[begun.scheduled_event_id].started = event.event_time.ToNanoseconds()
    return life


async def export_due(fleet: Fleet, table: str) -> str:
    """Have the newest hour exported that is due, as a Schedule does; answers what the request's id begins with."""
    handle: Any = await fleet.temporal.start_workflow(
        DUE_WORKFLOW,
        {"environment": fleet.name, "table": table, "max_partitions": 1},
        id=f"due-{uuid.uuid4()}",
        task_queue=fleet.queue,
        result_type=DueReport,
    )
    report: DueReport = await asyncio.wait_for(handle.result(), 60)
    assert report.status == "complete"
    return f"{handle.id}/"


@asynccontextmanager
async def slow_exports() -> AsyncIterator[list[int]]:
    """Every partition takes a while; lists those that have begun."""
    begun: list[int] = []

    async def take_time() -> None:
        begun.append(1)
        await asyncio.sleep(SECONDS_PER_PARTITION)

    failpoints.arm("before-upload", take_time)
    try:
        yield begun
    finally:
        failpoints.disarm()


async def test_while_a_backfill_keeps_all_slots_busy_due_hours_of_its_tables_pass_whatever_waits(fleet):
    fleet.set_export(partitions_per_commit=6, parallel_partitions=6, small_partition_rows=1)
    for table in TABLES:
        await fleet.make_hours(table, hours=len(OLD_HOURS) + len(NEW_HOURS), rows=10)
    async with fleet.worker(slots=SLOTS), slow_exports() as begun:
        backfill = await start_backfill(fleet, "events_*", from_=OLD_HOURS[0], to=OLD_HOURS[-1], oldest_first=True)
        await eventually(lambda: len(begun) > SLOTS)
        due = [await export_due(fleet, DUE_TABLE) for _ in NEW_HOURS]
        report = await asyncio.wait_for(backfill.result(), 60)
        for table in TABLES:
            await fleet.loop_ended(table)
    loops = {table: await life_of(fleet, table) for table in TABLES}
    ranges = [step for life in loops.values() for step in life.of("export_partitions", backfill.id)]
    mine = loops[DUE_TABLE]
    for request in due:
        (plan,), (export,) = mine.of("plan_partitions", request), mine.of("export_partitions", request)
        for step in (plan, export):
            assert len(passed_by(step, ranges)) <= IN_BETWEEN, f"{step} waited behind what was not due"
        arrived = mine.arrival(request)
        committed = [step.number for step in mine.of("commit_partitions")]
        own = next(number for number in committed if number > export.number)
        assert len([number for number in committed if arrived < number < own]) <= 1, "one further page at most"
        assert any(step.started > export.started for step in ranges), "the backfill was to have work left"
    assert (report.status, report.exported) == ("complete", len(OLD_HOURS) * len(TABLES))
    exported = [one["partition"] for event in await fleet.events(DUE_TABLE) for one in event["partitions"]]
    assert [hour for hour in exported if hour in OLD_HOURS] == OLD_HOURS
    assert [hour for hour in exported if hour not in OLD_HOURS] == NEW_HOURS


async def test_a_page_that_something_due_waits_for_goes_on_with_the_priority_of_what_is_due(fleet):
    fleet.set_export(partitions_per_commit=2, parallel_partitions=1, small_partition_rows=1)
    await fleet.make_hours(hours=5, rows=10)

    async def waits() -> bool:
        return bool((await fleet.loop().query("progress"))["waiting"])

    async with fleet.worker(), gate_at("before-upload") as gate:
        backfill = await start_backfill(fleet, "events", from_="2024-03-20T19", to="2024-03-20T22", oldest_first=True)
        await gate.reached()
        due = await fleet.start(max_partitions=1)
        await eventually(waits)
        gate.open()
        await asyncio.gather(*(asyncio.wait_for(one.result(), 30) for one in (due, backfill)))
        await fleet.loop_ended()
    life = await life_of(fleet, "events")
    assert [step.priority for step in life.of("export_partitions", backfill.id)] == [3, 2, 3, 3]
    assert [step.priority for step in life.of("plan_partitions", due.id)] == [2]
    assert {step.priority for step in life.of("commit_partitions")} == {1}

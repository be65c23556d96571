"""Whoever starts work, there is one trace of it: a Schedule, a backfill, upkeep, somebody in the Temporal UI."""

import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import yaml
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle

from activities.contracts.backfill import BACKFILL_WORKFLOW
from activities.contracts.export import REQUEST_WORKFLOW
from deploy.local.stack import Stack
from support.collector import Collector, collecting
from support.fleet import Fleet, eventually
from support.tracing import Sent, forgetful, sent_events, set_for_commands

TO_THE_LOOP = [
    "HandleSignal:submit",
    "SignalWithStartWorkflow:ExportTable",
    "RunActivity:deliver_request",
    "StartActivity:deliver_request",
]
COMMITTED = ["nats publish", "RunActivity:commit_partitions", "StartActivity:commit_partitions", *TO_THE_LOOP]
"""From an event up to the door."""
LIMITS = {"partitions_per_commit": 1, "pages_per_run": 2}
"""So that loops, and the backfill, continue as new, and tables get more manifests than they should have."""


@dataclass(frozen=True)
class Told:
    """What came of work that was begun in four ways."""

    collector: Collector
    events: list[Sent]
    watched: str
    kept: dict[str, int]
    """What the upkeep did."""
    backfill_runs: int

    def path(self, event: Sent) -> list[str]:
        """From an event's sending up to where its trace began."""
        (sent,) = [span for span in self.collector.of(event.trace) if span.id == event.span]
        return self.collector.path(sent)

    def events_of(self, *tables: str) -> list[Sent]:
        """The events of these tables, in order."""
        return [event for event in self.events if event.table in tables]


@pytest.fixture(scope="module")
async def told(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Told]:
    """Every door once, by a worker that replays every step."""
    with collecting() as collector, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICEFLEET_LOCAL_DIR", str(stack.directory))
        async with Fleet(stack, tmp_path_factory.mktemp("doors"), export=LIMITS) as fleet:
            for table, days in {"events": 2, "votes": 8, "blocks": 1}.items():
                await fleet.make_days(table, days=days, rows=5)
            # As the Temporal UI and `temporal workflow start` do: they know nothing of traces.
            stranger = await Client.connect(f"127.0.0.1:{stack.ports['temporal']}")
            async with forgetful(fleet, collector.variables()):
                await schedule(fleet, stranger)
                filled = await backfill(fleet, stranger)
                with set_for_commands(collector.variables()):
                    code, kept, errors = await fleet.command("maintain", "--wait", "--json")
                assert code == 0, errors
                await late_rows(fleet, stranger)
                for table in ("events", "votes", "blocks"):
                    await fleet.loop_ended(table)
                events = await sent_events(fleet)
                with set_for_commands(collector.variables()):
                    _, watched, _ = await fleet.command("watch", "--all", "--count", str(len(events)))
            yield Told(collector, events, watched, json.loads(kept), filled)


async def schedule(fleet: Fleet, stranger: Client) -> None:
    """A Schedule fires; later somebody has its run begin again in its middle."""
    said = {"defaults": {"cron": "0 0 29 2 *", "jitter": "0s"}}
    (fleet.directory / "schedules.yaml").write_text(yaml.safe_dump({"schedules": said}))
    code, _, errors = await fleet.command("schedules", "apply", "--yes", "events")
    assert code == 0, errors
    made = stranger.get_schedule_handle(f"export/{fleet.name}/events")
    await made.trigger()

    async def started() -> str:
        actions = (await made.describe()).info.recent_actions
        return actions[-1].action.workflow_id if actions else ""

    due = stranger.get_workflow_handle(await eventually(started))
    assert (await due.result())["status"] == "complete"
    await made.delete()
    again = await begun_again(due)
    assert (await again.result())["status"] == "nothing_to_do"


async def begun_again(handle: WorkflowHandle) -> WorkflowHandle:
    """The run that goes on after the second step of a workflow's run, in its place."""
    kinds = [(event.event_type, event.event_id) async for event in handle.fetch_history_events()]
    run = (await handle.describe()).run_id
    _, second, *_ = [number for kind, number in kinds if kind == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED]
    client = handle._client
    new = await client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=handle.id, run_id=run),
            reason="a test",
            workflow_task_finish_event_id=second,
            request_id=str(uuid.uuid4()),
        )
    )
    return client.get_workflow_handle(handle.id, run_id=new.run_id)


async def backfill(fleet: Fleet, stranger: Client) -> int:
    """Two lanes, one of several slices, in several runs; answers how many."""
    asked = {"environment": fleet.name, "tables": ["votes", "blocks"], "partitions_per_request": 4}
    handle = await stranger.start_workflow(
        BACKFILL_WORKFLOW, asked, id=f"backfill-{uuid.uuid4()}", task_queue=fleet.queue
    )
    assert (await handle.result())["status"] == "complete"
    runs = 1
    first = handle.first_execution_run_id
    while (run := (await handle.describe()).run_id) != first:
        runs += 1
        (begun, *_) = (await stranger.get_workflow_handle(handle.id, run_id=run).fetch_history()).events
        before = begun.workflow_execution_started_event_attributes.continued_execution_run_id
        handle = stranger.get_workflow_handle(handle.id, run_id=before)
    return runs


async def late_rows(fleet: Fleet, stranger: Client) -> None:
    """Somebody asks for rows that came late."""
    await fleet.insert("events", "toDateTime('2024-03-20 01:00:00', 'UTC')", 5, updated="2024-04-02 00:00:00")
    asked = {"environment": fleet.name, "network": fleet.network, "table": "events"}
    done = await stranger.execute_workflow(
        REQUEST_WORKFLOW, asked, id=f"request-{uuid.uuid4()}", task_queue=fleet.queue
    )
    assert (done["status"], done["exported"]) == ("complete", 1)


def test_each_piece_of_work_is_one_trace_with_one_beginning(told):
    """Also the backfill of several runs, and the run of a Schedule that was reset in its middle."""
    assert [name for name in told.collector.roots() if name != "RunWorkflow:ExportTable"] == [
        "RunWorkflow:ExportDue",
        "RunWorkflow:Backfill",
        "icefleet maintain",
        "RunWorkflow:RequestExport",
    ]
    # That a table's loop goes on in a new run is nobody's: what it does there is in the traces of who asked.
    for run in told.collector.named("RunWorkflow:ExportTable"):
        assert run.parent or told.collector.of(run.trace) == [run]
    assert told.backfill_runs > 1
    assert len(told.collector.named("RunWorkflow:Backfill")) == told.backfill_runs


def test_every_span_has_its_parent_and_none_is_told_twice_however_often_workflows_are_replayed(told):
    assert told.collector.broken_links() == []
    assert told.collector.twice() == []


def test_what_a_schedule_commits_is_announced_in_the_trace_of_its_run(told):
    *first, late = told.events_of("events")
    assert len(first) == 2
    for event in first:
        assert told.path(event) == [
            *COMMITTED,
            "RunWorkflow:RequestExport",
            "StartChildWorkflow:RequestExport",
            "RunWorkflow:ExportDue",
        ]
    assert told.path(late) == [*COMMITTED, "RunWorkflow:RequestExport"]


def test_every_slice_of_every_lane_of_a_backfill_is_in_its_trace_in_whichever_run_it_was_asked_for(told):
    *filled, kept = told.events_of("votes")
    filled += told.events_of("blocks")
    assert len(filled) == 9
    ways = {tuple(told.path(event)) for event in filled}
    runs = {len(way) - len(COMMITTED) for way in ways}
    assert ways == {(*COMMITTED, *["RunWorkflow:Backfill"] * number) for number in runs}
    assert len({event.trace for event in filled}) == 1
    assert kept.trace not in {event.trace for event in filled}


def test_upkeep_reaches_the_table_s_loop_and_its_report_comes_back_in_one_trace(told):
    assert told.kept["manifests"] > 0
    door = [
        "RunWorkflow:Upkeep",
        "StartChildWorkflow:Upkeep",
        "RunWorkflow:MaintainTables",
        "StartWorkflow:MaintainTables",
        "icefleet maintain",
    ]
    (*_, event) = told.events_of("votes")
    assert told.path(event) == [
        *("nats publish", "RunActivity:merge_manifests", "StartActivity:merge_manifests"),
        *TO_THE_LOOP,
        *door,
    ]
    back = told.collector.named("HandleSignal:report", event.trace)
    assert len(back) == 3
    for one in back:
        assert told.collector.path(one) == [
            *("HandleSignal:report", "SignalExternalWorkflow:report"),
            *TO_THE_LOOP,
            *door,
        ]


def test_a_subscriber_hears_each_event_in_the_trace_that_its_headers_name(told):
    heard = {span.parent: span.trace for span in told.collector.named("nats receive")}
    assert heard == {event.span: event.trace for event in told.events}
    assert [line.rpartition(" trace ")[2] for line in told.watched.splitlines()] == [one.trace for one in told.events]
    for event in told.events:
        assert event.headers["ce-traceparent"] == event.body["traceparent"]
        assert event.body["traceparent"].split("-")[1] == event.trace

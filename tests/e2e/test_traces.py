"""One trace from whoever started work to whoever hears of it, as a collector sees it."""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import pytest
from temporalio.api.enums.v1 import TaskQueueKind
from temporalio.common import SearchAttributePair, TypedSearchAttributes

from activities.contracts.export import LOOP_WORKFLOW, NETWORK_ATTRIBUTE, SUBMIT_SIGNAL, TABLE_ATTRIBUTE, loop_id
from deploy.local.stack import Stack
from support.collector import Collector, collecting
from support.faultproxy import HttpFaults, Seen
from support.fleet import Fleet
from support.tracing import forgetful, sent_events, set_for_commands


@dataclass(frozen=True)
class Told:
    """What came of two exports: of one that a command asked for, and of one that somebody started without a trace."""

    collector: Collector
    command: str
    """The trace that began with the command."""
    other: str
    """The trace of the second export."""
    headers: list[Mapping[str, str]]
    """Of the events, in order."""
    events: list[dict[str, object]]
    watched: str
    queries: list[Seen]
    """What ClickHouse was asked."""
    log: list[dict[str, object]]
    """Of the worker."""
    waited: list[int]
    """In what kind of queue each step of the first export's loop waited."""


@pytest.fixture(scope="module")
async def told(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Told]:
    """Two exports, by a worker that replays every step, and everything that is told of them."""
    with collecting() as collector, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICEFLEET_LOCAL_DIR", str(stack.directory))
        variables = collector.variables(APP_VERSION="7.8.9", OTEL_RESOURCE_ATTRIBUTES="host.name=here")
        async with (
            Fleet(stack, tmp_path_factory.mktemp("traces"), export={"partition_attempts": 1}) as fleet,
            HttpFaults(stack.ports["clickhouse"]) as clickhouse,
        ):
            fleet.point(clickhouse=clickhouse.port)
            identifier = await fleet.make_days(days=2)
            async with forgetful(fleet, variables) as log:
                with set_for_commands(variables):
                    code, _, errors = await fleet.command("export", "events", "-n", fleet.network, "--wait")
                assert code == 0, errors
                await fleet.loop_ended()
                waited = await _queues_of_steps(fleet)
                await fleet.insert(
                    "events", "toDateTime('2024-03-20 01:00:00', 'UTC')", 5, updated="2024-04-02 00:00:00"
                )
                assert (await fleet.request()).status == "complete"
                await fleet.loop_ended()
                await _send_nonsense(fleet)
                with set_for_commands(variables):
                    _, watched, _ = await fleet.command("watch", identifier, "--all", "--count", "2")
            begun = {span.name: span.trace for span in collector.spans if not span.parent}
            assert begun.keys() == {
                "icefleet export",
                "RunWorkflow:RequestExport",
                # Of the nonsense, which nobody is behind.
                "RunWorkflow:ExportTable",
                "HandleSignal:submit",
            }
            yield Told(
                collector,
                begun["icefleet export"],
                begun["RunWorkflow:RequestExport"],
                [sent.headers for sent in await sent_events(fleet)],
                await fleet.events(),
                watched,
                list(clickhouse.seen),
                [json.loads(line) for line in log.read_text().splitlines()],
                waited,
            )


async def _queues_of_steps(fleet: Fleet) -> list[int]:
    history = await fleet.loop().fetch_history()
    return [
        event.workflow_task_scheduled_event_attributes.task_queue.kind
        for event in history.events
        if event.HasField("workflow_task_scheduled_event_attributes")
    ]


async def _send_nonsense(fleet: Fleet) -> None:
    """Say something to the loop that it refuses, in its log."""
    loop = {"environment": fleet.name, "table": "events", "network": fleet.network}
    await fleet.temporal.start_workflow(
        LOOP_WORKFLOW,
        loop,
        id=loop_id(fleet.name, fleet.network, "events"),
        task_queue=fleet.queue,
        start_signal=SUBMIT_SIGNAL,
        start_signal_args=[{"what": "ever"}],
        search_attributes=TypedSearchAttributes(
            [SearchAttributePair(TABLE_ATTRIBUTE, "events"), SearchAttributePair(NETWORK_ATTRIBUTE, fleet.network)]
        ),
    )
    await fleet.loop_ended()


def test_a_command_and_the_event_that_a_subscriber_hears_are_ends_of_one_trace(told):
    (heard,) = told.collector.named("nats receive", told.command)
    assert told.collector.path(heard) == [
        "nats receive",
        "nats publish",
        "RunActivity:commit_partitions",
        "StartActivity:commit_partitions",
        "HandleSignal:submit",
        "SignalWithStartWorkflow:ExportTable",
        "RunActivity:deliver_request",
        "StartActivity:deliver_request",
        "RunWorkflow:RequestExport",
        "StartWorkflow:RequestExport",
        "icefleet export",
    ]


def test_a_workflow_that_nobody_handed_a_trace_to_begins_one_which_reaches_the_subscriber_too(told):
    (heard,) = told.collector.named("nats receive", told.other)
    assert told.collector.path(heard)[-4:] == [
        "SignalWithStartWorkflow:ExportTable",
        "RunActivity:deliver_request",
        "StartActivity:deliver_request",
        "RunWorkflow:RequestExport",
    ]


def test_whatever_activities_ask_of_the_world_is_in_the_trace(told):
    for trace in (told.command, told.other):
        asked = Counter(
            told.collector.path(span)[1] for span in told.collector.of(trace) if span.name == "clickhouse stream"
        )
        assert set(asked) == {"RunActivity:export_partitions"}
        (*_, committed) = told.collector.named("catalog POST", trace)
        assert told.collector.path(committed)[1] == "RunActivity:commit_partitions"
        (*_, stored) = [
            one for one in told.collector.named("objectstore PutObject", trace) if "parquet" in str(one.attributes)
        ]
        assert told.collector.path(stored)[1] == "RunActivity:export_partitions"
        assert stored.attributes["http.response.status_code"] == 200
        (*_, manifest) = [
            one for one in told.collector.named("objectstore write", trace) if ".avro" in str(one.attributes)
        ]
        assert told.collector.path(manifest)[1] == "RunActivity:commit_partitions"


def test_every_span_has_its_parent_and_none_is_told_twice_however_often_workflows_are_replayed(told):
    assert told.collector.broken_links() == []
    assert told.collector.twice() == []


def test_the_loop_was_replayed_at_each_of_its_steps(told):
    """A worker that remembers a loop has its next steps in a queue of the worker's own."""
    assert len(told.waited) > 3
    assert set(told.waited) == {TaskQueueKind.TASK_QUEUE_KIND_NORMAL}


def test_clickhouse_is_told_who_asks(told):
    asked = [seen for seen in told.queries if "log_comment=" in seen.path and "traceparent" in seen.headers]
    spans = {span.id: span for span in told.collector.spans}
    streams = 0
    for seen in asked:
        _, trace, span, _ = seen.headers["traceparent"].split("-")
        assert spans[span].trace == trace
        (said,) = re.findall(r"log_comment=[^&]*\+trace\+(\w+)", seen.path)
        assert said == trace
        streams += spans[span].name == "clickhouse stream"
    assert streams == 3


def test_an_event_says_in_which_trace_it_was_committed_and_sent(told):
    for headers, event, trace in zip(told.headers, told.events, (told.command, told.other), strict=True):
        assert event["traceparent"] == headers["ce-traceparent"]
        assert headers["ce-traceparent"].split("-")[1] == trace
        (sent,) = told.collector.named("nats publish", trace)
        assert headers["traceparent"].split("-")[1:3] == [trace, sent.id]
    assert [line.rpartition(" trace ")[2] for line in told.watched.splitlines()] == [told.command, told.other]


def test_spans_say_whose_they_are(told):
    of_workers = next(span for span in told.collector.spans if span.name.startswith("RunActivity:")).resource
    of_command = next(span for span in told.collector.spans if span.name == "icefleet export").resource
    assert (of_workers["service.name"], of_command["service.name"]) == ("icefleet-worker", "icefleet")
    assert {of["service.version"] for of in (of_workers, of_command)} == {"7.8.9"}
    assert {of["host.name"] for of in (of_workers, of_command)} == {"here"}
    assert of_workers["deployment.environment.name"] == of_command["deployment.environment.name"] != ""
    assert all(
        span.attributes["icefleet.table"]
        for span in told.collector.named("RunActivity:export_partitions", told.command)
    )


def test_what_a_workflow_logs_says_where_it_belongs(told):
    lines = [line for line in told.log if "a request was refused" in str(line["event"])]
    assert len(lines) == 1
    for line in lines:
        assert line["workflow"] == "ExportTable"
        assert line["workflow_id"].startswith("export/")
        assert re.fullmatch(r"[0-9a-f-]{36}", line["run_id"])
        assert line["table"].endswith(".events")
        assert re.fullmatch(r"[0-9a-f]{32}", line["trace_id"])
        assert re.fullmatch(r"[0-9a-f]{16}", line["span_id"])

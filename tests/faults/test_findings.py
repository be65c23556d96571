"""Findings: events of what people must look at, derived from the stream, said once until they change."""

import asyncio
import contextlib
import json
import socket

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities import findings
from activities.clients.bus import _covers
from activities.contracts.findings import SHRUNK, FoundPartition, Look
from activities.export import Export
from activities.findings import standing_findings
from support.faultproxy import TcpFaults
from support.findings import findings_of
from support.fleet import eventually
from support.gate import gate_at
from support.ownnats import own_nats

DAYS = ["2024-03-01", "2024-03-20"]


def looked(fleet, *found, at=(DAYS,), omitted=0, kind=SHRUNK):
    """What a look at March says that finds partitions of 10 rows, of which the source holds so many."""
    partitions = [FoundPartition(f"2024-03-{day:02}", 10, rows) for day, rows in found]
    return Look(fleet.name, "events", fleet.network, kind, [list(one) for one in at], partitions, omitted)


async def publish(context, look):
    return await ActivityEnvironment().run(Export(context).publish_findings, look)


def said(events):
    """Of each event: its partitions, each as its day and the rows that the source holds."""
    return [
        [(one["partition"][-2:], int(one["sourceRows"])) for one in event.get("partitions", [])] for event in events
    ]


@pytest.fixture
async def context(fleet):
    fleet.add_table("daily", "events", "at")
    async with fleet.context() as opened:
        yield opened


async def test_a_finding_is_said_once_and_again_only_when_it_changes_goes_or_comes_back(fleet, context):
    nights = [((20, 4),), ((20, 4),), ((20, 4), (18, 0)), (), (), ((20, 4),)]
    published = [(await publish(context, looked(fleet, *night))).published for night in nights]
    events = await findings_of(fleet)
    assert published == [True, False, True, True, False, True]
    assert said(events) == [[("20", 4)], [("20", 4), ("18", 0)], [], [("20", 4)]]
    assert len({event["_id"] for event in events}) == 4
    assert {name: events[0][name] for name in ("environment", "table", "network", "sourceTable", "kind")} == {
        "environment": fleet.name,
        "table": f"{fleet.network}.events",
        "network": fleet.network,
        "sourceTable": "events",
        "kind": "shrunk",
    }


async def test_a_look_takes_back_only_what_it_looked_at_and_only_of_its_kind(fleet, context):
    await publish(context, looked(fleet, (20, 4), (5, 1)))
    elsewhere = await publish(context, looked(fleet, at=(["2024-03-10", "2024-03-15"],)))
    other = await publish(context, looked(fleet, kind="mismatch"))
    part = await publish(context, looked(fleet, (19, 2), at=(["2024-03-18", "2024-03-20"],)))
    assert [(report.published, report.standing) for report in (elsewhere, other, part)] == [
        (False, 2),
        (False, 0),
        (True, 2),
    ]
    assert said(await findings_of(fleet)) == [[("20", 4), ("05", 1)], [("19", 2), ("05", 1)]]


async def test_what_was_found_beyond_the_list_stays_counted_until_everything_has_been_looked_at(fleet, context):
    await publish(context, looked(fleet, (20, 4), (5, 1), omitted=7))
    await publish(context, looked(fleet, at=(["2024-03-20", "2024-03-20"],)))
    await publish(context, looked(fleet))
    events = await findings_of(fleet)
    assert [event.get("partitionsOmitted", "0") for event in events] == ["7", "7", "0"]
    assert said(events) == [[("20", 4), ("05", 1)], [("05", 1)], []]


async def test_tables_show_what_stands_by_one_look_at_the_stream_and_without_nats_everything_else(fleet, context):
    fleet.add_table("daily", "others", "at")
    for look in [
        looked(fleet, (20, 4), (18, 0), omitted=1),
        looked(fleet, (20, 4), kind="verify"),
        looked(fleet, (20, 4), kind="gone"),
        looked(fleet, kind="gone"),
    ]:
        await publish(context, look)
    events, others = f"{fleet.network}.events", f"{fleet.network}.others"
    assert await standing_findings(context.bus, fleet.name) == {events: {"shrunk": 3, "verify": 1}}
    assert await standing_findings(context.bus, f"{fleet.name}-other") == {}
    code, said, errors = await fleet.command("tables", "--all")
    assert (code, errors) == (0, "")
    heading, *lines = said.splitlines()
    assert "findings" in heading.split()
    assert [line.split() for line in lines] == [
        [events, *"-----", "3", "shrunk,", "1", "verify", "not", "exported", "yet"],
        [others, *"-----", "not", "exported", "yet"],
    ]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = probe.getsockname()[1]
    as_json = await fleet.command("tables", "--json")
    fleet.point(nats=nobody)
    unknown, unknown_json = await asyncio.gather(fleet.command("tables", "--all"), fleet.command("tables", "--json"))
    assert [one["findings"] for one in json.loads(as_json[1])] == [{"shrunk": 3, "verify": 1}, {}]
    assert [one["findings"] for one in json.loads(unknown_json[1])] == [None, None]
    assert [line.split()[6] for line in unknown[1].splitlines()[1:]] == ["?", "?"]
    for code, _, errors in (unknown, unknown_json):
        assert (code, len(errors.splitlines())) == (3, 1)
        assert errors.startswith(f"findings unknown: NATS nats://127.0.0.1:{nobody}")


async def test_looks_published_at_once_leave_out_neither(fleet, context):
    looks = [looked(fleet, (day, 1), at=([f"2024-03-{day}", f"2024-03-{day}"],)) for day in (18, 19, 20)]
    async with gate_at("before-announce") as gate:
        publishing = [asyncio.create_task(until_published(context, look)) for look in looks]
        await eventually(lambda: gate.passed == 3)
    await asyncio.gather(*publishing)
    assert sorted(said(await findings_of(fleet))[-1]) == [("18", 1), ("19", 1), ("20", 1)]


async def until_published(context, look):
    """What the loop does: try again while the bus is in the way, and only then."""

    async def done():
        with contextlib.suppress(ApplicationError):
            return await publish(context, look)

    await eventually(done)


async def test_a_stream_that_was_made_for_snapshots_alone_takes_findings_too(fleet, tmp_path):
    fleet.add_table("daily", "events", "at")
    async with own_nats(tmp_path) as server:
        await server.make_stream(duplicate_window=1)
        fleet.point(nats=server.port)
        async with fleet.context() as context:
            await until_published(context, looked(fleet, (20, 4)))
            subjects = (await server.jetstream.stream_info("ICEFLEET")).config.subjects
            assert said(await findings_of(fleet, port=server.port)) == [[("20", 4)]]
    assert subjects == ["icefleet.*.snapshot.>", "icefleet.*.finding.>"]


async def test_the_metric_counts_what_stands(fleet, context, monkeypatch):
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("icefleet")
    monkeypatch.setattr(findings, "_STANDING", meter.create_gauge("icefleet.findings"))
    await publish(context, looked(fleet, (20, 4), (18, 0), omitted=3))
    await publish(context, looked(fleet, kind="mismatch"))
    [metric] = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    where = {"environment": fleet.name, "network": fleet.network, "table": "events"}
    assert metric.name == "icefleet.findings"
    assert [(point.attributes, point.value) for point in metric.data.data_points] == [
        ({**where, "kind": "shrunk"}, 5),
        ({**where, "kind": "mismatch"}, 0),
    ]


async def test_a_message_of_somebody_else_on_the_subject_is_named_and_nothing_published(fleet, context):
    await publish(context, looked(fleet, (20, 4)))
    subject = f"icefleet.{fleet.name}.finding.{fleet.network}.events.shrunk"
    last = await context.bus.last(subject)
    await context.bus.publish(subject, b"hello", {}, message_id="theirs", after=last.sequence)
    with pytest.raises(ApplicationError, match="is no finding of ours") as refused:
        await publish(context, looked(fleet))
    assert (refused.value.type, refused.value.non_retryable) == ("BusRefused", True)


@pytest.mark.parametrize(
    ("pattern", "subject", "covers"),
    [
        ("icefleet.>", "icefleet.*.finding.>", True),
        ("icefleet.*.finding.>", "icefleet.*.finding.>", True),
        ("icefleet.*.*.>", "icefleet.*.finding.>", True),
        ("icefleet.local.>", "icefleet.*.finding.>", False),
        ("icefleet.*.snapshot.>", "icefleet.*.finding.>", False),
        ("icefleet.*.finding.*", "icefleet.*.finding.>", False),
        ("icefleet.*", "icefleet.*.finding.>", False),
    ],
)
def test_a_subject_is_added_to_a_stream_only_if_nothing_there_covers_it(pattern, subject, covers):
    assert _covers(pattern, subject) is covers


async def test_the_loop_publishes_what_has_shrunk_however_long_nats_is_away_and_holds_nothing_up(fleet):
    """Every page is a run of the loop here, so what waits for NATS also crosses from run to run."""
    await fleet.make_days(days=4, rows=10)
    fleet.set_export(pages_per_run=1, partitions_per_commit=1)
    async with TcpFaults(fleet.stack.ports["nats"]) as wire:
        fleet.point(nats=wire.port)
        async with fleet.worker():
            await fleet.request(to="2024-03-18")
            await fleet.loop_ended()
            before = await findings_of(fleet)
            await fleet.run_sql(
                f"ALTER TABLE {fleet.database}.events DELETE WHERE number >= 24 SETTINGS mutations_sync = 1"
            )
            await wire.refuse()
            shrunk = await fleet.request()
            dry = await fleet.request(dry_run=True)
            assert (shrunk.status, shrunk.exported, dry.status) == ("complete", 2, "dry_run")
            assert shrunk.shrunk == dry.shrunk == ["2024-03-18", "2024-03-17"]
            assert await findings_of(fleet) == []
            await wire.mend()
            assert await fleet.loop_ended() == "COMPLETED"
    assert before == []
    assert said(await findings_of(fleet)) == [[("18", 4), ("17", 0)]]

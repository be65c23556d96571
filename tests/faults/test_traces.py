"""A worker is killed in the middle of an export, and another finishes it: what is told of it, and what is lost."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from activities.contracts.export import PROGRESS_QUERY
from deploy.local.stack import Stack
from support import forks
from support.collector import Collector, SeenSpan, collecting
from support.faultproxy import Hold, HttpFaults
from support.fleet import Fleet, eventually
from support.tracing import Sent, sent_events

NEVER = {"OTEL_BSP_SCHEDULE_DELAY": "600000"}
SECOND_DAY = r"/events/2024/3/19\.parquet"


@dataclass(frozen=True)
class Told:
    """What came of an export that two workers shared."""

    collector: Collector
    events: list[Sent]
    asked: str
    """The trace of the command that asked for it."""

    @property
    def spans(self) -> list[SeenSpan]:
        """Of the export."""
        return self.collector.of(self.asked)

    def by(self, worker: str) -> list[SeenSpan]:
        """Of these, what one worker told."""
        return [span for span in self.spans if span.resource.get("worker") == worker]


async def shared(stack: Stack, directory: Path, *, sent: bool) -> Told:
    """The first worker is killed while it uploads the second of two days.

    `sent`: what it had begun in workflows, and what it had asked for and got, was sent by then.
    """
    limits = {"partitions_per_commit": 1, "parallel_partitions": 1}
    with collecting() as collector:
        async with (
            Fleet(stack, directory, export=limits) as fleet,
            HttpFaults(stack.ports["s3"]) as store,
        ):
            fleet.point(s3=store.port)
            await fleet.make_days(days=2, rows=10)
            await fleet.make_days("others", days=1, rows=10)
            store.on(Hold(), method="PUT", path=SECOND_DAY)
            waits = {} if sent else NEVER
            with fleet.worker_process(variables=collector.variables(**called("victim"), **waits)) as victim:
                await export(fleet, collector, "events")
                await eventually(lambda: store.count("PUT", SECOND_DAY))
                await eventually(lambda: announced(fleet))
                if sent:
                    # Where an activity ends, what others have asked for and got is sent, too.
                    await export(fleet, collector, "others", "--wait")
                    await fleet.loop_ended("others")
                    await eventually(lambda: [under_way(collector, one) for one in commands(collector)] == [1, 0])
                    await eventually(collector.broken_links)
                victim.kill()
                await asyncio.to_thread(victim.wait)
            with fleet.worker_process(variables=collector.variables(**called("heir"))) as heir:
                await fleet.loop_ended(seconds=120)
                await eventually(lambda: any(told_by(span, "heir") for span in collector.named("HandleSignal:report")))
                heir.terminate()
                await asyncio.to_thread(heir.wait)
            events = [event for event in await sent_events(fleet) if event.table == "events"]
            return Told(collector, events, commands(collector)[0])


async def announced(fleet: Fleet) -> bool:
    """Whether the first day is done with, and nothing is under way but the second."""
    progress = await fleet.loop().query(PROGRESS_QUERY)
    return not (progress["announcing"] or progress["publishing"])


def commands(collector: Collector) -> list[str]:
    """The traces that began with commands, in order."""
    return [span.trace for span in collector.named("icefleet export")]


def under_way(collector: Collector, trace: str) -> int:
    """Activities of a trace that have begun and not ended."""
    steps = Counter(span.name.partition(":")[0] for span in collector.of(trace))
    return steps["StartActivity"] - steps["RunActivity"]


def called(worker: str) -> dict[str, str]:
    """By which name its spans are known."""
    return {"OTEL_RESOURCE_ATTRIBUTES": f"worker={worker}"}


def told_by(span: SeenSpan, worker: str) -> bool:
    return bool(span.resource.get("worker") == worker)


async def export(fleet: Fleet, collector: Collector, *words: str) -> None:
    command = ["export", *words, "-n", fleet.network]
    code, _, errors = await forks.run(command, {**fleet.variables(), **collector.variables()}, 60)
    assert code == 0, errors


@pytest.fixture(scope="module")
async def both(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Mapping[bool, Told]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICEFLEET_LOCAL_DIR", str(stack.directory))
        directory = tmp_path_factory.mktemp("killed")
        ended = await asyncio.gather(*(shared(stack, directory / str(sent), sent=sent) for sent in (True, False)))
    return dict(zip((True, False), ended, strict=True))


@pytest.fixture(params=[True, False], ids=["sent", "unsent"])
def told(both: Mapping[bool, Told], request: pytest.FixtureRequest) -> Told:
    return both[request.param]


@pytest.fixture
def sent(both: Mapping[bool, Told]) -> Told:
    return both[True]


@pytest.fixture
def unsent(both: Mapping[bool, Told]) -> Told:
    return both[False]


def test_what_the_other_worker_does_and_every_event_are_in_the_trace_that_began_with_the_command(told):
    assert [event.trace for event in told.events] == [told.asked] * 2
    heirs = [span for span in told.collector.spans if told_by(span, "heir")]
    assert {span.trace for span in heirs} == {told.asked}
    assert [span.name for span in told.spans if not span.parent] == ["icefleet export"]


def test_nothing_is_told_twice_by_the_two_workers(told):
    assert told.collector.twice() == []


def test_the_attempt_that_was_killed_is_lost_and_the_next_one_is_told(sent):
    attempts = Counter(
        span.attributes["temporalAttempt"] for span in sent.spans if span.name == "RunActivity:export_partitions"
    )
    assert attempts == {1: 1, 2: 1}


def test_only_what_the_killed_attempt_had_asked_for_is_left_without_its_parent(sent):
    broken = sent.collector.broken_links()
    assert {(span.trace, span.resource["worker"]) for span in broken} == {(sent.asked, "victim")}
    assert len({span.parent for span in broken}) == 1
    assert {span.name.split()[0] for span in broken} <= {"clickhouse", "objectstore", "catalog"}


def test_what_was_not_sent_when_its_worker_was_killed_is_lost_and_everything_else_is_told(unsent):
    assert unsent.by("victim") == []
    broken = unsent.collector.broken_links()
    steps = [[span.name for span in broken if span.parent == parent] for parent in {span.parent for span in broken}]
    # Of the steps that were lost two were not done with: one partition was to be exported, for one request.
    assert sorted(map(sorted, steps)) == [
        ["RunActivity:export_partitions"],
        [
            "SignalExternalWorkflow:report",
            "StartActivity:announce_snapshots",
            "StartActivity:commit_partitions",
            "StartActivity:publish_metadata",
        ],
    ]

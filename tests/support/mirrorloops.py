"""The loops of mirrors with rooms that answer as a test says, on real queues of a real Temporal."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from activities import spans
from activities.contracts.mirrors import (
    MERGE_ONCE_WORKFLOW,
    MERGE_SIGNAL,
    MERGE_WORKFLOW,
    VERIFY_MIRROR_WORKFLOW,
    CompactReport,
    MergeInput,
    MergeOnceRequest,
    MergeReport,
    MirrorActivities,
    MirrorInput,
    MirrorLag,
    MirrorTrouble,
    TidyReport,
    VerifyMirrorInput,
    VerifyMirrorReport,
    mirror_id,
)
from activities.core.faults import Fault
from activities.errors import faults_named
from activities.handover import until_worker_stops
from activities.heartbeats import heartbeats
from activities.mirror_context import MirrorContext
from activities.mirrors import Mirrors
from support.cdcloops import BEAT_SECONDS
from support.fleet import Fleet, eventually
from support.onequeue import OneQueue, activities_of
from worker.registered import WORKFLOWS
from worker.wiring_mirrors import open_mirrors

MIRROR = "shop.orders"


def entry(mirror: str = MIRROR, **more: Any) -> dict[str, Any]:
    """A mirror as mirrors.yaml has it."""
    return {"changelog_table": f"{mirror}_changelog", "mirror_table": mirror, "primary_keys": ["id"], **more}


def merged(upserted: int = 3, **more: Any) -> MergeReport:
    """A turn of merging; by default one commit of three rows, after which nothing is left."""
    counts = {"commits": 1, "scanned": upserted, "upserted": upserted, "watermark": "41", "snapshot_id": "7"}
    return MergeReport(**{**counts, **more})


NOTHING = MergeReport(watermark="41")
"""A turn that found nothing."""


def told(*merge: str, **upkeep: str) -> dict[str, dict[str, str]]:
    """What a loop has told, as its progress shows it: faults with messages, and what beside merges keeps failing."""
    return {"merge": {detail.partition(":")[0]: detail for detail in merge}, "upkeep": upkeep}


class MergeRooms(Mirrors):
    """What the loops call. `merges` of a mirror are answered in order (a fault is raised), then with `NOTHING`."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.merges: dict[str, list[MergeReport | Fault]] = {}
        self.always: dict[str, Fault] = {}
        """Mirror → what each of its merges ends with."""
        self.held: set[str] = set()
        """Mirrors whose merges wait until they are cancelled or let go."""
        self.remade: Callable[[str, str], MergeReport | Fault] = lambda _what, _mirror: merged()
        self.compacted: list[CompactReport | Fault] = []
        self.tidied: TidyReport | Fault = TidyReport()
        self.calls: list[Any] = []
        """Whatever the activities were called with, in order: beside their inputs `(activity, mirror)`."""
        self.begun: set[str] = set()
        """Mirrors of which a merge has begun."""
        self.traces: list[str] = []
        """The trace of each merge, in order."""
        self.asked_in = ""
        """The trace in which an order was last sent to its loop."""
        self.running: list[str] = []
        """Mirrors whose merges wait just now."""

    def called(self, shape: type) -> list[Any]:
        """The inputs of one kind that have come."""
        return [call for call in self.calls if type(call) is shape]

    def done(self, what: str) -> list[str]:
        """The mirrors for which something was done, in order."""
        return [call[1] for call in self.called(tuple) if call[0] == what]

    @activity.defn(name="merge_mirror")
    @faults_named
    async def merge_mirror(self, merge: MergeInput) -> MergeReport:
        """Answer as the test says."""
        self.calls.append(merge)
        self.begun.add(merge.mirror)
        self.traces.append(spans.trace_id())
        async with heartbeats("merging", every=BEAT_SECONDS):
            self.running.append(merge.mirror)
            try:
                await until_worker_stops(self._wait(merge.mirror), grace=0)
            finally:
                self.running.remove(merge.mirror)
        if merge.mirror in self.always:
            raise self.always[merge.mirror]
        waiting = self.merges.get(merge.mirror)
        return _told(waiting.pop(0)) if waiting else NOTHING

    async def _wait(self, mirror: str) -> None:
        await eventually(lambda: mirror not in self.held, every=0.02)

    @activity.defn(name="rebuild_index")
    @faults_named
    async def rebuild_index(self, asked: MirrorInput) -> MergeReport:
        """Answer as the test says."""
        self.calls.append(("rebuild", asked.mirror))
        return _told(self.remade("rebuild", asked.mirror))

    @activity.defn(name="bootstrap_mirror")
    @faults_named
    async def bootstrap_mirror(self, asked: MirrorInput) -> MergeReport:
        """Answer as the test says."""
        self.calls.append(("bootstrap", asked.mirror))
        return _told(self.remade("bootstrap", asked.mirror))

    @activity.defn(name="compact_mirror")
    @faults_named
    async def compact_mirror(self, asked: MirrorInput) -> CompactReport:
        """Answer as the test says."""
        self.calls.append(("compact", asked.mirror))
        return _told(self.compacted.pop(0)) if self.compacted else CompactReport("8", 10, 2)

    @activity.defn(name="tidy_mirror")
    @faults_named
    async def tidy_mirror(self, asked: MirrorInput) -> TidyReport:
        """Answer as the test says."""
        self.calls.append(("tidy", asked.mirror))
        return _told(self.tidied)

    @activity.defn(name="verify_mirror")
    @faults_named
    async def verify_mirror(self, asked: VerifyMirrorInput) -> VerifyMirrorReport:
        """Say that they are equal."""
        self.calls.append(asked)
        return VerifyMirrorReport("equal", "equal", 3, 3, "c", "c", asked.samples or asked.ranges, "41", index="whole")

    @activity.defn(name="tell_trouble")
    @faults_named
    async def tell_trouble(self, trouble: MirrorTrouble) -> bool:
        """Remember that it was told, and tell it."""
        self.calls.append(trouble)
        return await super().tell_trouble(trouble)

    @activity.defn(name="watch_mirror")
    @faults_named
    async def watch_mirror(self, trouble: MirrorTrouble) -> MirrorLag:
        """Remember that it was looked at, and do it."""
        self.calls.append(("watch", trouble.mirror))
        return await super().watch_mirror(trouble)

    @activity.defn(name="signal_mirror")
    async def signal_mirror(self, asked: MergeOnceRequest) -> str:
        """Remember that it was asked for, and do it."""
        self.calls.append(asked)
        self.asked_in = spans.trace_id()
        return await super().signal_mirror(asked)


def _told(answer: Any) -> Any:
    if isinstance(answer, Fault):
        raise answer
    return answer


class MirrorLoops:
    """The loops of a fleet's mirrors."""

    def __init__(self, fleet: Fleet, rooms: MergeRooms) -> None:
        self._fleet = fleet
        self.rooms = rooms

    def handle(self, mirror: str = MIRROR) -> WorkflowHandle[Any, Any]:
        """A mirror's loop, whoever started it."""
        return self._fleet.temporal.get_workflow_handle(mirror_id(self._fleet.name, mirror))

    async def start(self, mirror: str = MIRROR, *, identity: str = "", **fields: Any) -> WorkflowHandle[Any, Any]:
        """Start a mirror's loop."""
        return await self._fleet.temporal.start_workflow(
            MERGE_WORKFLOW,
            {"environment": self._fleet.name, "mirror": mirror, **fields},
            id=identity or mirror_id(self._fleet.name, mirror),
            task_queue=self._fleet.merge_queue,
        )

    async def order(self, number: int = 1, order: str = MERGE_SIGNAL, mirror: str = MIRROR) -> WorkflowHandle[Any, Any]:
        """Start the door."""
        return await self._fleet.temporal.start_workflow(
            MERGE_ONCE_WORKFLOW,
            {"environment": self._fleet.name, "mirror": mirror, "order": order},
            id=f"order-{self._fleet.name}-{number}",
            task_queue=self._fleet.merge_queue,
        )

    async def verify(self, mirror: str = MIRROR, **fields: Any) -> WorkflowHandle[Any, Any]:
        """Start a comparison."""
        return await self._fleet.temporal.start_workflow(
            VERIFY_MIRROR_WORKFLOW,
            {"environment": self._fleet.name, "mirror": mirror, **fields},
            id=f"verify-{self._fleet.name}",
            task_queue=self._fleet.merge_queue,
        )


@contextlib.asynccontextmanager
async def mirror_loops(
    fleet: Fleet,
    mirrors: Sequence[str] = (MIRROR,),
    *,
    sandboxed: bool = False,
    slots: int = 20,
    rooms: Callable[[MirrorContext], Mirrors] | None = None,
) -> AsyncIterator[MirrorLoops]:
    """A worker of the fleet's mirrors, whose rooms answer as the test says, or are those that `rooms` makes.

    Without a sandbox, which would load modules anew, a test may shorten the loops' pauses.
    """
    fleet.set_mirrors(*(entry(mirror) for mirror in mirrors))
    async with open_mirrors(fleet.settings(), fleet.name, fleet.temporal) as context:
        answering = MergeRooms(context)
        serving = rooms(context) if rooms else answering
        async with Worker(
            fleet.temporal,
            task_queue=fleet.merge_queue,
            workflows=WORKFLOWS["merge"],
            activities=[
                *activities_of(serving, MirrorActivities),
                OneQueue().find_queues,
            ],
            workflow_runner=SandboxedWorkflowRunner() if sandboxed else UnsandboxedWorkflowRunner(),
            max_concurrent_activities=slots,
            graceful_shutdown_timeout=timedelta(seconds=10),
            max_heartbeat_throttle_interval=timedelta(seconds=BEAT_SECONDS),
            default_heartbeat_throttle_interval=timedelta(seconds=BEAT_SECONDS),
            max_cached_workflows=50,
        ):
            yield MirrorLoops(fleet, answering)

"""The loops of a pipeline with rooms that answer as a test says, on real queues of a real Temporal."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.client import WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.cdc import Cdc
from activities.clients.waits import waiting_for
from activities.contracts.cdc import (
    CAPTURE_WORKFLOW,
    INGEST_WORKFLOW,
    KEEP_WORKFLOW,
    LETTERS_WORKFLOW,
    LOOPS,
    CaptureInput,
    CaptureReport,
    CdcActivities,
    ChangelogsInput,
    ChangelogsReport,
    CopyInput,
    CopyReport,
    IngestInput,
    IngestReport,
    InstallReport,
    InstallRequest,
    KeepInput,
    KeepPage,
    LettersReport,
    LettersRequest,
    LoopSignal,
    TableBatch,
    UninstallReport,
    UninstallRequest,
    capture_id,
    ingest_id,
)
from activities.contracts.export import PROGRESS_QUERY
from activities.core.faults import Fault
from activities.errors import faults_named
from activities.handover import until_worker_stops
from activities.heartbeats import heartbeats
from support.fleet import Fleet, eventually
from support.onequeue import activities_of
from worker.registered import SANDBOX, WORKFLOWS
from worker.wiring_cdc import open_cdc

NOWHERE = {"host": "127.0.0.1", "port": 1, "database": "nowhere", "user": "nobody"}
PIPELINE = "shop"
BEAT_SECONDS = 0.05
"""How long an activity may take to hear that it was cancelled: it hears so when it has sent a heartbeat."""


def batch(table: str, **more: Any) -> TableBatch:
    """What a batch did to a table; by default one snapshot of three events."""
    return TableBatch(**{"table": table, "changelog": f"cdc.{table}", "events": 3, "snapshot_id": "7", **more})


def ingested(*tables: TableBatch, **more: Any) -> IngestReport:
    """A batch of these tables."""
    events = sum(table.events for table in tables)
    counts = {"events": events, "bytes": 10 * events, "epoch": 1, "more": False}
    return IngestReport(tables=list(tables), **{**counts, **more})


def captured(events: int = 5, **more: Any) -> CaptureReport:
    """A turn of capturing."""
    return CaptureReport(
        **{"events": events, "transactions": 2, "captured_lsn": "0/16", "retained_wal_bytes": 0, **more}
    )


LANDED = "a copy has ended"


class Rooms(Cdc):
    """What the loops call. `ingests` and `captures` are answered in order (a fault is raised); then they wait."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.ingests: list[IngestReport | Fault] = []
        self.captures: list[CaptureReport | Fault] = []
        self.watched: list[CaptureReport | Fault] = [captured(0)]
        self.looks: list[CaptureInput] = []
        self.installed = InstallReport(slot="icefleet_shop", publication="icefleet_shop")
        self.settled: Callable[[LettersRequest], LettersReport | Fault] = lambda _: LettersReport("done", "done", 1)
        self.kept: list[KeepPage | Fault] = []
        self.landing: KeepPage | None = None
        """What the next turn of upkeep ends with once it is cancelled: too late."""
        self.copied: dict[str, CopyReport | Fault | None] = {}
        """Table → how its copy ends; None or absent: not yet."""
        self.landing_seconds = 0.0
        """How long a copy takes to end that is told to."""
        self.announcing: list[Fault] = []
        """What announcements fail with, in order; then they succeed."""
        self.calls: list[Any] = []
        """Whatever the activities were called with, in order."""
        self.last_words: Fault | None = None
        """What a waiting activity ends with when it is cancelled, instead of obeying."""
        self.running: list[str] = []
        """Activities that wait just now."""
        self.waits = "the end"
        """What they say that they wait for."""

    def called(self, shape: type) -> list[Any]:
        """The inputs of one kind that have come."""
        return [call for call in self.calls if type(call) is shape]

    async def _wait(self, what: str) -> Any:
        self.running.append(what)
        try:
            async with heartbeats(what, every=BEAT_SECONDS):
                with waiting_for(self.waits):
                    await until_worker_stops(asyncio.sleep(3600), grace=0)
        except asyncio.CancelledError:
            if self.last_words is not None:
                raise self.last_words from None
            raise
        finally:
            self.running.remove(what)

    async def _next(self, what: str, asked: Any, answers: list[Any]) -> Any:
        self.calls.append(asked)
        if not answers:
            await self._wait(what)
        return _told(answers.pop(0))

    @activity.defn(name="capture_changes")
    @faults_named
    async def capture_changes(self, capture: CaptureInput) -> CaptureReport:
        """Answer as the test says."""
        return await self._next("capture", capture, self.captures)

    @activity.defn(name="watch_slot")
    @faults_named
    async def watch_slot(self, capture: CaptureInput) -> CaptureReport:
        """Answer as the test says, the last of it again and again."""
        self.looks.append(capture)
        return _told(self.watched.pop(0) if len(self.watched) > 1 else self.watched[0])

    @activity.defn(name="ingest_batch")
    @faults_named
    async def ingest_batch(self, ingest: IngestInput) -> IngestReport:
        """Answer as the test says; one that may not wait finds nothing then."""
        if not self.ingests and not ingest.wait_seconds:
            self.calls.append(ingest)
            return ingested()
        return await self._next("ingest", ingest, self.ingests)

    @activity.defn(name="keep_changelog")
    @faults_named
    async def keep_changelog(self, asked: KeepInput) -> KeepPage:
        """Answer as the test says, or that there was nothing to do."""
        self.calls.append(asked)
        if self.landing is not None:
            landed, self.landing = self.landing, None
            with contextlib.suppress(asyncio.CancelledError):
                await self._wait("keep")
            return landed
        return _told(self.kept.pop(0) if self.kept else KeepPage())

    @activity.defn(name="copy_table")
    @faults_named
    async def copy_table(self, copy: CopyInput) -> CopyReport:
        """Wait until the test says how it ends."""
        self.calls.append(copy)
        self.running.append(copy.table)
        try:
            async with heartbeats("copy", every=BEAT_SECONDS):
                await eventually(lambda: self.copied.get(copy.table), every=BEAT_SECONDS)
        except asyncio.CancelledError:
            await asyncio.sleep(self.landing_seconds)
            raise
        finally:
            self.running.remove(copy.table)
            self.calls.append(LANDED)
        return _told(self.copied[copy.table])

    @activity.defn(name="announce_changelogs")
    @faults_named
    async def announce_changelogs(self, asked: ChangelogsInput) -> ChangelogsReport:
        """Announce one snapshot of each."""
        self.calls.append(asked)
        if self.announcing:
            raise self.announcing.pop(0)
        return ChangelogsReport(len(asked.changelogs))

    @activity.defn(name="settle_letters")
    @faults_named
    async def settle_letters(self, request: LettersRequest) -> LettersReport:
        """Answer as the test says."""
        self.calls.append(request)
        return _told(self.settled(request))

    @activity.defn(name="signal_loop")
    async def signal_loop(self, asked: LoopSignal) -> str:
        """Remember that it was asked for, and do it."""
        self.calls.append(asked)
        return await super().signal_loop(asked)

    @activity.defn(name="install_capture")
    @faults_named
    async def install_capture(self, request: InstallRequest) -> InstallReport:
        """Say what the test says."""
        self.calls.append(request)
        return self.installed

    @activity.defn(name="uninstall_capture")
    @faults_named
    async def uninstall_capture(self, request: UninstallRequest) -> UninstallReport:
        """Say that it is gone."""
        self.calls.append(request)
        return UninstallReport(removed=["slot"])


def _told(answer: Any) -> Any:
    if isinstance(answer, Fault):
        raise answer
    return answer


class Loops:
    """The loops of one pipeline of a fleet."""

    def __init__(self, fleet: Fleet, rooms: Rooms) -> None:
        self._fleet = fleet
        self.rooms = rooms
        self.asked = {"environment": fleet.name, "pipeline": PIPELINE}

    async def start(self, workflow: str, identity: str, **fields: Any) -> WorkflowHandle[Any, Any]:
        """Start a workflow of the pipeline."""
        return await self._fleet.temporal.start_workflow(
            workflow, {**self.asked, **fields}, id=identity, task_queue=self._fleet.cdc_queue
        )

    def handle(self, loop: str) -> WorkflowHandle[Any, Any]:
        """One of the loops, whoever started it."""
        return self._fleet.temporal.get_workflow_handle(LOOPS[loop][1](self._fleet.name, PIPELINE))

    async def capture(self, **fields: Any) -> WorkflowHandle[Any, Any]:
        """Start the capture."""
        return await self.start(CAPTURE_WORKFLOW, capture_id(self._fleet.name, PIPELINE), **fields)

    async def ingest(self, **fields: Any) -> WorkflowHandle[Any, Any]:
        """Start the ingest."""
        return await self.start(INGEST_WORKFLOW, ingest_id(self._fleet.name, PIPELINE), **fields)

    async def settle(self, number: int = 1, **fields: Any) -> WorkflowHandle[Any, Any]:
        """Start the door of dead letters."""
        order = {"action": "requeue", "letters": [number], **fields}
        return await self.start(LETTERS_WORKFLOW, f"letters-{self._fleet.name}-{number}", **order)

    async def keep(self, changelog: str = "cdc.orders", **fields: Any) -> WorkflowHandle[Any, Any]:
        """Start the door of upkeep."""
        return await self.start(KEEP_WORKFLOW, f"keep-{uuid.uuid4()}", changelog=changelog, **fields)


async def progress_of(loop: WorkflowHandle[Any, Any], **wanted: Any) -> dict[str, Any]:
    """The loop's progress, once it says all of `wanted`."""

    async def said() -> dict[str, Any]:
        progress: dict[str, Any] = await loop.query(PROGRESS_QUERY)
        return progress if all(progress[name] == value for name, value in wanted.items()) else {}

    found: dict[str, Any] = await eventually(said)
    return found


@contextlib.asynccontextmanager
async def loops(fleet: Fleet, *, source: bool = True, sandboxed: bool = False) -> AsyncIterator[Loops]:
    """A worker of the fleet's pipeline `shop`, whose rooms answer as the test says.

    Without a sandbox, which would load modules anew, a test may shorten the loops' pauses.
    """
    fleet.set_cdc(**{PIPELINE: {"buffer": NOWHERE, **({"source": NOWHERE} if source else {})}})
    async with open_cdc(fleet.settings(), fleet.name, fleet.temporal) as context:
        answering = Rooms(context)
        async with Worker(
            fleet.temporal,
            task_queue=fleet.cdc_queue,
            workflows=WORKFLOWS["cdc"],
            activities=activities_of(answering, CdcActivities),
            workflow_runner=SANDBOX if sandboxed else UnsandboxedWorkflowRunner(),
            graceful_shutdown_timeout=timedelta(seconds=10),
            max_heartbeat_throttle_interval=timedelta(seconds=BEAT_SECONDS),
            default_heartbeat_throttle_interval=timedelta(seconds=BEAT_SECONDS),
            max_cached_workflows=10,
        ):
            yield Loops(fleet, answering)

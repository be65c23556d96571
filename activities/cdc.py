"""The activities of capture and ingest: thin methods over the rooms that do the work."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from temporalio import activity
from temporalio.client import WorkflowFailureError
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode

from activities.announcing_changelogs import announce_changelogs
from activities.capturing import capture_changes
from activities.cdc_context import CdcContext
from activities.contracts.cdc import (
    CAPTURE,
    INGEST,
    KEEP_SIGNAL,
    LOOPS,
    STOP_SIGNAL,
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
    StopInput,
    UninstallReport,
    UninstallRequest,
    copy_id,
    ingest_id,
)
from activities.contracts.export import ENVIRONMENT_ATTRIBUTE, PROGRESS_QUERY
from activities.contracts.maintain import CHANGELOG
from activities.copying import copy_table
from activities.core.faults import BadRequest
from activities.errors import faults_named, mended_by_people, temporal_named
from activities.handover import until_worker_stops
from activities.heartbeats import heartbeats
from activities.ingest_metrics import copying, ingesting
from activities.ingesting import ingest_batch
from activities.installing import install_capture
from activities.keeping import keep_changelog
from activities.letters import settle
from activities.slotwatching import watch_slot
from activities.uninstalling import uninstall_capture
from activities.upkeep_metrics import problems_told

BATCH_GRACE_SECONDS = 3.0
"""How long a batch may go on when its worker is told to stop: most end within it."""


class Cdc(CdcActivities):
    """Implements `CdcActivities` for one environment."""

    def __init__(self, context: CdcContext) -> None:
        self._context = context

    @activity.defn(name="install_capture")
    @faults_named
    async def install_capture(self, request: InstallRequest) -> InstallReport:
        """Set up buffer, publication, replica identities, DDL trigger and slot; everything that is there stays."""
        async with heartbeats("installing"):
            return await install_capture(self._context, request)

    @activity.defn(name="uninstall_capture")
    @faults_named
    async def uninstall_capture(self, request: UninstallRequest) -> UninstallReport:
        """Remove what `install_capture` made at the source, and the buffer if asked."""
        async with heartbeats("uninstalling"):
            return await uninstall_capture(self._context, request)

    @activity.defn(name="capture_changes")
    @faults_named
    async def capture_changes(self, capture: CaptureInput) -> CaptureReport:
        """Bring committed transactions of the source into the buffer, in order, each once."""
        async with heartbeats("capturing"):
            return await until_worker_stops(capture_changes(self._context, capture), grace=0)

    @activity.defn(name="watch_slot")
    @faults_named
    async def watch_slot(self, capture: CaptureInput) -> CaptureReport:
        """Look once at a slot that nobody reads from: warn when it holds back much, and give it up at the limit."""
        async with heartbeats("watching a slot"):
            return await watch_slot(self._context, capture)

    @activity.defn(name="ingest_batch")
    @faults_named
    async def ingest_batch(self, ingest: IngestInput) -> IngestReport:
        """Bring a batch of the buffer, or some, into its changelogs, each event once."""
        async with heartbeats("ingesting"):
            with ingesting(ingest.pipeline):
                report = await until_worker_stops(ingest_batch(self._context, ingest), grace=BATCH_GRACE_SECONDS)
        return replace(report, tried_before=activity.info().attempt > 1)

    @activity.defn(name="copy_table")
    @faults_named
    async def copy_table(self, copy: CopyInput) -> CopyReport:
        """Bring a table's rows, as they are at one position of the log, into its changelog in one snapshot."""
        async with heartbeats(f"copying {copy.table}"):
            with copying(copy.pipeline, copy.table):
                return await until_worker_stops(copy_table(self._context, copy), grace=BATCH_GRACE_SECONDS)

    @activity.defn(name="announce_changelogs")
    @faults_named
    async def announce_changelogs(self, asked: ChangelogsInput) -> ChangelogsReport:
        """Publish every snapshot of these changelogs that the stream has not heard of, and let old ones expire."""
        async with heartbeats("announcing"):
            with mended_by_people():
                return await announce_changelogs(self._context, asked)

    @activity.defn(name="settle_letters")
    @faults_named
    async def settle_letters(self, request: LettersRequest) -> LettersReport:
        """Requeue or drop dead letters, or let a stopped table go on."""
        async with heartbeats("settling dead letters"):
            return await settle(self._context, request)

    @activity.defn(name="keep_changelog")
    @faults_named
    async def keep_changelog(self, asked: KeepInput) -> KeepPage:
        """Do one step of a changelog's upkeep, or a turn of it; only the pipeline's ingest may ask, between batches."""
        async with heartbeats(f"{asked.step} of {asked.changelog}"):
            with problems_told(CHANGELOG, dry_run=asked.dry_run):
                return await until_worker_stops(keep_changelog(self._context, asked), grace=BATCH_GRACE_SECONDS)

    async def _signal_running(self, found: str, asked: LoopSignal) -> None:
        try:
            await self._context.temporal.get_workflow_handle(found).signal(asked.signal, asked.payload)
        except RPCError as away:
            if away.status is not RPCStatusCode.NOT_FOUND:
                with temporal_named():
                    raise
            raise BadRequest(
                f"the {asked.loop} of pipeline {asked.pipeline!r} does not run: nobody keeps its changelogs in order; "
                f"`icefleet cdc resume -p {asked.pipeline}` has it go on, or take the pipeline out of config"
            ) from away

    @activity.defn(name="signal_loop")
    @faults_named
    async def signal_loop(self, asked: LoopSignal) -> str:
        """Signal one of a pipeline's loops, with start; answers its workflow id."""
        pipeline = self._context.pipeline(asked.environment, asked.pipeline)
        if asked.loop not in LOOPS:
            raise BadRequest(f"field 'loop' must be one of {', '.join(LOOPS)}; it is {asked.loop!r}")
        if asked.loop == CAPTURE and pipeline.source is None:
            raise BadRequest(f"pipeline {asked.pipeline!r} has no `source` in config: others fill its buffer")
        workflow, identity = LOOPS[asked.loop]
        found = identity(asked.environment, asked.pipeline)
        if asked.signal == KEEP_SIGNAL:
            # Upkeep begins no pipeline: that of one which was uninstalled would wait for its buffer for ever.
            await self._signal_running(found, asked)
            return found
        attributes = TypedSearchAttributes([SearchAttributePair(ENVIRONMENT_ATTRIBUTE, asked.environment)])
        with temporal_named():
            await self._context.temporal.start_workflow(
                workflow,
                {"environment": asked.environment, "pipeline": asked.pipeline},
                id=found,
                task_queue=activity.info().task_queue,
                static_summary=f"{asked.loop} of {asked.pipeline}",
                start_signal=asked.signal,
                start_signal_args=[] if asked.payload is None else [asked.payload],
                search_attributes=attributes,
            )
        return found

    @activity.defn(name="stop_loops")
    @faults_named
    async def stop_loops(self, asked: StopInput) -> list[str]:
        """End loops of a pipeline, and copies with the ingest, and wait for their end; answers the ids of loops."""
        self._context.pipeline(asked.environment, asked.pipeline)
        if unknown := [loop for loop in asked.loops if loop not in LOOPS]:
            raise BadRequest(f"field 'loops' may hold {', '.join(LOOPS)}; it holds {', '.join(unknown)}")
        stopped = []
        async with heartbeats("stopping"):
            for loop in asked.loops:
                identity = LOOPS[loop][1](asked.environment, asked.pipeline)
                with temporal_named():
                    if await self._stop(identity):
                        stopped.append(identity)
                    if loop == INGEST:  # also if it has ended before: perhaps an attempt of this told it to
                        await self._wait_for_copies(asked)
        return stopped

    async def _stop(self, identity: str) -> bool:
        """Whether it ran."""
        loop = self._context.temporal.get_workflow_handle(identity)
        ran = False
        with _perhaps_gone():
            await loop.signal(STOP_SIGNAL)
            ran = True
            with contextlib.suppress(WorkflowFailureError):  # it has ended, in whatever way
                await loop.result()
        return ran

    async def _wait_for_copies(self, asked: StopInput) -> None:
        """Wait for those that an ingest told to end: one may just be landing, and is announced with all else then."""
        loop = self._context.temporal.get_workflow_handle(ingest_id(asked.environment, asked.pipeline))
        tables: list[str] = []
        with _perhaps_gone():
            tables = (await loop.query(PROGRESS_QUERY))["copies"]["under_way"]
        for table in tables:
            copy = self._context.temporal.get_workflow_handle(copy_id(asked.environment, asked.pipeline, table))
            with _perhaps_gone(), contextlib.suppress(WorkflowFailureError):
                await copy.result()


@contextlib.contextmanager
def _perhaps_gone() -> Iterator[None]:
    """What is asked of a workflow that is not there any more."""
    try:
        yield
    except RPCError as gone:
        if gone.status != RPCStatusCode.NOT_FOUND:
            raise

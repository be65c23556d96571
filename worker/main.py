"""A worker: it takes requests, table loops and their activities off the task queue until it is told to stop."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any

import pyarrow as pa
import structlog
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.cdc import Cdc
from activities.cdc_context import CdcContext
from activities.context import ExportContext
from activities.contracts.cdc import CdcActivities
from activities.contracts.export import ExportActivities
from activities.contracts.mirrors import MirrorActivities
from activities.contracts.verify import VerifyActivities
from activities.core.faults import BadConfig
from activities.export import Export
from activities.failpoints import arm_death
from activities.mirror_context import MirrorContext
from activities.mirrors import Mirrors
from activities.verify import Verify
from worker.bus import open_bus
from worker.config import Settings
from worker.mirror_wakes import MirrorWakes
from worker.search_attributes import missing_attributes
from worker.temporal import connect_temporal
from worker.wiring import open_cdc, open_export, open_mirrors
from workflows.adopt_files import AdoptFiles
from workflows.backfill import Backfill
from workflows.capture_changes import CaptureChanges
from workflows.copy_table import CopyTable
from workflows.delete_orphans import DeleteOrphans
from workflows.export_due import ExportDue
from workflows.export_table import ExportTable
from workflows.ingest_changelog import IngestChangelog
from workflows.install_capture import InstallCapture, UninstallCapture
from workflows.maintain_changelog import MaintainChangelog
from workflows.maintain_tables import MaintainTables
from workflows.merge_mirror import MergeMirror
from workflows.merge_once import MergeOnce
from workflows.request_export import RequestExport
from workflows.settle_letters import SettleLetters
from workflows.upkeep import Upkeep
from workflows.verify_mirror import VerifyMirror
from workflows.verify_table import VerifyTable

WORKFLOWS: Sequence[type] = (
    RequestExport,
    ExportDue,
    Backfill,
    DeleteOrphans,
    Upkeep,
    MaintainTables,
    AdoptFiles,
    ExportTable,
    VerifyTable,
)
CDC_WORKFLOWS: Sequence[type] = (
    InstallCapture,
    UninstallCapture,
    CaptureChanges,
    IngestChangelog,
    CopyTable,
    SettleLetters,
    MaintainChangelog,
)
MERGE_WORKFLOWS: Sequence[type] = (MergeMirror, MergeOnce, VerifyMirror)
SLOTS_PER_PIPELINE = 5
"""One that captures, one that ingests or settles dead letters, two that copy, one that announces."""
MERGE_THREADS = 4
"""Of one merge: reading, writing, the catalog."""
CDC_SPARE_SLOTS = 4
"""For what people ask for."""
GRACE = timedelta(seconds=10)
"""How long what is in flight may finish once the worker is told to stop; then it is cancelled, and done elsewhere."""
THROTTLE = timedelta(seconds=2)
"""Heartbeats bring cancellations: they leave at least this often."""
STICKY = timedelta(seconds=3)
"""How long a loop's next step waits for the worker that remembers the loop: when that one was killed, another
replays it this soon."""

SANDBOX = SandboxedWorkflowRunner(
    restrictions=SandboxRestrictions.default.with_passthrough_modules("activities.contracts")
)
"""Every run of a workflow loads the workflows' modules for itself, so that none can leave anything to another. The
contracts hold nothing that changes and look at nothing; to load them as well was most of what a run cost to begin."""

log = structlog.get_logger("icefleet.worker")


def export_worker(context: ExportContext, *, task_queue: str, activity_slots: int) -> Worker:
    """The worker of one environment's exports; to be made in the loop in which it will run."""
    allow_threads(2 * activity_slots)
    activities = [*activities_of(Export(context), ExportActivities), *activities_of(Verify(context), VerifyActivities)]
    return _worker(context.temporal, task_queue, WORKFLOWS, activities, slots=activity_slots)


def cdc_worker(context: CdcContext, *, task_queue: str) -> Worker:
    """The worker of one environment's pipelines; to be made in the loop in which it will run.

    It has a slot for everything that its pipelines may have under way at once, so that none keeps another waiting.
    """
    allow_threads(cdc_threads(context))
    activities = activities_of(Cdc(context), CdcActivities)
    return _worker(context.temporal, task_queue, CDC_WORKFLOWS, activities, slots=cdc_slots(context))


def cdc_slots(context: CdcContext) -> int:
    """Activities of pipelines that one worker runs at once."""
    return SLOTS_PER_PIPELINE * len(context.pipelines) + CDC_SPARE_SLOTS


def cdc_threads(context: CdcContext) -> int:
    """Threads that they may need: each table of a batch has one that writes, and one that waits for the catalog."""
    return 2 * (cdc_slots(context) + sum(pipeline.parallel_tables for pipeline in context.pipelines.values()))


def merge_worker(context: MirrorContext, *, task_queue: str, activity_slots: int) -> Worker:
    """The worker of one environment's mirrors; to be made in the loop in which it will run."""
    allow_threads(MERGE_THREADS * activity_slots)
    activities = activities_of(Mirrors(context), MirrorActivities)
    return _worker(context.temporal, task_queue, MERGE_WORKFLOWS, activities, slots=activity_slots)


def _worker(
    temporal: Client,
    task_queue: str,
    workflows: Sequence[type],
    activities: Sequence[Callable[..., Any]],
    *,
    slots: int,
) -> Worker:
    """What all workers have in common: how they stop, how soon cancellations are heard, what workflows may share."""
    return Worker(
        temporal,
        task_queue=task_queue,
        workflows=workflows,
        activities=activities,
        max_concurrent_activities=slots,
        workflow_runner=SANDBOX,
        graceful_shutdown_timeout=GRACE,
        sticky_queue_schedule_to_start_timeout=STICKY,
        max_heartbeat_throttle_interval=THROTTLE,
        default_heartbeat_throttle_interval=THROTTLE,
    )


def allow_threads(count: int) -> None:
    """Let so many threads work at once.

    Catalog and footers are read in threads. Python has a handful of them, which a catalog that hangs for some tables
    would soon hold all; an attempt that was given up keeps its thread until the catalog's time is up.
    """
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(count, thread_name_prefix="icefleet"))
    # Arrow's own keeps what each of them has ever used.
    pa.set_memory_pool(pa.system_memory_pool())


def activities_of(implementation: object, stubs: type) -> list[Callable[..., Any]]:
    """The methods of `implementation` for every activity that `stubs` declares."""
    return [getattr(implementation, name) for name, stub in vars(stubs).items() if callable(stub) and name[0] != "_"]


async def check_temporal(client: Client, address: str) -> None:
    """Refuse to start where no workflow could: search attributes must be registered.

    Raises:
        BadConfig: they are not, with the command that registers them.
    """
    try:
        missing = await missing_attributes(client)
    except RPCError as refused:
        raise BadConfig(f"Temporal {address}, namespace {client.namespace}: {refused.message}") from refused
    if missing:
        raise BadConfig(
            f"Temporal {address}, namespace {client.namespace} lacks the search attributes {', '.join(missing)}; "
            "run `icefleet temporal init` once"
        )


async def run_worker(settings: Settings, environment: str, *, failpoints: Sequence[str] = ()) -> None:
    """Serve one environment until SIGTERM or SIGINT, then let go of everything in order.

    `failpoints` are where this worker dies by SIGKILL, for crash tests: `after-commit`, or `after-commit:3`.
    """
    for where in failpoints:
        arm_death(where)
    resolved = settings.environment(environment)
    client = await connect_temporal(resolved)
    await check_temporal(client, resolved.temporal.address)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with open_workers(settings, environment, client) as workers, AsyncExitStack() as running:
        for worker in workers:
            await running.enter_async_context(worker)
        log.info(
            "worker is ready",
            environment=environment,
            task_queues=[worker.task_queue for worker in workers],
            temporal=resolved.temporal.address,
        )
        await stopped.wait()
        log.info("worker is stopping")
        # At the same time: each waits for what it has in flight.
        await asyncio.gather(*(worker.shutdown() for worker in workers))
    log.info("worker has stopped")


@asynccontextmanager
async def open_workers(settings: Settings, environment: str, client: Client) -> AsyncIterator[list[Worker]]:
    """The workers of one environment's process: of its exports, of its pipelines and of its mirrors if it has any."""
    resolved = settings.environment(environment)
    slots, temporal = resolved.export.max_concurrent_activities, resolved.temporal
    threads = 2 * slots
    async with AsyncExitStack() as opened:
        export = await opened.enter_async_context(open_export(settings, environment, client))
        workers = [export_worker(export, task_queue=temporal.task_queue, activity_slots=slots)]
        if resolved.cdc:
            cdc = await opened.enter_async_context(open_cdc(settings, environment, client))
            workers.append(cdc_worker(cdc, task_queue=temporal.cdc_task_queue))
            threads += cdc_threads(cdc)
        if resolved.mirrors:
            merges = resolved.merge.max_concurrent_activities
            mirrors = await opened.enter_async_context(open_mirrors(settings, environment, client))
            workers.append(merge_worker(mirrors, task_queue=temporal.merge_task_queue, activity_slots=merges))
            threads += MERGE_THREADS * merges
            await opened.enter_async_context(MirrorWakes(resolved, client, open_bus(resolved)))
        allow_threads(threads)
        yield workers

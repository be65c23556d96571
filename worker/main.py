"""A worker: it takes requests, table loops and their activities off the task queue until it is told to stop."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import structlog
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import Worker

from activities.context import ExportContext
from activities.contracts.export import ExportActivities
from activities.contracts.verify import VerifyActivities
from activities.core.faults import BadConfig
from activities.export import Export
from activities.failpoints import arm_death
from activities.verify import Verify
from worker.config import Settings
from worker.search_attributes import missing_attributes
from worker.wiring import connect_temporal, open_export
from workflows.adopt_files import AdoptFiles
from workflows.backfill import Backfill
from workflows.delete_orphans import DeleteOrphans
from workflows.export_due import ExportDue
from workflows.export_table import ExportTable
from workflows.request_export import RequestExport
from workflows.upkeep import Upkeep
from workflows.verify_table import VerifyTable

WORKFLOWS: Sequence[type] = (
    RequestExport,
    ExportDue,
    Backfill,
    DeleteOrphans,
    Upkeep,
    AdoptFiles,
    ExportTable,
    VerifyTable,
)
GRACE = timedelta(seconds=10)
"""How long what is in flight may finish once the worker is told to stop; then it is cancelled, and done elsewhere."""
THROTTLE = timedelta(seconds=2)
"""Heartbeats bring cancellations: they leave at least this often."""
STICKY = timedelta(seconds=3)
"""How long a loop's next step waits for the worker that remembers the loop: when that one was killed, another
replays it this soon."""

log = structlog.get_logger("icefleet.worker")


def export_worker(context: ExportContext, *, task_queue: str, activity_slots: int) -> Worker:
    """The worker of one environment's exports; to be made in the loop in which it will run."""
    # Catalog and footers are read in threads. Python has a handful of them, which a catalog that hangs for some
    # tables would soon hold all; an attempt that was given up keeps its thread until the catalog's time is up.
    threads = ThreadPoolExecutor(2 * activity_slots, thread_name_prefix="icefleet")
    asyncio.get_running_loop().set_default_executor(threads)
    return Worker(
        context.temporal,
        task_queue=task_queue,
        workflows=WORKFLOWS,
        activities=[
            *activities_of(Export(context), ExportActivities),
            *activities_of(Verify(context), VerifyActivities),
        ],
        max_concurrent_activities=activity_slots,
        graceful_shutdown_timeout=GRACE,
        sticky_queue_schedule_to_start_timeout=STICKY,
        max_heartbeat_throttle_interval=THROTTLE,
        default_heartbeat_throttle_interval=THROTTLE,
    )


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
    async with open_export(settings, environment, client) as context:
        worker = export_worker(
            context,
            task_queue=resolved.temporal.task_queue,
            activity_slots=resolved.export.max_concurrent_activities,
        )
        async with worker:
            log.info(
                "worker is ready",
                environment=environment,
                task_queue=resolved.temporal.task_queue,
                temporal=resolved.temporal.address,
            )
            await stopped.wait()
            log.info("worker is stopping")
    log.info("worker has stopped")

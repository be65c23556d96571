"""The Temporal workers of one process: one for each queue that it serves, with slots of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import WorkerDeploymentConfig, WorkerTuner

from activities.contracts.queues import WORK
from worker.config import Environment, Settings
from worker.dependencies import Dependency, databases_of, lake_of, sources_of
from worker.kinds import Served, queue_names
from worker.registered import SANDBOX, WORKFLOWS
from worker.running import FleetWorker

if TYPE_CHECKING:
    from activities.context import ExportContext
    from activities.mirror_context import MirrorContext
    from worker.mirror_wakes import MirrorWakes

EXPORTS = ("control", "export", "upkeep", "verify")
"""What works with an `ExportContext`."""
MIRRORS = ("merge", "mirrors")
"""What works with a `MirrorContext`."""
SLOTS_PER_PIPELINE = 5
"""One that captures, one that ingests or settles dead letters, two that copy, one that announces."""
CDC_SPARE_SLOTS = 4
"""For what people ask for."""
EXPORT_THREADS = 2
"""Of one activity: the catalog, and footers."""
MERGE_THREADS = 4
"""Of one merge: reading, writing, the catalog."""
WORKFLOW_SLOTS = 4
"""Steps of loops at once. They share one core, whatever their number, and Temporal takes back each that lasts for ten
seconds: with many, a worker that has to replay as many long loops would finish none of them in time, and begin anew."""
GRACE = timedelta(seconds=10)
"""How long what is in flight may finish once the worker is told to stop; then it is cancelled, and done elsewhere."""
THROTTLE = timedelta(seconds=2)
"""Heartbeats bring cancellations: they leave at least this often."""
STICKY = timedelta(seconds=3)
"""How long a loop's next step waits for the worker that remembers the loop: when that one was killed, another
replays it this soon."""


def slots_of(environment: Environment) -> dict[str, int]:
    """Activities that one process runs at once, by the queue in which they wait (`activities.contracts.queues`)."""
    upkeep = environment.upkeep.max_concurrent_activities
    return {
        "control": environment.control.max_concurrent_activities,
        "export": environment.export.max_concurrent_activities,
        "upkeep": upkeep,
        "verify": upkeep,
        "merge": environment.merge.max_concurrent_activities,
        "mirrors": upkeep,
        "cdc": SLOTS_PER_PIPELINE * len(environment.cdc) + CDC_SPARE_SLOTS,
    }


def threads_of(environment: Environment, serving: Sequence[Served], slots: Mapping[str, int]) -> int:
    """Threads that the process may need: catalog and footers are read in threads, and tables written."""
    threads = 0
    for one in serving:
        threads += slots[one.work] * (MERGE_THREADS if one.work in MIRRORS else EXPORT_THREADS)
        if one.work == "cdc":
            # Each table of a batch has one that writes, and one that waits for the catalog.
            threads += EXPORT_THREADS * sum(pipeline.parallel_tables for pipeline in environment.cdc.values())
    return threads


def worker_of(
    temporal: Client,
    one: Served,
    implementations: Sequence[object],
    *,
    slots: int,
    grace: timedelta = GRACE,
    version: WorkerDeploymentVersion | None = None,
) -> FleetWorker:
    """The worker of one queue; to be made in the loop in which it will run."""
    return FleetWorker(
        temporal,
        task_queue=one.queue,
        workflows=WORKFLOWS.get(one.work, ()),
        activities=activities_of(one.work, implementations),
        tuner=WorkerTuner.create_fixed(workflow_slots=WORKFLOW_SLOTS, activity_slots=slots),
        workflow_runner=SANDBOX,
        graceful_shutdown_timeout=grace,
        sticky_queue_schedule_to_start_timeout=STICKY,
        max_heartbeat_throttle_interval=THROTTLE,
        default_heartbeat_throttle_interval=THROTTLE,
        deployment_config=None if version is None else versioned(version),
    )


def versioned(version: WorkerDeploymentVersion) -> WorkerDeploymentConfig:
    """A worker of a deployment: loops, which may run for ever, go on with the version that has become current."""
    return WorkerDeploymentConfig(
        version=version,
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.AUTO_UPGRADE,
    )


def activities_of(work: str, implementations: Sequence[object]) -> list[Callable[..., Any]]:
    """The activities that wait in one kind of queue, each by the one that implements it."""
    return [next(getattr(one, name) for one in implementations if hasattr(one, name)) for name in WORK[work]]


def allow_threads(count: int) -> None:
    """Let so many threads work at once.

    Python has a handful of them, which a catalog that hangs for some tables would soon hold all; an attempt that was
    given up keeps its thread until the catalog's time is up.
    """
    import pyarrow as pa  # noqa: PLC0415 - what only builds workers' names need not load it

    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(count, thread_name_prefix="icefleet"))
    # Arrow's own keeps what each of them has ever used.
    pa.set_memory_pool(pa.system_memory_pool())


@dataclass(frozen=True)
class Rooms:
    """What implements the activities that one process serves, and what it needs to do so."""

    implementations: Mapping[str, Sequence[object]]
    """By the keys of `activities.contracts.queues.WORK`."""
    dependencies: Sequence[Dependency]


@asynccontextmanager
async def open_rooms(
    settings: Settings, environment: str, client: Client, serving: Sequence[Served]
) -> AsyncIterator[Rooms]:
    """What the activities of these queues need, closed at the end; nothing else is loaded.

    Raises:
        BadConfig: variables that the environment needs are not set.
    """
    works = {one.work for one in serving}
    implementations: dict[str, Sequence[object]] = {}
    dependencies: list[Dependency] = []
    async with AsyncExitStack() as opened:
        for own, open_own in ((EXPORTS, _exports), (MIRRORS, _mirrors), (("cdc",), _cdc)):
            if works.isdisjoint(own):
                continue
            found, needed = await opened.enter_async_context(open_own(settings, environment, client, serving))
            implementations |= dict.fromkeys(own, found)
            dependencies += [one for one in needed if one.name not in {known.name for known in dependencies}]
        yield Rooms(implementations, dependencies)


@asynccontextmanager
async def open_workers(
    settings: Settings,
    environment: str,
    client: Client,
    serving: Sequence[Served],
    rooms: Rooms,
    *,
    grace: timedelta = GRACE,
    version: WorkerDeploymentVersion | None = None,
) -> AsyncIterator[list[FleetWorker]]:
    """The workers of one process, which do not run yet, and what goes on beside them.

    Raises:
        BadConfig: variables that the environment needs are not set.
    """
    resolved = settings.environment(environment)
    slots = slots_of(resolved)
    allow_threads(threads_of(resolved, serving, slots))
    workers = [
        worker_of(client, one, rooms.implementations[one.work], slots=slots[one.work], grace=grace, version=version)
        for one in serving
    ]
    async with AsyncExitStack() as opened:
        if any(one.work == "merge" for one in serving):
            await opened.enter_async_context(_wakes(resolved, client))
        yield workers


@asynccontextmanager
async def _exports(
    settings: Settings, environment: str, client: Client, serving: Sequence[Served]
) -> AsyncIterator[tuple[list[object], list[Dependency]]]:
    from worker.wiring import open_export  # noqa: PLC0415 - as all of these: only what this process serves is loaded

    names = queue_names(settings.environment(environment))
    lanes = {names.export(source): source for source in settings.sources(environment)}
    async with open_export(settings, environment, client) as context:
        sources = {one.queue: context.find_source(lanes[one.queue]) for one in serving if one.work == "export"}
        yield export_rooms(context), [*lake_of(context.store, context.lake, context.bus), *sources_of(sources)]


@asynccontextmanager
async def _cdc(
    settings: Settings, environment: str, client: Client, _: Sequence[Served]
) -> AsyncIterator[tuple[list[object], list[Dependency]]]:
    from activities.cdc import Cdc  # noqa: PLC0415
    from worker.wiring_cdc import open_cdc  # noqa: PLC0415

    async with open_cdc(settings, environment, client) as context:
        needed = [*lake_of(context.store, context.lake, context.bus), *databases_of(context.pipelines.values())]
        yield [Cdc(context)], needed


@asynccontextmanager
async def _mirrors(
    settings: Settings, environment: str, client: Client, _: Sequence[Served]
) -> AsyncIterator[tuple[list[object], list[Dependency]]]:
    from worker.wiring_mirrors import open_mirrors  # noqa: PLC0415

    async with open_mirrors(settings, environment, client) as context:
        yield mirror_rooms(context), lake_of(context.store, context.lake, context.bus)


def export_rooms(context: "ExportContext") -> list[object]:
    """What implements the activities of exports."""
    from activities.export import Export  # noqa: PLC0415
    from activities.queues import FindQueues  # noqa: PLC0415
    from activities.verify import Verify  # noqa: PLC0415

    return [Export(context), Verify(context), FindQueues(context.queues, context.find_table)]


def mirror_rooms(context: "MirrorContext") -> list[object]:
    """What implements the activities of mirrors."""
    from activities.mirrors import Mirrors  # noqa: PLC0415
    from activities.queues import FindQueues  # noqa: PLC0415

    return [Mirrors(context), FindQueues(context.queues)]


def _wakes(environment: Environment, client: Client) -> "MirrorWakes":
    from worker.bus import open_bus  # noqa: PLC0415
    from worker.mirror_wakes import MirrorWakes  # noqa: PLC0415

    return MirrorWakes(environment, client, open_bus(environment))

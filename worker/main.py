"""A worker: it takes requests, loops and their activities off its task queues until it is told to stop."""

import gc
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import structlog
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion

from activities.failpoints import arm_death
from worker.config import Settings
from worker.kinds import served
from worker.leaving import told_to_stop
from worker.metrics import NO_METRICS, Metrics
from worker.monitor import Monitor
from worker.running import running
from worker.serving import GRACE, open_rooms, open_workers
from worker.starting import find_temporal, look_around

log = structlog.get_logger("icefleet.worker")


@dataclass(frozen=True)
class Serving:
    """How one process serves."""

    kinds: Sequence[str] = ()
    """`worker.kinds.KINDS`; none: everything of its environment."""
    listen: str = ""
    """`host:port` of probes and metrics; empty: nothing listens."""
    grace: timedelta = GRACE
    """How long what runs may go on once the process is told to stop."""
    version: WorkerDeploymentVersion | None = None
    """Of which deployment it is a part, if workers are versioned."""
    metrics: Metrics = NO_METRICS
    """What is told to whom asks at `listen`, and of Temporal's SDK."""
    failpoints: Sequence[str] = ()
    """Where it dies by SIGKILL, for crash tests: `after-commit`, or `after-commit:3`."""


async def run_worker(settings: Settings, environment: str, how: Serving | None = None) -> None:
    """Serve one environment, or some kinds of its work, until SIGTERM or SIGINT; then let go of everything in order.

    Raises:
        BadRequest: a kind of work that the environment does not have, or an address where nothing can listen.
        BadConfig: variables that the environment needs are not set, or what the worker needs is missing.
        RuntimeError: Temporal refuses its workers; or whatever else one of them failed with. All have stopped.
    """
    how = how or Serving()
    for where in how.failpoints:
        arm_death(where)
    serving = served(settings, environment, how.kinds)
    resolved = settings.environment(environment)
    async with AsyncExitStack() as opened:
        monitor = opened.enter_context(Monitor(how.listen, render=how.metrics.render))
        found, trouble = await find_temporal(resolved, runtime=how.metrics.runtime)
        client = cast(Client, found)  # without one, the look around is all that comes
        rooms = await opened.enter_async_context(open_rooms(settings, environment, client, serving))
        await look_around(environment, rooms.dependencies, serving, trouble)
        workers = await opened.enter_async_context(
            open_workers(settings, environment, client, serving, rooms, grace=how.grace, version=how.version)
        )
        stop = told_to_stop()
        await opened.enter_async_context(running(workers, how.grace))
        monitor.watch(workers)
        # What is there by now stays to the end. A collection that looks at all of it holds up everything for 0.2 s.
        gc.freeze()
        log.info(
            "worker is ready",
            environment=environment,
            task_queues=[worker.task_queue for worker in workers],
            temporal=resolved.temporal.address,
            version=how.version.to_canonical_string() if how.version is not None else "",
        )
        await stop.wait()
        monitor.draining = True
        log.info("worker is stopping", grace_seconds=how.grace.total_seconds())
    log.info("worker has stopped")

"""A worker: it takes requests, loops and their activities off its task queues until it is told to stop."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog
from temporalio.client import Client
from temporalio.runtime import Runtime
from temporalio.service import RPCError
from temporalio.worker import Worker

from activities.core.faults import BadConfig
from activities.failpoints import arm_death
from worker.config import Settings
from worker.leaving import LEFT_BEHIND, flush_all, leave_now, told_to_stop
from worker.search_attributes import missing_attributes
from worker.serving import GRACE, open_workers, running
from worker.temporal import connect_temporal

CLEAN_UP = timedelta(seconds=20)
"""How long what was cancelled may take to abort its uploads and let go of what it holds."""

log = structlog.get_logger("icefleet.worker")


async def run_worker(
    settings: Settings,
    environment: str,
    *,
    kinds: Sequence[str] = (),
    grace: timedelta = GRACE,
    failpoints: Sequence[str] = (),
    runtime: Runtime | None = None,
) -> None:
    """Serve one environment, or some kinds of its work, until SIGTERM or SIGINT; then let go of everything in order.

    `failpoints` are where this worker dies by SIGKILL, for crash tests: `after-commit`, or `after-commit:3`; `runtime`
    is that of its metrics (`worker.metrics`).

    Raises:
        BadRequest: a kind of work that the environment does not have.
        BadConfig: the environment, or Temporal, is not as a worker needs it.
    """
    for where in failpoints:
        arm_death(where)
    resolved = settings.environment(environment)
    client = await connect_temporal(resolved, runtime=runtime)
    await check_temporal(client, resolved.temporal.address)
    async with open_workers(settings, environment, client, kinds=kinds, grace=grace) as workers:
        stop = told_to_stop()
        async with running(workers):
            log.info(
                "worker is ready",
                environment=environment,
                task_queues=[worker.task_queue for worker in workers],
                temporal=resolved.temporal.address,
            )
            await stop.wait()
            log.info("worker is stopping", grace_seconds=grace.total_seconds())
            await drain(workers, grace)
    log.info("worker has stopped")


async def drain(workers: Sequence[Worker], grace: timedelta) -> None:
    """Take no more work, let what runs end within `grace`, and cancel the rest, which other workers then do.

    What does not even end when it is cancelled is left to its time-out: the process leaves without it.
    """
    try:
        async with asyncio.timeout((grace + CLEAN_UP).total_seconds()):
            # At the same time: each waits for what it has in flight.
            await asyncio.gather(*(worker.shutdown() for worker in workers))
    except TimeoutError:
        log.exception("worker leaves behind what does not end; others do it when its heartbeats are missed")
        flush_all()
        leave_now(LEFT_BEHIND)


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

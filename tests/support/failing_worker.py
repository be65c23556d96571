"""A process of two workers of which one fails while something is in flight that does not end, or nothing is."""

import asyncio
import concurrent.futures
import sys
import uuid
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.worker import UnsandboxedWorkflowRunner

from worker import running as room
from worker.running import FleetWorker, running


@activity.defn
async def linger() -> None:
    """Go on and on."""
    await asyncio.sleep(3600)


@activity.defn
async def fail() -> None:
    """As Temporal's SDK has it, a worker whose threads are gone cannot go on."""
    raise concurrent.futures.BrokenExecutor("no thread is left")


@workflow.defn
class Failing:
    """Lets the worker fail, when something has been begun that does not end."""

    @workflow.run
    async def run(self, asked: list[str]) -> None:
        """Begin it, or not."""
        queue, inflight = asked
        policy: dict[str, Any] = {"start_to_close_timeout": timedelta(minutes=5), "task_queue": queue}
        once = RetryPolicy(maximum_attempts=1)
        if inflight == "something":
            workflow.start_activity(linger, retry_policy=once, **policy)
            await workflow.sleep(1)
        await workflow.execute_activity(fail, retry_policy=once, **policy)


async def main(address: str, inflight: str) -> None:
    """Run until one of the two fails."""
    client = await Client.connect(address)
    queue, grace = f"failing-{uuid.uuid4()}", timedelta(seconds=0.2)
    options: dict[str, Any] = {"graceful_shutdown_timeout": grace, "workflow_runner": UnsandboxedWorkflowRunner()}
    workers = [
        FleetWorker(client, task_queue=queue, workflows=[Failing], **options),
        FleetWorker(client, task_queue=f"{queue}-own", activities=[linger, fail], **options),
    ]
    async with running(workers, grace):
        await client.execute_workflow(
            Failing.run, [f"{queue}-own", inflight], id=queue, task_queue=queue, execution_timeout=timedelta(minutes=1)
        )


def run() -> None:
    """Do so with the address of Temporal, and what is in flight: `something` or `nothing`."""
    room.CLEAN_UP = timedelta(seconds=1)
    asyncio.run(main(sys.argv[1], sys.argv[2]))

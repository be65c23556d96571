"""What KEDA (`deploy/k8s/components/keda`) asks Temporal of a queue: what waits there for workers of any build."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

from temporalio import activity, workflow
from temporalio.api.enums.v1 import TaskQueueKind, TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.common import WorkerDeploymentVersion
from temporalio.worker import Worker

from support.fleet import Fleet, eventually
from worker.promotion import promote
from worker.serving import versioned

ASKED = 6
AT_ONCE = 2
"""Of one build's workers."""


@activity.defn
async def stay() -> None:
    """An export that takes long."""
    await asyncio.Event().wait()


@workflow.defn(sandboxed=False)
class AsksForMuch:
    """A loop that has many exports done in another queue."""

    @workflow.run
    async def run(self, queue: str) -> None:
        asked = [
            workflow.execute_activity(
                stay, task_queue=queue, start_to_close_timeout=timedelta(hours=1), heartbeat_timeout=timedelta(hours=1)
            )
            for _ in range(ASKED)
        ]
        await asyncio.gather(*asked)


@asynccontextmanager
async def build(fleet: Fleet, number: str) -> AsyncIterator[WorkerDeploymentVersion]:
    """The workers of a build: one for loops, and one that does some exports at once."""
    version = WorkerDeploymentVersion(deployment_name=fleet.name, build_id=number)
    same = {"deployment_config": versioned(version), "graceful_shutdown_timeout": timedelta()}
    async with (
        Worker(fleet.temporal, task_queue=f"{fleet.name}-loops", workflows=[AsksForMuch], **same),
        Worker(fleet.temporal, task_queue=exports(fleet), activities=[stay], max_concurrent_activities=AT_ONCE, **same),
    ):
        yield version


def exports(fleet: Fleet) -> str:
    return f"{fleet.name}-exports"


async def waiting(fleet: Fleet) -> int:
    """What the scaler of KEDA makes its number of."""
    answer = await fleet.temporal.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=fleet.temporal.namespace,
            task_queue=TaskQueue(name=exports(fleet), kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
            report_stats=True,
        )
    )
    return int(answer.stats.approximate_backlog_count)


async def test_activities_that_wait_are_counted_whichever_build_of_the_workers_they_wait_for(fleet):
    async with build(fleet, "1") as first:
        await promote(fleet.temporal, first, patience=timedelta(seconds=60))
        loop = await fleet.temporal.start_workflow(
            AsksForMuch.run, exports(fleet), id=f"{fleet.name}-loop", task_queue=f"{fleet.name}-loops"
        )
        try:
            await eventually(partial(waits, fleet, ASKED - AT_ONCE))
            async with build(fleet, "2") as second:
                await promote(fleet.temporal, second, patience=timedelta(seconds=60))
                await eventually(partial(waits, fleet, ASKED - 2 * AT_ONCE))
        finally:
            await loop.terminate()


async def waits(fleet: Fleet, count: int) -> bool:
    return await waiting(fleet) == count

"""Whether anybody takes what waits in a task queue: without a worker it waits for ever, and says nothing."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from activities.contracts.maintain import EXPORT, MaintainedTable

POLL_LASTS_SECONDS = 70
"""How long after its last poll a worker may still be there: it asks again at least once a minute."""
AWAY_SECONDS = 300
"""A worker that is replaced is back sooner. Temporal does not remember polls for longer."""
STARTING_SECONDS = 60
"""A fleet does not start all at once: until a process is so old, it looks again for workers that it misses."""
LOOK_AGAIN_SECONDS = 1
_BEGAN = time.monotonic()


async def has_worker(
    client: Client, queue: str, *, activities: bool = False, within: float = POLL_LASTS_SECONDS
) -> bool:
    """Whether anybody took workflows, or activities, off the task queue in so many seconds until now."""
    kind = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY if activities else TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind)
    )
    recently = datetime.now(UTC) - timedelta(seconds=within)
    return any(poller.last_access_time.ToDatetime(UTC) > recently for poller in answer.pollers)


async def unserved_marked(client: Client, tables: Iterable[MaintainedTable], upkeep: str) -> list[MaintainedTable]:
    """The tables, those marked whose upkeep would only wait; `upkeep` is the queue to which exports' loops send it."""
    queues = [(table, upkeep if table.kind == EXPORT else table.task_queue) for table in tables]
    away = await _away(client, {(queue, table.kind == EXPORT) for table, queue in queues})
    while away and time.monotonic() - _BEGAN < STARTING_SECONDS:
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        away = await _away(client, away)
    return [
        replace(table, unserved=queue) if (queue, table.kind == EXPORT) in away else table for table, queue in queues
    ]


async def _away(client: Client, queues: Iterable[tuple[str, bool]]) -> set[tuple[str, bool]]:
    """Those that nobody serves; each is a name, and whether it is about activities."""
    return {
        (queue, activities)
        for queue, activities in queues
        if not await has_worker(client, queue, activities=activities, within=AWAY_SECONDS)
    }

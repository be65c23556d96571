"""Whether anybody takes what waits in a task queue: without a worker it waits for ever, and says nothing."""

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
    known: dict[tuple[str, bool], bool] = {}
    marked = []
    for table in tables:
        of_export = table.kind == EXPORT
        queue = upkeep if of_export else table.task_queue
        if (queue, of_export) not in known:
            known[queue, of_export] = await has_worker(client, queue, activities=of_export, within=AWAY_SECONDS)
        marked.append(table if known[queue, of_export] else replace(table, unserved=queue))
    return marked

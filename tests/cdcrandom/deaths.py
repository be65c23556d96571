"""Activities of a worker that is dead.

Temporal cannot know that the worker is dead, and waits for its next heartbeat, for half a minute. A run knows better,
and tells it: otherwise most of its time would go by in waiting.
"""

import asyncio
from collections.abc import Container
from contextlib import suppress

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from cdcrandom.world import World

DIED = "WorkerDied"
"""What the failure of such an activity is called."""
LOOK_SECONDS = 1


async def tell_of_deaths(world: World, dead: Container[int]) -> None:
    """Fail what workers were doing whose process ids are among the dead, until cancelled."""
    while True:
        with suppress(RPCError):  # no Temporal just now, or the activity has ended: the next round looks again
            await _tell(world, dead)
        await asyncio.sleep(LOOK_SECONDS)


async def _tell(world: World, dead: Container[int]) -> None:
    temporal = world.fleet.temporal
    queues = f"'{world.fleet.cdc_queue}', '{world.fleet.merge_queue}'"
    running = f"TaskQueue IN ({queues}) AND ExecutionStatus = 'Running'"
    async for found in temporal.list_workflows(running):
        described = await temporal.get_workflow_handle(found.id).describe()
        for pending in described.raw_description.pending_activities:
            if _is_dead(pending, dead):
                handle = temporal.get_async_activity_handle(
                    workflow_id=found.id, run_id=described.run_id, activity_id=pending.activity_id
                )
                await handle.fail(ApplicationError("its worker was killed", type=DIED))


def _is_dead(pending: PendingActivityInfo, dead: Container[int]) -> bool:
    pid = pending.last_worker_identity.partition("@")[0]
    started = pending.state in (
        PendingActivityState.PENDING_ACTIVITY_STATE_STARTED,
        PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED,
    )
    return started and pid.isdigit() and int(pid) in dead

"""Loops that wait for the deletions of a worker that is dead.

A loop cannot know that the worker is dead, and waits until nothing that it sent can arrive any more: for 17 minutes.
A run knows better: here no request is held back for longer than `HELD_SECONDS`.
"""

import asyncio
import time
from contextlib import suppress

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError

from chaos.sources import Source
from chaos.world import World
from support.workerpool import Pool

HELD_SECONDS = 15
LOOK_SECONDS = 2


async def free_loops(world: World, pool: Pool) -> None:
    """Terminate such loops until cancelled; their requests bring them back."""
    while True:
        dead = {pid for pid, died in pool.dead.items() if time.monotonic() - died > HELD_SECONDS}
        for source in world.sources:
            with suppress(RPCError):  # there is no such loop now, or no Temporal: the next round looks again
                if await _waits(world, source, dead):
                    await world.fleet.loop(source.name).terminate("the worker is dead, and so is all that it sent")
                    world.freed += 1
                    world.say(f"the loop of {source.name} waited for deletions of a dead worker, and was terminated")
        await asyncio.sleep(LOOK_SECONDS)


async def _waits(world: World, source: Source, dead: set[int]) -> bool:
    described = await world.fleet.loop(source.name).describe()
    deleting = [
        pending.last_worker_identity.partition("@")[0]
        for pending in described.raw_description.pending_activities
        if pending.activity_type.name == "delete_orphans"
        and pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
    ]
    return described.status == WorkflowExecutionStatus.RUNNING and any(
        pid.isdigit() and int(pid) in dead for pid in deleting
    )

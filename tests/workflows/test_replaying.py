"""A worker that begins takes loops over from one that has ended, by replaying all that they did in their runs."""

import time

from temporalio.worker import Replayer

from activities.contracts.mirrors import MergeInput, MirrorRequest
from support.fleet import eventually
from support.mirrorloops import MIRROR, merged, mirror_loops
from worker.interceptors import FleetInterceptor
from worker.registered import SANDBOX, WORKFLOWS
from worker.serving import WORKFLOW_SLOTS

STEP_SECONDS = 10
"""After which Temporal takes a step back that a worker has begun, by default; the worker begins anew then."""


async def test_as_many_long_loops_as_a_worker_replays_at_once_are_replayed_before_they_are_taken_back(fleet):
    # The last merge of a run but one: with the next the loop would continue as new.
    turns = MirrorRequest("").turns_per_run - 1
    async with mirror_loops(fleet) as own:
        own.rooms.merges[MIRROR] = [merged(more=True)] * (turns - 1)
        loop = await own.start()
        await eventually(lambda: len(own.rooms.called(MergeInput)) == turns, seconds=200)
    history = await loop.fetch_history()
    replayer = Replayer(workflows=WORKFLOWS["merge"], workflow_runner=SANDBOX, interceptors=[FleetInterceptor()])
    began = time.process_time()  # of one core, which all of them share: how busy the machine is does not matter
    await replayer.replay_workflow(history)
    seconds = time.process_time() - began
    assert len(history.events) > 5 * turns
    assert WORKFLOW_SLOTS * seconds < STEP_SECONDS

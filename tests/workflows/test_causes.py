"""On whose behalf a loop that serves many does what it does, as the activities that it calls are told.

Nothing is recorded here: the ids of traces are handed on all the same.
"""

import asyncio
import re

import nats

from activities.contracts.causes import acting_for, cause, current
from support.fleet import eventually
from support.mirrorloops import MIRROR, merged, mirror_loops
from worker.bus import open_bus
from worker.mirror_wakes import MirrorWakes

EVENT = "4bf92f3577b34da6a3ce929d0e0e4736"


async def committed(fleet):
    """An event of the mirror's changelog, in a trace of its own."""
    client = await nats.connect(f"nats://127.0.0.1:{fleet.stack.ports['nats']}")
    try:
        subject = f"icefleet.{fleet.name}.snapshot.{MIRROR}_changelog"
        await client.jetstream().publish(subject, b"{}", headers={"traceparent": f"00-{EVENT}-00f067aa0ba902b7-00"})
    finally:
        await client.close()


async def test_a_mirror_merges_in_the_trace_of_the_event_or_order_that_woke_it_and_else_in_one_of_its_own(fleet):
    async with mirror_loops(fleet) as own:
        rooms = own.rooms
        # What is left over is merged on the same behalf; then the interval is a second, once, and then an hour.
        rooms.merges[MIRROR] = [merged(5, more=True), merged(3, interval_seconds=1), merged(1)]
        environment = fleet.settings().environment(fleet.name)
        async with MirrorWakes(environment, fleet.temporal, open_bus(environment)):
            await eventually(lambda: len(rooms.traces) == 3)
            await committed(fleet)
            await eventually(lambda: len(rooms.traces) == 4)
            await (await own.order()).result()
    *by_itself, by_event, by_order = rooms.traces
    assert by_event == EVENT
    assert by_order == rooms.asked_in != ""
    assert len({*by_itself, EVENT, by_order}) == 5
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in by_itself)


async def test_tasks_share_what_they_act_for_and_leave_others_alone():
    async def fill():
        current().setdefault("traceparent", "one")

    with acting_for({}):
        await asyncio.gather(asyncio.create_task(fill()), asyncio.create_task(fill()))
        assert cause() == {"traceparent": "one"}
        with acting_for({"traceparent": "two"}):
            assert cause() == {"traceparent": "two"}
        assert cause() == {"traceparent": "one"}
    await fill()
    assert cause() == {}

"""On whose behalf a loop that serves many does what it does, as the activities that it calls are told.

Nothing is recorded here: the ids of traces are handed on all the same.
"""

import asyncio
import json
import re

import nats
import pytest

from activities.contracts.causes import acting_for, cause, current
from support.cdcloops import loops, progress_of
from support.fleet import eventually
from support.mirrorloops import MIRROR, merged, mirror_loops
from worker.bus import open_bus
from worker.interceptors import HEADER
from worker.mirror_wakes import MirrorWakes

EVENT, LATER = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"


async def committed(fleet, trace=EVENT):
    """An event of the mirror's changelog, in a trace of its own."""
    client = await nats.connect(f"nats://127.0.0.1:{fleet.stack.ports['nats']}")
    try:
        subject = f"icefleet.{fleet.name}.snapshot.{MIRROR}_changelog"
        await client.jetstream().publish(subject, b"{}", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-00"})
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


async def test_a_merge_is_for_the_event_that_came_while_the_one_before_it_went_on(fleet):
    async with mirror_loops(fleet) as own:
        loop = await own.start()
        await eventually(lambda: len(own.rooms.traces) == 1)
        await progress_of(loop, doing="")
        own.rooms.held.add(MIRROR)
        environment = fleet.settings().environment(fleet.name)
        async with MirrorWakes(environment, fleet.temporal, open_bus(environment)):
            await committed(fleet)
            await eventually(lambda: own.rooms.running == [MIRROR])
            await committed(fleet, LATER)
            await progress_of(loop, woken=True)
            own.rooms.held.clear()
            await eventually(lambda: len(own.rooms.traces) == 3)
    assert own.rooms.traces[1:] == [EVENT, LATER]


async def test_an_event_that_comes_before_a_mirror_s_loop_continues_as_new_is_what_its_next_run_merges_for(fleet):
    async with mirror_loops(fleet) as own:
        first = await own.start(turns_per_run=1)

        async def went_on():
            return (await own.handle().describe()).run_id != first.result_run_id

        await eventually(went_on)
        await progress_of(own.handle(), woken=False, doing="")  # it rests: that is its turn
        environment = fleet.settings().environment(fleet.name)
        async with MirrorWakes(environment, fleet.temporal, open_bus(environment)):
            await committed(fleet)
            await eventually(lambda: len(own.rooms.traces) == 2)
    assert own.rooms.traces[1] == EVENT


async def asked_in(handle, activity):
    """The traces in which a workflow has asked for an activity, in any of its runs."""
    found, run = set(), (await handle.describe()).run_id
    while run:
        events = [event async for event in events_of(handle, run)]
        for event in events:
            asked = event.activity_task_scheduled_event_attributes
            if asked.activity_type.name == activity:
                found.add(json.loads(asked.header.fields[HEADER].data)["traceparent"].split("-")[1])
        run = events[0].workflow_execution_started_event_attributes.continued_execution_run_id
    return found


def events_of(handle, run):
    return handle._client.get_workflow_handle(handle.id, run_id=run).fetch_history_events()


@pytest.mark.parametrize(("door", "activity"), [("keep", "keep_changelog"), ("settle", "settle_letters")])
async def test_what_an_ingest_is_asked_for_is_done_in_the_trace_of_who_asked_also_by_its_next_runs(
    fleet, door, activity
):
    async with loops(fleet) as own:
        loop = await own.ingest(turns_per_run=1)
        await eventually(lambda: own.rooms.running == ["ingest"])
        asking = await getattr(own, door)()
        await asyncio.wait_for(asking.result(), 30)
        asked, done = await asked_in(asking, "signal_loop"), await asked_in(loop, activity)
    assert len(asked) == 1
    assert done == asked


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

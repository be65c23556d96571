"""Events: derived from table and stream, after the commit, in order, each once for whoever drops duplicates."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.exceptions import ApplicationError

from activities import failpoints
from activities.core.faults import BusUnavailable
from support.direct import Hands
from support.faultproxy import TcpFaults
from support.fleet import eventually
from support.gate import gate_at
from support.ownnats import own_nats


@pytest.fixture
async def bus(fleet, tmp_path):
    async with own_nats(tmp_path) as server:
        fleet.point(nats=server.port)
        yield server


class BusyBusError(Exception):
    """The announcement failed in a way that asks to be tried again."""


def snapshot_ids(fleet):
    return [str(snapshot.snapshot_id) for snapshot in fleet.table().snapshots()]


async def announced(bus, fleet):
    return [event["snapshotId"] for event in await bus.events(fleet)]


async def commit_days(hands, days):
    """One snapshot for each of the newest days, the oldest first; nothing is announced."""
    plan = await hands.plan(oldest_first=True)
    for planned in plan.todo[-days:]:
        await hands.commit([await hands.export(planned)])


async def test_a_loop_terminated_between_commit_and_announcement_is_made_good_by_the_next_run(fleet):
    await fleet.make_days(days=3, rows=5)
    fleet.set_export(partitions_per_commit=1)
    async with fleet.worker():
        async with gate_at("before-announce") as gate:
            request = await fleet.start()
            report = await request.result()
            await gate.reached()
            await fleet.loop().terminate("as a test of what is left")
            missed = [event["snapshotId"] for event in await fleet.events()]
        assert (report.exported, len(report.snapshots)) == (3, 3)
        again = await fleet.request()
        await fleet.loop_ended()
    assert missed == []
    assert again.status == "nothing_to_do"
    assert [event["snapshotId"] for event in await fleet.events()] == report.snapshots == snapshot_ids(fleet)


async def test_a_crash_after_the_event_and_before_its_record_announces_nothing_twice(fleet, bus):
    await fleet.make_days(days=2, rows=5)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        await commit_days(hands, 2)
        first = await hands.announce()
        second = await hands.announce()
    assert (first.announced, second.announced) == (2, 0)
    assert await announced(bus, fleet) == snapshot_ids(fleet)


async def test_what_is_committed_after_the_catalog_came_back_from_a_backup_is_announced(fleet, bus):
    """The table counts on from an earlier number: by that alone it would be older than what was announced."""
    await fleet.make_days(days=3, rows=5)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        await commit_days(hands, 2)
        await hands.announce()
        subject = f"icefleet.{fleet.name}.snapshot.{fleet.network}.events"
        last = await context.bus.last(subject)
        # Of a snapshot that the backup does not have.
        lost = json.dumps({**json.loads(last.body), "snapshotId": "17", "sequenceNumber": "9"}).encode()
        await context.bus.publish(subject, lost, {}, message_id=f"{fleet.network}-17", after=last.sequence)
        assert (await hands.announce()).announced == 0
        await hands.run()
        assert (await hands.announce()).announced == 1
        assert (await hands.announce()).announced == 0
    [first, second, third] = snapshot_ids(fleet)
    assert await announced(bus, fleet) == [first, second, "17", third]


async def test_events_lost_with_the_stream_are_announced_again_in_order(fleet, bus):
    """The connection lives on while somebody deletes the stream: it is made anew."""
    await fleet.make_days(days=3, rows=5)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        await commit_days(hands, 3)
        await hands.announce()
        await bus.delete()
        await eventually(lambda: announce_now(hands))
    assert await announced(bus, fleet) == snapshot_ids(fleet)


async def announce_now(hands):
    """What the loop does: try again while the bus is in the way, and only then."""
    with contextlib.suppress(BusyBusError):
        try:
            await hands.announce()
        except ApplicationError as failed:
            raise (BusyBusError if failed.type == "BusUnavailable" and not failed.non_retryable else failed) from failed
        return True
    return False


@pytest.mark.parametrize("days", [1, 3])
async def test_purged_events_are_announced_again_in_order_once_the_duplicate_window_has_passed(fleet, bus, days):
    await bus.make_stream(duplicate_window=1)
    await fleet.make_days(days=days, rows=5)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        await commit_days(hands, days)
        await hands.announce()
        await bus.purge()
        # Nothing may be taken for announced that the stream does not hold.
        await eventually(lambda: announce_now(hands))
    assert await announced(bus, fleet) == snapshot_ids(fleet)


async def test_a_last_announced_snapshot_that_has_expired_is_placed_by_its_sequence_number(fleet, bus):
    await fleet.make_days(days=4, rows=5)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        plan = await hands.plan(oldest_first=True)
        files = await hands.export_all(plan)
        await hands.commit(files[:1])
        await hands.announce()
        for file in files[1:]:
            await hands.commit([file])
        [known, *missed] = snapshot_ids(fleet)
        fleet.table().maintenance.expire_snapshots().by_id(int(known)).commit()
        assert known not in snapshot_ids(fleet)
        report = await hands.announce()
    assert report.announced == 3
    assert await announced(bus, fleet) == [known, *missed]


async def test_expiry_of_everything_that_was_announced_repeats_nothing(fleet, bus):
    await fleet.make_days(days=3, rows=5)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        await commit_days(hands, 3)
        await hands.announce()
        ids = snapshot_ids(fleet)
        fleet.table().maintenance.expire_snapshots().older_than(datetime.now(UTC) + timedelta(hours=1)).commit()
        assert snapshot_ids(fleet) == ids[-1:]
        assert (await hands.announce()).announced == 0
    assert await announced(bus, fleet) == ids


async def test_a_table_dropped_and_made_anew_is_announced_from_its_beginning(fleet, bus):
    await fleet.make_days(days=2, rows=5)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        await hands.run()
        await hands.announce()
        [old], old_uuid = snapshot_ids(fleet), str(fleet.table().metadata.table_uuid)
        context.lake.catalog.drop_table(f"{fleet.network}.events")
        # Its objects are still there: they are adopted, not made again.
        again = await hands.run()
        await hands.announce()
    events = await bus.events(fleet)
    new_uuid = str(fleet.table().metadata.table_uuid)
    assert again.committed == 2
    assert old_uuid != new_uuid
    assert [event["_id"] for event in events] == [f"{old_uuid}-{old}", f"{new_uuid}-{again.snapshot_id}"]


async def test_nats_away_delays_events_and_blocks_no_export(fleet):
    await fleet.make_days(days=4, rows=5)
    fleet.set_export(partitions_per_commit=1)
    async with TcpFaults(fleet.stack.ports["nats"]) as wire:
        fleet.point(nats=wire.port)
        await wire.refuse()
        async with fleet.worker():
            first = await fleet.request(from_="2024-03-17", to="2024-03-18")
            second = await fleet.request(from_="2024-03-19", to="2024-03-20")
            assert (first.exported, second.exported) == (2, 2)
            assert await fleet.events() == []
            await wire.mend()
            assert await fleet.loop_ended() == "COMPLETED"
    assert [event["snapshotId"] for event in await fleet.events()] == [*first.snapshots, *second.snapshots]


@pytest.mark.parametrize("connected", [True, False], ids=["an open connection", "no connection"])
async def test_while_nats_hangs_one_of_all_who_announce_finds_out_and_no_other_one_holds_a_slot_of_its_worker(
    fleet, connected
):
    """Each would hold it until its time is up, and commits would wait for the slots."""
    subject = f"icefleet.{fleet.name}.snapshot.{fleet.network}.events"
    async with TcpFaults(fleet.stack.ports["nats"]) as wire:
        fleet.point(nats=wire.port)
        async with fleet.context() as context:
            bus = context.bus
            if connected:
                await bus.check()
            wire.hang()
            with pytest.raises(BusUnavailable):
                await bus.last(subject)
            asked = [asyncio.create_task(bus.last(subject)) for _ in range(20)]
            await eventually(lambda: sum(one.done() for one in asked) == 19)
            told = [one.exception() for one in asked if one.done()]
            await wire.mend()
            await asyncio.wait(asked)
            assert await eventually(lambda: is_back(bus, subject))
            found = await asyncio.gather(*(bus.last(subject) for _ in range(20)))
    assert ({type(one) for one in told}, found) == ({BusUnavailable}, [None] * 20)


async def is_back(bus, subject):
    with contextlib.suppress(BusUnavailable):
        return await bus.last(subject) is None


async def test_those_who_wait_for_a_connection_that_fails_do_not_each_try_it_again(fleet):
    async with TcpFaults(fleet.stack.ports["nats"]) as wire:
        fleet.point(nats=wire.port)
        async with fleet.context() as context:
            wire.hang()
            asked = await asyncio.gather(
                *(context.bus.last(f"icefleet.{fleet.name}.snapshot.x") for _ in range(10)), return_exceptions=True
            )
            tries = wire.accepted
            assert {type(one) for one in asked} == {BusUnavailable}
            await asyncio.gather(context.bus.last(f"icefleet.{fleet.name}.snapshot.x"), return_exceptions=True)
    # As many connections as the next one alone has asked for.
    assert wire.accepted == 2 * tries


@pytest.mark.parametrize("window", [0.1, 120], ids=["no duplicate window", "a wide duplicate window"])
async def test_announcers_at_once_publish_each_snapshot_once_and_in_order(fleet, bus, window):
    await bus.make_stream(duplicate_window=window)
    await fleet.make_days(days=6, rows=5)
    async with fleet.context() as one, fleet.context() as two, fleet.context() as three:
        hands = [Hands(fleet, context) for context in (one, two, three)]
        await commit_days(hands[0], 6)
        # All of them have looked at the stream before any of them publishes.
        async with gate_at("before-announce") as gate:
            announcing = [asyncio.create_task(eventually_announced(hand)) for hand in hands]
            await eventually(lambda: gate.passed == 3)
        await asyncio.gather(*announcing)
    assert await announced(bus, fleet) == snapshot_ids(fleet)


async def eventually_announced(hands):
    await eventually(lambda: announce_now(hands))


async def test_an_announcer_that_slept_through_newer_events_publishes_nothing_behind_them(fleet, bus):
    """Outside the duplicate window nothing but the expected sequence of the subject keeps it from doing so."""
    await bus.make_stream(duplicate_window=0.1)
    await fleet.make_days(days=3, rows=5)
    asleep, awake = asyncio.Event(), asyncio.Event()

    async def sleep_once():
        if not asleep.is_set():
            asleep.set()
            await awake.wait()

    async with fleet.context() as slow, fleet.context() as quick:
        sleeper, other = Hands(fleet, slow), Hands(fleet, quick)
        await commit_days(sleeper, 3)
        failpoints.arm("before-announce", sleep_once)
        sleeping = asyncio.create_task(announce_now(sleeper))
        await asyncio.wait_for(asleep.wait(), 10)
        assert (await other.announce()).announced == 3
        await bus.forget_ids()
        awake.set()
        assert await sleeping is False
        assert (await sleeper.announce()).announced == 0
    assert await announced(bus, fleet) == snapshot_ids(fleet)


async def test_a_table_rolled_back_announces_what_is_committed_next_and_repeats_nothing(fleet, bus):
    await fleet.make_days(days=3, rows=5)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        await commit_days(hands, 3)
        await hands.announce()
        ids = snapshot_ids(fleet)
        fleet.table().manage_snapshots().rollback_to_snapshot(int(ids[0])).commit()
        assert (await hands.announce()).announced == 0
        report = await hands.run()
        await hands.announce()
    assert report.committed == 2
    assert await announced(bus, fleet) == [*ids, report.snapshot_id]

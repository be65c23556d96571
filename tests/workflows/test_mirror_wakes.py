"""What wakes mirrors: a worker has their loops run, and events of changelogs reach them, whenever they were sent."""

import itertools
from contextlib import asynccontextmanager

import nats
import pytest

from activities.contracts.mirrors import MERGE_SIGNAL, MergeInput
from support.cdcloops import progress_of
from support.fleet import eventually
from support.mirrorloops import entry, mirror_loops
from support.ownnats import own_nats
from support.tcpproxy import TcpFaults
from worker.bus import open_bus
from worker.mirror_wakes import MirrorWakes, durable_name

_numbers = itertools.count(1)


@pytest.fixture
async def jetstream(fleet):
    """The stream as others see it, once somebody has made it."""
    bus = open_bus(fleet.settings().environment(fleet.name))
    await bus.last("icefleet.nobody.snapshot.nothing")
    await bus.close()
    client = await nats.connect(f"nats://127.0.0.1:{fleet.stack.ports['nats']}")
    yield client.jetstream()
    await client.close()


async def committed(jetstream, fleet, mirror):
    """An event of the changelog of a mirror."""
    subject = f"icefleet.{fleet.name}.snapshot.{mirror}_changelog"
    await jetstream.publish(subject, b"{}", headers={"Nats-Msg-Id": f"{fleet.name}-{next(_numbers)}"})


@asynccontextmanager
async def waker(fleet):
    """What a worker process has beside its workers."""
    environment = fleet.settings().environment(fleet.name)
    async with MirrorWakes(environment, fleet.temporal, open_bus(environment)):
        yield


def merges(own, mirror):
    return [call.mirror for call in own.rooms.called(MergeInput)].count(mirror)


async def idle(own, *mirrors):
    """Wait until the loops have nothing to do; how often each has merged by then."""
    for mirror in mirrors:
        await eventually(lambda mirror=mirror: merges(own, mirror))
        await progress_of(own.handle(mirror), doing="", woken=False)
    return [merges(own, mirror) for mirror in mirrors]


async def test_a_worker_has_every_mirror_run_and_an_event_of_its_changelog_wakes_it_alone(fleet, jetstream):
    async with mirror_loops(fleet, ["shop.a", "shop.b"]) as own, waker(fleet):
        assert await idle(own, "shop.a", "shop.b") == [1, 1]
        await committed(jetstream, fleet, "shop.a")
        await eventually(lambda: merges(own, "shop.a") == 2, seconds=20)
        await idle(own, "shop.a")
        assert merges(own, "shop.b") == 1


async def test_an_event_that_was_sent_while_no_worker_ran_wakes_the_loop_and_is_heard_once(fleet, jetstream):
    async with mirror_loops(fleet, ["shop.a", "shop.b"]) as own:
        async with waker(fleet):
            await idle(own, "shop.a", "shop.b")
            await committed(jetstream, fleet, "shop.a")
            await eventually(lambda: merges(own, "shop.a") == 2)
            # The last one was acknowledged before the waker left.
            await eventually(lambda: acknowledged(jetstream, fleet))
        before = await idle(own, "shop.a", "shop.b")
        for _ in range(150):  # more than are heard at once
            await committed(jetstream, fleet, "shop.b")
        async with waker(fleet):
            await eventually(lambda: merges(own, "shop.b") > before[1], seconds=20)
            await eventually(lambda: acknowledged(jetstream, fleet))
        assert merges(own, "shop.a") == before[0]


async def acknowledged(jetstream, fleet):
    info = await jetstream.consumer_info("ICEFLEET", durable_name(fleet.name))
    return info.num_pending == info.num_ack_pending == 0


async def test_a_mirror_that_config_gets_later_is_heard_of_by_the_same_consumer_and_one_that_went_is_not(
    fleet, jetstream
):
    async with mirror_loops(fleet, ["shop.a", "shop.b"]) as own:
        fleet.set_mirrors(entry("shop.a"))
        async with waker(fleet):
            await idle(own, "shop.a")
        fleet.set_mirrors(entry("shop.b"))
        async with waker(fleet):
            await idle(own, "shop.b")
            before = merges(own, "shop.b"), merges(own, "shop.a")
            await committed(jetstream, fleet, "shop.a")
            await committed(jetstream, fleet, "shop.b")
            await eventually(lambda: merges(own, "shop.b") > before[0], seconds=20)
            await eventually(lambda: acknowledged(jetstream, fleet))
        info = await jetstream.consumer_info("ICEFLEET", durable_name(fleet.name))
    assert info.config.filter_subjects == [f"icefleet.{fleet.name}.snapshot.shop.b_changelog"]
    assert merges(own, "shop.a") == before[1]


async def test_two_mirrors_of_one_changelog_are_both_woken(fleet, jetstream):
    async with mirror_loops(fleet, ["shop.a", "shop.b"]) as own:
        fleet.set_mirrors(entry("shop.a"), entry("shop.b", changelog_table="shop.a_changelog"))
        async with waker(fleet):
            await idle(own, "shop.a", "shop.b")
            await committed(jetstream, fleet, "shop.a")
            await eventually(lambda: merges(own, "shop.a") == merges(own, "shop.b") == 2, seconds=20)


async def test_nats_being_away_keeps_no_loop_from_running_and_its_events_are_heard_when_it_is_back(fleet, tmp_path):
    async with own_nats(tmp_path) as server, TcpFaults(server.port) as proxy:
        await proxy.refuse()
        fleet.point(nats=proxy.port)
        async with mirror_loops(fleet, ["shop.a"]) as own, waker(fleet):
            await idle(own, "shop.a")
            await own.handle("shop.a").signal(MERGE_SIGNAL)
            await eventually(lambda: merges(own, "shop.a") == 2)
            await proxy.mend()
            await eventually(lambda: exists(server, fleet))
            await committed(server.jetstream, fleet, "shop.a")
            await eventually(lambda: merges(own, "shop.a") == 3)
            # The stream is gone, and with it the consumer; both are made anew.
            await server.delete()
            await eventually(lambda: exists(server, fleet))
            await committed(server.jetstream, fleet, "shop.a")
            await eventually(lambda: merges(own, "shop.a") == 4)


async def exists(server, fleet):
    try:
        return await server.jetstream.consumer_info("ICEFLEET", durable_name(fleet.name))
    except nats.js.errors.NotFoundError:
        return None

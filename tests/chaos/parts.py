"""What happens to whole processes: servers killed, stopped in their tracks, cut off; workers that sleep."""

import asyncio
from random import Random

from chaos.wire import MEGABYTE, exports_of
from chaos.world import World
from support.faultproxy import HoldBody
from support.troubles import STRUCK_SECONDS, Trouble, cut, hangs, killed, paused, refuses, sleeping_worker
from support.workerpool import Pool


async def _die_in_mid_stream(world: World, rng: Random) -> int:
    """The engine dies while a result of 18 megabytes flows, of which one has passed."""
    stream = HoldBody(after_bytes=MEGABYTE)
    rule = world.wires.clickhouse.on(stream, path=exports_of("bulky"))
    try:
        world.stir("bulky")
        async with asyncio.timeout(STRUCK_SECONDS):
            await stream.held.wait()
    except TimeoutError:
        return 0
    else:
        await asyncio.to_thread(world.stack.kill, "clickhouse")
    finally:
        world.wires.clickhouse.drop(rule)
        stream.released.set()
    await asyncio.sleep(rng.uniform(0.5, 3))
    await asyncio.to_thread(world.stack.start, ["clickhouse"])
    return 0 if rule.landed.is_set() else 1


async def _come_late(world: World, rng: Random) -> int:
    """Rows come late while everything else goes wrong, into partitions that are there, under way or empty."""
    for source in world.sources[:-1]:
        for index in rng.sample(range(source.partitions), 2):
            world.come_late(source, index)
    return 2 * len(world.sources[:-1])


def troubles(pool: Pool) -> list[Trouble]:
    """Everything that happens to processes."""
    return [
        killed("temporal", (0.5, 4)),
        paused("temporal", (2, 6)),
        killed("nats", (0.5, 5)),
        cut("nats"),
        refuses("nats", (3, 8)),
        hangs("nats", (3, 12)),
        Trouble("clickhouse dies in mid-stream", _die_in_mid_stream),
        killed("clickhouse", (0.5, 3)),
        paused("clickhouse", (2, 6)),
        paused("s3", (3, 8)),
        sleeping_worker(pool),
        Trouble("rows come late", _come_late),
    ]

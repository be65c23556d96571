"""What happens to whole processes: servers killed, stopped in their tracks, cut off; workers that sleep."""

import asyncio
import signal
from random import Random

from chaos.wire import MEGABYTE, STRUCK_SECONDS, Trouble, exports_of
from chaos.workers import Pool
from chaos.world import World
from support.faultproxy import HoldBody


def killed(part: str, seconds: tuple[float, float]) -> Trouble:
    """A server that is killed, stays away for a time within `seconds`, and comes back with its data."""

    async def strike(world: World, rng: Random) -> int:
        await asyncio.to_thread(world.stack.kill, part)
        await asyncio.sleep(rng.uniform(*seconds))
        await asyncio.to_thread(world.stack.start, [part])
        return 1

    return Trouble(f"{part} killed and restarted", strike)


def paused(part: str, seconds: tuple[float, float]) -> Trouble:
    """A server whose ports are open and which does not answer for a time within `seconds`."""

    async def strike(world: World, rng: Random) -> int:
        world.stack.pause(part)
        try:
            await asyncio.sleep(rng.uniform(*seconds))
        finally:
            world.stack.resume(part)
        return 1

    return Trouble(f"{part} paused", strike)


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


async def _cut_nats(world: World, rng: Random) -> int:
    cut = 0
    for _ in range(5):
        world.stir()
        cut += world.wires.nats.cut()
        await asyncio.sleep(rng.uniform(0.2, 2))
    return cut


async def _refuse_nats(world: World, rng: Random) -> int:
    await world.wires.nats.refuse()
    world.stir()
    await asyncio.sleep(rng.uniform(3, 8))
    await world.wires.nats.mend()
    return 1


async def _hang_nats(world: World, rng: Random) -> int:
    world.wires.nats.hang()
    world.stir()
    await asyncio.sleep(rng.uniform(3, 12))
    await world.wires.nats.mend()
    return 1


async def _come_late(world: World, rng: Random) -> int:
    """Rows come late while everything else goes wrong, into partitions that are there, under way or empty."""
    for source in world.sources[:-1]:
        for index in rng.sample(range(source.partitions), 2):
            world.come_late(source, index)
    return 2 * len(world.sources[:-1])


def sleeping_worker(pool: Pool) -> Trouble:
    """A worker that stops for longer than a heartbeat may fail to come, and then goes on as if nothing had been."""

    async def strike(world: World, rng: Random) -> int:
        living = [process for process in pool.living if process.poll() is None]
        if not living:
            return 0
        process = rng.choice(living)
        process.send_signal(signal.SIGSTOP)
        world.stir()
        await asyncio.sleep(rng.uniform(4, 8))
        process.send_signal(signal.SIGCONT)
        return 1

    return Trouble("a worker sleeps beyond its heartbeat", strike)


def troubles(pool: Pool) -> list[Trouble]:
    """Everything that happens to processes."""
    return [
        killed("temporal", (0.5, 4)),
        paused("temporal", (2, 6)),
        killed("nats", (0.5, 5)),
        Trouble("nats cut", _cut_nats),
        Trouble("nats refuses", _refuse_nats),
        Trouble("nats hangs", _hang_nats),
        Trouble("clickhouse dies in mid-stream", _die_in_mid_stream),
        killed("clickhouse", (0.5, 3)),
        paused("clickhouse", (2, 6)),
        paused("s3", (3, 8)),
        sleeping_worker(pool),
        Trouble("rows come late", _come_late),
    ]

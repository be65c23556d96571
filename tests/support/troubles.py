"""Things that go wrong, one at a time, for a bounded time: on the wire before a part, or to whole processes."""

import asyncio
import signal
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

from deploy.local.stack import Stack
from support.faultproxy import Fault, Hold, HoldAnswer, HttpFaults, Late, Rule, TcpFaults
from support.workerpool import Pool

STRUCK_SECONDS = 20
"""How long a fault waits for the first request that it can strike."""
AGAIN_SECONDS = 4
"""And, once it has struck, for as many more as it may."""
LOOK_SECONDS = 0.05


class World(Protocol):
    """What troubles act upon."""

    stack: Stack

    @property
    def under_way(self) -> int:
        """How much work is being done just now."""

    def stir(self, name: str = "") -> None:
        """Give the workers something to do, so that there is something to break; `name` says with what."""

    def say(self, text: str) -> None:
        """Put a line into the story of the run."""

    def http(self, part: str) -> HttpFaults:
        """The proxy before a part that speaks HTTP."""

    def tcp(self, part: str) -> TcpFaults:
        """The proxy before another part."""


@dataclass(frozen=True)
class Trouble:
    """One thing that goes wrong."""

    name: str
    strike: Callable[..., Awaitable[int]]
    """Do it to a world, with a `Random`, for a bounded time; answers how often it struck."""


async def conduct(
    world: World, rng: Random, troubles: Sequence[Trouble], deadline: float, struck: Counter[str]
) -> None:
    """One trouble after the other, in an order that `rng` gives, until `deadline` by the monotonic clock.

    One that struck nobody comes again. `struck` counts how often each did.
    """
    todo = deque(rng.sample(troubles, len(troubles)))
    while todo and time.monotonic() < deadline:
        trouble = todo.popleft()
        world.say(trouble.name)
        times = await trouble.strike(world, rng)
        struck[trouble.name] += times
        if not times:
            world.say(f"{trouble.name}: it struck nobody, and will come again")
            todo.append(trouble)
        await asyncio.sleep(rng.uniform(0.2, 1.5))


def on_the_wire(
    name: str,
    part: str,
    fault: Callable[[Random], Fault],
    *,
    times: int | None = 1,
    method: str = "",
    path: str = "",
    keep: tuple[float, float] = (0, 0),
    table: str = "",
) -> Trouble:
    """A fault that strikes the next `times` requests (None: all that come) of a part.

    What it holds back is held for a time within `keep` (seconds). `table` is the one that must be at work meanwhile.
    """

    async def strike(world: World, rng: Random) -> int:
        proxy = world.http(part)
        rule = proxy.on(fault(rng), method=method, path=path, times=times)
        try:
            await _until_struck(world, rule, table)
            if rule.times_struck:
                await asyncio.sleep(rng.uniform(*keep))
                await _until_used_up(rule)
        finally:
            proxy.drop(rule)
            if isinstance(rule.fault, Hold | HoldAnswer | Late):
                rule.fault.released.set()
        return rule.times_struck

    return Trouble(name, strike)


async def _until_struck(world: World, rule: Rule, table: str) -> None:
    """Wait until a request has been struck; make some come by if need be."""
    for _ in range(5):
        if table or not world.under_way:
            world.stir(table)
        try:
            async with asyncio.timeout(STRUCK_SECONDS / 5):
                await rule.struck.wait()
                return
        except TimeoutError:
            world.stir(table)


async def _until_used_up(rule: Rule) -> None:
    for _ in range(round(AGAIN_SECONDS / LOOK_SECONDS)):
        if rule.times is None or rule.times_struck >= rule.times:
            return
        await asyncio.sleep(LOOK_SECONDS)


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


def cut(part: str, *, times: int = 5, every: tuple[float, float] = (0.2, 2)) -> Trouble:
    """Every connection to a part is cut, again and again."""

    async def strike(world: World, rng: Random) -> int:
        struck = 0
        for _ in range(times):
            world.stir()
            struck += world.tcp(part).cut()
            await asyncio.sleep(rng.uniform(*every))
        return struck

    return Trouble(f"{part} cut", strike)


def refuses(part: str, seconds: tuple[float, float]) -> Trouble:
    """Connections to a part are refused for a time within `seconds`."""

    async def strike(world: World, rng: Random) -> int:
        await world.tcp(part).refuse()
        world.stir()
        await asyncio.sleep(rng.uniform(*seconds))
        await world.tcp(part).mend()
        return 1

    return Trouble(f"{part} refuses", strike)


def hangs(part: str, seconds: tuple[float, float]) -> Trouble:
    """Nothing passes between the workers and a part for a time within `seconds`."""

    async def strike(world: World, rng: Random) -> int:
        world.tcp(part).hang()
        world.stir()
        await asyncio.sleep(rng.uniform(*seconds))
        await world.tcp(part).mend()
        return 1

    return Trouble(f"{part} hangs", strike)


def sleeping_worker(pool: Pool, seconds: tuple[float, float] = (4, 8)) -> Trouble:
    """A worker that stops for longer than a heartbeat may fail to come, and then goes on as if nothing had been."""

    async def strike(world: World, rng: Random) -> int:
        living = [process for process in pool.living if process.poll() is None]
        if not living:
            return 0
        process = rng.choice(living)
        process.send_signal(signal.SIGSTOP)
        world.stir()
        await asyncio.sleep(rng.uniform(*seconds))
        process.send_signal(signal.SIGCONT)
        return 1

    return Trouble("a worker sleeps beyond its heartbeat", strike)

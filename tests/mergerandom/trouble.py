"""What goes wrong with mirrors during a run, and what people order in the middle of it."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from cdcrandom.world import World
from mergerandom.indexes import damage, forget, lose
from mergerandom.mirrors import NAMESPACE
from support.faultproxy import Answer, AnswerInstead, CutAfter, CutBody, Hold, HoldAnswer, Late
from support.troubles import Trouble, on_the_wire

OBJECT = rf"/{NAMESPACE}/[^?]*\.(parquet|puffin)$"
INDEX = rf"/{NAMESPACE}/[^?]*\.puffin$"
COMMIT = rf"/namespaces/{NAMESPACE}/tables/[^/?]+$"

WIRE = [
    on_the_wire(
        "mirror's object landed, answer cut", "store", lambda _: CutAfter(), times=3, method="PUT", path=OBJECT
    ),
    on_the_wire(
        "mirror's object landed, 500", "store", lambda _: AnswerInstead(500), times=3, method="PUT", path=OBJECT
    ),
    on_the_wire("mirror's object not written", "store", lambda _: Answer(503), times=6, method="PUT", path=OBJECT),
    on_the_wire("mirror's object cut", "store", lambda _: CutBody(100), times=3, method="GET", path=OBJECT),
    on_the_wire("merge refused", "catalog", lambda _: Answer(409, b"{}"), times=4, method="POST", path=COMMIT),
    on_the_wire("merge landed, answer cut", "catalog", lambda _: CutAfter(), times=4, method="POST", path=COMMIT),
    on_the_wire(
        "merge landed, 500", "catalog", lambda _: AnswerInstead(500, b"{}"), times=4, method="POST", path=COMMIT
    ),
    on_the_wire(
        "merge landed, 409", "catalog", lambda _: AnswerInstead(409, b"{}"), times=4, method="POST", path=COMMIT
    ),
    on_the_wire("merge arrives late", "catalog", lambda _: Late(), times=3, method="POST", path=COMMIT, keep=(0.5, 5)),
    on_the_wire(
        "merge landed, timed out", "catalog", lambda _: HoldAnswer(), method="POST", path=COMMIT, keep=(33, 36)
    ),
]

UNREAD = [
    on_the_wire("index not read", "store", lambda _: Answer(500), times=4, method="GET", path=INDEX),
    on_the_wire("index hangs", "store", lambda _: Hold(), times=None, keep=(1, 3), method="GET", path=INDEX),
]
"""What strikes only workers that have to fetch an index, since they remember none."""


class Beside:
    """What is done to mirrors beside the wire; it remembers what it spoiled."""

    def __init__(self, mirrors: list[str]) -> None:
        self._mirrors = mirrors
        self.spoiled: list[str] = []
        """Paths of objects of indexes that were deleted or damaged."""

    def troubles(self) -> list[Trouble]:
        """All of it."""
        return [
            Trouble("index lost", self._lose),
            Trouble("index damaged", self._damage),
            *(Trouble(one.name, _of_forgetful(one)) for one in UNREAD),
            Trouble("what workers keep of indexes lost", self._forget),
            Trouble("compaction ordered", self._compact),
            Trouble("new index ordered", self._rebuild),
            Trouble("merge ordered", self._merge),
            Trouble("mirror has to begin again", self._begin_again),
            Trouble("mirror paused and resumed", self._pause),
            Trouble("all mirrors paused and resumed", self._pause_all),
        ]

    async def _lose(self, world: World, rng: Random) -> int:
        hit = await asyncio.to_thread(lose, world, rng.choice(self._mirrors))
        self.spoiled += hit
        return len(hit)

    async def _damage(self, world: World, rng: Random) -> int:
        hit = await asyncio.to_thread(damage, world, rng, rng.choice(self._mirrors))
        self.spoiled += hit
        return len(hit)

    async def _forget(self, world: World, rng: Random) -> int:  # noqa: ARG002 - as troubles are called
        await asyncio.to_thread(forget, world)
        return 1

    async def _compact(self, world: World, rng: Random) -> int:
        return await self._order(world, "compact", rng.choice(self._mirrors))

    async def _rebuild(self, world: World, rng: Random) -> int:
        return await self._order(world, "rebuild-index", rng.choice(self._mirrors))

    async def _merge(self, world: World, rng: Random) -> int:
        return await self._order(world, "merge", rng.choice(self._mirrors), "--once")

    async def _begin_again(self, world: World, rng: Random) -> int:
        return await self._order(world, "merge", rng.choice(self._mirrors), "--bootstrap")

    async def _order(self, world: World, *words: str) -> int:
        """Have something done and wait for it. What is in its way may end it, and then somebody asks again."""
        code, _, complaint = await world.command(*words, of="mirrors")
        if code:
            world.say(f"icefleet mirrors {' '.join(words)} ended with {code}: {complaint.strip()[-200:]}")
        return int(not code)

    async def _pause(self, world: World, rng: Random) -> int:
        return await self._rest(world, rng, rng.choice(self._mirrors))

    async def _pause_all(self, world: World, rng: Random) -> int:
        return await self._rest(world, rng, "--all")

    async def _rest(self, world: World, rng: Random, which: str) -> int:
        code, _, _ = await world.command("pause", which, of="mirrors")
        await asyncio.sleep(rng.uniform(0.5, 3))
        await world.insist("resume", which, of="mirrors")
        return int(not code)


def _of_forgetful(trouble: Trouble) -> Callable[[World, Random], Awaitable[int]]:
    async def strike(world: World, rng: Random) -> int:
        await asyncio.to_thread(forget, world)
        return await trouble.strike(world, rng)

    return strike

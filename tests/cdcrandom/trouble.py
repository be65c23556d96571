"""What goes wrong during a run."""

import asyncio
from random import Random

from cdcrandom.world import World
from support.faultproxy import Answer, AnswerInstead, CutAfter, CutBefore, CutBody, Delay, Hold, HoldAnswer, Late
from support.troubles import Trouble, cut, hangs, killed, on_the_wire, paused, refuses, sleeping_worker
from support.workerpool import Pool

OBJECT = r"/cdc/[^?]*\.parquet$"
COMMIT = r"/tables/[^/?]+$"

STORE = [
    on_the_wire("store answers 500", "store", lambda _: Answer(500), times=8),
    on_the_wire("store answers 503 for a while", "store", lambda _: Answer(503), times=None, keep=(1, 3)),
    on_the_wire("store hangs", "store", lambda _: Hold(), times=None, keep=(1, 4)),
    on_the_wire("store is slow", "store", lambda rng: Delay(rng.uniform(0.1, 0.5)), times=20),
    on_the_wire("store cuts before", "store", lambda _: CutBefore(), times=8),
    on_the_wire("object landed, answer cut", "store", lambda _: CutAfter(), times=3, method="PUT", path=OBJECT),
    on_the_wire("object landed, 500", "store", lambda _: AnswerInstead(500), times=3, method="PUT", path=OBJECT),
    on_the_wire("manifest not written", "store", lambda _: Answer(500), times=4, method="PUT", path=r"/metadata/"),
    on_the_wire("manifest not read", "store", lambda _: Answer(503), times=4, method="GET", path=r"/metadata/"),
    on_the_wire("manifest cut", "store", lambda _: CutBody(100), times=3, method="GET", path=r"/metadata/"),
]
CATALOG = [
    on_the_wire("catalog answers 500", "catalog", lambda _: Answer(500, b"{}"), times=6),
    on_the_wire("catalog answers 503 for a while", "catalog", lambda _: Answer(503, b"{}"), times=None, keep=(1, 3)),
    on_the_wire("catalog hangs", "catalog", lambda _: Hold(), times=None, keep=(1, 4)),
    on_the_wire("catalog cuts before", "catalog", lambda _: CutBefore(), times=6),
    on_the_wire("commit refused", "catalog", lambda _: Answer(409, b"{}"), times=3, method="POST", path=COMMIT),
    on_the_wire("commit landed, answer cut", "catalog", lambda _: CutAfter(), times=4, method="POST", path=COMMIT),
    on_the_wire(
        "commit landed, 500", "catalog", lambda _: AnswerInstead(500, b"{}"), times=4, method="POST", path=COMMIT
    ),
    on_the_wire(
        "commit landed, 409", "catalog", lambda _: AnswerInstead(409, b"{}"), times=4, method="POST", path=COMMIT
    ),
    on_the_wire(
        "commit landed, 503", "catalog", lambda _: AnswerInstead(503, b"{}"), times=4, method="POST", path=COMMIT
    ),
    on_the_wire("commit arrives late", "catalog", lambda _: Late(), times=3, method="POST", path=COMMIT, keep=(0.5, 5)),
]
PATIENT = [
    on_the_wire(
        "commit landed, timed out", "catalog", lambda _: HoldAnswer(), method="POST", path=COMMIT, keep=(33, 36)
    ),
]
"""What waits until a client's own time is up: 30 seconds for the catalog."""


async def pause(world: World, rng: Random) -> int:
    """Capture and ingest stop for a while, and go on, perhaps with other workers."""
    await world.insist("pause")
    await asyncio.sleep(rng.uniform(1, 4))
    await world.insist("resume")
    return 1


async def _terminate(world: World, rng: Random) -> int:
    """Every connection of icefleet's is ended by the server, again and again."""
    ended = 0
    for _ in range(4):
        rows = await world.ask(
            world.source,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'icefleet' "
            "AND pid <> pg_backend_pid() AND datname = ANY (%s)",
            [world.source.database, world.buffer.database],
        )
        ended += len(rows)
        await asyncio.sleep(rng.uniform(0.3, 2))
    return ended


def parts(pool: Pool) -> list[Trouble]:
    """Everything that happens to processes and to connections of other protocols."""
    return [
        cut("nats"),
        refuses("nats", (2, 5)),
        hangs("nats", (2, 6)),
        killed("nats", (0.5, 3)),
        cut("source"),
        refuses("source", (1, 4)),
        hangs("source", (2, 6)),
        cut("buffer"),
        refuses("buffer", (1, 4)),
        hangs("buffer", (2, 6)),
        Trouble("postgres ends connections", _terminate),
        killed("postgres", (0.5, 2)),
        paused("postgres", (1, 4)),
        killed("temporal", (0.5, 2)),
        paused("s3", (1, 4)),
        sleeping_worker(pool),
        Trouble("pipeline paused and resumed", pause),
    ]

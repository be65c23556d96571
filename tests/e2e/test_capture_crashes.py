"""Whatever dies, and whenever: every event is in the buffer once, and in order."""

import asyncio

import pytest

from activities import failpoints
from activities.core.faults import Fault, LockTaken, PostgresUnavailable
from support.captures import captures, victims


@pytest.fixture
async def shop(postgres):
    made = captures(postgres.settings)
    await made.source_run("CREATE TABLE t (id int PRIMARY KEY)")
    await made.install("t")
    await made.capture()
    yield made
    failpoints.disarm()


@pytest.fixture(scope="module")
async def dying():
    async with victims() as them:
        yield them


async def inserted(shop):
    return [int(new["id"]) for _, _, new in await shop.changes()]


async def in_the_end(shop, expected):
    """What is there once everything was captured; the server may take a moment to notice that the dead are gone."""
    async with asyncio.timeout(90):
        while True:
            try:
                await shop.capture()
            except LockTaken:
                await asyncio.sleep(0.05)
            else:
                break
    assert await inserted(shop) == expected


async def test_a_worker_killed_at_any_failpoint_leaves_every_event_once(dying, shop):
    """Cases 21, 22, 23: before the buffer's commit, after it, and before the source is told."""
    for number, failpoint in enumerate(sorted(failpoints.CAPTURE_NAMES)):
        await shop.transact(*(f"INSERT INTO t VALUES ({number * 10 + one})" for one in range(3)))
        await dying.die_at(shop, failpoint)
    await in_the_end(shop, [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32])


async def test_a_worker_killed_within_a_large_transaction_leaves_nothing_of_it(dying, shop):
    await shop.source_run("INSERT INTO t SELECT generate_series(1, 30000)")
    # Its lines go to the buffer in pieces of a megabyte.
    await dying.die_at(shop, "cdc-during-buffer:2")
    assert await inserted(shop) == []
    await in_the_end(shop, list(range(1, 30_001)))


async def test_captures_that_are_cancelled_at_any_moment_neither_lose_nor_repeat(shop):
    """Case 27."""
    written = 0

    async def write() -> None:
        nonlocal written
        for _ in range(12):
            await shop.source_run(f"INSERT INTO t SELECT generate_series({written + 1}, {written + 500})")
            written += 500

    writing = asyncio.create_task(write())
    for pause in (0.06, 0.09, 0.12, 0.15, 0.2, 0.25):
        try:
            async with shop.capturing():
                await asyncio.sleep(pause)
        except LockTaken:
            pass  # the server has not noticed yet that the one before is gone
    await writing
    await in_the_end(shop, list(range(1, written + 1)))


@pytest.mark.parametrize("victim", ["walsender", "client backend"])
async def test_connections_that_are_cut_are_a_fault_that_passes(shop, victim):
    ended = None
    async with asyncio.timeout(90):
        try:
            async with shop.capturing() as task:
                await shop.source_run("INSERT INTO t VALUES (1)")
                await shop.until(lambda events: any(row[1] == "insert" for row in events))
                await shop.rows(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = %s "
                    "AND datname = current_database() AND pid <> pg_backend_pid()",
                    victim,
                )
                await shop.source_run("INSERT INTO t VALUES (2)")
                await asyncio.wait([task])
        except Fault as fault:
            ended = fault
    assert isinstance(ended, PostgresUnavailable)
    await shop.capture()
    assert await inserted(shop) == [1, 2]


async def test_a_second_capture_is_turned_away(shop):
    """Case 28."""
    async with shop.capturing():
        await shop.source_run("INSERT INTO t VALUES (1)")
        await shop.until(lambda events: any(row[1] == "insert" for row in events))
        with pytest.raises(LockTaken, match=f"another worker reads slot {shop.slot}"):
            await shop.capture()


async def test_a_capture_that_lost_its_slot_without_knowing_writes_nothing_twice(shop):
    """Cases 27 and 28: a zombie that still has events in hand when another has brought them."""
    reached, released = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        failpoints.disarm()
        reached.set()
        await released.wait()

    failpoints.arm("cdc-before-buffer", wait)
    zombie = asyncio.create_task(shop.capture(60))
    await shop.source_run("INSERT INTO t VALUES (1)")
    async with asyncio.timeout(90):
        await reached.wait()
        await shop.rows(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = %s", shop.slot
        )
        await shop.capture()
        released.set()
        with pytest.raises(LockTaken, match="another capture wrote"):
            await zombie
    assert await inserted(shop) == [1]

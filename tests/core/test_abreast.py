"""Work that must not be left in the middle."""

import asyncio

import pytest

from activities.abreast import beside, heed_cancellation, seen_through


async def test_what_is_seen_through_ends_before_its_cancellation_is_told():
    hurried, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await hurried.wait()
        await asyncio.sleep(0)
        ended.set()

    waiting = asyncio.create_task(seen_through(work(), hurried.set))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended.is_set()


async def test_a_cancellation_is_told_also_when_the_work_then_fails():
    hurried = asyncio.Event()

    async def work() -> None:
        await hurried.wait()
        raise LookupError

    waiting = asyncio.create_task(seen_through(work(), hurried.set))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_what_nobody_cancels_answers_or_fails_by_itself():
    async def fail() -> None:
        raise LookupError

    assert await seen_through(asyncio.sleep(0, 7)) == 7
    with pytest.raises(LookupError):
        await seen_through(fail())


async def test_a_cancellation_that_a_failing_group_swallowed_is_heeded_afterwards():
    """As Python 3.11's groups do with one that comes while they wait for their tasks to end."""
    release, failing = asyncio.Event(), asyncio.Event()
    went_on = []

    async def slow_to_end():
        try:
            await asyncio.Event().wait()
        finally:
            failing.set()
            await release.wait()

    async def fails():
        raise OSError("no space left")

    async def work():
        try:
            async with beside() as group:
                group.create_task(slow_to_end())
                await asyncio.sleep(0)
                group.create_task(fails())
        except OSError:
            await heed_cancellation()
        went_on.append("on")

    working = asyncio.create_task(work())
    await failing.wait()
    working.cancel()
    await asyncio.sleep(0)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert went_on == []


async def test_who_was_not_cancelled_goes_on():
    await heed_cancellation()

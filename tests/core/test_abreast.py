"""Work that must not be left in the middle."""

import asyncio

import pytest

from activities.abreast import seen_through


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

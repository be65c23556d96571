"""What goes on beside something else has ended when that is told."""

import asyncio

import pytest

from activities.abreast import beside


class Ended:
    """What has ended, though nobody let it end well."""

    def __init__(self):
        self.names = []

    async def hang(self, name):
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.names.append(name)


async def fail(wrong):
    raise wrong


async def test_a_failure_beside_a_block_ends_the_block_and_is_told_as_it_is():
    ended = Ended()

    async def work():
        async with beside() as group:
            group.create_task(ended.hang("other"))
            group.create_task(fail(LookupError("beside")))
            await ended.hang("block")

    with pytest.raises(LookupError, match="beside"):
        await work()
    assert sorted(ended.names) == ["block", "other"]


async def test_a_failure_of_the_block_is_told_when_what_goes_on_beside_has_ended():
    ended = Ended()

    async def work():
        async with beside() as group:
            group.create_task(ended.hang("beside"))
            await asyncio.sleep(0)
            raise ValueError("block")

    with pytest.raises(ValueError, match="block"):
        await work()
    assert ended.names == ["beside"]


async def test_whoever_is_cancelled_is_so_when_all_has_ended():
    ended = Ended()

    async def work():
        async with beside() as group:
            group.create_task(ended.hang("beside"))
            await ended.hang("block")

    running = asyncio.create_task(work())
    for _ in range(3):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sorted(ended.names) == ["beside", "block"]

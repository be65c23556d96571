"""Work that holds something which another worker must have soon, and that ends when its own worker is told to stop."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from temporalio import activity

from activities.errors import handed_over

T = TypeVar("T")


async def until_worker_stops(work: Coroutine[Any, Any, T], *, grace: float) -> T:
    """The work's answer.

    A worker that is told to stop gives the work `grace` seconds more; then the work is cancelled, and the attempt fails
    in a way that has another worker go on at once. What ended in spite of a cancellation answers as if there were none.
    """
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(activity.wait_for_worker_shutdown())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({working}, timeout=grace)
        if not working.done():
            await _cancelled(working)
            if working.cancelled():
                raise handed_over()
    except asyncio.CancelledError:
        await _cancelled(working)
        if working.cancelled():
            raise
    finally:
        await _cancelled(stopping)
    return working.result()


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

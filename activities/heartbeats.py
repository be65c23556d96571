"""Saying that a worker lives while an activity waits for something that reports no progress of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from temporalio import activity

from activities.clients.waits import watch_waits


@contextlib.asynccontextmanager
async def heartbeats(doing: str | dict[str, str], *, every: float = 1.0) -> AsyncIterator[None]:
    """Heartbeat `every` second, so that only a worker that is gone misses its heartbeat timeout.

    Heartbeats say what is being done, and what is waited for, if anything is. Their answers bring cancellations.
    """
    waits = watch_waits()

    async def beat() -> None:
        while True:
            activity.heartbeat(doing, *waits)
            await asyncio.sleep(every)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)

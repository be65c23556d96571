"""Doing several things at once, and what must not be left in the middle."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

AT_ONCE = 16
S = TypeVar("S")
T = TypeVar("T")


async def each(ask: Callable[[S], Awaitable[T]], many: Sequence[S], at_once: int = AT_ONCE) -> list[T]:
    """The answers, in order; when one fails, the others have ended before that is said."""
    slots = asyncio.Semaphore(at_once)

    async def one(item: S) -> T:
        async with slots:
            return await ask(item)

    answers = await asyncio.gather(*(one(item) for item in many), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if not isinstance(answer, BaseException)]


async def both(one: Awaitable[S], other: Awaitable[T]) -> tuple[S, T]:
    """Both answers; when one fails, the other has ended before that is said."""
    first, second = await asyncio.gather(one, other, return_exceptions=True)
    if isinstance(first, BaseException):
        raise first
    if isinstance(second, BaseException):
        raise second
    return first, second


async def seen_through(work: Awaitable[T], hurry: Callable[[], None] | None = None) -> T:
    """Do something to its end, also when this is cancelled meanwhile, which is raised then.

    `hurry` is called at a cancellation, and has the work end soon, in whatever way.
    """
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if hurry is not None:
            hurry()
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # that this was cancelled is what is told
        raise


@asynccontextmanager
async def beside() -> AsyncIterator[asyncio.TaskGroup]:
    """Tasks that go on beside a block; when one or the block fails, the others have ended before that is said."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def heed_cancellation() -> None:
    """End here if this task was cancelled: a group that is failing already does not say so."""
    running = asyncio.current_task()
    if running is not None and running.cancelling():
        running.cancel()
        await asyncio.sleep(0)


async def first_of(*jobs: Awaitable[None]) -> None:
    """Run until one job ends, and let the others end; what it raised is raised."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

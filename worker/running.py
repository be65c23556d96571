"""Workers while they run, and how they stop: together, within a time that is bounded, whatever made them stop."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import structlog
from temporalio.worker import Worker

from worker.leaving import LEFT_BEHIND, flush_all, leave_now

CLEAN_UP = timedelta(seconds=20)
"""How long what was cancelled may take to abort its uploads and let go of what it holds."""

log = structlog.get_logger("icefleet.worker")


class FleetWorker(Worker):
    """Says at once that it has failed; by itself it would first wait for what it has in flight, however long."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options, on_fatal_error=self._fail)
        self.failed = asyncio.Event()

    async def _fail(self, _: BaseException) -> None:
        self.failed.set()


@asynccontextmanager
async def running(workers: Sequence[FleetWorker], grace: timedelta | None = None) -> AsyncIterator[None]:
    """Let workers run; at the end they stop at the same time, each when what it has in flight has ended.

    When one of them fails, the block is cancelled, and all stop. With a `grace` the process leaves what ends neither
    within it nor when it is cancelled after that.

    Raises:
        RuntimeError: or whatever else one of them has failed with.
    """
    block = cast("asyncio.Task[Any]", asyncio.current_task())
    over = False

    def stop(ended: "asyncio.Task[None]") -> None:
        if not over and not ended.cancelled():
            block.cancel()

    runs = [asyncio.create_task(worker.run()) for worker in workers]
    failing = asyncio.create_task(_one_fails(workers, runs))
    failing.add_done_callback(stop)
    try:
        yield
    finally:
        over = True
        failing.cancel()
        stopping = asyncio.gather(*(worker.shutdown() for worker in workers))
        await (stopping if grace is None else _within(grace, stopping))
        await asyncio.gather(*runs)


async def _one_fails(workers: Sequence[FleetWorker], runs: Sequence[asyncio.Task[None]]) -> None:
    """Wait until one does, also one that cannot even begin."""
    signs = [asyncio.create_task(worker.failed.wait()) for worker in workers]
    try:
        await asyncio.wait([*signs, *runs], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for sign in signs:
            sign.cancel()


async def _within(grace: timedelta, stopping: "asyncio.Future[Any]") -> None:
    """Let what runs end within `grace`, and cancel the rest, which other workers then do.

    What does not even end when it is cancelled is left to its time-out: the process leaves without it.
    """
    try:
        async with asyncio.timeout((grace + CLEAN_UP).total_seconds()):
            await stopping
    except TimeoutError:
        log.exception("worker leaves behind what does not end; others do it when its heartbeats are missed")
        flush_all()
        leave_now(LEFT_BEHIND)

"""What wakes mirrors: an event of a changelog's snapshot, also one that was sent while no worker ran."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Self

import structlog
from opentelemetry.trace import SpanKind
from temporalio.client import Client
from temporalio.service import RPCError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random

from activities import spans
from activities.announcing import snapshot_subject
from activities.clients.bus import Bus
from activities.contracts.mirrors import MERGE_SIGNAL
from activities.core.faults import Fault
from activities.steering_mirrors import start_mirror
from worker.config import Environment

STARTED_AT_ONCE = 20

log = structlog.get_logger("icefleet.mirrors")


def durable_name(environment: str) -> str:
    """The consumer by which an environment's workers together hear of changelogs."""
    return f"icefleet-mirrors-{environment}"


class MirrorWakes:
    """Beside a worker: has the loop of every mirror run, and tells them of new snapshots of their changelogs.

    NATS or Temporal being away delays that, and costs the worker nothing: a mirror also merges by its interval.
    """

    def __init__(self, environment: Environment, temporal: Client, bus: Bus) -> None:
        self._environment = environment
        self._temporal = temporal
        self._bus = bus
        self._mirrors: dict[str, list[str]] = {}
        """Subject → those that a message there wakes."""
        for mirror in environment.mirrors.values():
            subject = snapshot_subject(environment.name, mirror.changelog)
            self._mirrors.setdefault(subject, []).append(mirror.mirror)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        works = (("starting mirrors", self._start_all), ("waking mirrors", self._wake_all))
        self._tasks = [asyncio.create_task(_for_ever(doing, work)) for doing, work in works]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._bus.close()

    async def _start_all(self) -> None:
        """A mirror of config has a loop from the first worker on; one that runs is left alone."""
        await self._start(list(self._environment.mirrors), "")

    async def _wake_all(self) -> None:
        events = self._bus.follow(durable_name(self._environment.name), list(self._mirrors))
        async with contextlib.aclosing(events):
            async for heard in events:
                told = list(heard.items())
                for first in range(0, len(told), STARTED_AT_ONCE):
                    await asyncio.gather(*(self._wake(*one) for one in told[first : first + STARTED_AT_ONCE]))

    async def _wake(self, subject: str, traceparent: str) -> None:
        with spans.message(SpanKind.CONSUMER, subject, traceparent):
            await self._start(self._mirrors[subject], MERGE_SIGNAL)

    async def _start(self, mirrors: list[str], signal: str) -> None:
        queue = self._environment.temporal.merge_task_queue
        for first in range(0, len(mirrors), STARTED_AT_ONCE):
            await asyncio.gather(
                *(
                    start_mirror(self._temporal, self._environment.name, mirror, queue, signal)
                    for mirror in mirrors[first : first + STARTED_AT_ONCE]
                )
            )


async def _for_ever(doing: str, work: Callable[[], Awaitable[None]]) -> None:
    def warn(state: RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome is not None else None
        log.warning("mirrors are not heard of for now", doing=doing, cause=str(failure))

    try:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type((Fault, RPCError)), wait=wait_random(1, 5), before_sleep=warn
        ):
            with attempt:
                await work()
    except Exception:
        # Nobody waits for this task: without it, mirrors still merge by their intervals.
        log.exception("mirrors are not heard of any more", doing=doing)

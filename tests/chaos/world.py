"""Everything that a run acts upon: one stack, proxies before its parts, tables, and the requests under way."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError, CancelledError, WorkflowAlreadyStartedError
from temporalio.service import RPCError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from activities.contracts.export import REQUEST_WORKFLOW, ExportReport
from activities.core.faults import SourceUnavailable
from chaos.sources import Source, create, late_rows, make_sources
from deploy.local.stack import Stack
from support.faultproxy import HttpFaults, TcpFaults
from support.fleet import Fleet

T = TypeVar("T")
LIMITS = {
    "heartbeat_seconds": 3,
    "part_size_bytes": 5 * 2**20,
    "partition_timeout_seconds": 90,
    "partitions_per_commit": 8,
    "partitions_per_plan": 40,
    "pages_per_run": 4,
}
PATIENCE_SECONDS = 120
"""How long a person keeps trying what a fault is in the way of."""
AT_ONCE = 6
"""Requests that are under way at a time, besides the first one of every table."""


@dataclass(frozen=True)
class Wires:
    """The proxies that stand before the parts."""

    store: HttpFaults
    catalog: HttpFaults
    clickhouse: HttpFaults
    nats: TcpFaults


class World:
    """One environment, everything of it behind a proxy, and what is asked of it."""

    def __init__(self, stack: Stack, fleet: Fleet, wires: Wires, seed: str, size: float) -> None:
        self.stack = stack
        self.fleet = fleet
        self.wires = wires
        self.size = size
        self.sources = make_sources(Random(f"{seed} tables"), size)
        self.outcomes: Counter[str] = Counter()
        """How requests ended."""
        self.causes: Counter[str] = Counter()
        """Why requests, or partitions of them, failed."""
        self.words: dict[str, str] = {}
        """Cause → the last message that came with it."""
        self.late = 0
        """How often rows came late."""
        self.story: list[str] = []
        self._asked: set[asyncio.Task[None]] = set()
        self._rng = Random(f"{seed} requests")
        self._requests = 0
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Put a line into the story of the run, and show it."""
        self.story.append(f"{time.monotonic() - self._began:7.1f} s  {text}")
        print(self.story[-1], flush=True)  # noqa: T201 - whoever waits minutes for a run wants to see it go on

    def source(self, name: str) -> Source:
        """A table by its name."""
        return next(source for source in self.sources if source.name == name)

    # --- requests -----------------------------------------------------------------------------------------------

    @property
    def under_way(self) -> int:
        """Requests that have no report yet."""
        return len(self._asked)

    def ask(self, source: Source, *, cancel_after: float | None = None, **fields: Any) -> None:
        """Start a request as a person would, and note how it ends."""
        self._requests += 1
        task = asyncio.create_task(
            self._follow(f"request-{self.fleet.name}-{self._requests}", source, cancel_after, fields)
        )
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def answered(self) -> None:
        """Wait until every request has been answered."""
        await asyncio.gather(*self._asked)

    async def result(self, source: Source, **fields: Any) -> ExportReport:
        """Ask, and wait for the report."""
        self._requests += 1
        handle = await self._start(f"request-{self.fleet.name}-{self._requests}", source, fields)
        return await patiently(handle.result)

    def stir(self, name: str = "") -> None:
        """Give the workers something to do, so that there is something to break; `name` says on which table."""
        rng = self._rng
        source = self.source(name) if name else rng.choice(self.sources[:-1])
        index = rng.randrange(source.partitions)
        first, last = source.label(max(0, index - rng.randint(0, 4))), source.label(index)
        match "force" if name else rng.choices(("force", "late", "due", "again", "withdraw"), (6, 4, 2, 2, 1))[0]:
            case "force":
                self.ask(source, from_=first if not name else last, to=last, force=True)
            case "late":
                task = asyncio.create_task(self._come_late(source, index))
                self._asked.add(task)
                task.add_done_callback(self._asked.discard)
            case "due":
                self.ask(source)
            case "again":
                self.ask(source, from_=first, to=last, oldest_first=rng.random() < 0.5)
            case "withdraw":
                self.ask(source, from_=first, to=last, force=True, cancel_after=rng.uniform(0.5, 3))

    async def _come_late(self, source: Source, index: int) -> None:
        self.late += 1
        statement = late_rows(self.fleet, source, index, self.late)
        await patiently(lambda: self.fleet.run_sql(statement))
        self.ask(source, from_=source.label(index), to=source.label(index))

    async def _start(self, identity: str, source: Source, fields: dict[str, Any]) -> WorkflowHandle[Any, ExportReport]:
        payload = {"environment": self.fleet.name, "network": self.fleet.network, "table": source.name}
        payload |= {name.rstrip("_"): value for name, value in fields.items()}

        async def start() -> WorkflowHandle[Any, ExportReport]:
            try:
                return await self.fleet.temporal.start_workflow(
                    REQUEST_WORKFLOW, payload, id=identity, task_queue=self.fleet.queue, result_type=ExportReport
                )
            except WorkflowAlreadyStartedError:  # the answer of an earlier try was lost
                return self.fleet.temporal.get_workflow_handle(identity, result_type=ExportReport)

        return await patiently(start)

    async def _follow(self, identity: str, source: Source, cancel_after: float | None, fields: dict[str, Any]) -> None:
        handle = await self._start(identity, source, fields)
        if cancel_after is not None:
            await asyncio.sleep(cancel_after)
            await patiently(handle.cancel)
        try:
            report = await patiently(handle.result)
        except WorkflowFailureError as failed:
            self._note_failure(failed.cause)
            return
        self.outcomes[report.status] += 1
        for failure in report.failures:
            self._note_cause(failure.cause, failure.message)

    def _note_failure(self, cause: BaseException | None) -> None:
        if isinstance(cause, CancelledError):
            self.outcomes["cancelled"] += 1
            return
        self.outcomes["failed"] += 1
        if isinstance(cause, ApplicationError):
            self._note_cause(cause.type or "", cause.message)
        else:
            self._note_cause(type(cause).__name__, str(cause))

    def _note_cause(self, cause: str, message: str) -> None:
        self.causes[cause] += 1
        self.words[cause] = message


async def patiently(act: Callable[[], Awaitable[T]]) -> T:
    """Do what a person does whose command meets a fault: the same again, for a while."""
    retrying = AsyncRetrying(
        retry=retry_if_exception_type((RPCError, SourceUnavailable)),
        wait=wait_fixed(0.5),
        stop=stop_after_delay(PATIENCE_SECONDS),
        reraise=True,
    )
    return await retrying(act)


@asynccontextmanager
async def open_world(directory: Path, seed: str, size: float) -> AsyncIterator[World]:
    """A stack of the run's own with filled tables, and every way to it through a proxy."""
    async with AsyncExitStack() as opened:
        stack = opened.enter_context(Stack(directory / "stack"))
        fleet = await opened.enter_async_context(Fleet(stack, directory / "config", export=LIMITS))
        store, catalog, clickhouse = [
            await opened.enter_async_context(HttpFaults(stack.ports[part])) for part in ("s3", "catalog", "clickhouse")
        ]
        nats = await opened.enter_async_context(TcpFaults(stack.ports["nats"]))
        fleet.point(s3=store.port, catalog=catalog.port, clickhouse=clickhouse.port, nats=nats.port)
        world = World(stack, fleet, Wires(store, catalog, clickhouse, nats), seed, size)
        for source in world.sources:
            await create(fleet, source)
        yield world

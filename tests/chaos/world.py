"""Everything that a run acts upon: one stack, proxies before its parts, tables, and the requests under way."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError, CancelledError, WorkflowAlreadyStartedError
from temporalio.service import RPCError
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_fixed

from activities.clients.objectstore import RECIPE
from activities.contracts.export import ORPHANS_WORKFLOW, REQUEST_WORKFLOW, ExportReport
from activities.contracts.orphans import OrphansReport
from activities.core.faults import Fault
from chaos.sources import Source, create, late_rows, make_sources
from deploy.local.stack import Stack
from support.evidence import _bucket
from support.faultproxy import HttpFaults, TcpFaults
from support.fleet import Fleet
from support.leftovers import prefix_of_table

T = TypeVar("T")
Report = ExportReport | OrphansReport
ORPHAN_SECONDS = 10
"""The age at which what no snapshot names may go: far below what a commit may take here, so that some are refused."""
LIMITS = {
    "heartbeat_seconds": 3,
    "part_size_bytes": 5 * 2**20,
    "partition_timeout_seconds": 90,
    "partitions_per_commit": 8,
    "partitions_per_plan": 40,
    "pages_per_run": 4,
    "orphan_age_seconds": ORPHAN_SECONDS,
    "suspend_after": 0,  # what failed in the storm is due in the calm after it
}
TRIES = 240
"""How often, twice a second, a person tries what a fault is in the way of."""
AT_ONCE = 4
"""Requests that are under way at a time, besides the first one of every table."""
WAITING = 2
"""Requests for a table that is stirred by name: its partitions are large."""
MEANT = {
    # What is being deleted as an orphan must not be committed any more, and here it is deleted young.
    "LateForCommit": ("ObjectRefused", "deleted as an orphan"),
    # Orphans are asked for at any time, also before a table's first commit.
    "NoTableYet": ("BadRequest", "is not in the catalog: what it names is not known"),
}
"""Failures that are right: our name → the fault, and words of its message."""


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
        self.lost: list[str] = []
        """Requests that nobody could make or see the end of."""
        self.freed = 0
        """Loops that were terminated."""
        self.swept = 0
        """Orphans that were deleted while everything else went on."""
        self.late = 0
        """How often rows came late."""
        self.story: list[str] = []
        self._asked: dict[asyncio.Task[object], str] = {}
        self._inserting = asyncio.Lock()
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

    def http(self, part: str) -> HttpFaults:
        """The proxy before the store, the catalog or the source."""
        proxy: HttpFaults = getattr(self.wires, part)
        return proxy

    def tcp(self, part: str) -> TcpFaults:
        """The proxy before NATS."""
        proxy: TcpFaults = getattr(self.wires, part)
        return proxy

    # --- requests -----------------------------------------------------------------------------------------------

    @property
    def under_way(self) -> int:
        """Requests that have no report yet."""
        return len(self._asked)

    @property
    def waiting(self) -> list[str]:
        """The table of each of them."""
        return sorted(self._asked.values())

    def ask(self, source: Source, *, cancel_after: float | None = None, **fields: Any) -> None:
        """Start a request as a person would, and note how it ends."""
        self._note(source, self._follow(REQUEST_WORKFLOW, source, fields, cancel_after=cancel_after))

    def sweep(self, source: Source) -> None:
        """Have the orphans of a table deleted while everything else goes on."""
        fields = {"older_than": f"{ORPHAN_SECONDS}s", "metadata": True}
        self._note(source, self._follow(ORPHANS_WORKFLOW, source, fields))

    def _note(self, source: Source, asking: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(asking)
        self._asked[task] = source.name
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[object]) -> None:
        name = self._asked.pop(task)
        if not task.cancelled() and (lost := task.exception()):
            self.lost.append(f"{name}: {lost!r}")
            self.say(f"a request was lost: {self.lost[-1]}")

    async def answered(self) -> None:
        """Wait until every request has been answered."""
        while self._asked:
            await asyncio.wait(self._asked)

    async def result(self, source: Source, **fields: Any) -> Report | None:
        """Ask, and wait for the report; None when the request failed."""
        return await self._follow(REQUEST_WORKFLOW, source, fields)

    def stir(self, name: str = "") -> None:
        """Give the workers something to do, so that there is something to break; `name` says on which table."""
        if name and Counter(self._asked.values())[name] > WAITING:
            return
        rng = self._rng
        source = self.source(name) if name else rng.choice(self.sources[:-1])
        index = rng.randrange(source.partitions)
        first, last = source.label(max(0, index - rng.randint(0, 4))), source.label(index)
        match (
            "force"
            if name
            else rng.choices(("force", "late", "due", "again", "withdraw", "sweep"), (6, 4, 2, 2, 2, 2))[0]
        ):
            case "force":
                self.ask(source, from_=first if not name else last, to=last, force=True)
            case "late":
                self.come_late(source, index)
            case "due":
                self.ask(source)
            case "again":
                self.ask(source, from_=first, to=last, oldest_first=rng.random() < 0.5)
            case "withdraw":
                self.ask(source, from_=first, to=last, force=True, cancel_after=rng.uniform(0.5, 3))
            case "sweep":
                self.sweep(rng.choice(self.sources))

    def litter(self) -> None:
        """Leave an object as a dead worker leaves one, and have orphans deleted: older ones are there by now."""
        source = self._rng.choice(self.sources)
        self._note(source, self.leave_object(source))
        self.sweep(source)

    async def leave_object(self, source: Source) -> None:
        """Put an object beside a table's files."""
        self._requests += 1
        key = f"{prefix_of_table(self.fleet, source.name)}left-{self._requests}.parquet"

        def put() -> None:
            with _bucket(self.fleet) as client:
                client.put_object(Bucket="icefleet", Key=key, Body=b"left", Metadata={RECIPE: "left"})

        await asyncio.to_thread(put)

    def come_late(self, source: Source, index: int) -> None:
        """Have more rows inserted into a partition, and the partition asked for again."""
        self._note(source, self._come_late(source, index))

    async def _come_late(self, source: Source, index: int) -> None:
        # One after the other: rows are late when they are newer than what is there, and that they must be.
        async with self._inserting:
            self.late += 1
            statement = late_rows(self.fleet, source, index, self.late)
            await patiently(lambda: self.fleet.run_sql(statement))
        self.ask(source, from_=source.label(index), to=source.label(index))

    async def _start(self, workflow: str, source: Source, fields: dict[str, Any]) -> WorkflowHandle[Any, Report]:
        self._requests += 1
        identity = f"{workflow}-{self.fleet.name}-{self._requests}"
        payload = {"environment": self.fleet.name, "network": self.fleet.network, "table": source.name}
        payload |= {name.rstrip("_"): value for name, value in fields.items()}
        report = OrphansReport if workflow == ORPHANS_WORKFLOW else ExportReport

        async def start() -> WorkflowHandle[Any, Report]:
            try:
                return await self.fleet.temporal.start_workflow(
                    workflow, payload, id=identity, task_queue=self.fleet.queue, result_type=report
                )
            except WorkflowAlreadyStartedError:  # the answer of an earlier try was lost
                return self.fleet.temporal.get_workflow_handle(identity, result_type=report)

        return await patiently(start)

    async def _follow(
        self, workflow: str, source: Source, fields: dict[str, Any], *, cancel_after: float | None = None
    ) -> Report | None:
        handle = await self._start(workflow, source, fields)
        if cancel_after is not None:
            await asyncio.sleep(cancel_after)
            await patiently(handle.cancel)
        try:
            report = await patiently(handle.result)
        except WorkflowFailureError as failed:
            self._note_failure(failed.cause)
            return None
        if isinstance(report, OrphansReport):
            self.outcomes[f"orphans {report.status}"] += 1
            self.swept += report.deleted
            return report
        self.outcomes[report.status] += 1
        for failure in report.failures:
            self._note_cause(failure.cause, failure.message)
        return report

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
        cause = next((own for own, (fault, words) in MEANT.items() if fault == cause and words in message), cause)
        self.causes[cause] += 1
        self.words[cause] = message


async def patiently(act: Callable[[], Awaitable[T]]) -> T:
    """Do what a person does whose command meets a fault: the same again, for a while."""
    retrying = AsyncRetrying(
        retry=retry_if_exception(_passes),
        wait=wait_fixed(0.5),
        stop=stop_after_attempt(TRIES),
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            return await act()
    raise AssertionError("the last try has raised")


def _passes(error: BaseException) -> bool:
    return isinstance(error, RPCError) or (isinstance(error, Fault) and error.retryable)


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

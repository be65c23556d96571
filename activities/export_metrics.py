"""What exports tell OpenTelemetry: how fresh each table is, what is to be done and was done, and how long steps take.

Values of a table have the attributes `table` and `network`. Times of steps have none of these: with all tables and
buckets they would be tens of thousands of series. `icefleet.partitions` are those of the last plan for whatever is due,
which `icefleet.table.planned_timestamp` dates: of several workers the one that planned last is right.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from activities.contracts.export import CommitInput, CommitReport, PartitionsInput, Plan, PlanInput, TableInput
from activities.core.faults import Fault, SourceMoved
from activities.core.freshness import Freshness
from activities.gauges import LongestWaiting
from activities.tries import is_last

_meter = metrics.get_meter("icefleet")
_PLANNED = _meter.create_counter("icefleet.partitions.planned", description="Partitions that plans asked to export")
_DONE = _meter.create_counter("icefleet.partitions.done", description="Partitions that were committed")
_FAILED = _meter.create_counter("icefleet.partitions.failed", description="Partitions that failed all their tries")
_STATES = _meter.create_gauge(
    "icefleet.partitions",
    description="Partitions in one `state` by the last plan: missing or stale (of a page), open, or failing every time",
)
_PLANNED_AT = _meter.create_gauge(
    "icefleet.table.planned_timestamp", unit="s", description="When this worker last planned whatever is due"
)
_ROWS = _meter.create_counter("icefleet.export.rows", description="Rows that were committed")
_BYTES = _meter.create_counter("icefleet.export.bytes", unit="By", description="Bytes of files that were committed")
_STEP = _meter.create_histogram("icefleet.step.duration", unit="s", description="Length of one step of an export")
_ANNOUNCED_AFTER = _meter.create_histogram(
    "icefleet.announcement.delay", unit="s", description="Time from a snapshot's commit to its event"
)
_UNANNOUNCED = LongestWaiting(
    "icefleet.announcement.lag", "How long a snapshot has been waiting for its event, while that cannot be published"
)
_UNPUBLISHED = LongestWaiting(
    "icefleet.publication.lag", "How long the public copy of a table's metadata has been failing, since the first try"
)


@dataclass
class _Known:
    """What is known of one table: its cut, and the times of `Freshness`, which do not go back."""

    cut: str
    newest_end: float = 0.0
    due: float = 0.0
    newest: int = -1


_known: dict[tuple[str, str], _Known] = {}


REFUSED_AT_MOST = 20
"""Tables of which is told that they were refused: when all are at once, a few are enough to wake somebody."""
_refused: dict[tuple[str, str], float] = {}
"""Network and table → when it was refused, in unix seconds; the last one comes last."""


def _refusals(_: CallbackOptions) -> Iterable[Observation]:
    for (network, table), at in list(_refused.items()):
        yield Observation(at, {"network": network, "table": table})


def _observed(value: Callable[[_Known], float]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        for (network, table), known in list(_known.items()):
            if told := value(known):
                yield Observation(told, {"network": network, "table": table, "cut": known.cut})

    return observe


_meter.create_observable_gauge(
    "icefleet.table.newest_end_timestamp",
    [_observed(lambda known: known.newest_end)],
    unit="s",
    description="End of the newest committed partition; of chunks of integers, when the table was last seen complete",
)
_meter.create_observable_gauge(
    "icefleet.table.freshness",
    [_observed(lambda known: known.newest_end and max(time.time() - known.newest_end, 0.001))],
    unit="s",
    description="Time since the end of the newest committed partition",
)
_meter.create_observable_gauge(
    "icefleet.table.due_timestamp",
    [_observed(lambda known: known.due)],
    unit="s",
    description="When the first partition after those that are there, or are known to be empty, could be exported",
)
_meter.create_observable_gauge(
    "icefleet.table.refused_timestamp",
    [_refusals],
    unit="s",
    description="When a table could not be planned for a reason that somebody must mend, of the last tables",
)


def plan_told(network: str, table: str, plan: Plan, fresh: Freshness | None, failing: int) -> None:
    """Report a page of a plan; with `fresh` it is the first of what is due, which tells how the table is."""
    about = {"network": network, "table": table}
    _PLANNED.add(len(plan.todo) + len(plan.last), about)
    for counter in (_DONE, _FAILED, _ROWS, _BYTES):
        counter.add(0, about)  # whoever asks for an increase misses what a counter begins with
    if fresh is None:
        return
    states = {"missing": plan.missing, "stale": plan.stale, "open": plan.open, "failing": failing}
    for state, count in states.items():
        _STATES.set(count, {**about, "state": state})
    _PLANNED_AT.set(time.time(), about)
    _refused.pop((network, table), None)
    fresh_told(network, table, fresh)


@contextmanager
def refusals_told(plan: PlanInput) -> Iterator[None]:
    """Report a plan that fails until somebody mends something: of a table that was never planned nothing else tells.

    A dry run tells whoever waits for it.
    """
    try:
        yield
    except Fault as fault:
        if fault.actor == "operator" and not fault.retryable and not plan.request.get("dry_run"):
            _refused.pop((plan.network, plan.table), None)
            _refused[plan.network, plan.table] = time.time()
            for oldest in list(_refused)[:-REFUSED_AT_MOST]:
                _refused.pop(oldest, None)
        raise


def fresh_told(network: str, table: str, fresh: Freshness) -> None:
    """Report how far a table is; what is older than what is known changes nothing."""
    known = _known.setdefault((network, table), _Known(fresh.cut))
    known.cut = fresh.cut
    known.newest_end = max(known.newest_end, fresh.newest_end)
    known.newest = max(known.newest, fresh.newest)
    # A network that has come to its end is due no more.
    known.due = max(known.due, fresh.due) if fresh.due is not None else 0.0


def newest_known(network: str, table: str) -> int:
    """The highest partition that this worker knows to be committed; -1 when it knows none."""
    known = _known.get((network, table))
    return known.newest if known is not None else -1


def commit_told(commit: CommitInput, report: CommitReport, fresh: Freshness | None) -> None:
    """Report a commit; `fresh` is what it says of the table's end."""
    about = {"network": commit.network, "table": commit.table}
    _DONE.add(report.committed, about)
    _ROWS.add(report.rows, about)
    _BYTES.add(report.bytes, about)
    if fresh is not None:
        fresh_told(commit.network, commit.table, fresh)


@contextmanager
def failures_told(task: PartitionsInput) -> Iterator[None]:
    """Report a partition that failed, once no further try follows; several at once are tried alone before that.

    One whose rows changed while they were read has not failed: it is exported again later.
    """
    try:
        yield
    except Fault as fault:
        if len(task.planned) == 1 and is_last(fault) and not isinstance(fault, SourceMoved):
            _FAILED.add(1, {"network": task.network, "table": task.table})
        raise


@contextmanager
def step(name: str) -> Iterator[None]:
    """Report how long a block took: `plan`, `query`, `transfer`, `verify`, `commit`, `announce` or `publish`."""
    before, outcome = time.perf_counter(), "failed"
    try:
        yield
        outcome = "done"
    except asyncio.CancelledError:
        outcome = "cancelled"
        raise
    finally:
        _STEP.record(time.perf_counter() - before, {"step": name, "outcome": outcome})


async def stream_told(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Report the time to a stream's first chunk as `query`, and from there to its end as `transfer`."""
    with step("query"):
        first = await anext(chunks, b"")
    if first:
        with step("transfer"):
            yield first
            async for chunk in chunks:
                yield chunk


@contextmanager
def announcing(table: Any) -> Iterator[Callable[[Any], None]]:
    """Report whether snapshots of a table, as PyIceberg loaded it, wait to be announced: say which is next."""
    *network, name = table.name()
    about = {"network": ".".join(network), "table": name}
    upcoming: list[Any] = []
    try:
        yield upcoming.append
    except Exception:
        if upcoming:
            _UNANNOUNCED.set(upcoming[-1].timestamp_ms / 1000, about)
        else:  # nobody could tell what was announced already, which may be everything
            _UNANNOUNCED.still(about)
        raise
    _UNANNOUNCED.set(0, about)


def announced_told(committed_ms: int) -> None:
    """Report an event of a snapshot that was committed then."""
    _ANNOUNCED_AFTER.record(max(0.0, time.time() - committed_ms / 1000))


@contextmanager
def publishing_told(table: TableInput) -> Iterator[None]:
    """Report whether a table's newest snapshot waits to be made public."""
    about = {"network": table.network, "table": table.table}
    try:
        yield
    except Exception:
        _UNPUBLISHED.still(about)
        raise
    _UNPUBLISHED.set(0, about)

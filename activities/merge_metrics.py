"""What merges tell OpenTelemetry: the names are those that users of the earlier merger know, and some more.

A turn of a mirror is what was called a cycle there. Every value has the attribute `table`, the mirror's identifier.
"""

import asyncio
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from activities.contracts.mirrors import MergeReport
from activities.gauges import Lately, Waiting
from activities.lake.memory import allocated_bytes

_meter = metrics.get_meter("icefleet")
_CYCLES = _meter.create_counter("merger.cycle.completed", description="Turns of merging that ended, well or not")
_CYCLE_SECONDS = _meter.create_histogram("merger.cycle.duration_seconds", description="Length of a turn")
_SUCCESSES = _meter.create_counter("merger.table.success", description="Turns that ended well")
_FAILURES = _meter.create_counter("merger.table.failure", description="Turns and orders that failed, with the `cause`")
_TABLE_SECONDS = _meter.create_histogram(
    "merger.table.duration_seconds", description="Length of a turn that ended well and merged something"
)
_SCANNED = _meter.create_counter("merger.rows.scanned", description="Changes of changelogs that were merged")
_DEDUPLICATED = _meter.create_counter(
    "merger.rows.deduplicated", description="Changes that a newer or equal one of the same key made void"
)
_REFUSED = _meter.create_counter(
    "merger.rows.refused", description="Changes of unknown keys from before the horizon of deletes"
)
_MERGE_SECONDS = _meter.create_histogram(
    "merger.merge.duration_seconds", description="Length of one piece, and of each `phase` of it"
)
_HITS = _meter.create_counter("merger.index.hits", description="Keys of batches that the index knew")
_MISSES = _meter.create_counter("merger.index.misses", description="Keys of batches that the index did not know")
_INDEX_BYTES = _meter.create_gauge("merger.index.bytes", unit="By", description="Size of the index in the store")
_REBUILDS = _meter.create_counter("merger.index.rebuilds", description="Indexes that were made anew")
_LAG_SECONDS = Waiting(
    "merger.watermark.lag_seconds",
    "How long the oldest change that is not merged has been waiting",
    forget_seconds=3600,
)
_LAG_EVENTS = Lately("merger.watermark.lag_events", "Changes that are not merged", forget_seconds=3600)
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _resident(_: CallbackOptions) -> Iterable[Observation]:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return []  # no Linux
    return [Observation(pages * _PAGE)]


_meter.create_observable_gauge(
    "merger.memory.resident_bytes", [_resident], unit="By", description="Resident memory of the worker"
)
_meter.create_observable_gauge(
    "merger.memory.allocated_bytes",
    [lambda _: [Observation(allocated_bytes())]],
    unit="By",
    description="What Arrow's allocator holds",
)


@dataclass
class MergeTimings:
    """Where the time of one piece went, in seconds by phase: `read`, `lookup`, `write`, `store`, `commit`."""

    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of a block to a phase."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - before

    def told(self, mirror: str) -> None:
        """Report the piece, which is done."""
        whole = {"": time.perf_counter() - self.started, **self.seconds}
        for name, seconds in whole.items():
            _MERGE_SECONDS.record(seconds, {"table": mirror, **({"phase": name} if name else {})})


@contextmanager
def failure_told(mirror: str) -> Iterator[None]:
    """Report that work on a mirror fails, if it does: what waits goes on waiting."""
    about = {"table": mirror}
    try:
        yield
    except asyncio.CancelledError:
        raise  # somebody pauses it, or its worker stops: nothing is wrong, and the next turn tells the lag
    except BaseException as wrong:
        _FAILURES.add(1, {**about, "cause": type(wrong).__name__})
        _LAG_SECONDS.still(about)
        raise


@contextmanager
def turn_told(mirror: str) -> Iterator[list[MergeReport]]:
    """Report a turn when it ends: put its report into the list."""
    before, reports, about = time.perf_counter(), list[MergeReport](), {"table": mirror}
    rows_told(mirror, 0, 0, 0)  # so that the first of them are an increase
    try:
        with failure_told(mirror):
            yield reports
    finally:
        seconds = time.perf_counter() - before
        _CYCLES.add(1, about)
        _CYCLE_SECONDS.record(seconds, about)
        for report in reports:
            _told(about, report, seconds)


def _told(about: dict[str, str], report: MergeReport, seconds: float) -> None:
    if not report.waiting_for:
        _SUCCESSES.add(1, about)
    if report.commits:
        _TABLE_SECONDS.record(seconds, about)
    lag_told(about["table"], report.lag_events, report.lag_seconds)


def rows_told(mirror: str, scanned: int, deduplicated: int, refused: int) -> None:
    """Report what became of the changes of one commit, which is done."""
    about = {"table": mirror}
    _SCANNED.add(scanned, about)
    _DEDUPLICATED.add(deduplicated, about)
    _REFUSED.add(refused, about)


def lag_told(mirror: str, changes: int, seconds: float) -> None:
    """Report how many changes are not merged, and for how long the oldest of them has been waiting; 0: none are."""
    _LAG_SECONDS.set(time.time() - seconds if seconds else 0, {"table": mirror})
    _LAG_EVENTS.set(changes, {"table": mirror})


def lag_unknown(mirror: str) -> None:
    """Report that what waited goes on waiting, and nobody can tell what that is."""
    _LAG_SECONDS.still({"table": mirror})


def lookup_told(mirror: str, keys: int, hits: int) -> None:
    """Report one lookup in the index."""
    _HITS.add(hits, {"table": mirror})
    _MISSES.add(keys - hits, {"table": mirror})


def index_told(mirror: str, size: int) -> None:
    """Report how many bytes the whole index has, however many files it is spread over."""
    _INDEX_BYTES.set(size, {"table": mirror})


def rebuild_told(mirror: str) -> None:
    """Report that an index was made anew."""
    _REBUILDS.add(1, {"table": mirror})

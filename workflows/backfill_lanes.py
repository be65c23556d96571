"""What a backfill knows of its tables: one lane each of table and network. Plain state, no commands.

A lane knows where it is and what has come of it, never which partitions: those the table knows.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from activities.contracts.backfill import (
    LISTED_FAILURES,
    LONGEST_MESSAGE,
    BackfillFailure,
    BackfillRequest,
    Lane,
    LaneReport,
    TableEstimate,
)
from activities.contracts.export import ExportReport, ExportRequest, table_identifier

RANGE_PRIORITY = 2
"""What is due goes before it, also before a backfill of whatever is due."""
MARKS = 20
"""Slices from which the rate is told."""
PASSING = frozenset(
    {
        "SourceUnavailable",
        "SourceBusy",
        "StoreUnavailable",
        "CatalogUnavailable",
        "CommitConflict",
        "TemporalUnavailable",
        "TimedOut",
        "SchemaMoved",
    }
)
"""Faults that fail a slice and may pass: the lane rests, and goes on."""
RESTS = (60, 120, 240, 480, 900)
"""Seconds that a lane rests after each failure in a row; after one more it has failed."""
_SUMS = ("expected", "present", "missing", "stale", "forced", "suspended", "empty", "open")
_DONE = ("exported", "already_there", "rows", "bytes")


@dataclass
class LaneState:
    """One lane. `state` is `waiting`, `running`, or how it ended: `done`, `partial`, `failed`, `skipped`, `planned`."""

    table: str
    network: str
    report: LaneReport
    from_: str = ""
    to: str = ""
    state: str = "waiting"
    request_id: str = ""
    """Of the slice in flight."""
    cursor: str = ""
    """After which partition the next slice begins; empty at the start."""
    slices: int = 0
    began: float = 0
    """When the slice in flight was asked for, in seconds since the epoch."""
    withdrawn: bool = False
    """The slice in flight is not wanted any more."""
    skipped: bool = False
    put_off: int = 0
    """Partitions that failed before, which slices left out when they had met their bound."""
    again: bool = False
    """It is gone through a second time, for those."""
    failures_in_a_row: int = 0
    rests_until: float = 0

    @classmethod
    def of(cls, lane: Lane) -> "LaneState":
        """A lane that has just been chosen."""
        identifier = table_identifier(lane.network, lane.table)
        report = LaneReport(identifier, "waiting", lane.total)
        if lane.nothing:
            report.message = "the source has nothing at these dates"
        return cls(lane.table, lane.network, report, lane.from_, lane.to, state="done" if lane.nothing else "waiting")

    @property
    def name(self) -> str:
        """The Iceberg identifier."""
        return self.report.table

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be done for it."""
        return self.state not in {"waiting", "running"}

    def began_slice(self, request_id: str, now: float) -> None:
        """The next slice is on its way."""
        self.state, self.request_id, self.began = "running", request_id, now
        self.slices += 1
        self.rests_until, self.report.message = 0, ""

    def leaves_slice(self) -> None:
        """The slice in flight is over, one way or another."""
        self.state = "skipped" if self.skipped else "waiting"
        self.request_id, self.withdrawn = "", False

    def fails(self, cause: str, message: str, who: str) -> None:
        """The lane as a whole has failed."""
        self.state, self.request_id, self.withdrawn = "failed", "", False
        self.report.cause, self.report.message, self.report.who = cause, message[:LONGEST_MESSAGE], who

    def rests(self, cause: str, message: str, now: float) -> bool:
        """Wait a while after a fault that may pass; False when it has been waited for long enough."""
        if cause not in PASSING or self.failures_in_a_row >= len(RESTS) or self.skipped:
            return False
        pause = RESTS[self.failures_in_a_row]
        self.failures_in_a_row += 1
        self.rests_until = now + pause
        self.report.message = f"tried again in {pause} s: {cause}: {message}"[:LONGEST_MESSAGE]
        return True

    def shown(self, *, paused: bool) -> LaneReport:
        """The lane as reports and queries show it."""
        self.report.status = "paused" if paused and self.state == "waiting" else self.state
        return self.report

    def dump(self) -> dict[str, Any]:
        """What differs from a lane that has just been made, as plain JSON."""
        return {**_changed(self), "report": _changed(self.report)}

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> "LaneState":
        """What `dump` gave, read back."""
        return cls(**{**dumped, "report": LaneReport(**dumped["report"])})


def _changed(value: Any) -> dict[str, Any]:
    told = ((one.name, getattr(value, one.name), one.default) for one in fields(value))
    return {name: now for name, now, default in told if default is MISSING or now != default}


@dataclass
class Lanes:
    """All lanes of a backfill, and what people have asked for meanwhile."""

    every: list[LaneState] = field(default_factory=list)
    max_parallel: int = 1
    slices_per_run: int = 1
    paused: bool = False
    cancelled: bool = False
    failures: list[BackfillFailure] = field(default_factory=list)
    marks: list[list[float]] = field(default_factory=list)
    """Of the last slices: when each began, partitions looked at, partitions exported, rows."""

    # --- what is to be done -----------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether every lane has."""
        return all(lane.ended for lane in self.every)

    @property
    def running(self) -> list[LaneState]:
        """Lanes with a slice in flight."""
        return [lane for lane in self.every if lane.state == "running"]

    def unwanted(self) -> Iterator[LaneState]:
        """Lanes whose slice in flight is to be withdrawn, and is not yet: skipped, or all of them while paused."""
        return (lane for lane in self.running if (self.paused or lane.skipped) and not lane.withdrawn)

    def startable(self, now: float) -> list[LaneState]:
        """Lanes whose next slice may begin, in order, as far as there is room."""
        if self.paused:
            return []
        waiting = [lane for lane in self.every if lane.state == "waiting" and lane.rests_until <= now]
        return waiting[: max(0, self.max_parallel - len(self.running))]

    def next_wake(self, now: float) -> float | None:
        """Seconds until a lane has rested; None when none rests."""
        resting = [lane.rests_until - now for lane in self.every if lane.state == "waiting" and lane.rests_until > now]
        return min(resting, default=None) if not self.paused else None

    def in_flight(self, request_id: str) -> LaneState | None:
        """The lane that a slice belongs to, while it is in flight."""
        return next((lane for lane in self.running if lane.request_id == request_id), None)

    def skip(self, pattern: str) -> bool:
        """Leave out every lane whose table or identifier fits; False when there is none."""
        found = [
            lane
            for lane in self.every
            if not lane.ended and (fnmatchcase(lane.table, pattern) or fnmatchcase(lane.name, pattern))
        ]
        for lane in found:
            lane.skipped = True
            if lane.state == "waiting":
                lane.state = "skipped"
        return bool(found)

    # --- what has happened ------------------------------------------------------------------------------------

    def take(self, lane: LaneState, report: ExportReport, now: float) -> None:
        """The table's loop has reported on the lane's slice."""
        told, failed_whole = lane.report, report.status == "failed"
        for name in _DONE:
            setattr(told, name, getattr(told, name) + getattr(report, name))
        told.snapshots += len(report.snapshots)
        told.failed += report.failed - failed_whole
        self.note(BackfillFailure(lane.name, **asdict(one)) for one in report.failures if one.partition)
        if report.exported and not (failed_whole and report.forced):
            # A forced slice that fails is exported again from its start: what it exported is no progress.
            lane.failures_in_a_row = 0
        if failed_whole or (report.status == "cancelled" and not lane.withdrawn):
            cause, who = (report.cause, report.who) if failed_whole else ("Cancelled", "user")
            self.lost(lane, cause, report.message, who, now)
            return
        whole = report.status != "cancelled"
        self.marks.append([lane.began, report.expected * whole, report.exported, report.rows])
        del self.marks[:-MARKS]
        lane.leaves_slice()
        if not whole:
            return  # what it looked at is looked at again
        for name in _SUMS if not lane.again else ():
            setattr(told, name, getattr(told, name) + getattr(report, name))
        told.shrunk += len(report.shrunk) * (not lane.again)
        told.moved += report.moved
        lane.cursor, lane.put_off = report.cursor, lane.put_off + report.put_off
        if lane.cursor:
            return
        if lane.put_off and not lane.again:
            # Once more from the start, where all else is there by now: so what failed before has its turn.
            lane.again, lane.put_off, told.moved = True, 0, 0
            return
        lane.state = "partial" if told.failed or told.moved else "done"

    def lost(self, lane: LaneState, cause: str, message: str, who: str, now: float) -> None:
        """The lane's slice has failed as a whole: it rests for a while, or has failed."""
        if lane.rests(cause, message, now):
            lane.leaves_slice()
            return
        self.failed(lane, cause, message, who)

    def failed(self, lane: LaneState, cause: str, message: str, who: str) -> None:
        """The lane has failed for good."""
        lane.fails(cause, message, who)
        self.note([BackfillFailure(lane.name, "", cause, message, who)])

    def estimated(self, lane: LaneState, estimate: TableEstimate) -> None:
        """The answer of a dry run."""
        for name in (*_SUMS, "rows", "bytes", "bytes_from"):
            setattr(lane.report, name, getattr(estimate, name))
        lane.report.total = estimate.expected
        lane.state = "planned"

    def note(self, failures: Iterable[BackfillFailure]) -> None:
        """Remember the first of the failures."""
        for failure in failures:
            if len(self.failures) < LISTED_FAILURES:
                self.failures.append(replace(failure, message=failure.message[:LONGEST_MESSAGE]))

    # --- what is carried and shown ----------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """How many lanes are in which state."""
        return dict(Counter(lane.shown(paused=self.paused).status for lane in self.every))

    def dump(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        return {
            "lanes": [lane.dump() for lane in self.every],
            "max_parallel": self.max_parallel,
            "slices_per_run": self.slices_per_run,
            "paused": self.paused,
            "failures": [asdict(failure) for failure in self.failures],
            "marks": self.marks,
        }

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> "Lanes":
        """What `dump` gave, read back."""
        rest = {name: value for name, value in dumped.items() if name not in {"lanes", "failures"}}
        failures = [BackfillFailure(**failure) for failure in dumped["failures"]]
        return cls([LaneState.load(lane) for lane in dumped["lanes"]], failures=failures, **rest)


def slice_of(asked: BackfillRequest, lane: LaneState) -> ExportRequest:
    """What the lane's table is asked for next."""
    return ExportRequest(
        table=lane.table,
        network=lane.network,
        environment=asked.environment,
        from_=lane.from_,
        to=lane.to,
        force=asked.force,
        allow_shrink=asked.allow_shrink,
        oldest_first=asked.oldest_first,
        dry_run=asked.dry_run,
        priority=RANGE_PRIORITY,
        max_partitions=0 if asked.dry_run else asked.partitions_per_request,
        after=lane.cursor,
    )

"""What an export loop knows of the requests it serves. Plain state, no commands."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from activities.contracts.export import (
    CommitReport,
    ExportLimits,
    ExportReport,
    ExportRequest,
    FailedPartition,
    Plan,
    PlannedPartition,
    SubmittedRequest,
)
from activities.contracts.failing import OF_THE_PARTITION, SuspendedPartition
from activities.contracts.inputs import read_input
from workflows.adopt_job import AdoptJob
from workflows.orphans_job import OrphansJob
from workflows.table_job import TableJob
from workflows.upkeep_job import UpkeepJob

LISTED_FAILURES = 100
LISTED_SNAPSHOTS = 1000
REMEMBERED_REQUESTS = 200


@dataclass
class ActiveRequest:
    """One request under way: what was asked, how far it is, what has come of it."""

    submitted: SubmittedRequest
    request: ExportRequest
    plan: Plan | None = None
    todo: list[PlannedPartition] = field(default_factory=list)
    empty_ranges: list[list[str]] = field(default_factory=list)
    """Newly seen empty partitions, to be remembered with the next commit."""
    last: list[PlannedPartition] = field(default_factory=list)
    """Partitions that failed in requests before this one: they are tried once nothing else is left to plan."""
    gave_up: dict[str, str] = field(default_factory=dict)
    """Partition → cause, of those of the page at hand that failed by themselves, to be remembered with its commit."""
    report: ExportReport = field(default_factory=ExportReport)
    uploaded: int = 0
    """Partitions of the page at hand whose objects are there and not committed yet."""

    @property
    def priority(self) -> int:
        """Lower is served earlier; what is due goes before ranges, unless the request says otherwise."""
        if self.request.priority is not None:
            return self.request.priority
        return 1 if self.is_due else 2

    @property
    def is_due(self) -> bool:
        """Whether it asks for whatever is due, and no range."""
        return self.request.from_ == "" and self.request.to == ""

    def planned(self, plan: Plan) -> None:
        """Take a page of the plan."""
        self.plan = plan
        self.todo = list(plan.todo)
        self.empty_ranges = [] if self.request.dry_run else list(plan.empty_ranges)
        report = self.report
        report.expected += plan.expected
        report.present += plan.present
        report.missing += plan.missing
        report.stale += plan.stale
        report.forced += plan.forced
        report.suspended += plan.suspended
        report.suspensions.extend(plan.suspensions[: LISTED_FAILURES - len(report.suspensions)])
        report.empty += plan.empty
        report.open = max(report.open, plan.open)
        report.shrunk.extend(plan.shrunk[: LISTED_FAILURES - len(report.shrunk)])
        self.last += plan.last
        if self._met_bound:
            report.cursor = plan.cursor
            report.put_off += len(self.last)
            self.last = []
        elif not plan.cursor:
            self._take_last()

    def _take_last(self) -> None:
        """What failed before, as much of it as the bound still allows, at the end of the last page."""
        taken = self.last[: self.room] if self.room else self.last
        self.report.put_off += len(self.last) - len(taken)
        self.last = []
        self.todo += taken
        self.report.missing += sum(planned.reason == "missing" for planned in taken)
        self.report.stale += sum(planned.reason == "stale" for planned in taken)

    @property
    def cursor(self) -> str:
        """After which partition the next page of the plan begins; empty at the start."""
        return self.plan.cursor if self.plan else self.request.after

    @property
    def _planned(self) -> int:
        return self.report.missing + self.report.stale + self.report.forced

    @property
    def _done(self) -> int:
        return self.report.exported + self.report.already_there + self.report.removed

    @property
    def room(self) -> int:
        """How many more partitions may be planned; 0 when there is no bound."""
        return max(1, self.request.max_partitions - self._planned) if self.request.max_partitions else 0

    @property
    def _met_bound(self) -> bool:
        return 0 < self.request.max_partitions <= self._planned

    def committed(self, commit: CommitReport) -> None:
        """Count a commit."""
        self.uploaded = 0
        report = self.report
        report.exported += commit.committed
        report.already_there += commit.already_there
        report.removed += commit.removed
        report.rows += commit.rows
        report.bytes += commit.bytes
        if commit.snapshot_id and len(report.snapshots) < LISTED_SNAPSHOTS:
            report.snapshots.append(commit.snapshot_id)

    def gives_up(self, partition: str, cause: str, message: str, who: str) -> None:
        """Count a partition that could not be exported; one that fails each time is to be left out for a while."""
        self.failed(partition, cause, message, who)
        if self.is_due and not self.request.force and cause in OF_THE_PARTITION:
            self.gave_up[partition] = cause

    def failed(self, partition: str, cause: str, message: str, who: str) -> None:
        """Count a partition that was given up, or, without one, the request.

        A partition whose source never stood still is as good as open.
        """
        if cause == "SourceMoved":
            self.report.open += 1
            self.report.moved += 1
            return
        if not partition:
            self.report.cause, self.report.who = cause, who
        self.report.failed += 1
        if len(self.report.failures) < LISTED_FAILURES:
            self.report.failures.append(FailedPartition(partition, cause, message, who))

    @property
    def outcome(self) -> str:
        """The status that the request ends with when every page of it is done."""
        report = self.report
        if self.request.dry_run:
            return "dry_run"
        # What is due comes again by itself; who names a partition is told that it is not there.
        if report.failed or (report.moved and not self.is_due):
            return "partial"
        if report.exported or report.already_there or report.removed:
            return "complete"
        return "nothing_to_do"

    def closing_message(self, identifier: str) -> str:
        """One sentence for people: what became of the request."""
        report = self.report
        if report.status == "nothing_to_do" and not report.moved:
            parts = [f"nothing to do: {identifier} holds all {report.present} of the closed partitions asked for"]
            parts += [f"{report.empty} empty"] if report.empty else []
            parts += [f"{report.open} still open"] if report.open else []
            parts += [_suspended(report)] if report.suspended else []
            return ", ".join(parts)
        if report.status == "dry_run":
            suspended = f", {_suspended(report)}" if report.suspended else ""
            return (
                f"{identifier} would get {report.missing} missing, {report.stale} stale and {report.forced} forced "
                f"partitions; {report.present} are there, {report.empty} empty, {report.open} open{suspended}; "
                "nothing was written"
            )
        text = f"{report.exported} partitions with {report.rows} rows committed to {identifier}"
        if report.already_there:
            text += f", {report.already_there} were there already"
        if report.removed:
            text += f", {report.removed} removed that the source holds nothing of any more"
        if report.failed:
            text += f", {report.failed} failed"
        if report.moved:
            text += f", {report.moved} left for later that got rows whenever they were exported"
        if report.suspended:
            text += f", {_suspended(report)}"
        if report.put_off:
            text += f", {report.put_off} that failed before put off"
        if report.cursor:
            text += f"; its bound of {self.request.max_partitions} is met, and what lies after {report.cursor} is left"
        return text

    def details(self) -> list[str]:
        """The request as Markdown lines for the Temporal UI."""
        report = self.report
        line = (
            f"- `{self.submitted.id}`: {self._done} of {self._planned} partitions, "
            f"{self.uploaded} more uploaded, {report.rows:,} rows, {report.bytes:,} bytes, {report.failed} failed"
        )
        return [line, *map(_shown, report.failures[:5]), *map(_shown_suspended, report.suspensions[:5])]

    def progress(self) -> dict[str, Any]:
        """The request as the progress query shows it."""
        return {
            "id": self.submitted.id,
            "planned_next": len(self.todo),
            "uploaded": self.uploaded,
            **asdict(self.report),
        }

    @property
    def needs_plan(self) -> bool:
        """Whether the page of the plan is used up and another one is to come."""
        return not self.todo and not self.finished

    @property
    def finished(self) -> bool:
        """Whether the last page of the plan is done."""
        return self.plan is not None and not self.todo and (not self.plan.cursor or self._met_bound)

    def dump(self) -> dict[str, object]:
        """Everything as plain JSON; the page of the plan that is not done yet goes along (at most 1,300 names)."""
        return {
            "submitted": asdict(self.submitted),
            "plan": asdict(replace(self.plan, todo=[], empty_ranges=[], last=[], suspensions=[], look=None))
            if self.plan
            else None,
            "todo": [asdict(planned) for planned in self.todo],
            "last": [asdict(planned) for planned in self.last],
            "report": asdict(self.report),
        }

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> "ActiveRequest":
        """What `dump` gave, read back."""
        submitted = SubmittedRequest(**dumped["submitted"])
        report = ExportReport(**dumped["report"])
        report.failures = [FailedPartition(**failure) for failure in dumped["report"]["failures"]]
        report.suspensions = [SuspendedPartition(**one) for one in dumped["report"].get("suspensions", [])]
        plan = dumped["plan"]
        return cls(
            submitted=submitted,
            request=read_input(ExportRequest, submitted.request),
            plan=Plan(**{**plan, "limits": ExportLimits(**plan["limits"])}) if plan else None,
            todo=[PlannedPartition(**planned) for planned in dumped["todo"]],
            last=[PlannedPartition(**planned) for planned in dumped.get("last", [])],
            report=report,
        )


def next_page(todo: list[PlannedPartition], limits: ExportLimits) -> list[PlannedPartition]:
    """The partitions that are exported and committed together: many small ones, or a few large ones."""
    rows = 0
    for count, planned in enumerate(todo[: limits.partitions_per_commit], 1):
        rows += planned.rows
        if rows >= limits.rows_per_commit:
            return todo[:count]
    return todo[: limits.partitions_per_commit]


def shared_activities(page: list[PlannedPartition], limits: ExportLimits) -> list[list[PlannedPartition]]:
    """The partitions of a page, grouped by the activity that is to carry them.

    Small neighbours share one, but only as far as there are more of them than may run at once anyway.
    """
    small = sum(0 < planned.rows <= limits.small_partition_rows for planned in page)
    width = max(1, min(limits.partitions_per_activity, -(-small // limits.parallel_partitions)))
    groups: list[list[PlannedPartition]] = []
    shared: list[PlannedPartition] = []
    for planned in page:
        if not 0 < planned.rows <= limits.small_partition_rows:
            groups.append([planned])
            continue
        if len(shared) % width == 0:
            shared = []
            groups.append(shared)
        shared.append(planned)
    return groups


def summary_of(group: list[PlannedPartition]) -> str:
    """An activity as the Temporal UI names it."""
    first, others = group[0], len(group) - 1
    return f"{first.partition} ({first.reason})" + (f" and {others} more" if others else "")


def _shown(failed: FailedPartition) -> str:
    return f"  - {failed.partition}: {failed.cause}: {failed.message} (who must act: {failed.who})"


def _suspended(report: ExportReport) -> str:
    return f"{report.suspended} suspended after failing every time"


def _shown_suspended(one: SuspendedPartition) -> str:
    return f"  - {one.partition}: suspended until {one.until}: failed {one.failures} times, last with {one.cause}"


Underway = ActiveRequest | TableJob[Any, Any]
"""A request that a loop serves."""
JOBS: Mapping[str, type[TableJob[Any, Any]]] = {"orphans": OrphansJob, "upkeep": UpkeepJob, "adopt": AdoptJob}
"""Kind of a submitted request → what serves it; everything else is an export."""


def begin(submitted: SubmittedRequest) -> Underway:
    """A request that has just arrived."""
    job = JOBS.get(submitted.kind)
    return job.begin(submitted) if job else ActiveRequest(submitted, read_input(ExportRequest, submitted.request))


def resume(dumped: dict[str, Any]) -> Underway:
    """A request that a run before this one has dumped."""
    job = JOBS.get(dumped["submitted"].get("kind", ""))
    return job.load(dumped) if job else ActiveRequest.load(dumped)


def details_of(identifier: str, active: Sequence[Underway], in_flight: list[str]) -> str:
    """The state of a loop as Markdown: the current details that the Temporal UI renders."""
    lines = [f"**{identifier}**", *(line for request in active for line in request.details())]
    if in_flight:
        lines.append(f"- in flight: {', '.join(in_flight)}")
    return "\n".join(lines)

"""What a request for upkeep of many tables knows of them. Plain state, no commands."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from activities.contracts.maintain import (
    COUNTED,
    LISTED_PROBLEMS,
    LISTED_TABLES,
    LONGEST_MESSAGE,
    MaintainedTable,
    MaintainReport,
    TableMaintained,
)
from activities.contracts.mirrors import OrderReport
from activities.contracts.upkeep import UpkeepReport

SHOWN = 20
FAILED = ("failed", "cancelled", "partial")


@dataclass(frozen=True)
class Outcome:
    """What became of one table."""

    status: str
    message: str = ""
    cause: str = ""
    who: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    problems: Sequence[str] = ()

    @classmethod
    def of_report(cls, report: UpkeepReport) -> Self:
        """As the loop of an export or a changelog says it."""
        counts = {name: getattr(report, name) for name in COUNTED}
        return cls(report.status, report.message, report.cause, report.who, counts, report.problems)

    @classmethod
    def of_order(cls, report: OrderReport, *, dry_run: bool) -> Self:
        """As the loop of a mirror says it."""
        status = "complete" if any(report.counts.values()) else "nothing_to_do"
        status = "partial" if report.problem else status
        problems = [report.problem] if report.problem else []
        return cls("dry_run" if dry_run else status, report.message, counts=report.counts, problems=problems)


@dataclass
class Maintained:
    """How far the request is, and the report so far."""

    left: list[MaintainedTable] = field(default_factory=list)
    """Tables that have not begun in this run."""
    running: dict[str, None] = field(default_factory=dict)
    report: MaintainReport = field(default_factory=MaintainReport)
    counts: Counter[str] = field(default_factory=Counter)
    """Status → tables that ended so."""

    def begin(self, tables: Sequence[MaintainedTable]) -> None:
        """These are the tables."""
        self.left = list(tables)
        self.report.tables = len(tables)

    def next_page(self, most: int) -> list[MaintainedTable]:
        """Those that this run sees to; the others are left."""
        page, self.left = self.left[:most], self.left[most:]
        return page

    def begun(self, table: MaintainedTable) -> None:
        """Its loop has been asked."""
        self.running[table.table] = None

    def ended(self, table: MaintainedTable, outcome: Outcome) -> None:
        """Its loop has answered, or never will."""
        self.running.pop(table.table, None)
        self.counts[outcome.status] += 1
        report = self.report
        for name in COUNTED:
            setattr(report, name, getattr(report, name) + outcome.counts.get(name, 0))
        message = outcome.message[:LONGEST_MESSAGE]
        does_nothing = outcome.status == "nothing_to_do" or (
            outcome.status == "dry_run" and not any(outcome.counts.values())
        )
        if not does_nothing and len(report.each) < LISTED_TABLES:
            report.each.append(
                TableMaintained(table.table, table.kind, outcome.status, message, outcome.cause, outcome.who)
            )
        said = [f"{outcome.cause}: {message}"] if outcome.status in FAILED and outcome.cause else outcome.problems
        report.problems += [f"{table.table}: {one}" for one in said][: LISTED_PROBLEMS - len(report.problems)]

    def closed(self, *, dry_run: bool) -> MaintainReport:
        """The report at the end."""
        report = self.report
        report.ended = dict(self.counts)
        report.status = self._status(dry_run=dry_run)
        would = "would be " if dry_run else ""
        report.message = (
            f"{report.tables} tables: {report.expired} snapshots {would}expired, "
            f"{report.deleted} objects {would}deleted ({report.freed:,} bytes), {report.manifests} manifests less, "
            f"{report.compacted} files of changelogs {would}put together, {report.refreshed} public objects "
            f"{would}refreshed"
        )
        failed = sum(self.counts[status] for status in FAILED)
        if failed:
            report.message += f"; {failed} tables failed or were done in part: {'; '.join(report.problems[:3])}"
            first = next((one for one in report.each if one.cause), None)
            report.cause, report.who = (first.cause, first.who) if first else ("", "")
        return report

    def _status(self, *, dry_run: bool) -> str:
        if any(self.counts[status] for status in FAILED):
            return "partial"
        if dry_run:
            return "dry_run"
        return "complete" if self.counts["complete"] else "nothing_to_do"

    def progress(self) -> dict[str, Any]:
        """For queries: sums so far, and what is under way."""
        sums = {name: getattr(self.report, name) for name in ("tables", *COUNTED)}
        ended = sum(self.counts.values())
        return {
            **sums,
            "ended": dict(self.counts),
            "left": self.report.tables - ended - len(self.running),
            "running": list(self.running),
            "problems": list(self.report.problems),
        }

    def details(self) -> str:
        """The same as Markdown, for the Temporal UI."""
        report, running = self.report, list(self.running)
        ended = ", ".join(f"{count} {status}" for status, count in sorted(self.counts.items())) or "none"
        lines = [
            f"**{sum(self.counts.values())} of {report.tables} tables** ({ended})",
            (
                f"- {report.expired} snapshots expired, {report.deleted} objects deleted, {report.freed:,} bytes "
                f"freed, {report.manifests} manifests less, {report.compacted} files put together"
            ),
            *(f"- under way: {table}" for table in running[:SHOWN]),
            *(f"- {problem}" for problem in report.problems[:SHOWN]),
        ]
        return "\n".join(lines)

    # --- from run to run ----------------------------------------------------------------------------------------

    @classmethod
    def load(cls, carried: dict[str, Any]) -> Self:
        """What `dump` gave, read back."""
        report = MaintainReport(**carried["report"])
        report.each = [TableMaintained(**one) for one in carried["report"]["each"]]
        left = [MaintainedTable(**one) for one in carried["left"]]
        return cls(left, report=report, counts=Counter(carried["counts"]))

    def dump(self) -> dict[str, Any]:
        """What the next run takes over."""
        return {
            "left": [asdict(table) for table in self.left],
            "report": asdict(self.report),
            "counts": dict(self.counts),
        }

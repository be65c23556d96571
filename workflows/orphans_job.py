"""A request to delete a table's orphans, as its loop serves it."""

from dataclasses import dataclass
from typing import ClassVar

from temporalio import workflow

from activities.contracts.export import ExportActivities
from activities.contracts.orphans import LISTED_KEYS, OrphansInput, OrphansPage, OrphansReport, OrphansRequest
from workflows.policies import DELETE_ORPHANS
from workflows.table_job import TableJob


@dataclass
class OrphansJob(TableJob[OrphansRequest, OrphansReport]):
    """Pages of deletions. Nothing of the table is in flight meanwhile, so nothing is about to adopt an object."""

    request_shape: ClassVar[type] = OrphansRequest
    report_shape: ClassVar[type] = OrphansReport
    state: ClassVar[tuple[str, ...]] = ("line", "cursor")

    line: int = 0
    """What was made before it may go, in seconds since the epoch; 0 until the first page has worked it out."""
    cursor: str = ""

    async def serve_page(self, queue: str) -> None:
        """Delete for a minute at most."""
        page = await workflow.execute_activity_method(
            ExportActivities.delete_orphans,
            self.next_page(),
            task_queue=queue,
            summary=f"orphans older than {self.request.older_than}",
            **DELETE_ORPHANS,
        )
        self.took(page)

    def next_page(self) -> OrphansInput:
        """What to ask for next."""
        asked = self.request
        return OrphansInput(
            environment=asked.environment,
            table=asked.table,
            network=asked.network,
            older_than=asked.older_than,
            metadata=asked.metadata,
            dry_run=asked.dry_run,
            line=self.line,
            cursor=self.cursor,
        )

    def took(self, page: OrphansPage) -> None:
        """Count a page."""
        self.line, self.cursor = page.line, page.cursor
        report = self.report
        report.deleted += page.deleted
        report.bytes += page.bytes
        report.young += page.young
        report.foreign += page.foreign
        report.waiting = page.waiting
        report.keys.extend(page.keys[: LISTED_KEYS - len(report.keys)])

    @property
    def finished(self) -> bool:
        """Whether everything has been looked at."""
        return bool(self.line) and not self.cursor

    @property
    def outcome(self) -> str:
        """The status that the request ends with once it is finished."""
        if self.request.dry_run:
            return "dry_run"
        if self.report.waiting:
            return "partial"
        return "complete" if self.report.deleted else "nothing_to_do"

    def closing_message(self, identifier: str) -> str:
        """One sentence for people: what became of the request."""
        report, age = self.report, self.request.older_than
        did = "would go" if self.request.dry_run else "deleted"
        text = f"{report.deleted} orphans of {identifier} older than {age} {did} ({report.bytes:,} bytes)"
        if report.young:
            text += f", {report.young} younger ones kept"
        if report.foreign:
            text += f", {report.foreign} of other origin left alone"
        return f"{text}; {report.waiting}" if report.waiting else text

    def details(self) -> list[str]:
        """The request as Markdown lines for the Temporal UI."""
        report = self.report
        return [f"- `{self.submitted.id}`: {report.deleted} orphans deleted, {report.bytes:,} bytes"]

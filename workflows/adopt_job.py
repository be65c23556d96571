"""A request to adopt published files, as a table's loop serves it."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from temporalio import workflow

from activities.contracts.adopt import (
    LISTED_REFUSALS,
    AdoptInput,
    AdoptPage,
    AdoptReport,
    AdoptRequest,
    RefusedFile,
)
from activities.contracts.export import ExportActivities
from workflows.policies import ADOPT
from workflows.table_job import TableJob

LISTED_SNAPSHOTS = 1000


@dataclass
class AdoptJob(TableJob[AdoptRequest, AdoptReport]):
    """Pages of objects in the order of their keys (`partitions_per_plan`); what is due is exported between two."""

    request_shape: ClassVar[type] = AdoptRequest
    report_shape: ClassVar[type] = AdoptReport
    state: ClassVar[tuple[str, ...]] = ("began", "cursor")
    priority: ClassVar[int] = 2

    began: bool = False
    cursor: str = ""

    async def serve_page(self, queue: str) -> None:
        """Look at a page of objects and commit those that are right."""
        page = await workflow.execute_activity_method(
            ExportActivities.adopt_files,
            self.next_page(),
            task_queue=queue,
            summary=f"files after {self.cursor}" if self.cursor else "the first files",
            **ADOPT,
        )
        self.took(page)

    def next_page(self) -> AdoptInput:
        """What to ask for next."""
        asked = self.request
        return AdoptInput(
            environment=asked.environment,
            table=asked.table,
            network=asked.network,
            from_=asked.from_,
            to=asked.to,
            dry_run=asked.dry_run,
            extra_columns=asked.extra_columns,
            unredacted=asked.unredacted,
            cursor=self.cursor,
        )

    def took(self, page: AdoptPage) -> None:
        """Count a page."""
        self.began, self.cursor = True, page.cursor
        report = self.report
        report.adopted += page.adopted
        report.already_there += page.already_there
        report.rows += page.rows
        report.bytes += page.bytes
        report.not_asked += page.not_asked
        report.refused += page.refused
        report.refusals.extend(page.refusals[: LISTED_REFUSALS - len(report.refusals)])
        for total, counts in ((report.reasons, page.reasons), (report.lacking, page.lacking)):
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count
        if page.snapshot_id and len(report.snapshots) < LISTED_SNAPSHOTS:
            report.snapshots.append(page.snapshot_id)

    @property
    def finished(self) -> bool:
        """Whether everything has been looked at."""
        return self.began and not self.cursor

    @property
    def outcome(self) -> str:
        """The status that the request ends with once it is finished."""
        if self.request.dry_run:
            return "dry_run"
        if self.report.refused:
            return "partial"
        return "complete" if self.report.adopted or self.report.already_there else "nothing_to_do"

    def closing_message(self, identifier: str) -> str:
        """One sentence for people: what became of the request."""
        report = self.report
        did = "would become part of" if self.request.dry_run else "became part of"
        text = f"{report.adopted} files with {report.rows} rows {did} {identifier}"
        if report.already_there:
            text += f", {report.already_there} were there already"
        if report.refused:
            counts = ", ".join(f"{count} {reason}" for reason, count in sorted(report.reasons.items()))
            text += f", {report.refused} refused ({counts})"
        return text

    def details(self) -> list[str]:
        """The request as Markdown lines for the Temporal UI."""
        report = self.report
        return [f"- `{self.submitted.id}`: {report.adopted} files adopted, {report.refused} refused"]

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Self:
        """What `dump` gave, read back."""
        job = super().load(dumped)
        job.report.refusals = [RefusedFile(**refusal) for refusal in dumped["report"]["refusals"]]
        return job

"""A request to keep a table in order, as its loop serves it."""

from dataclasses import dataclass
from typing import ClassVar

from temporalio import workflow

from activities.contracts.export import ExportActivities
from activities.contracts.upkeep import (
    LISTED_KEYS,
    ExpireInput,
    ExpirePage,
    RefreshInput,
    RefreshPage,
    UpkeepReport,
    UpkeepRequest,
)
from workflows.policies import EXPIRE, REFRESH
from workflows.table_job import TableJob


@dataclass
class UpkeepJob(TableJob[UpkeepRequest, UpkeepReport]):
    """First the snapshots, then pages of public keys that nothing retained names any more."""

    request_shape: ClassVar[type] = UpkeepRequest
    report_shape: ClassVar[type] = UpkeepReport
    priority: ClassVar[int] = 2
    """As a range: it may take long, and what is due goes first, page by page."""
    state: ClassVar[tuple[str, ...]] = ("expired", "began", "cursor", "done", "all_purged")

    expired: bool = False
    """Whether the snapshots have been seen to."""
    began: int = 0
    """When the public keys were begun, by the store's clock; 0 until then."""
    cursor: str = ""
    done: bool = False
    all_purged: bool = True

    async def serve_page(self, queue: str) -> None:
        """The snapshots, or public keys for a minute."""
        asked = self.request
        if not self.expired:
            task = ExpireInput(asked.environment, asked.table, asked.network, asked.dry_run)
            self.expiry(
                await workflow.execute_activity_method(
                    ExportActivities.expire_snapshots, task, task_queue=queue, summary="old snapshots", **EXPIRE
                )
            )
            return
        self.took(
            await workflow.execute_activity_method(
                ExportActivities.refresh_public, self.next_page(), task_queue=queue, summary="public keys", **REFRESH
            )
        )

    def next_page(self) -> RefreshInput:
        """What to ask for next."""
        asked = self.request
        return RefreshInput(
            environment=asked.environment,
            table=asked.table,
            network=asked.network,
            take_over=asked.take_over,
            dry_run=asked.dry_run,
            began=self.began,
            cursor=self.cursor,
            all_purged=self.all_purged,
        )

    def expiry(self, page: ExpirePage) -> None:
        """Count the snapshots."""
        self.expired, self.done = True, not page.retained
        self.report.expired, self.report.retained = page.expired, page.retained
        self._note(page.problem)

    def took(self, page: RefreshPage) -> None:
        """Count a page of public keys."""
        self.began, self.cursor, self.done = page.began, page.cursor, page.done
        self.all_purged = self.all_purged and not page.problem
        report = self.report
        for name in ("refreshed", "bytes", "fresh", "waiting", "foreign", "purged"):
            setattr(report, name, getattr(report, name) + getattr(page, name))
        report.keys.extend(page.keys[: LISTED_KEYS - len(report.keys)])
        self._note(page.problem)

    def _note(self, problem: str) -> None:
        if problem and problem not in self.report.problems:
            self.report.problems.append(problem)

    @property
    def finished(self) -> bool:
        """Whether everything has been looked at."""
        return self.done

    @property
    def outcome(self) -> str:
        """The status that the request ends with once it is finished."""
        if self.request.dry_run:
            return "dry_run"
        if self.report.problems:
            return "partial"
        return "complete" if self.report.expired or self.report.refreshed or self.report.purged else "nothing_to_do"

    def closing_message(self, identifier: str) -> str:
        """One sentence for people: what became of the request."""
        report, would = self.report, "would be " if self.request.dry_run else ""
        if not report.retained:
            return f"{identifier}: the catalog has no snapshot of it, so there is nothing to be kept in order yet"
        text = (
            f"{identifier}: {report.expired} snapshots {would}expired and {report.retained} retained, "
            f"{report.refreshed} public objects {would}refreshed ({report.bytes:,} bytes), {report.fresh} fresh"
        )
        if report.waiting:
            text += f", {report.waiting} still named by a retained snapshot"
        if report.foreign:
            text += f", {report.foreign} of other origin left alone"
        if report.purged:
            text += f", {report.purged} URLs purged"
        return "; ".join([text, *report.problems])

    def details(self) -> list[str]:
        """The request as Markdown lines for the Temporal UI."""
        report = self.report
        return [
            f"- `{self.submitted.id}`: {report.expired} snapshots expired, {report.refreshed} public objects refreshed",
            *(f"  - {problem}" for problem in report.problems),
        ]

"""A request to keep a table in order, as its loop serves it.

What nothing names any more goes first, and then snapshots expire: so what only those named has a grace period.
"""

from dataclasses import dataclass
from typing import ClassVar

from temporalio import workflow

from activities.contracts.export import ExportActivities
from activities.contracts.orphans import OrphansInput, OrphansPage
from activities.contracts.upkeep import (
    LISTED_KEYS,
    ExpireInput,
    ExpirePage,
    ManifestsInput,
    ManifestsPage,
    RefreshInput,
    RefreshPage,
    UpkeepReport,
    UpkeepRequest,
)
from workflows.policies import DELETE_ORPHANS, EXPIRE, MERGE_MANIFESTS, REFRESH
from workflows.table_job import TableJob

MOST_MERGES = 50
"""Merges of manifests for one request."""


@dataclass
class UpkeepJob(TableJob[UpkeepRequest, UpkeepReport]):
    """Pages of what nothing names, manifests, snapshots, then pages of public keys that nothing retained names."""

    request_shape: ClassVar[type] = UpkeepRequest
    report_shape: ClassVar[type] = UpkeepReport
    priority: ClassVar[int] = 2
    """As a range: it may take long, and what is due goes first, page by page."""
    state: ClassVar[tuple[str, ...]] = (
        *("swept", "line", "place", "merged", "merges", "waits"),
        *("expired", "began", "cursor", "done", "all_purged"),
    )

    swept: bool = False
    """Whether what nothing names has been looked at."""
    line: int = 0
    """What was made before it may go; 0 until the first page has worked it out."""
    place: str = ""
    """Where the next page of it begins."""
    merged: bool = False
    """Whether manifests have been seen to."""
    merges: int = 0
    waits: bool = False
    """Whether what the last expiry left behind may not go yet: another one would only have it wait for longer."""
    expired: bool = False
    """Whether the snapshots have been seen to."""
    began: int = 0
    """When the public keys were begun, by the store's clock; 0 until then."""
    cursor: str = ""
    done: bool = False
    all_purged: bool = True

    async def serve_page(self, queue: str) -> None:
        """One of the steps, for a minute or so."""
        asked = self.request
        if asked.thorough and not self.swept:
            task = OrphansInput(
                environment=asked.environment,
                table=asked.table,
                network=asked.network,
                older_than="",
                metadata=True,
                dry_run=asked.dry_run,
                line=self.line,
                cursor=self.place,
                after_expiry=True,
            )
            self.took_away(
                await workflow.execute_activity_method(
                    ExportActivities.delete_orphans,
                    task,
                    task_queue=queue,
                    summary="what nothing names",
                    **DELETE_ORPHANS,
                )
            )
        elif asked.thorough and not self.merged:
            small = ManifestsInput(asked.environment, asked.table, asked.network, asked.dry_run)
            self.put_together(
                await workflow.execute_activity_method(
                    ExportActivities.merge_manifests,
                    small,
                    task_queue=queue,
                    summary="small manifests",
                    **MERGE_MANIFESTS,
                )
            )
        else:
            await self._serve_rest(queue)

    async def _serve_rest(self, queue: str) -> None:
        asked = self.request
        if not self.expired:
            task = ExpireInput(asked.environment, asked.table, asked.network, asked.dry_run or self.waits)
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

    def took_away(self, page: OrphansPage) -> None:
        """Count a page of what nothing names."""
        self.line, self.place = page.line, page.cursor
        self.swept, self.waits = not page.cursor, bool(page.waiting)
        self.report.deleted += page.deleted
        self.report.freed += page.bytes
        self.report.kept += page.kept
        self.report.keys.extend(page.keys[: LISTED_KEYS - len(self.report.keys)])

    def put_together(self, page: ManifestsPage) -> None:
        """Count manifests."""
        self.merges += 1
        self.merged = not page.more or self.merges >= MOST_MERGES
        self.report.manifests += page.before - page.after

    def expiry(self, page: ExpirePage) -> None:
        """Count the snapshots."""
        self.expired, self.done = True, not page.retained
        self.report.expired, self.report.retained = page.expired, page.retained
        if self.waits and not self.request.dry_run:
            self.report.expired, self.report.retained = 0, page.expired + page.retained
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
        report = self.report
        done = report.expired or report.refreshed or report.purged or report.deleted or report.manifests
        return "complete" if done else "nothing_to_do"

    def closing_message(self, identifier: str) -> str:
        """One sentence for people: what became of the request."""
        report, would = self.report, "would be " if self.request.dry_run else ""
        if not report.retained:
            return f"{identifier}: the catalog has no snapshot of it, so there is nothing to be kept in order yet"
        text = (
            f"{identifier}: {report.expired} snapshots {would}expired and {report.retained} retained, "
            f"{report.refreshed} public objects {would}refreshed ({report.bytes:,} bytes), {report.fresh} fresh"
        )
        if self.request.thorough:
            text += (
                f", {report.deleted} objects {would}deleted ({report.freed:,} bytes), {report.manifests} manifests less"
            )
        if report.kept:
            text += f", {report.kept} of partitions that the table does not hold left alone"
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
            (
                f"- `{self.submitted.id}`: {report.deleted} objects deleted, {report.manifests} manifests less, "
                f"{report.expired} snapshots expired, {report.refreshed} public objects refreshed"
            ),
            *(f"  - {problem}" for problem in report.problems),
        ]

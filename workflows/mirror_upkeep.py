"""When a mirror's loop compacts, and what it tidies beside its merges."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Self

from temporalio import workflow
from temporalio.exceptions import ActivityError, RetryState, is_cancelled_exception

from activities.contracts.mirrors import CompactReport, MergeReport, MirrorActivities, MirrorInput, TidyReport
from workflows.after_commit import Runner
from workflows.failures import cause_of
from workflows.lasting import Lasting
from workflows.policies import TIDY, TIDY_NOW

MERGES_BEFORE = 20
"""A compaction that is due waits for a moment without changes, but not for ever."""
REST = timedelta(minutes=10)
"""After one that failed."""
AGAIN = timedelta(minutes=1)
"""After that tidying begins again of which all attempts failed."""


@dataclass
class Compaction:
    """Whether a compaction is due, and what became of the last one."""

    due: str = ""
    """Why; empty: it is not."""
    failed: str = ""
    failing: Lasting = field(default_factory=Lasting)
    """What those that were due have been failing with."""
    not_before: float = 0.0
    """In seconds since 1970."""
    merges_since: int = 0
    done: int = 0

    @classmethod
    def load(cls, carried: dict[str, Any]) -> Self:
        """Take over from the run before this one."""
        return cls(**{**carried, "failing": Lasting(**carried["failing"])})

    def merged(self, report: MergeReport) -> None:
        """A merge has said whether one is due."""
        self.merges_since += 1
        if workflow.time() >= self.not_before:
            self.due = report.compaction_due
            if not self.due:
                self._well()  # somebody else has done what could not be done

    def has_its_turn(self, *, merge_due: bool) -> bool:
        """Whether it comes before the next merge."""
        return bool(self.due) and (not merge_due or self.merges_since >= MERGES_BEFORE)

    def ended(self, report: CompactReport) -> None:
        """One has ended; what it left has its turn after merges that wait."""
        self.due = self.due if report.more else ""
        self._well()
        self.merges_since = 0
        self.done += bool(report.snapshot_id)

    def _well(self) -> None:
        self.failed = ""
        self.failing.over()

    def failed_with(self, failure: ActivityError, began: float) -> None:
        """One that began then has failed. Merges go on without it; it is tried again later."""
        cause, message, who = cause_of(failure)
        self.failing.failed(began, cause, message)
        self.due = ""
        self.failed = f"{cause}: {message} (who must act: {who})"
        self.not_before = workflow.time() + REST.total_seconds()
        self.merges_since = 0


class Tidying:
    """Announces what is new, lets what is old expire, and deletes what nobody names: beside the merges."""

    def __init__(self, mirror: Callable[[], MirrorInput], show: Callable[[], None]) -> None:
        self._mirror = mirror
        self._show = show
        """Called when one has ended, well or not: nobody waits for it."""
        self._runner = Runner("tidying", self._tidy)
        self.counts = {"announced": 0, "expired": 0, "objects_deleted": 0}
        self.problem = ""
        self.failing = Lasting()
        self._dropped = False

    async def thoroughly(self, *, dry_run: bool) -> TidyReport:
        """Once, whatever there is to be let go, however little; what else is under way makes room."""
        await self._runner.stop()
        began, asked = workflow.time(), replace(self._mirror(), thorough=True, dry_run=dry_run)
        report: TidyReport = await workflow.execute_activity_method(
            MirrorActivities.tidy_mirror, asked, summary="ordered", **TIDY_NOW
        )
        if not dry_run:
            self._count(report, began)
        self._runner.look()
        return report

    def look(self) -> None:
        """Something was committed, or time has passed."""
        self._runner.look()

    async def stop(self) -> None:
        """Drop what is under way; the next run derives it again."""
        self._dropped = not self._runner.idle
        await self._runner.stop()

    def load(self, carried: dict[str, Any]) -> None:
        """Take over from the run before this one, which may have dropped what was under way."""
        self.counts |= carried["counts"]
        self.problem = carried["problem"]
        self.failing = Lasting(**carried["failing"])
        if carried["due"]:
            self.look()

    def dump(self) -> dict[str, Any]:
        """What the next run takes over."""
        return {
            "counts": dict(self.counts),
            "problem": self.problem,
            "failing": self.failing.dump(),
            "due": self._dropped or not self._runner.idle,
        }

    async def _tidy(self) -> None:
        began = workflow.time()
        try:
            report: TidyReport = await workflow.execute_activity_method(
                MirrorActivities.tidy_mirror, self._mirror(), summary="tidy", **TIDY
            )
        except ActivityError as failure:
            if is_cancelled_exception(failure):
                raise
            cause, message, _ = cause_of(failure)
            self._failed(began, cause, message)
            self._show()
            if failure.retry_state != RetryState.MAXIMUM_ATTEMPTS_REACHED:
                raise  # no retry can mend it: the next merge has it looked at again
            await asyncio.sleep(AGAIN.total_seconds())
            self._runner.look()  # events wait, and nothing else may come for long
        else:
            self._count(report, began)
            self._show()

    def _failed(self, began: float, cause: str, message: str) -> None:
        self.problem = f"{cause}: {message}"
        self.failing.failed(began, cause, message)

    def _count(self, report: TidyReport, began: float) -> None:
        self.counts["announced"] += report.announced
        self.counts["expired"] += report.expired
        self.counts["objects_deleted"] += report.deleted
        if report.problem:
            cause, _, message = report.problem.partition(": ")
            self._failed(began, cause, message)
        else:
            self.problem = ""
            self.failing.over()


def tidied(mirror: str, report: TidyReport) -> str:
    """What became of an order to tidy, in one sentence."""
    done = f"{mirror}: {report.expired} snapshots expired, {report.deleted} objects deleted ({report.bytes:,} bytes)"
    return f"{done}; {report.problem}" if report.problem else done

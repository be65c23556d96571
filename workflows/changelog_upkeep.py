"""What an ingest has been asked to keep in order: a step of one changelog between two batches, and an answer."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError

from activities.contracts.causes import Cause, acting_for, cause
from activities.contracts.cdc import KEEP_STEPS, KEPT_SIGNAL, CdcActivities, KeepInput, KeepPage, KeepRequest
from activities.contracts.inputs import read_input, read_only_input, write_input
from activities.contracts.upkeep import UpkeepReport
from workflows.failures import cause_of
from workflows.policies import KEEP

MOST_TURNS = 100
"""Turns of one step; what is left then is for the next request."""
REMEMBERED_ANSWERS = 50
SUMMED = ("expired", "deleted", "freed", "manifests", "compacted")
Run = Callable[[Awaitable[KeepPage]], Awaitable[KeepPage | None]]


@dataclass
class _Job:
    """One changelog that is being kept in order."""

    request: KeepRequest
    step: int = 0
    turns: int = 0
    report: UpkeepReport = field(default_factory=UpkeepReport)
    cause: Cause = field(default_factory=dict)
    """On whose behalf it has come."""

    @property
    def done(self) -> bool:
        return self.step >= len(KEEP_STEPS)

    def took(self, page: KeepPage) -> None:
        """Count a turn, and go on to the next step when this one has no other."""
        report = self.report
        for name in SUMMED:
            setattr(report, name, getattr(report, name) + getattr(page, name))
        report.retained = page.retained or report.retained
        report.noted += page.noted
        if page.problem and page.problem not in report.problems:
            report.problems.append(page.problem)
        self.turns += 1
        if not page.more or self.turns >= MOST_TURNS:
            self.step, self.turns = self.step + 1, 0

    def end(self) -> None:
        """Say what became of it."""
        report, would = self.report, "would be " if self.request.dry_run else ""
        did_something = any(getattr(report, name) for name in SUMMED)
        report.status = "complete" if did_something else "nothing_to_do"
        report.status = "partial" if report.problems else report.status
        report.status = "dry_run" if self.request.dry_run else report.status
        text = (
            f"{self.request.changelog}: {report.compacted} small files {would}put together, {report.manifests} "
            f"manifests less, {report.expired} snapshots {would}expired and {report.retained} retained, "
            f"{report.deleted} objects {would}deleted ({report.freed:,} bytes)"
        )
        text += f", {report.noted} more will be once nobody can be reading them" if report.noted else ""
        report.message = "; ".join([text, *report.problems])


class ChangelogUpkeep:
    """Requests in the order in which they came."""

    def __init__(self) -> None:
        self._jobs: list[_Job] = []
        self._answers: dict[str, UpkeepReport] = {}

    @property
    def waiting(self) -> bool:
        """Whether there is something to do."""
        return bool(self._jobs)

    @property
    def cause(self) -> Cause:
        """On whose behalf the next turn is."""
        return self._jobs[0].cause if self._jobs else {}

    @property
    def doing(self) -> str:
        """For people: what is next."""
        return f"upkeep of {self._jobs[0].request.changelog}, {len(self._jobs)} in line" if self._jobs else ""

    def hear(self, payloads: tuple[Any, ...]) -> bool:
        """Take a request; False for one that is none, or that is known.

        Whoever came through the door was checked there, so an error here must not stop the loop for everybody.
        """
        try:
            request = read_only_input(KeepRequest, payloads)
        except ApplicationError as refused:
            workflow.logger.warning("a request was refused: %s", refused)
            return False
        if request.id and any(request.id == job.request.id for job in self._jobs):
            return False
        self._jobs.append(_Job(request, cause=cause()))
        return True

    async def turn(self, run: Run) -> str:
        """One turn of the first request's step; answers the changelog that has a new snapshot to be announced."""
        job = self._jobs[0]
        asked = job.request
        if asked.id in self._answers:
            await self._answer(job, self._answers[asked.id])
            return ""
        task = KeepInput(asked.environment, asked.pipeline, asked.changelog, KEEP_STEPS[job.step], asked.dry_run)
        work = workflow.execute_activity_method(
            CdcActivities.keep_changelog, task, summary=f"{task.step} {task.changelog}", **KEEP
        )
        try:
            page = await run(work)
        except ActivityError as failure:
            cause, message, who = cause_of(failure)
            await self._answer(job, UpkeepReport(status="failed", message=message, cause=cause, who=who))
            return ""
        if page is None:
            return ""  # interrupted: the same again
        job.took(page)
        if job.done:
            job.end()
            await self._answer(job, job.report)
        return asked.changelog if page.snapshot else ""

    async def refuse(self, why: str) -> None:
        """Tell everybody who waits that nothing will be done now."""
        for job in list(self._jobs):
            await self._answer(job, UpkeepReport(status="failed", message=why, cause="Refused", who="user"))

    async def _answer(self, job: _Job, report: UpkeepReport) -> None:
        self._jobs = [other for other in self._jobs if other is not job]
        asked = job.request
        if not asked.id:
            return
        self._answers[asked.id] = report
        for old in list(self._answers)[:-REMEMBERED_ANSWERS]:
            del self._answers[old]
        if not asked.answer_to:
            return
        asking = workflow.get_external_workflow_handle(asked.answer_to)
        try:
            with acting_for(job.cause):
                await asking.signal(KEPT_SIGNAL, args=[asked.id, report])
        except (ApplicationError, CancelledError) as gone:
            workflow.logger.info("nobody waits for %s any more: %s", asked.id, gone)

    # --- from run to run ----------------------------------------------------------------------------------------

    def load(self, carried: dict[str, Any]) -> None:
        """Take over; a signal may have come before this, such as a door's reminder."""
        handed = [_read(one) for one in carried["jobs"]]
        known = {job.request.id for job in handed if job.request.id}
        self._jobs = [*handed, *(job for job in self._jobs if job.request.id not in known)]
        self._answers = {name: UpkeepReport(**answer) for name, answer in carried["answers"].items()}

    def dump(self) -> dict[str, Any]:
        """What the next run takes over."""
        jobs = [{**asdict(job), "request": write_input(job.request)} for job in self._jobs]
        return {"jobs": jobs, "answers": {name: asdict(answer) for name, answer in self._answers.items()}}


def _read(dumped: dict[str, Any]) -> _Job:
    request, report = read_input(KeepRequest, dumped["request"]), UpkeepReport(**dumped["report"])
    # Runs that began before this was handed over knew of nobody.
    return _Job(request, dumped["step"], dumped["turns"], report, dumped.get("cause", {}))

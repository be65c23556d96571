"""The durable loop that carries a pipeline's events from its buffer into changelogs: the only writer that they have."""

import asyncio
from collections.abc import Awaitable
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, RetryState, is_cancelled_exception

from activities.contracts.causes import Cause, acting_for, cause
from activities.contracts.cdc import (
    COPIED_SIGNAL,
    INGEST_WORKFLOW,
    KEEP_SIGNAL,
    LETTERS_ANSWER_SIGNAL,
    LETTERS_SIGNAL,
    RESUME_SIGNAL,
    CdcActivities,
    ChangelogsInput,
    CopyReport,
    IngestInput,
    IngestReport,
    KeepPage,
    LettersReport,
    LettersRequest,
    TableBatch,
    check_letters,
    ingest_id,
)
from activities.contracts.inputs import read_input, read_only_input, write_input
from workflows.after_commit import Runner
from workflows.cdc_loop import PipelineLoop
from workflows.changelog_upkeep import ChangelogUpkeep
from workflows.copies import Copies
from workflows.failures import cause_of
from workflows.policies import ANNOUNCE, INGEST_ONCE, INGEST_TURN, SETTLE

WAIT_SECONDS = 60.0
"""How long a batch waits for events: an idle pipeline asks once a minute."""
REMEMBERED_ANSWERS = 20
REMEMBERED_FAILURES = 200
"""What a run hands to the next one is bounded by Temporal; the buffer knows of every table that is stopped."""
LONGEST_REST_SECONDS = 15
LISTED_TABLES = 20
CHANGELOGS_AT_ONCE = 100


@workflow.defn(name=INGEST_WORKFLOW)
class IngestChangelog(PipelineLoop):
    """Ingest batch after batch; copies, announcements and people's orders go on beside them or between two of them."""

    name = INGEST_WORKFLOW
    grace = timedelta(seconds=2)

    def __init__(self) -> None:
        super().__init__()
        self._counts = {"batches": 0, "events": 0, "bytes": 0, "announced": 0, "dead_letters": 0, "copied_rows": 0}
        self._last_lsn = ""
        self._failing: dict[str, TableBatch] = {}
        """Table → what its last batch said that could not go on."""
        self._barren = 0
        """Batches in a row that brought nothing because tables failed."""
        self._more = False
        """Whether the last batch left something."""
        self._copies = Copies()
        self._upkeep = ChangelogUpkeep()
        self._letters: list[LettersRequest] = []
        self._causes: dict[str, Cause] = {}
        """Id of a decision that waits → on whose behalf it was heard."""
        self._answers: dict[str, LettersReport] = {}
        self._unannounced: dict[str, None] = {"": None}
        """Changelogs with something new; the empty name stands for all, where a run before may have ended early."""
        self._announcing = Runner("announcing changelogs", self._announce)

    @workflow.run
    async def run(self, *payloads: Any) -> None:
        """Run until the loop is told to stop, or continue as new when the history has grown."""
        await self._serve(payloads, ingest_id)

    # --- batches ------------------------------------------------------------------------------------------------

    @property
    def _interrupts(self) -> bool:
        return self._heard

    async def _turn(self) -> None:
        await self._copies.begin(self._asked)
        if self._unannounced and self._announcing.idle:
            self._announcing.look()
        asked = self._asked
        wait = 0.0 if self._upkeep.waiting else WAIT_SECONDS
        report = await self._interruptible(
            self._batch(IngestInput(asked.environment, asked.pipeline, wait, self._copies.known, at_once=self._more))
        )
        if report is None:
            return
        self._take(report)
        if self._barren:
            await self._breathe()

    async def _batch(self, ingest: IngestInput) -> IngestReport | None:
        """The report; None when it failed, would be tried again, and upkeep waits, which has its turn before that."""
        policy = INGEST_ONCE if self._upkeep.waiting else INGEST_TURN
        try:
            report: IngestReport = await workflow.execute_activity_method(
                CdcActivities.ingest_batch,
                ingest,
                summary=f"after {self._last_lsn}" if self._last_lsn else "from the buffer's first event",
                **policy,
            )
        except ActivityError as failure:
            if policy is INGEST_TURN or failure.retry_state is not RetryState.MAXIMUM_ATTEMPTS_REACHED:
                raise
            workflow.logger.warning("a batch failed, and is tried again after a turn of upkeep: %s", failure.cause)
            return None
        return report

    def _take(self, report: IngestReport) -> None:
        self._counts["batches"] += 1
        self._more = report.more
        self._counts["events"] += report.events
        self._counts["bytes"] += report.bytes
        self._last_lsn = report.last_lsn or self._last_lsn
        if report.tried_before:
            self._unannounced[""] = None
        self._copies.take(report.to_copy)
        for batch in report.tables:
            self._counts["dead_letters"] += batch.dead_letters
            if batch.failed:
                self._failing[batch.table] = batch
            else:
                self._failing.pop(batch.table, None)
            if batch.snapshot_id or batch.already_there:
                # What was there already was committed by a worker that died before anybody could announce it.
                self._unannounced[batch.changelog] = None
        self._unannounced |= dict.fromkeys(report.unlisted)
        for old in list(self._failing)[:-REMEMBERED_FAILURES]:
            del self._failing[old]
        if self._unannounced:
            self._announcing.look()
        brought = any(not batch.failed for batch in report.tables)
        self._barren = self._barren + 1 if report.tables and not brought else 0

    async def _breathe(self) -> None:
        """Rest before the next batch when the last one brought nothing, since every table of it has failed."""
        self._show()
        seconds = min(2.0 ** (self._barren - 1), LONGEST_REST_SECONDS)
        try:
            await workflow.wait_condition(lambda: self._heard, timeout=seconds)
        except TimeoutError:
            return

    # --- beside the batches -------------------------------------------------------------------------------------

    async def _announce(self) -> None:
        names = list(self._unannounced)[:CHANGELOGS_AT_ONCE]
        asked = self._asked
        # Whatever is committed from here on is new again.
        for name in names:
            del self._unannounced[name]
        try:
            report = await workflow.execute_activity_method(
                CdcActivities.announce_changelogs,
                ChangelogsInput(asked.environment, asked.pipeline, [] if "" in names else names),
                summary="all" if "" in names else f"{len(names)} changelogs",
                **ANNOUNCE,
            )
        except (asyncio.CancelledError, ActivityError):
            # For the next run; and what no retry can mend, such as a changelog that somebody else has, is looked at
            # again behind all others with each batch: those that were done with it have nothing new then.
            self._unannounced |= dict.fromkeys(names)
            raise
        self._counts["announced"] += report.announced
        if self._unannounced:
            self._announcing.look()

    async def _settle(self) -> None:
        await self._announcing.stop()

    async def _leave(self) -> None:
        await self._copies.cancel(self._asked)
        while self._letters:
            request = self._letters.pop(0)
            with acting_for(self._causes.pop(request.id, {})):
                await self._answer(
                    request, LettersReport("failed", "the ingest was told to stop before it came to this")
                )
        await self._upkeep.refuse("the ingest was told to stop before it came to this")

    @workflow.signal(name=COPIED_SIGNAL)
    def copied(self, *payloads: Any) -> None:
        """A copy tells what became of it; its table's events go on with the next batch."""
        try:
            report = read_only_input(CopyReport, payloads)
        except ApplicationError as refused:
            workflow.logger.warning("a signal was refused that tells of no copy: %s", refused)
            return
        self._copies.ended(report)
        self._counts["copied_rows"] += report.rows
        if report.snapshot_id:
            self._unannounced[report.changelog] = None
        self._heard = True
        self._show()

    # --- people -------------------------------------------------------------------------------------------------

    @workflow.signal(name=LETTERS_SIGNAL)
    def letters(self, *payloads: Any) -> None:
        """Take a decision about dead letters or a stopped table; it is carried out before the next batch."""
        try:
            request = read_only_input(LettersRequest, payloads)
            check_letters(request)
        except ApplicationError as refused:
            # Whoever came through the door was checked there; an error here would stop the loop for everybody.
            workflow.logger.warning("a decision was refused: %s", refused)
            return
        if not request.id or all(request.id != known.id for known in self._letters):
            self._letters.append(request)
            self._causes[request.id] = cause()
            self._heard = True

    @workflow.signal(name=RESUME_SIGNAL)
    def resume(self, *_: Any) -> None:
        """Go on at once, also with copies that have failed."""
        super().resume()
        self._copies.try_again()

    async def _obey(self) -> None:
        while self._letters:
            request = self._letters[0]
            with acting_for(self._causes.pop(request.id, {})):
                await self._decide(request)
        await self._keep()

    async def _decide(self, request: LettersRequest) -> None:
        report = self._answers.get(request.id) or await self._settle_letters(request)
        self._letters.pop(0)
        if request.id:
            self._answers[request.id] = report
            for old in list(self._answers)[:-REMEMBERED_ANSWERS]:
                del self._answers[old]
        await self._answer(request, report)

    async def _keep(self) -> None:
        """One turn of what the upkeep of a changelog is at, so that batches have theirs."""
        if not self._upkeep.waiting:
            return
        if self._paused or self._stopping:
            await self._upkeep.refuse(f"the ingest of {self._asked.pipeline} is paused; {self.resumed_by} has it go on")
            return

        async def unless_told(work: Awaitable[KeepPage]) -> KeepPage | None:
            running, interrupted = await self._until(lambda: self._paused or self._stopping, work)
            if running.cancelled() or (interrupted and running.exception() is not None):
                return None
            return running.result()  # also of what landed all the same: nobody else would announce it

        with acting_for(self._upkeep.cause):
            if changed := await self._upkeep.turn(unless_told):
                self._unannounced[changed] = None
                self._announcing.look()  # now: no batch follows a pause
        if self._trouble is not None and self._upkeep.waiting:
            self._heard = True  # batches rest, and what is left need not

    @workflow.signal(name=KEEP_SIGNAL)
    def keep(self, *payloads: Any) -> None:
        """Keep a changelog in order, a step between two batches each."""
        self._heard = self._upkeep.hear(payloads) or self._heard

    async def _settle_letters(self, request: LettersRequest) -> LettersReport:
        try:
            report: LettersReport = await workflow.execute_activity_method(
                CdcActivities.settle_letters,
                request,
                summary=f"{request.action} {request.table or request.letters}"[:150],
                **SETTLE,
            )
        except ActivityError as failure:
            if is_cancelled_exception(failure):
                raise asyncio.CancelledError from failure
            cause, message, who = cause_of(failure)
            return LettersReport("failed", message, cause=cause, who=who)
        if request.action == "resume-table" and report.status == "done":
            self._failing.pop(request.table, None)
            self._copies.try_again(request.table)
        return report

    async def _answer(self, request: LettersRequest, report: LettersReport) -> None:
        if not request.answer_to:
            return
        asking = workflow.get_external_workflow_handle(request.answer_to)
        try:
            await asking.signal(LETTERS_ANSWER_SIGNAL, args=[request.id, report])
        except (ApplicationError, CancelledError) as gone:
            workflow.logger.info("nobody waits for %s any more: %s", request.id, gone)

    # --- state --------------------------------------------------------------------------------------------------

    def _load(self, carried: dict[str, Any]) -> None:
        self._counts |= carried["counts"]
        self._last_lsn = carried["last_lsn"]
        self._failing = {batch["table"]: TableBatch(**batch) for batch in carried["failing"]}
        self._copies.load(carried["copies"])
        if "upkeep" in carried:  # runs that began before there was any hand over none
            self._upkeep.load(carried["upkeep"])
        heard = [name for name in self._unannounced if name]  # before this, from a copy
        self._unannounced = dict.fromkeys([*carried["unannounced"], *heard])
        self._answers = {name: LettersReport(**answer) for name, answer in carried["answers"].items()}
        handed = [read_input(LettersRequest, request) for request in carried["letters"]]
        # A signal may have come before this, such as a door's reminder.
        known = {request.id for request in handed if request.id}
        self._letters = [*handed, *(request for request in self._letters if request.id not in known)]
        self._causes |= carried.get("causes", {})  # runs that began before these were handed over had none

    def _dump(self) -> dict[str, Any]:
        return {
            "counts": dict(self._counts),
            "last_lsn": self._last_lsn,
            "failing": [asdict(batch) for batch in self._failing.values()],
            "copies": self._copies.dump(),
            "upkeep": self._upkeep.dump(),
            "unannounced": list(self._unannounced),
            "letters": [write_input(request) for request in self._letters],
            "causes": dict(self._causes),
            "answers": {name: asdict(answer) for name, answer in self._answers.items()},
        }

    def _lines(self) -> list[str]:
        counts, failing = self._counts, list(self._failing.values())
        done = (
            f"- {counts['events']:,} events in {counts['batches']:,} batches, {counts['bytes']:,} bytes; "
            f"{counts['announced']:,} snapshots announced, {counts['dead_letters']:,} dead letters"
        )
        more = len(failing) - LISTED_TABLES
        return [
            done,
            *([f"- in changelogs up to {self._last_lsn}"] if self._last_lsn else []),
            *([f"- {self._upkeep.doing}"] if self._upkeep.doing else []),
            *(f"- copying {table}" for table in self._copies.under_way),
            *(f"- copy of {table} failed: {why}" for table, why in self._copies.failed.items()),
            *(
                f"- {one.table} {'is stopped' if one.stopped else 'failed'}: {one.failed}"
                for one in failing[:LISTED_TABLES]
            ),
            *([f"- and {more} more tables that cannot go on"] if more > 0 else []),
        ]

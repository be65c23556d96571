"""The durable loop of one Iceberg table: the only writer it has."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, is_cancelled_exception

from activities.contracts.causes import acting_for, cause
from activities.contracts.export import (
    ENVIRONMENT_ATTRIBUTE,
    LOOP_WORKFLOW,
    NETWORK_ATTRIBUTE,
    PROGRESS_QUERY,
    REPORT_SIGNAL,
    REQUEST_WORKFLOW,
    SUBMIT_SIGNAL,
    TABLE_ATTRIBUTE,
    WITHDRAW_SIGNAL,
    CommitInput,
    ExportActivities,
    ExportedPartition,
    ExportLimits,
    LoopState,
    PartitionsInput,
    PlanInput,
    PlannedPartition,
    SubmittedRequest,
    TableInput,
    loop_id,
    read_submitted,
    table_identifier,
)
from activities.contracts.findings import SHRUNK, Look, read_look
from activities.contracts.inputs import bad_request, read_only_input
from activities.contracts.queues import Queues
from workflows.after_commit import AfterCommit
from workflows.export_requests import (
    REMEMBERED_REQUESTS,
    ActiveRequest,
    Underway,
    begin,
    details_of,
    next_page,
    resume,
    shared_activities,
    summary_of,
)
from workflows.failures import cause_of
from workflows.findings import Findings
from workflows.policies import PLAN, commit_policy, export_policy, turn_of
from workflows.queues import queues_of
from workflows.table_job import TableJob

T = TypeVar("T")


@workflow.defn(name=LOOP_WORKFLOW)
class ExportTable:
    """Serve requests page by page until there is nothing left to do.

    Requests arrive by signal. Between two pages the loop looks at what has arrived, so that a long range never
    keeps what is due waiting for more than one page.
    """

    def __init__(self) -> None:
        self._inbox: list[SubmittedRequest] = []
        self._withdrawn: set[str] = set()
        self._active: list[Underway] = []
        self._served: list[str] = []
        self._state = LoopState("", "", "")
        self._after: AfterCommit | None = None
        self._findings = Findings()
        self._page: asyncio.Task[None] | None = None
        self._serving: Underway | None = None
        self._in_flight: dict[str, str] = {}
        self._pages = 0
        self._looked = False
        self._queues = Queues("", "", "", "")
        """Where work of the table waits; asked for before the first page of a run."""

    @workflow.run
    async def run(self, *payloads: Any) -> None:
        """Run until nothing is left to do, or continue as new when the history has grown."""
        self._open(read_only_input(LoopState, payloads))
        table = TableInput(self._state.environment, self._state.table, self._state.network)
        self._after = AfterCommit(table)
        try:
            await self._serve(self._after)
        except asyncio.CancelledError:
            await self._close_all("cancelled", "the export loop was cancelled")
            raise
        finally:
            await self._after.stop()
            await self._findings.stop()

    def _open(self, state: LoopState) -> None:
        self._state = state
        expected = loop_id(state.environment, state.network, state.table)
        if workflow.info().workflow_id != expected:
            raise ApplicationError(
                f"{LOOP_WORKFLOW} runs only as {expected!r}, so that a table has one writer; this is "
                f"{workflow.info().workflow_id!r}. Start {REQUEST_WORKFLOW}: it brings your request to that loop",
                type="WrongDoor",
                non_retryable=True,
            )
        self._active = _handed_over("active", state.active, resume)
        self._findings = Findings(_handed_over("looks", state.looks, read_look))
        self._served = [*state.served, *self._served]
        workflow.upsert_search_attributes(
            [
                ENVIRONMENT_ATTRIBUTE.value_set(state.environment),
                TABLE_ATTRIBUTE.value_set(state.table),
                NETWORK_ATTRIBUTE.value_set(state.network),
            ]
        )

    async def _serve(self, after: AfterCommit) -> None:
        while True:
            await self._admit()
            if workflow.cancellation_reason() is not None:
                # A commit that landed in spite of its cancellation answers as if there had been none.
                raise asyncio.CancelledError
            request = min(self._active, key=lambda active: active.priority, default=None)
            if request is None:
                # No await between this look and the return: a signal that arrives later starts the next run.
                if not self._inbox and after.idle and self._findings.idle:
                    return
                await workflow.wait_condition(lambda: bool(self._inbox) or (after.idle and self._findings.idle))
                continue
            if self._pages and self._history_is_long(request):
                await after.stop()
                await self._findings.stop()
                await self._admit()  # a withdrawal that came meanwhile is not carried along
                with acting_for({}):  # requests have traces, which go on; the loop itself has no end
                    workflow.continue_as_new(args=[asdict(self._carried())])
            await self._serve_page(request)

    def _history_is_long(self, request: Underway) -> bool:
        if workflow.info().is_continue_as_new_suggested():
            return True
        return request.plan is not None and self._pages >= request.plan.limits.pages_per_run

    def _carried(self) -> LoopState:
        self._take_inbox()
        state = self._state
        state.active = [request.dump() for request in self._active]
        state.served = self._served[-REMEMBERED_REQUESTS:]
        state.looks = [asdict(look) for look in self._findings.waiting]
        return state

    def _knows(self, request_id: str) -> bool:
        return request_id in self._served or any(a.submitted.id == request_id for a in self._active)

    async def _admit(self) -> None:
        """Take in what has arrived. Reporting takes time, in which more may arrive: afterwards nothing is left."""
        while True:
            self._take_inbox()
            withdrawn = next((active for active in self._active if active.submitted.id in self._withdrawn), None)
            if withdrawn is None:
                return
            await self._close(withdrawn, "cancelled", "the request was withdrawn")

    def _take_inbox(self) -> None:
        while self._inbox:
            submitted = self._inbox.pop(0)
            if not self._knows(submitted.id):
                self._active.append(begin(submitted))

    def _urgency(self, request: Underway) -> int:
        """The priority with which a page goes on: whatever waits for it to end lends it its own."""
        return min([request.priority, *(begin(submitted).priority for submitted in self._inbox)])

    async def _serve_page(self, request: Underway) -> None:
        """Plan if need be, export a page, commit it. Only a withdrawal ends a page early."""
        self._serving = request
        with acting_for(request.submitted.cause):
            if self._after is not None and not self._looked and not request.request.dry_run:
                # A run before this one may have ended between its commit and the announcement.
                self._looked = True
                self._after.look()
            self._page = asyncio.create_task(self._page_of(request))
        try:
            await self._page
        except (asyncio.CancelledError, ActivityError) as failure:
            # A cancelled page ends in either way, depending on what it was waiting for.
            if isinstance(failure, ActivityError) and not is_cancelled_exception(failure):
                cause, message, who = cause_of(failure)
                request.failed("", cause, message, who)
                await self._close(request, "failed", message)
            elif request.submitted.id in self._withdrawn:
                await self._close(request, "cancelled", "the request was withdrawn")
            else:
                raise asyncio.CancelledError from failure
        finally:
            self._page = self._serving = None
            self._pages += 1
            self._show()

    async def _page_of(self, request: Underway) -> None:
        if not self._queues.export:
            state = self._state
            self._queues = await queues_of(state.environment, state.table, state.network)
        if isinstance(request, TableJob):
            await self._serve_job(request)
        else:
            await self._export_planned(request)
        if request.finished:
            await self._close(request, request.outcome)

    async def _serve_job(self, job: TableJob[Any, Any]) -> None:
        try:
            await job.serve_page(self._queues.upkeep)
        finally:
            if self._after is not None and not job.only_looks:
                self._after.look()  # a page that failed may have made a snapshot before it did

    async def _export_planned(self, request: ActiveRequest) -> None:
        if request.needs_plan:
            await self._plan(request)
        plan = request.plan
        if plan is None:
            raise RuntimeError("a page without a plan")
        if request.request.dry_run:
            request.todo = []
        page = next_page(request.todo, plan.limits)
        if page or request.empty_ranges:
            await self._export_page(request, page)
        del request.todo[: len(page)]

    async def _plan(self, request: ActiveRequest) -> None:
        state = self._state
        plan = await workflow.execute_activity_method(
            ExportActivities.plan_partitions,
            PlanInput(
                environment=state.environment,
                table=state.table,
                network=state.network,
                request_id=request.submitted.id,
                request=request.submitted.request,
                cursor=request.cursor,
                limit=request.room,
            ),
            task_queue=self._queues.export,
            summary="look at table and source",
            priority=turn_of(self._urgency(request)),
            **PLAN,
        )
        request.planned(plan)
        if plan.look is not None:
            self._findings.take(plan.look)
        self._show()

    async def _export_page(self, request: ActiveRequest, page: list[PlannedPartition]) -> None:
        plan = request.plan
        if plan is None:
            raise RuntimeError("a page without a plan")
        request.uploaded = 0
        vanished = [planned for planned in page if planned.reason == "vanished"]
        groups = shared_activities([planned for planned in page if planned.reason != "vanished"], plan.limits)
        files = await self._export_groups(request, groups)
        done = {file.partition for file in files}
        # Whatever failed in company is tried alone, where it can keep nobody from being exported.
        alone = [[one] for group in groups if len(group) > 1 for one in group if one.partition not in done]
        files += await self._export_groups(request, alone)
        empty_ranges, request.empty_ranges = request.empty_ranges, []
        failed, request.gave_up = request.gave_up, {}
        if files or vanished or empty_ranges or failed:
            state, now = self._state, round(workflow.now().timestamp(), 3)
            await self._commit_page(
                request,
                plan.limits,
                CommitInput(state.environment, state.table, state.network, files, empty_ranges, failed, now, vanished),
            )

    async def _commit_page(self, request: ActiveRequest, limits: ExportLimits, page: CommitInput) -> None:
        files, vanished = page.files, page.vanished
        try:
            commit = await workflow.execute_activity_method(
                ExportActivities.commit_partitions,
                page,
                summary=f"{len(files)} partitions" + (f", {len(page.failed)} failed" if page.failed else ""),
                **commit_policy(limits),
            )
        except ActivityError as failure:
            if is_cancelled_exception(failure):
                raise
            cause, message, who = cause_of(failure)
            request.uploaded = 0
            for file in files:
                request.failed(file.partition, cause, f"uploaded, not committed: {message}", who)
            for planned in vanished:
                request.failed(planned.partition, cause, f"not removed: {message}", who)
            if not files and not vanished:
                raise
            return
        request.committed(commit)
        if request.request.allow_shrink:
            # The table holds no more than the source any longer: this says so where no look of its own would.
            even = [*(file.partition for file in files), *(planned.partition for planned in vanished)]
            looked = [[partition, partition] for partition in even]
            self._findings.take(Look(page.environment, page.table, page.network, SHRUNK, looked))
        if self._after is not None and (commit.snapshot_id or commit.already_there or commit.removed):
            # What was there already may be this very commit, made by a worker that died before it could say so.
            self._after.look()

    async def _export_groups(
        self, request: ActiveRequest, groups: list[list[PlannedPartition]]
    ) -> list[ExportedPartition]:
        if request.plan is None:
            raise RuntimeError("a page without a plan")
        slots = asyncio.Semaphore(request.plan.limits.parallel_partitions)
        # Every one of them is waited for, also when the page is cancelled: none may outlive its page.
        ended = await asyncio.gather(*(self._export(request, group, slots) for group in groups), return_exceptions=True)
        files: list[ExportedPartition] = []
        for result in ended:
            if isinstance(result, BaseException):
                raise result
            files += result
        return files

    async def _export(
        self, request: ActiveRequest, group: list[PlannedPartition], slots: asyncio.Semaphore
    ) -> list[ExportedPartition]:
        """One activity. A partition that fails alone, after every retry, is given up, which the report then says."""
        state, plan = self._state, request.plan
        if plan is None:
            raise RuntimeError("partitions without a plan")
        async with slots:
            self._in_flight |= {planned.partition: planned.reason for planned in group}
            self._show()
            try:
                exported: list[ExportedPartition] = await workflow.execute_activity_method(
                    ExportActivities.export_partitions,
                    PartitionsInput(state.environment, state.table, state.network, request.submitted.id, group),
                    task_queue=self._queues.export,
                    summary=summary_of(group),
                    priority=turn_of(self._urgency(request)),
                    **export_policy(plan.limits),
                )
            except ActivityError as failure:
                if is_cancelled_exception(failure):
                    raise
                if len(group) == 1:
                    request.gives_up(group[0].partition, *cause_of(failure))
                return []
            else:
                request.uploaded += len(exported)
                return exported
            finally:
                for planned in group:
                    self._in_flight.pop(planned.partition, None)
                self._show()

    async def _close(self, request: Underway, status: str, message: str = "") -> None:
        """Report to whoever asked, and remember that this request was served."""
        report = request.report
        report.status = status
        report.message = message or request.closing_message(table_identifier(self._state.network, self._state.table))
        if request in self._active:
            self._active.remove(request)
        self._served.append(request.submitted.id)
        self._withdrawn.discard(request.submitted.id)
        if request.submitted.requester:
            requester = workflow.get_external_workflow_handle(request.submitted.requester)
            try:
                with acting_for(request.submitted.cause):
                    await requester.signal(REPORT_SIGNAL, args=[request.submitted.id, report])
            except (ApplicationError, CancelledError) as gone:
                workflow.logger.info("nobody waits for %s any more: %s", request.submitted.id, gone)

    async def _close_all(self, status: str, message: str) -> None:
        self._take_inbox()  # whoever has just come is told as well
        for request in list(self._active):
            await self._close(request, status, message)

    @workflow.signal(name=SUBMIT_SIGNAL)
    def submit(self, *payloads: Any) -> None:
        """Take a request; it is looked at before the next page. One that cannot be read is refused in the log."""
        try:
            submitted = read_only_input(SubmittedRequest, payloads)
            read_submitted(submitted)
        except ApplicationError as refused:
            # Whoever came through the door was checked there; an error here would stop the loop for everybody.
            workflow.logger.warning("a request was refused: %s", refused)
        else:
            self._inbox.append(replace(submitted, cause=cause()))

    @workflow.signal(name=WITHDRAW_SIGNAL)
    def withdraw(self, *request_ids: Any) -> None:
        """Give up requests; what is in flight for one of them is cancelled."""
        self._withdrawn.update(str(request_id) for request_id in request_ids)
        if self._serving is not None and self._page is not None and self._serving.submitted.id in self._withdrawn:
            self._page.cancel()

    @workflow.query(name=PROGRESS_QUERY)
    def progress(self) -> dict[str, Any]:
        """Requests under way with their reports so far, partitions in flight, and what waits to be announced."""
        return {
            "table": table_identifier(self._state.network, self._state.table),
            "requests": [request.progress() for request in self._active],
            "in_flight": list(self._in_flight),
            "waiting": len(self._inbox),
            "announcing": self._after is not None and self._after.announcing,
            "publishing": self._after is not None and self._after.publishing,
            "announced": self._after.announced if self._after else 0,
        }

    def _show(self) -> None:
        """The same for people: the current details that the Temporal UI renders."""
        if not workflow.in_workflow():
            return  # the coroutines of a run that left the worker's cache are closed outside of it
        identifier = table_identifier(self._state.network, self._state.table)
        workflow.set_current_details(details_of(identifier, self._active, list(self._in_flight)))


def _handed_over(name: str, dumped: list[dict[str, Any]], read: Callable[[dict[str, Any]], T]) -> list[T]:
    try:
        return [read(one) for one in dumped]
    except (AttributeError, KeyError, TypeError) as wrong:
        raise bad_request(
            f"field {name!r} is what a loop hands to its successor, and this is not: {wrong!r}; leave it out"
        ) from wrong

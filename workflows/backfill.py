"""The door for many tables and long ranges: feeds the tables' loops, a slice of each at a time."""

import asyncio
import contextlib
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from activities.contracts.backfill import (
    BACKFILL_WORKFLOW,
    MOST_PARALLEL,
    PARALLELISM_SIGNAL,
    PAUSE_SIGNAL,
    RESUME_SIGNAL,
    SKIP_SIGNAL,
    BackfillReport,
    BackfillRequest,
    EstimateInput,
)
from activities.contracts.export import (
    ENVIRONMENT_ATTRIBUTE,
    NETWORK_ATTRIBUTE,
    PROGRESS_QUERY,
    REPORT_SIGNAL,
    TABLE_ATTRIBUTE,
    WHO_MUST_ACT,
    ExportActivities,
    ExportReport,
    SubmittedRequest,
)
from activities.contracts.inputs import read_only_input, write_input
from workflows.backfill_lanes import Lanes, LaneState, slice_of
from workflows.backfill_seen import details_of, progress_of, report_of
from workflows.door import FIRST_REMINDER, WITHDRAWAL, deliver_until, read_answer, told, withdraw
from workflows.failures import cause_of
from workflows.policies import ESTIMATE, RESOLVE
from workflows.queues import queues_of


@workflow.defn(name=BACKFILL_WORKFLOW)
class Backfill:
    """Ask each table's loop for a bounded slice, wait for its report, ask for the next, a few tables at once.

    What is there is read from the tables, so a backfill that was ended and is started again does what is missing.
    """

    def __init__(self) -> None:
        self._asked = BackfillRequest([])
        self._lanes = Lanes()
        self._orders: list[tuple[str, Any]] = []
        """What people have signalled, until it is looked at."""
        self._reports: dict[str, ExportReport] = {}
        self._slices: dict[str, asyncio.Task[None]] = {}
        """Request id → what waits for its report."""
        self._reported = 0
        self._leaving = False

    @workflow.run
    async def run(self, *payloads: Any) -> BackfillReport:
        """Run to the report, or continue as new when the history has grown."""
        fresh = self._open(payloads)
        try:
            if fresh:
                await self._resolve()
            await (self._estimate_all() if self._asked.dry_run else self._serve())
        except asyncio.CancelledError:
            await self._withdraw_all()
            raise
        finally:
            self._show()
        report = report_of(self._lanes, dry_run=self._asked.dry_run)
        if report.status == "failed":
            raise ApplicationError(report.message, report, type=report.cause or "Failed", non_retryable=True)
        return report

    def _open(self, payloads: tuple[Any, ...]) -> bool:
        """Read the input; answers whether this is the first run."""
        # Only a run before this one says where it was: whoever types a second input is refused.
        carried = payloads[1:] if workflow.info().continued_run_id else ()
        self._asked = read_only_input(BackfillRequest, payloads[:1] if carried else payloads)
        if carried:
            self._lanes = Lanes.load(carried[0])
        return not carried

    async def _resolve(self) -> None:
        try:
            found = await workflow.execute_activity_method(
                ExportActivities.resolve_backfill, self._asked, summary="tables and networks", **RESOLVE
            )
        except ActivityError as failure:
            raise told(failure) from failure
        every = [LaneState.of(lane) for lane in found.lanes]
        self._lanes = Lanes(every, max_parallel=self._asked.max_parallel, slices_per_run=found.slices_per_run)
        attributes = [ENVIRONMENT_ATTRIBUTE.value_set(self._asked.environment)]
        for key, values in (
            (TABLE_ATTRIBUTE, {lane.table for lane in found.lanes}),
            (NETWORK_ATTRIBUTE, {lane.network for lane in found.lanes}),
        ):
            # They hold one value each: a backfill of one table is found by its name.
            attributes += [key.value_set(value) for value in values if len(values) == 1]
        workflow.upsert_search_attributes(attributes)

    # --- the dry run ------------------------------------------------------------------------------------------

    async def _estimate_all(self) -> None:
        room = asyncio.Semaphore(self._lanes.max_parallel)
        await asyncio.gather(*(self._estimate(lane, room) for lane in self._lanes.every))

    async def _estimate(self, lane: LaneState, room: asyncio.Semaphore) -> None:
        asked = self._asked
        async with room:
            self._obey()
            if lane.ended:
                return
            try:
                queues = await queues_of(asked.environment, lane.table, lane.network)
                estimate = await workflow.execute_activity_method(
                    ExportActivities.estimate_table,
                    EstimateInput(asked.environment, lane.table, lane.network, write_input(slice_of(asked, lane))),
                    task_queue=queues.export,
                    summary=lane.name,
                    **ESTIMATE,
                )
            except ActivityError as failure:
                if is_cancelled_exception(failure):
                    raise asyncio.CancelledError from failure
                cause, message, who = cause_of(failure)
                self._lanes.failed(lane, cause, message, who)
            else:
                self._lanes.estimated(lane, estimate)
            self._show()

    # --- slices -----------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        while True:
            self._obey()
            self._take_in()
            if self._lanes.ended:
                return
            if self._reported >= self._lanes.slices_per_run or workflow.info().is_continue_as_new_suggested():
                await self._continue()
            for lane in list(self._lanes.unwanted()):
                self._give_up(lane)
            self._begin()
            self._show()
            rest = self._lanes.next_wake(_now())
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(self._is_woken, timeout=rest)

    def _is_woken(self) -> bool:
        return bool(self._orders) or any(task.done() for task in self._slices.values())

    def _begin(self) -> None:
        """Ask for the next slices, and wait for those that were asked for before the backfill continued as new."""
        info = workflow.info()
        for lane in self._lanes.running:
            if lane.request_id not in self._slices:
                self._slices[lane.request_id] = asyncio.create_task(self._bring(lane, delivered=True))
        for lane in self._lanes.startable(_now()):
            lane.began_slice(f"{info.workflow_id}/{info.run_id}/{lane.name}/{lane.slices + 1}", _now())
            self._slices[lane.request_id] = asyncio.create_task(self._bring(lane, delivered=False))

    def _submitted(self, lane: LaneState) -> SubmittedRequest:
        request = write_input(slice_of(self._asked, lane))
        return SubmittedRequest(id=lane.request_id, requester=workflow.info().workflow_id, request=request)

    async def _bring(self, lane: LaneState, *, delivered: bool) -> None:
        """Deliver the lane's slice, and wait until it is reported, or until the backfill continues as new."""
        submitted = self._submitted(lane)

        def answered() -> bool:
            return submitted.id in self._reports or self._leaving

        if delivered:
            # Not again at once: a loop that has served it and ended since would do the partitions after it, uncounted.
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(answered, timeout=FIRST_REMINDER)
            if answered():
                return
        await deliver_until(submitted, answered)

    def _give_up(self, lane: LaneState) -> None:
        """Withdraw the slice in flight. Nobody reminds the loop of it meanwhile."""
        lane.withdrawn = True
        waiting = self._slices.get(lane.request_id)
        self._slices[lane.request_id] = asyncio.create_task(self._withdraw(self._submitted(lane), waiting))

    async def _withdraw(self, submitted: SubmittedRequest, waiting: asyncio.Task[None] | None) -> None:
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        if submitted.id in self._reports or not await withdraw(submitted):
            return
        try:
            await workflow.wait_condition(lambda: submitted.id in self._reports, timeout=WITHDRAWAL)
        except TimeoutError:
            workflow.logger.warning("the loop did not confirm in time that %s is withdrawn", submitted.id)

    def _take_in(self) -> None:
        """What has become of slices in flight."""
        for request_id in [identity for identity, task in self._slices.items() if task.done()]:
            task = self._slices.pop(request_id)
            lane = self._lanes.in_flight(request_id)
            report = self._reports.pop(request_id, None)
            if lane is None:
                continue
            failure = None if task.cancelled() else task.exception()
            if report is not None:
                self._reported += 1
                self._lanes.take(lane, report, _now())
            elif isinstance(failure, ApplicationError):
                details = failure.details[0] if failure.details else {}
                self._lanes.lost(
                    lane, failure.type or "Failed", failure.message, details.get(WHO_MUST_ACT, "us"), _now()
                )
            elif failure is not None:
                raise failure
            elif lane.withdrawn:
                lane.leaves_slice()
        # A report for an earlier run of this id, or one that came twice.
        self._reports = {key: report for key, report in self._reports.items() if self._lanes.in_flight(key)}

    async def _continue(self) -> None:
        """Continue as new. Slices in flight stay there: the next run knows their ids, and takes their reports."""
        self._leaving = True
        await asyncio.gather(*self._slices.values(), return_exceptions=True)
        self._take_in()
        self._obey()
        workflow.continue_as_new(args=[write_input(self._asked), self._lanes.dump()])

    async def _withdraw_all(self) -> None:
        """The backfill was cancelled: what is in flight ends, and its loops have said so."""
        self._lanes.cancelled = True
        for lane in self._lanes.running:
            if not lane.withdrawn:
                self._give_up(lane)
        await asyncio.gather(*self._slices.values(), return_exceptions=True)
        self._take_in()

    # --- what people see and say ------------------------------------------------------------------------------

    @workflow.signal(name=REPORT_SIGNAL)
    def report(self, *payloads: Any) -> None:
        """Take a loop's report on a slice; one that nobody waits for any more is dropped."""
        if answer := read_answer(payloads, ExportReport):
            request_id, report = answer
            self._reports[request_id] = report

    @workflow.signal(name=PAUSE_SIGNAL)
    def pause(self, *_: Any) -> None:
        """Begin nothing more, and withdraw what is in flight."""
        self._orders.append((PAUSE_SIGNAL, True))

    @workflow.signal(name=RESUME_SIGNAL)
    def resume(self, *_: Any) -> None:
        """Go on."""
        self._orders.append((PAUSE_SIGNAL, False))

    @workflow.signal(name=PARALLELISM_SIGNAL)
    def set_parallelism(self, *payloads: Any) -> None:
        """Work on so many tables at once."""
        if len(payloads) == 1 and type(payloads[0]) is int and 1 <= payloads[0] <= MOST_PARALLEL:
            self._orders.append((PARALLELISM_SIGNAL, payloads[0]))
        else:
            workflow.logger.warning("refused: parallelism is a number from 1 to %s, not %s", MOST_PARALLEL, payloads)

    @workflow.signal(name=SKIP_SIGNAL)
    def skip(self, *payloads: Any) -> None:
        """Leave a table out: its name, `<network>.<table>`, or a pattern of either."""
        if len(payloads) == 1 and isinstance(payloads[0], str):
            self._orders.append((SKIP_SIGNAL, payloads[0]))
        else:
            workflow.logger.warning("refused: what to skip is one name, not %s", payloads)

    def _obey(self) -> None:
        for order, value in self._orders:
            if order == PAUSE_SIGNAL:
                self._lanes.paused = value
            elif order == PARALLELISM_SIGNAL:
                self._lanes.max_parallel = value
            elif not self._lanes.skip(value):
                workflow.logger.warning("nothing to skip: no table of this backfill that is not done fits %r", value)
        self._orders.clear()

    @workflow.query(name=PROGRESS_QUERY)
    def progress(self) -> dict[str, Any]:
        """State of every table and network, sums, rate, time left, and failures with causes."""
        seen = progress_of(self._lanes, _now(), dry_run=self._asked.dry_run)
        return {"environment": self._asked.environment, **seen}

    def _show(self) -> None:
        if workflow.in_workflow():  # else the coroutines of a run that left the worker's cache are being closed
            workflow.set_current_details(details_of(self._lanes, _now(), dry_run=self._asked.dry_run))


def _now() -> float:
    return workflow.now().timestamp()

"""What every door does: send one request to its table's loop, remind it, and wait for the report."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, Generic, TypeVar

from temporalio import workflow
from temporalio.converter import value_to_type
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from activities.contracts.cdc import LettersReport
from activities.contracts.export import (
    ENVIRONMENT_ATTRIBUTE,
    NETWORK_ATTRIBUTE,
    PROGRESS_QUERY,
    TABLE_ATTRIBUTE,
    WHO_MUST_ACT,
    AnyRequest,
    ExportActivities,
    SubmittedRequest,
    loop_id,
)
from activities.contracts.inputs import write_input
from activities.contracts.mirrors import OrderReport
from activities.contracts.reports import Report
from workflows.failures import cause_of
from workflows.policies import DELIVER

FIRST_REMINDER = timedelta(seconds=30)
LAST_REMINDER = timedelta(minutes=10)
WITHDRAWAL = timedelta(minutes=2)


AnyReport = TypeVar("AnyReport", bound=Report)
Answer = TypeVar("Answer")


async def deliver_until(submitted: SubmittedRequest, answered: Callable[[], bool]) -> None:
    """Deliver a request to its table's loop, and again from time to time, until `answered()`."""
    await remind_until(lambda: _deliver(submitted), answered)


async def _deliver(submitted: SubmittedRequest) -> None:
    await workflow.execute_activity_method(ExportActivities.deliver_request, submitted, **DELIVER)


async def report_of(deliver: Callable[[], Awaitable[Any]], answered: Callable[[], Answer | None]) -> Answer:
    """Have an activity deliver something to a loop, as `remind_until` does, until there is a report; answer with it."""
    await remind_until(deliver, lambda: answered() is not None)
    report = answered()
    if report is None:
        raise RuntimeError("a loop was waited for until it answered, and there is no report")
    return report


async def remind_until(deliver: Callable[[], Awaitable[Any]], answered: Callable[[], bool]) -> None:
    """Have an activity deliver something to a loop, and again from time to time, until `answered()`.

    A loop that is terminated takes its requests with it. Delivering again costs nothing, since a loop knows the
    requests it has, and brings a terminated loop back.
    """
    reminder = FIRST_REMINDER
    while True:
        try:
            await deliver()
        except ActivityError as failure:
            raise told(failure) from failure
        try:
            await workflow.wait_condition(answered, timeout=reminder)
        except TimeoutError:
            reminder = min(reminder * 2, LAST_REMINDER)
        if answered():
            return


def failed(report: Report | LettersReport | OrderReport) -> ApplicationError:
    """How a run ends whose request could not be carried out: with its cause, and the report beside it."""
    who = {WHO_MUST_ACT: report.who}
    return ApplicationError(report.message, report, who, type=report.cause or "Failed", non_retryable=True)


def told(failure: ActivityError) -> BaseException:
    """What this run itself says of an activity that failed.

    So what stands first in the UI is what is wrong, not that an activity failed.
    """
    if is_cancelled_exception(failure):
        return asyncio.CancelledError()
    cause, message, who = cause_of(failure)
    return ApplicationError(message, {WHO_MUST_ACT: who}, type=cause, non_retryable=True)


async def withdraw(submitted: SubmittedRequest) -> bool:
    """Tell the loop that a request is not wanted any more; False when nobody will confirm it."""
    answer = await workflow.execute_activity_method(ExportActivities.withdraw_request, submitted, **DELIVER)
    # Cancelled before it was delivered, or after its loop had ended: nobody will confirm it. Histories older than
    # this answer hold none, and waited.
    return answer is not False


def read_answer(payloads: Sequence[Any], shape: type[Answer]) -> tuple[str, Answer] | None:
    """Request id and report of a loop's signal; None for what somebody else has sent, which is refused in the log."""
    try:
        return parse_answer(payloads, shape)
    except (TypeError, ValueError, RuntimeError) as wrong:
        workflow.logger.warning("a signal was refused that is no report: %r", wrong)
        return None


def parse_answer(payloads: Sequence[Any], shape: type[Answer]) -> tuple[str, Answer]:
    """The same, or an error.

    A signal handler that declared its two arguments would stop its workflow when it is given another number of them.
    """
    request_id, report = payloads
    return str(request_id), value_to_type(shape, report)


class Door(Generic[AnyReport]):
    """The part of a door that knows nothing of what is asked for.

    A workflow of its own runs `bring`, and hands the loop's signal to `take`.
    """

    def __init__(self) -> None:
        self._report: AnyReport | None = None
        self._submitted: SubmittedRequest | None = None
        self._loop = ""

    async def bring(self, request: AnyRequest, kind: str) -> AnyReport:
        """Send the request to its table's loop, and answer with what became of it.

        A request that failed as a whole fails this run with its cause, the report beside it.
        """
        info = workflow.info()
        self._submitted = SubmittedRequest(
            id=f"{info.workflow_id}/{info.run_id}", requester=info.workflow_id, request=write_input(request), kind=kind
        )
        workflow.upsert_search_attributes(
            [
                ENVIRONMENT_ATTRIBUTE.value_set(request.environment),
                TABLE_ATTRIBUTE.value_set(request.table),
                NETWORK_ATTRIBUTE.value_set(request.network),
            ]
        )
        self._loop = loop_id(request.environment, request.network, request.table)
        try:
            report = await self._wait_for_report(self._submitted)
        except asyncio.CancelledError:
            await self._withdraw(self._submitted)
            raise
        if report.status == "failed":
            raise failed(report)
        return report

    def take(self, request_id: str, report: AnyReport) -> None:
        """Take the loop's report; one for an earlier run of the same id is not ours."""
        if self._submitted is not None and request_id == self._submitted.id:
            self._report = report

    async def _wait_for_report(self, submitted: SubmittedRequest) -> AnyReport:
        workflow.set_current_details(f"Waiting for `{self._loop}`; its progress is there.")
        return await report_of(lambda: _deliver(submitted), lambda: self._report)

    async def _withdraw(self, submitted: SubmittedRequest) -> None:
        if not await withdraw(submitted):
            return
        try:
            await workflow.wait_condition(lambda: self._report is not None, timeout=WITHDRAWAL)
        except TimeoutError:
            workflow.logger.warning("the loop %s did not confirm the withdrawal in time", self._loop)

    @workflow.query(name=PROGRESS_QUERY)
    def progress(self) -> dict[str, Any]:
        """Where to look: the id of the loop that does the work, and whether it has reported."""
        return {"loop": self._loop, "reported": self._report is not None}

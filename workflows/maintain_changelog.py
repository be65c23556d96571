"""The door for keeping a changelog in order: start this, under any id, and wait for the report."""

from dataclasses import replace
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

from activities.contracts.cdc import (
    INGEST,
    KEEP_SIGNAL,
    KEEP_WORKFLOW,
    KEPT_SIGNAL,
    CdcActivities,
    KeepRequest,
    LoopSignal,
    ingest_id,
)
from activities.contracts.export import ENVIRONMENT_ATTRIBUTE, WHO_MUST_ACT
from activities.contracts.inputs import read_only_input, write_input
from activities.contracts.upkeep import UpkeepReport
from workflows.door import FIRST_REMINDER, LAST_REMINDER, read_answer, told
from workflows.policies import DELIVER


@workflow.defn(name=KEEP_WORKFLOW)
class MaintainChangelog:
    """Bring a request to the pipeline's ingest, the changelog's only writer, and answer with what became of it."""

    def __init__(self) -> None:
        self._request = KeepRequest("", "")
        self._report: UpkeepReport | None = None

    @workflow.run
    async def run(self, *payloads: Any) -> UpkeepReport:
        """Run to the report; a request that failed as a whole fails this run with its cause."""
        asked = read_only_input(KeepRequest, payloads)
        info = workflow.info()
        self._request = replace(asked, id=f"{info.workflow_id}/{info.run_id}", answer_to=info.workflow_id)
        workflow.upsert_search_attributes([ENVIRONMENT_ATTRIBUTE.value_set(asked.environment)])
        loop = ingest_id(asked.environment, asked.pipeline)
        workflow.set_current_details(f"Waiting for `{loop}`; it does this between its batches.")
        report = await self._wait_for_report()
        if report.status == "failed":
            raise ApplicationError(
                report.message, report, {WHO_MUST_ACT: report.who}, type=report.cause or "Failed", non_retryable=True
            )
        return report

    async def _wait_for_report(self) -> UpkeepReport:
        """Deliver the request, and again from time to time: a loop that is terminated takes it along."""
        request = self._request
        deliver = LoopSignal(request.environment, request.pipeline, INGEST, KEEP_SIGNAL, write_input(request))
        reminder = FIRST_REMINDER
        while True:
            try:
                await workflow.execute_activity_method(CdcActivities.signal_loop, deliver, **DELIVER)
            except ActivityError as failure:
                raise told(failure) from failure
            try:
                await workflow.wait_condition(lambda: self._report is not None, timeout=reminder)
            except TimeoutError:
                reminder = min(reminder * 2, LAST_REMINDER)
            if self._report is not None:
                return self._report

    @workflow.signal(name=KEPT_SIGNAL)
    def answer(self, *payloads: Any) -> None:
        """Take the loop's answer; one for an earlier run of the same id is not ours."""
        answer = read_answer(payloads, UpkeepReport)
        if answer is not None and answer[0] == self._request.id:
            self._report = answer[1]

"""The door of mirrors: start this, under any id, to have a mirror's loop do something now, and wait for the answer."""

from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from activities.contracts.export import ENVIRONMENT_ATTRIBUTE, PROGRESS_QUERY
from activities.contracts.inputs import bad_request, read_only_input
from activities.contracts.mirrors import (
    ANSWER_SIGNAL,
    MERGE_ONCE_WORKFLOW,
    ORDERS,
    MergeOnceRequest,
    MirrorActivities,
    OrderReport,
    mirror_id,
)
from workflows.door import failed, report_of
from workflows.policies import DELIVER


@workflow.defn(name=MERGE_ONCE_WORKFLOW)
class MergeOnce:
    """Bring an order to the mirror's loop, which is started if it does not run, and answer with what came of it."""

    def __init__(self) -> None:
        self._id = ""
        self._loop = ""
        self._report: OrderReport | None = None

    @workflow.run
    async def run(self, *payloads: Any) -> OrderReport:
        """Run to the report; an order that could not be carried out fails this run with its cause."""
        asked = read_only_input(MergeOnceRequest, payloads)
        if asked.order not in ORDERS:
            raise bad_request(f"field 'order' must be one of {', '.join(ORDERS)}; it is {asked.order!r}")
        info = workflow.info()
        self._id = f"{info.workflow_id}/{info.run_id}"
        self._loop = mirror_id(asked.environment, asked.mirror)
        workflow.upsert_search_attributes([ENVIRONMENT_ATTRIBUTE.value_set(asked.environment)])
        workflow.set_current_details(f"Waiting for `{self._loop}`; its progress is there.")
        report = await self._wait_for_report(asked)
        if report.status != "done":
            raise failed(report)
        return report

    async def _wait_for_report(self, asked: MergeOnceRequest) -> OrderReport:
        """Send the order, and again from time to time: a loop that is terminated takes it along."""
        return await report_of(
            lambda: workflow.execute_activity_method(
                MirrorActivities.signal_mirror, asked, summary=asked.order, **DELIVER
            ),
            lambda: self._report,
        )

    @workflow.signal(name=ANSWER_SIGNAL)
    def answer(self, *payloads: Any) -> None:
        """Take the loop's answer; one for an earlier run of the same id is not ours."""
        try:
            report = read_only_input(OrderReport, payloads)
        except ApplicationError as refused:
            workflow.logger.warning("a signal was refused that is no answer: %s", refused)
            return
        if report.id == self._id:
            self._report = report

    @workflow.query(name=PROGRESS_QUERY)
    def progress(self) -> dict[str, Any]:
        """Where to look: the id of the loop that does the work, and whether it has answered."""
        return {"loop": self._loop, "reported": self._report is not None}

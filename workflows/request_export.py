"""The door of the export job: start this, under any id, and wait for its report."""

from typing import Any

from temporalio import workflow

from activities.contracts.export import REPORT_SIGNAL, REQUEST_WORKFLOW, ExportReport, ExportRequest
from activities.contracts.inputs import read_only_input
from workflows.door import Door, read_answer


@workflow.defn(name=REQUEST_WORKFLOW)
class RequestExport(Door[ExportReport]):
    """Send one request to its table's loop, and answer with what became of it."""

    @workflow.run
    async def run(self, *payloads: Any) -> ExportReport:
        """Run to the report."""
        return await self.bring(read_only_input(ExportRequest, payloads), "export")

    @workflow.signal(name=REPORT_SIGNAL)
    def report(self, *payloads: Any) -> None:
        """Take the loop's report."""
        if answer := read_answer(payloads, ExportReport):
            self.take(*answer)

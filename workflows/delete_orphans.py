"""The door for deleting what no snapshot of a table names: start this, under any id, and wait for its report."""

from typing import Any

from temporalio import workflow

from activities.contracts.export import ORPHANS_WORKFLOW, REPORT_SIGNAL
from activities.contracts.inputs import read_only_input
from activities.contracts.orphans import OrphansReport, OrphansRequest
from workflows.door import Door, read_answer


@workflow.defn(name=ORPHANS_WORKFLOW)
class DeleteOrphans(Door[OrphansReport]):
    """Let a table's loop delete the table's orphans, between two pages of its exports."""

    @workflow.run
    async def run(self, *payloads: Any) -> OrphansReport:
        """Run to the report."""
        return await self.bring(read_only_input(OrphansRequest, payloads), "orphans")

    @workflow.signal(name=REPORT_SIGNAL)
    def report(self, *payloads: Any) -> None:
        """Take the loop's report."""
        if answer := read_answer(payloads, OrphansReport):
            self.take(*answer)

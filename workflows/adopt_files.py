"""The door for adopting what is published already: start this, under any id, and wait for its report."""

from typing import Any

from temporalio import workflow

from activities.contracts.adopt import AdoptReport, AdoptRequest
from activities.contracts.export import ADOPT_WORKFLOW, REPORT_SIGNAL
from activities.contracts.inputs import read_only_input
from workflows.door import Door, read_answer


@workflow.defn(name=ADOPT_WORKFLOW)
class AdoptFiles(Door[AdoptReport]):
    """Let a table's loop register the files that lie under the table's public keys, where they lie."""

    @workflow.run
    async def run(self, *payloads: Any) -> AdoptReport:
        """Run to the report."""
        return await self.bring(read_only_input(AdoptRequest, payloads), "adopt")

    @workflow.signal(name=REPORT_SIGNAL)
    def report(self, *payloads: Any) -> None:
        """Take the loop's report."""
        if answer := read_answer(payloads, AdoptReport):
            self.take(*answer)

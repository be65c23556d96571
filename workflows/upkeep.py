"""The door for keeping a table in order: start this, under any id, and wait for its report."""

from typing import Any

from temporalio import workflow

from activities.contracts.export import REPORT_SIGNAL, UPKEEP_WORKFLOW
from activities.contracts.inputs import read_only_input
from activities.contracts.upkeep import UpkeepReport, UpkeepRequest
from workflows.door import Door, read_answer


@workflow.defn(name=UPKEEP_WORKFLOW)
class Upkeep(Door[UpkeepReport]):
    """Let a table's loop expire old snapshots and refresh public keys, between two pages of its exports."""

    @workflow.run
    async def run(self, *payloads: Any) -> UpkeepReport:
        """Run to the report."""
        return await self.bring(read_only_input(UpkeepRequest, payloads), "upkeep")

    @workflow.signal(name=REPORT_SIGNAL)
    def report(self, *payloads: Any) -> None:
        """Take the loop's report."""
        if answer := read_answer(payloads, UpkeepReport):
            self.take(*answer)

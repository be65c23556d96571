"""The door for keeping a changelog in order: start this, under any id, and wait for the report."""

from typing import Any

from temporalio import workflow

from activities.contracts.cdc import KEEP_SIGNAL, KEEP_WORKFLOW, KEPT_SIGNAL, KeepRequest
from activities.contracts.inputs import read_only_input
from activities.contracts.upkeep import UpkeepReport
from workflows.door import failed
from workflows.ingest_door import IngestDoor


@workflow.defn(name=KEEP_WORKFLOW)
class MaintainChangelog(IngestDoor[UpkeepReport]):
    """Bring a request to the pipeline's ingest, the changelog's only writer, and answer with what became of it."""

    signal = KEEP_SIGNAL
    comes = "it does this between its batches"
    shape = UpkeepReport

    @workflow.run
    async def run(self, *payloads: Any) -> UpkeepReport:
        """Run to the report; a request that failed as a whole fails this run with its cause."""
        report = await self.bring(read_only_input(KeepRequest, payloads))
        if report.status == "failed":
            raise failed(report)
        return report

    @workflow.signal(name=KEPT_SIGNAL)
    def answer(self, *payloads: Any) -> None:
        """Take the loop's answer."""
        self.take(payloads)

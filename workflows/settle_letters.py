"""The door for dead letters and stopped tables: start this, under any id, and wait for the report."""

from typing import Any

from temporalio import workflow

from activities.contracts.cdc import (
    LETTERS_ANSWER_SIGNAL,
    LETTERS_SIGNAL,
    LETTERS_WORKFLOW,
    LettersReport,
    LettersRequest,
    check_letters,
)
from activities.contracts.inputs import read_only_input
from workflows.door import failed
from workflows.ingest_door import IngestDoor


@workflow.defn(name=LETTERS_WORKFLOW)
class SettleLetters(IngestDoor[LettersReport]):
    """Bring a decision to the pipeline's ingest, which holds the lock, and answer with what became of it."""

    signal = LETTERS_SIGNAL
    comes = "it comes to this before its next batch"
    shape = LettersReport

    @workflow.run
    async def run(self, *payloads: Any) -> LettersReport:
        """Run to the report; a decision that could not be carried out fails this run with its cause."""
        asked = read_only_input(LettersRequest, payloads)
        check_letters(asked)
        report = await self.bring(asked)
        if report.status != "done":
            raise failed(report)
        return report

    @workflow.signal(name=LETTERS_ANSWER_SIGNAL)
    def answer(self, *payloads: Any) -> None:
        """Take the loop's answer."""
        self.take(payloads)

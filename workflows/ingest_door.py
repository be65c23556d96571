"""What the doors to a pipeline's ingest do: bring it one request, remind it, and wait for the report."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Generic, TypeVar

from temporalio import workflow

from activities.contracts.cdc import (
    INGEST,
    CdcActivities,
    KeepRequest,
    LettersReport,
    LettersRequest,
    LoopSignal,
    ingest_id,
)
from activities.contracts.export import ENVIRONMENT_ATTRIBUTE
from activities.contracts.inputs import write_input
from activities.contracts.upkeep import UpkeepReport
from workflows.door import read_answer, report_of
from workflows.policies import DELIVER

AnyReport = TypeVar("AnyReport", LettersReport, UpkeepReport)


class IngestDoor(Generic[AnyReport]):
    """The part of a door that knows nothing of what is asked for.

    A workflow of its own runs `bring`, and hands the loop's signal to `take`.
    """

    signal: ClassVar[str]
    """By which the loop is asked."""
    comes: ClassVar[str]
    """When the loop comes to it, for people."""
    shape: type[AnyReport]

    def __init__(self) -> None:
        self._id = ""
        self._report: AnyReport | None = None

    async def bring(self, asked: KeepRequest | LettersRequest) -> AnyReport:
        """Send the request to the pipeline's ingest, and answer with what became of it."""
        info = workflow.info()
        self._id = f"{info.workflow_id}/{info.run_id}"
        workflow.upsert_search_attributes([ENVIRONMENT_ATTRIBUTE.value_set(asked.environment)])
        loop = ingest_id(asked.environment, asked.pipeline)
        workflow.set_current_details(f"Waiting for `{loop}`; {self.comes}.")
        request = write_input(replace(asked, id=self._id, answer_to=info.workflow_id))
        signal = LoopSignal(asked.environment, asked.pipeline, INGEST, self.signal, request)
        return await report_of(
            lambda: workflow.execute_activity_method(CdcActivities.signal_loop, signal, **DELIVER),
            lambda: self._report,
        )

    def take(self, payloads: Sequence[Any]) -> None:
        """Take the loop's answer; one for an earlier run of the same id is not ours."""
        answer = read_answer(payloads, self.shape)
        if answer is not None and answer[0] == self._id:
            self._report = answer[1]

"""The durable loop that brings a source's log into its pipeline's buffer."""

from dataclasses import asdict
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.contracts.cdc import CAPTURE_WORKFLOW, CaptureInput, CaptureReport, CdcActivities, capture_id
from workflows.cdc_loop import PipelineLoop
from workflows.policies import CAPTURE_TURN, WATCH_SLOT
from workflows.steered import Trouble

TURN_SECONDS = 60.0
"""Whoever looks at the loop sees what its last turn did."""
LOST = "SlotLost"
"""The fault after which nothing can be captured until the tables are copied anew."""


@workflow.defn(name=CAPTURE_WORKFLOW)
class CaptureChanges(PipelineLoop):
    """Capture for a minute at a time, for ever; when the slot is lost, say so and wait for people."""

    name = CAPTURE_WORKFLOW
    looks_aside = True

    def __init__(self) -> None:
        super().__init__()
        self._events = 0
        self._transactions = 0
        self._last: CaptureReport | None = None

    @workflow.run
    async def run(self, *payloads: Any) -> None:
        """Run until the loop is told to stop, or continue as new when the history has grown."""
        await self._serve(payloads, capture_id)

    async def _turn(self) -> None:
        asked = self._asked
        report: CaptureReport | None = await self._interruptible(
            workflow.execute_activity_method(
                CdcActivities.capture_changes,
                CaptureInput(asked.environment, asked.pipeline, TURN_SECONDS),
                summary=f"after {self._last.captured_lsn}" if self._last else "from the slot's position",
                **CAPTURE_TURN,
            )
        )
        if report is None:
            return
        self._last = report
        self._events += report.events
        self._transactions += report.transactions
        if report.ended:
            self._trouble = Trouble(LOST, report.ended, "operator", for_good=True)

    async def _look_aside(self) -> None:
        """Have the limits of the source's log watched, though nobody reads it."""
        asked = self._asked
        looking, _ = await self._until(
            lambda: self._heard,
            workflow.execute_activity_method(
                CdcActivities.watch_slot, CaptureInput(asked.environment, asked.pipeline, 0), **WATCH_SLOT
            ),
        )
        if looking.cancelled():
            return
        failure = looking.exception()
        if failure is None:
            if ended := looking.result().ended:
                self._trouble = Trouble(LOST, ended, "operator", for_good=True)
        elif not isinstance(failure, ActivityError):
            raise failure
        elif not is_cancelled_exception(failure):
            # The next look may go well; what is away is told by the capture itself.
            workflow.logger.warning("a slot could not be looked at: %s", failure.cause)

    def _trouble_of(self, cause: str, message: str, who: str) -> Trouble:
        return Trouble(cause, message, who, for_good=cause == LOST)

    def _load(self, carried: dict[str, Any]) -> None:
        self._events, self._transactions = carried["events"], carried["transactions"]
        self._last = None if carried["last"] is None else CaptureReport(**carried["last"])

    def _dump(self) -> dict[str, Any]:
        return {
            "events": self._events,
            "transactions": self._transactions,
            "last": None if self._last is None else asdict(self._last),
        }

    def _lines(self) -> list[str]:
        lines = [f"- {self._events:,} events of {self._transactions:,} transactions, as of the last turn's end"]
        if self._last is not None:
            lines.append(
                f"- everything up to {self._last.captured_lsn} is in the buffer; the slot held back "
                f"{self._last.retained_wal_bytes:,} bytes of log"
            )
            lines += [f"- it waited for {self._last.waiting_for}"] if self._last.waiting_for else []
        return lines

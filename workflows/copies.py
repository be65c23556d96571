"""First copies beside the batches: begun by the ingest loop, a few at once, and told of by signal."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError, CancelledError, WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

from activities.contracts.cdc import COPY_WORKFLOW, CopyInput, CopyReport, PipelineRequest, copy_id
from activities.contracts.inputs import write_input
from workflows.steered import TRY_AGAIN

AT_ONCE = 2
"""Copies of one pipeline that are under way at once."""
CAUSE_LENGTH = 500
"""Of a thousand tables that wait for somebody, the next run can still be told."""


class Copies:
    """Which tables wait for their first copy, and which are being copied.

    That a copy has ended is told by its signal, and by its table waiting no longer.
    """

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._seen: dict[str, datetime] = {}
        """Table under way → when that was last known."""
        self.failed: dict[str, str] = {}
        """Table → why its last copy failed, while it waits to be tried again."""
        self._failed_at: dict[str, datetime] = {}

    @property
    def under_way(self) -> list[str]:
        """Tables that are being copied."""
        return list(self._seen)

    @property
    def known(self) -> list[str]:
        """Tables that wait for a copy or are being copied."""
        return list(dict.fromkeys([*self._waiting, *self._seen]))

    def take(self, waiting: Sequence[str]) -> None:
        """What the buffer says: these tables wait for their copy, and no others."""
        self._waiting = list(waiting)
        for known in (self._seen, self.failed, self._failed_at):
            for table in [table for table in known if table not in waiting]:
                del known[table]

    def ended(self, report: CopyReport) -> None:
        """A copy has told what became of it."""
        self._seen.pop(report.table, None)
        if report.failed:
            self.failed[report.table] = report.failed[:CAUSE_LENGTH]
            self._failed_at[report.table] = workflow.now()
        else:
            self._waiting = [table for table in self._waiting if table != report.table]
            self.try_again(report.table)

    def try_again(self, table: str = "") -> None:
        """Forget that copies have failed: of one table, or of all."""
        for known in (self.failed, self._failed_at):
            for one in [table] if table else list(known):
                known.pop(one, None)

    async def begin(self, asked: PipelineRequest) -> None:
        """Begin copies as far as there is room, and look after those that should be under way."""
        now = workflow.now()
        for table in self._waiting:
            seen, failed = self._seen.get(table), self._failed_at.get(table)
            if seen is None and len(self._seen) >= AT_ONCE:
                continue
            if all(known is None or now - known >= TRY_AGAIN for known in (seen, failed)):
                self._seen[table] = now
                await _start(asked, table)

    async def cancel(self, asked: PipelineRequest) -> None:
        """Have every copy end that is under way."""
        for table in self._seen:
            copy = workflow.get_external_workflow_handle(copy_id(asked.environment, asked.pipeline, table))
            try:
                await copy.cancel()
            except (ApplicationError, CancelledError) as gone:
                workflow.logger.info("the copy of %s had ended: %s", table, gone)

    def load(self, dumped: dict[str, Any]) -> None:
        """Take over what `dump` gave; whether copies go on that were under way is looked at with the first turn."""
        self._waiting = list(dumped["waiting"])
        self._seen = {table: datetime.fromtimestamp(0, workflow.now().tzinfo) for table in dumped["under_way"]}
        self.failed = dict(dumped["failed"])
        self._failed_at = dict.fromkeys(self.failed, workflow.now())

    def dump(self) -> dict[str, Any]:
        """Tables that wait or are under way, and those whose copy has failed, as plain JSON."""
        return {"waiting": self._waiting, "under_way": self.under_way, "failed": dict(self.failed)}


async def _start(asked: PipelineRequest, table: str) -> None:
    try:
        copy = await workflow.start_child_workflow(
            COPY_WORKFLOW,
            write_input(CopyInput(asked.environment, asked.pipeline, table)),
            id=copy_id(asked.environment, asked.pipeline, table),
            parent_close_policy=ParentClosePolicy.ABANDON,
            static_summary=f"first copy of {table}",
        )
    except WorkflowAlreadyStartedError:
        workflow.logger.info("the copy of %s goes on", table)
    else:
        copy.add_done_callback(_told_by_signal)


def _told_by_signal(copy: asyncio.Task[Any]) -> None:
    """What became of a copy comes by signal, to whichever run of the loop there is then."""
    if not copy.cancelled():
        copy.exception()

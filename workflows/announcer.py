"""Announcing beside the loop: NATS being down delays events and holds nothing else up."""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.contracts.export import ExportActivities, TableInput
from workflows.policies import ANNOUNCE


class Announcer:
    """Runs `announce_snapshots` whenever there may be something to announce, one at a time.

    What is to be announced is not remembered here: the activity derives it from the table and the stream.
    """

    def __init__(self, table: TableInput) -> None:
        self._table = table
        self._due = False
        self._task: asyncio.Task[None] | None = None
        self.announced = 0

    @property
    def idle(self) -> bool:
        """Whether everything that was due has been announced."""
        return not self._due and (self._task is None or self._task.done())

    def look(self) -> None:
        """Something may have been committed."""
        self._due = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._due:
            self._due = False
            try:
                report = await workflow.execute_activity_method(
                    ExportActivities.announce_snapshots, self._table, summary="announce", **ANNOUNCE
                )
            except ActivityError as failure:
                if is_cancelled_exception(failure):
                    raise asyncio.CancelledError from failure
                # Only a fault that no retry can mend ends here, such as a table that is gone.
                workflow.logger.error("announcing %s failed: %s", self._table, failure.cause)
                self._due = False
                return
            self.announced += report.announced

    async def stop(self) -> None:
        """Drop what is under way; the next run derives it again."""
        self._due = False
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

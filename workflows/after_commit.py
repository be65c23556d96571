"""What follows a commit goes on beside the loop: NATS or the public store being down delays it and holds nothing up."""

import asyncio
from collections.abc import Awaitable, Callable

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.contracts.export import ExportActivities, TableInput
from workflows.policies import ANNOUNCE, PUBLISH


class AfterCommit:
    """Announces and publishes whatever a commit has left to be announced and published, each on its own.

    What that is is not remembered here: the activities derive it from the table, and from what is there already.
    """

    def __init__(self, table: TableInput) -> None:
        self._table = table
        self._announcing = Runner(f"announcing {table}", self._announce)
        self._publishing = Runner(f"publishing {table}", self._publish)
        self.announced = 0
        """Snapshots that were announced."""

    @property
    def idle(self) -> bool:
        """Whether everything that was due has been done."""
        return not self.announcing and not self.publishing

    @property
    def announcing(self) -> bool:
        """Whether snapshots wait to be announced."""
        return not self._announcing.idle

    @property
    def publishing(self) -> bool:
        """Whether the head waits to be published."""
        return not self._publishing.idle

    def look(self) -> None:
        """Something may have been committed."""
        self._announcing.look()
        self._publishing.look()

    async def stop(self) -> None:
        """Drop what is under way; the next run derives it again."""
        await self._announcing.stop()
        await self._publishing.stop()

    async def _announce(self) -> None:
        report = await workflow.execute_activity_method(
            ExportActivities.announce_snapshots, self._table, summary="announce", **ANNOUNCE
        )
        self.announced += report.announced

    async def _publish(self) -> None:
        await workflow.execute_activity_method(
            ExportActivities.publish_metadata, self._table, summary="publish", **PUBLISH
        )


class Runner:
    """Does one thing whenever there may be something to do, one at a time."""

    def __init__(self, doing: str, do: Callable[[], Awaitable[None]]) -> None:
        self._doing = doing
        self._do = do
        self._due = False
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is due or under way."""
        return not self._due and (self._task is None or self._task.done())

    def look(self) -> None:
        """There may be something to do."""
        self._due = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._due:
            self._due = False
            try:
                await self._do()
            except ActivityError as failure:
                if is_cancelled_exception(failure):
                    raise asyncio.CancelledError from failure
                # Only a fault that no retry can mend ends here, such as a table that left config.
                workflow.logger.error("%s failed: %s", self._doing, failure.cause)
                self._due = False
                return

    async def stop(self) -> None:
        """Drop what is under way."""
        self._due = False
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

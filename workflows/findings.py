"""Publishing findings beside the loop: NATS being down delays them and holds nothing else up."""

import asyncio
from collections.abc import Iterable

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from activities.contracts.export import ExportActivities
from activities.contracts.findings import Look
from workflows.policies import ANNOUNCE

KEPT_LOOKS = 10
"""Looks that wait for NATS at most: what an older one found, the next look at the same place finds again."""


class Findings:
    """Publishes looks one at a time, in the order in which they were made."""

    def __init__(self, looks: Iterable[Look] = ()) -> None:
        self._waiting = list(looks)
        self._task: asyncio.Task[None] | None = None
        if self._waiting:
            self._start()

    @property
    def idle(self) -> bool:
        """Whether every look has been published."""
        return not self._waiting and (self._task is None or self._task.done())

    @property
    def waiting(self) -> list[Look]:
        """Looks that have not been published yet."""
        return list(self._waiting)

    def take(self, look: Look) -> None:
        """Publish a look, after those that are waiting."""
        self._waiting.append(look)
        if len(self._waiting) > KEPT_LOOKS:
            del self._waiting[1]  # the first one is under way
            workflow.logger.warning("a look at %s.%s was dropped: the bus is away for long", look.network, look.table)
        if self._task is None or self._task.done():
            self._start()

    def _start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._waiting:
            look = self._waiting[0]
            try:
                await workflow.execute_activity_method(
                    ExportActivities.publish_findings, look, summary=f"{look.kind}: {len(look.found)}", **ANNOUNCE
                )
            except ActivityError as failure:
                if is_cancelled_exception(failure):
                    raise asyncio.CancelledError from failure
                # Only a fault that no retry can mend ends here; the next look says it again.
                workflow.logger.error("publishing what was found in %s failed: %s", look.table, failure.cause)
            self._waiting.remove(look)

    async def stop(self) -> None:
        """Drop what is under way; it stays among what is waiting."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

"""Workers of tests that serve everything from one queue, so that a loop sends no work elsewhere."""

from collections.abc import Callable
from typing import Any

from temporalio import activity

from activities.contracts.queues import QueueActivities, Queues, QueuesInput


class OneQueue(QueueActivities):
    """Whoever asks is told that all work waits in its own queue."""

    @activity.defn(name="find_queues")
    async def find_queues(self, _: QueuesInput) -> Queues:
        """The queue of the loop that asks."""
        own = activity.info().task_queue
        return Queues(own, own, own, own)


def activities_of(implementation: object, stubs: type) -> list[Callable[..., Any]]:
    """The methods of `implementation` for every activity that `stubs` declares."""
    return [getattr(implementation, name) for name, stub in vars(stubs).items() if callable(stub) and name[0] != "_"]

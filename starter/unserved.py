"""Saying to whoever waits that nobody serves a queue in which the work will wait."""

from collections.abc import Iterable

from temporalio.client import Client

from activities.unserved import has_worker
from starter.common import errors
from worker.config import Environment
from worker.kinds import queue_names


async def say_unserved(client: Client, what: str, loops: str, activities: Iterable[tuple[str, str]] = ()) -> None:
    """Name the queues that nobody serves: that of the loops, or those of work which they send away.

    `what` will wait there; `activities` are queues and what `--serve` calls them.
    """
    if not await has_worker(client, loops):
        errors.print(f"no worker listens on task queue {loops}: {what} waits for one (icefleet worker)")
        return
    for queue, kind in activities:
        if not await has_worker(client, queue, activities=True):
            hint = f"icefleet worker --serve {kind}"
            errors.print(f"no worker listens on task queue {queue}: {what} waits for one ({hint})")


def upkeep_queue(environment: Environment) -> list[tuple[str, str]]:
    """Where pages of upkeep wait."""
    return [(queue_names(environment).upkeep, "upkeep")]


def verify_queue(environment: Environment) -> list[tuple[str, str]]:
    """Where verifications of tables wait."""
    return [(queue_names(environment).verify, "upkeep")]


def mirrors_queue(environment: Environment) -> list[tuple[str, str]]:
    """Where what reads whole mirrors waits."""
    return [(queue_names(environment).mirrors, "upkeep")]


def export_queues(environment: Environment, sources: Iterable[str]) -> list[tuple[str, str]]:
    """Where exports of these clusters wait, each `<environment>.<cluster>`."""
    names = queue_names(environment)
    return [(names.export(source), f"export.{names.lane(source)}") for source in sources]

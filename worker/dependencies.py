"""What a worker needs to do its work, and whether it is there."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from activities.contracts.queues import WORK
from activities.core.faults import Fault

if TYPE_CHECKING:
    from activities.cdc_context import PipelineConfig
    from activities.clients.bus import Bus
    from activities.clients.clickhouse import ClickHouse
    from activities.clients.objectstore import ObjectStore
    from activities.lake.catalog import Lake
    from worker.kinds import Served

ANSWER_SECONDS = 15
"""How long a part may take to answer when a worker starts."""


@dataclass(frozen=True)
class Dependency:
    """A part that work needs."""

    name: str
    where: str
    """What messages call it, with its address: one that says nothing at all does not say so itself."""
    check: Callable[[], Awaitable[object]]
    """Raises a Fault that says where it was looked for, and what to do."""
    stops: frozenset[str] = field(default_factory=frozenset)
    """What cannot be done without it: kinds of work, or the queue of one cluster. Of none, it only delays events."""


@dataclass(frozen=True)
class Missing:
    """A part that is not there, and why."""

    dependency: Dependency
    why: str


async def missing(dependencies: Sequence[Dependency]) -> list[Missing]:
    """Those that are not there; all are asked at the same time."""
    found = await asyncio.gather(*(_why(one) for one in dependencies))
    return [Missing(one, why) for one, why in zip(dependencies, found, strict=True) if why]


def stops_everything(found: Iterable[Missing], serving: Sequence["Served"]) -> bool:
    """Whether nothing of what a process serves can be done."""
    stopped = {what for one in found for what in one.dependency.stops}
    return all(one.work in stopped or one.queue in stopped for one in serving)


async def _why(dependency: Dependency) -> str:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await dependency.check()
    except Fault as fault:
        return str(fault)
    except TimeoutError:
        return (
            f"{dependency.where} has not answered within {ANSWER_SECONDS} s; look at that server and at the network "
            "before it, or mend its address in environments.yaml"
        )
    return ""


def lake_of(store: "ObjectStore", lake: "Lake", bus: "Bus") -> list[Dependency]:
    """Where everything goes; events may be late, so that nothing waits for NATS."""
    everything = frozenset(WORK)
    return [
        Dependency("object store", store.where, store.check, everything),
        Dependency("catalog", lake.where, lambda: asyncio.to_thread(lake.check), everything),
        Dependency("NATS", bus.where, bus.check),
    ]


def sources_of(clusters: Mapping[str, "ClickHouse"]) -> list[Dependency]:
    """The clusters behind queues of exports."""
    return [
        Dependency(f"source of {queue}", one.where, one.check, frozenset({queue})) for queue, one in clusters.items()
    ]


def databases_of(pipelines: Iterable["PipelineConfig"]) -> list[Dependency]:
    """Sources and buffers of pipelines; one pipeline's keep no other from going on."""
    return [
        Dependency(database.name, database.where, database.check)
        for pipeline in pipelines
        for database in (pipeline.buffer, *([pipeline.source.database] if pipeline.source is not None else []))
    ]

"""Typical lives of requests for exported tables, and of their loops."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from temporalio.client import WorkflowFailureError, WorkflowHandle

from activities.contracts.due import DUE_WORKFLOW
from activities.contracts.maintain import MAINTAIN_WORKFLOW
from activities.contracts.verify import VERIFY_WORKFLOW
from activities.core.faults import (
    CatalogUnavailable,
    StoreUnavailable,
)
from support.backfills import progress_when, start_backfill
from support.fleet import Fleet
from support.gate import failing_at, gate_at
from support.leftovers import NOON, next_second, start_deletion
from support.published import day_table, parquet, publish, start_adoption
from support.upkeep import start_upkeep

Case = Callable[[Fleet], Awaitable[WorkflowHandle[Any, Any]]]
"""A typical life: answers the handle of its request. Every run of the request and of its loop is recorded."""


async def ended(request: WorkflowHandle[Any, Any]) -> None:
    """Wait for a request that fails or is cancelled."""
    try:
        await request.result()
    except WorkflowFailureError:
        return
    raise AssertionError(f"{request.id} was to fail")


async def plain(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """Three days cross, and a dry run looks again."""
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker():
        request = await fleet.start()
        await request.result()
        await fleet.request(dry_run=True)
        await fleet.loop_ended()
    return request


async def stale_and_forced(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """Late rows make a day stale while another is forced."""
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker():
        await fleet.request()
        late = "toDateTime('2024-03-20 12:00:00', 'UTC')"
        await fleet.insert("events", late, 5, updated="2024-04-02 00:00:00", offset=1000)
        async with gate_at("before-commit") as gate:
            request = await fleet.start(from_="2024-03-18", to="2024-03-19", force=True)
            await gate.reached()
            due = await fleet.start()
            gate.open()
            await asyncio.gather(request.result(), due.result())
        await fleet.loop_ended()
    return request


async def failures(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """A partition fails for good, and then the commit of the other one."""
    fleet.set_export(partition_attempts=1, commit_attempts=1, parallel_partitions=1)
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker():
        async with (
            failing_at("before-upload", lambda: StoreUnavailable("no answer"), times=1),
            failing_at("before-commit", lambda: CatalogUnavailable("no answer"), times=1),
        ):
            request = await fleet.start()
            await request.result()
        await fleet.loop_ended()
    return request


async def refused(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """The plan fails, and with it the request."""
    fleet.add_table("daily", "absent", "at")
    async with fleet.worker():
        request = await fleet.start("absent")
        await ended(request)
        await fleet.loop_ended("absent")
    return request


async def at_the_door(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """The request cannot be: no loop hears of it."""
    async with fleet.worker():
        request = await fleet.start("nothing")
        await ended(request)
    return request


async def continued(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """Every page is a run of its own, and a second request joins on the way."""
    fleet.set_export(partitions_per_commit=1, pages_per_run=1, partitions_per_plan=2)
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker():
        async with gate_at("before-commit") as gate:
            request = await fleet.start()
            await gate.reached()
            other = await fleet.start(from_="2024-03-18")
            gate.open()
            await asyncio.gather(request.result(), other.result())
        await fleet.loop_ended()
    return request


async def withdrawn(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """The request is cancelled in the middle of an upload, and another one goes on."""
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker():
        async with gate_at("before-upload") as gate:
            request = await fleet.start()
            await gate.reached()
            other = await fleet.start(from_="2024-03-20")
            await request.cancel()
            await ended(request)
            gate.open()
            await other.result()
        await fleet.loop_ended()
    return request


async def loop_cancelled(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """Somebody cancels the loop itself."""
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker():
        async with gate_at("before-upload") as gate:
            request = await fleet.start()
            await gate.reached()
            await fleet.loop().cancel()
            await fleet.loop_ended()
            gate.open()
        await request.result()
    return request


async def orphans(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """A commit fails for good, and what it was to name is deleted."""
    fleet.set_export(commit_attempts=1, orphan_age_seconds=1)
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker() as context:
        async with failing_at("before-commit", lambda: CatalogUnavailable("no answer"), times=1):
            await fleet.request(from_="2024-03-20")
        for _ in range(3):
            await next_second(context)
        request = await start_deletion(fleet)
        await request.result()
        await fleet.loop_ended()
    return request


async def adopting(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """Three published files, of which one is refused, a page each; an export is asked for meanwhile."""
    fleet.set_export(partitions_per_plan=1)
    await fleet.make_days(days=3, rows=10, profile="as_published")
    held = {18: 19, 19: 19, 20: 20}
    files = {f"2024/3/{day}.parquet": parquet(day_table(fleet.network, rows)) for day, rows in held.items()}
    publish(fleet, files)
    async with fleet.worker():
        async with gate_at("before-commit") as gate:
            request = await start_adoption(fleet)
            await gate.reached()
            other = await fleet.start()
            gate.open()
            await asyncio.gather(request.result(), other.result())
        await fleet.loop_ended()
    return request


async def verified(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """A table is held against its source, values included, and a partition that it lacks is found."""
    fleet.set_export(partitions_per_plan=2)
    await fleet.make_days(days=4, rows=10)
    async with fleet.worker():
        await fleet.request(from_="2024-03-18")
        await fleet.loop_ended()
        payload = {"environment": fleet.name, "network": fleet.network, "table": "events", "deep": True}
        request = await fleet.temporal.start_workflow(
            VERIFY_WORKFLOW, payload, id=f"verify-{fleet.name}", task_queue=fleet.queue
        )
        await request.result()
    return request


async def backfilled(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """A backfill of two tables is counted, begun, paused, told to skip one, and continues as new on its way."""
    fleet.set_export(pages_per_run=2)
    for table in ("events", "others"):
        await fleet.make_days(table, days=3, rows=10)
    asked: dict[str, Any] = {"from_": "2024-03-18", "to": "2024-03-20"}
    async with fleet.worker():
        async with gate_at("before-upload") as gate:
            request = await start_backfill(fleet, "*", partitions_per_request=1, max_parallel=1, **asked)
            await gate.reached()
            await request.signal("pause")
            await progress_when(request, tables={"paused": 2}, in_flight={})
            await request.signal("skip", "others")
            await request.signal("resume")
            gate.open()
            await request.result()
        await fleet.loop_ended()
    return request


async def upkeep(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """A day was replaced: its old snapshot expires, and its public object is refreshed."""
    fleet.set_export(keep_snapshots=1, snapshot_age_seconds=0)
    fleet.set_storage(public_url="")  # a public reader would have a day
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker():
        await fleet.request()
        await fleet.insert("events", NOON, 5, updated="2024-05-01 00:00:00", offset=1000)
        await fleet.request()
        await fleet.loop_ended()
        request = await start_upkeep(fleet)
        await request.result()
        await fleet.loop_ended()
    return request


async def maintained(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """All tables of an environment are kept in order, each by its loop."""
    fleet.set_export(keep_snapshots=1, snapshot_age_seconds=0)
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker():
        await fleet.request()
        await fleet.loop_ended()
        request = await fleet.temporal.start_workflow(
            MAINTAIN_WORKFLOW, {"environment": fleet.name}, id=f"maintain-{uuid.uuid4()}", task_queue=fleet.queue
        )
        await request.result()
        await fleet.loop_ended()
    return request


async def shrunk(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """The source loses a day altogether and another one in part, and the table follows it."""
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker():
        await fleet.request()
        await fleet.run_sql(
            f"ALTER TABLE {fleet.database}.events DELETE WHERE number >= 14 SETTINGS mutations_sync = 1"
        )
        request = await fleet.start(from_="2024-03-18", force=True, allow_shrink=True)
        await request.result()
        await fleet.loop_ended()
    return request


async def estimated(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """A dry run of a backfill, of which one table cannot be counted."""
    await fleet.make_days(days=2, rows=10)
    fleet.add_table("daily", "absent", "at")
    async with fleet.worker():
        request = await start_backfill(fleet, "*", dry_run=True)
        await request.result()
    return request


async def due(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """What a Schedule starts: a partition that fails by itself every time is suspended."""
    await fleet.make_days(days=2, rows=10, types={"number": "long"})
    await fleet.insert("events", "toDateTime('2024-03-20 05:00:00', 'UTC')", 1, offset=2**63)
    async with fleet.worker():
        request = await start_due(fleet)
        await ended(request)
        for _ in range(2):
            await ended(await start_due(fleet))
        await (await start_due(fleet)).result()
        await fleet.loop_ended()
    return request


async def backfill_cancelled(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """A backfill is cancelled while its table's loop works for it."""
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker():
        async with gate_at("before-upload") as gate:
            request = await start_backfill(fleet, "events")
            await gate.reached()
            await request.cancel()
            await ended(request)
            gate.open()
        await fleet.loop_ended()
    return request


async def start_due(fleet: Fleet) -> WorkflowHandle[Any, Any]:
    """Start what a Schedule starts."""
    return await fleet.temporal.start_workflow(
        DUE_WORKFLOW,
        {"environment": fleet.name, "table": "events"},
        id=f"scheduled-{uuid.uuid4()}",
        task_queue=fleet.queue,
    )


TABLES: tuple[Case, ...] = (
    plain,
    stale_and_forced,
    failures,
    refused,
    at_the_door,
    continued,
    withdrawn,
    loop_cancelled,
    orphans,
    adopting,
    verified,
    due,
    backfilled,
    estimated,
    backfill_cancelled,
    upkeep,
    maintained,
    shrunk,
)

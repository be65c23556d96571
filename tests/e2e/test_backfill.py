"""One backfill over many tables and networks, seen from outside."""

import asyncio
import uuid
from typing import Any

from temporalio.client import WorkflowHandle

from activities.contracts.backfill import BackfillReport
from support.fleet import Fleet


async def start_backfill(fleet: Fleet, tables: list[str], **fields: Any) -> WorkflowHandle[Any, BackfillReport]:
    """Start a Backfill by its name, with what a person would type."""
    payload = {"environment": fleet.name, "tables": tables}
    payload |= {name.rstrip("_"): value for name, value in fields.items()}
    return await fleet.temporal.start_workflow(
        "Backfill", payload, id=f"backfill-{uuid.uuid4()}", task_queue=fleet.queue, result_type=BackfillReport
    )


async def backfill(fleet: Fleet, *tables: str, seconds: float = 60, **fields: Any) -> BackfillReport:
    """Run a backfill to its report."""
    return await asyncio.wait_for((await start_backfill(fleet, list(tables), **fields)).result(), seconds)


async def test_a_pattern_fills_every_table_and_network_exactly_once(fleet):
    await fleet.make_days("events_a", days=3, rows=10)
    await fleet.make_days("events_b", days=2, rows=10)
    async with fleet.worker():
        dry = await backfill(fleet, "events_*", from_="2024-03-01", to="2024-03-20", dry_run=True)
        first = await backfill(fleet, "events_*", from_="2024-03-01", to="2024-03-20", partitions_per_request=2)
        second = await backfill(fleet, "events_*", from_="2024-03-01", to="2024-03-20")
    print(dry, first, second)
    assert (first.status, first.exported, first.rows) == ("complete", 5, 50)
    assert second.status == "nothing_to_do"

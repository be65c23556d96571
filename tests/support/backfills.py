"""Backfills as a person starts them: by the name of the workflow, with plain JSON."""

import asyncio
import uuid
from typing import Any

from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import WorkflowHandle

from activities.contracts.backfill import BackfillReport
from activities.contracts.export import PROGRESS_QUERY
from support.fleet import DAY, Fleet, eventually

Handle = WorkflowHandle[Any, BackfillReport]


async def start_backfill(fleet: Fleet, *tables: str, **fields: Any) -> Handle:
    """Start a Backfill; `from_` stands for `from`."""
    payload = {"environment": fleet.name, "tables": list(tables)}
    payload |= {name.rstrip("_"): value for name, value in fields.items()}
    return await fleet.temporal.start_workflow(
        "Backfill", payload, id=f"backfill-{uuid.uuid4()}", task_queue=fleet.queue, result_type=BackfillReport
    )


async def backfill(fleet: Fleet, *tables: str, seconds: float = 180, **fields: Any) -> BackfillReport:
    """Run a backfill to its report."""
    return await asyncio.wait_for((await start_backfill(fleet, *tables, **fields)).result(), seconds)


async def progress_when(handle: Handle, **wanted: Any) -> dict[str, Any]:
    """The progress as soon as these fields of it are so."""

    async def there() -> dict[str, Any]:
        progress: dict[str, Any] = await handle.query(PROGRESS_QUERY)
        return progress if {name: progress.get(name) for name in wanted} == wanted else {}

    found: dict[str, Any] = await eventually(there)
    return found


async def details(handle: WorkflowHandle[Any, Any]) -> str:
    """The current details of a workflow, as the Temporal UI asks for them."""
    metadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    return str(metadata.current_details)


async def make_days_of_networks(fleet: Fleet, name: str, networks: list[str], *, days: int, rows: int) -> None:
    """A small daily table with the same days for several networks."""
    configured = [{"name": network, "start_date": "2024-03-01", "end_date": DAY} for network in networks]
    own = fleet.network
    await fleet.make_days(name, days=days, rows=rows, networks=configured)
    for other in networks:
        if other != own:
            at = f"toDateTime('2024-03-20 01:00:00', 'UTC') - 86400 * intDiv(number, {rows})"
            fleet.network = other
            await fleet.insert(name, at, days * rows)
    fleet.network = own


def files_of(fleet: Fleet, network: str, table: str) -> list[tuple[str, int]]:
    """Files of a table of any network: path and rows."""
    own, fleet.network = fleet.network, network
    try:
        return fleet.files(table)
    finally:
        fleet.network = own

"""Files as others published them, under a table's public keys: made, changed, and put there."""

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from temporalio.client import WorkflowHandle

from activities.contracts.adopt import AdoptReport
from activities.contracts.export import ADOPT_WORKFLOW
from support.evidence import _bucket
from support.fleet import Fleet
from support.leftovers import prefix_of_table

MILLIS = pa.timestamp("ms", "UTC")
UPDATED = datetime(2024, 4, 1, tzinfo=UTC)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def day_table(
    network: str, day: int, rows: int = 10, *, updated: datetime = UPDATED, extra: Mapping[str, Any] | None = None
) -> pa.Table:
    """A day of March 2024 of the small table, uncast, as ClickHouse wrote it; `extra` adds or replaces columns, and
    takes away those that are None."""
    start = datetime(2024, 3, day, tzinfo=UTC)
    columns = {
        "updated": pa.array([updated] * rows, MILLIS),
        "at": pa.array([start.replace(minute=row) for row in range(rows)], MILLIS),
        "number": pa.array(range(rows), pa.uint64()),
        "name": pa.array([f"n{row % 7}" for row in range(rows)]),
        "network": pa.array([network] * rows),
        **(extra or {}),
    }
    return pa.table({name: column for name, column in columns.items() if column is not None})


def parquet(table: pa.Table, **options: Any) -> bytes:
    """The table as a file."""
    out = io.BytesIO()
    pq.write_table(table, out, store_schema=False, **options)
    return out.getvalue()


def publish(fleet: Fleet, files: Mapping[str, bytes], *, table: str = "events", **metadata: str) -> None:
    """Put files under the table's prefix as somebody else would; `metadata` is what the objects say of themselves."""
    prefix = prefix_of_table(fleet, table)
    with _bucket(fleet) as client:
        for key, body in files.items():
            client.put_object(Bucket="icefleet", Key=prefix + key, Body=body, Metadata=metadata)


async def start_adoption(fleet: Fleet, table: str = "events", **fields: Any) -> WorkflowHandle[Any, AdoptReport]:
    """Start an AdoptFiles as a person would; `from_` stands for `from`."""
    asked = {"environment": fleet.name, "network": fleet.network, "table": table}
    asked |= {name.rstrip("_"): value for name, value in fields.items()}
    count = len([one async for one in fleet.temporal.list_workflows(f"WorkflowType = '{ADOPT_WORKFLOW}'")])
    return await fleet.temporal.start_workflow(
        ADOPT_WORKFLOW, asked, id=f"adopt-{fleet.name}-{count}", task_queue=fleet.queue, result_type=AdoptReport
    )


async def adopt(fleet: Fleet, table: str = "events", **fields: Any) -> AdoptReport:
    """The same, to its report."""
    return await (await start_adoption(fleet, table, **fields)).result()


def reasons(report: AdoptReport, fleet: Fleet, table: str = "events") -> dict[str, tuple[str, str]]:
    """Key below the table's prefix → reason and particulars."""
    prefix = prefix_of_table(fleet, table)
    return {one.key.removeprefix(prefix): (one.reason, one.why) for one in report.refusals}

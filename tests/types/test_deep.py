"""A deep verification reads every type on both sides: as ClickHouse says it in Arrow, and as it stands in Parquet."""

import asyncio
import uuid

import pytest

from activities.contracts.verify import VERIFY_WORKFLOW, VerifyReport
from support.typetables import DAYS, ROWS


@pytest.mark.parametrize("table", ["portable", "as_published", "overridden"])
async def test_values_of_every_type_are_proved_equal(lake, table):
    payload = {"environment": lake.name, "network": lake.network, "table": table, "from": "2024-03-18", "deep": True}
    async with lake.worker():
        handle = await lake.temporal.start_workflow(
            VERIFY_WORKFLOW, payload, id=f"verify-{uuid.uuid4()}", task_queue=lake.queue, result_type=VerifyReport
        )
        report = await asyncio.wait_for(handle.result(), 60)
    assert (report.status, report.read, report.rows, report.not_compared) == ("proved", DAYS, ROWS, {}), report

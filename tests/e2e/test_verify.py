"""A table held against its source: what is sound is proved, and whatever is not is named."""

import asyncio
import uuid
from typing import Any

from activities.contracts.verify import VERIFY_WORKFLOW, VerifyReport
from support.fleet import Fleet


async def verify(fleet: Fleet, table: str = "events", **fields: Any) -> VerifyReport:
    payload = {"environment": fleet.name, "network": fleet.network, "table": table}
    payload |= {name.rstrip("_"): value for name, value in fields.items()}
    handle = await fleet.temporal.start_workflow(
        VERIFY_WORKFLOW, payload, id=f"verify-{uuid.uuid4()}", task_queue=fleet.queue, result_type=VerifyReport
    )
    return await asyncio.wait_for(handle.result(), 60)


def kinds(report: VerifyReport) -> dict[str, str]:
    return {finding.partition: finding.kind for finding in report.findings}


async def test_what_was_exported_is_proved_by_its_values_and_whatever_changes_afterwards_is_named(fleet):
    await fleet.make_days(days=6, rows=100, network={"start_date": "2024-03-14", "end_date": "2024-03-20"})
    async with fleet.worker():
        await fleet.request()
        proved = await verify(fleet, deep=True)
        assert (proved.status, proved.expected, proved.read) == ("proved", 7, 6)
        assert proved.counts == {"proved": 6, "empty": 1}
        assert (proved.rows, proved.found, proved.not_compared) == (600, 0, {})

"""Keeping a table in order, called as its loop would; and what lies at its public keys."""

import uuid
from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.testing import ActivityEnvironment

from activities.context import ExportContext
from activities.contracts.export import UPKEEP_WORKFLOW
from activities.contracts.upkeep import ExpireInput, ExpirePage, RefreshInput, RefreshPage, UpkeepReport
from activities.export import Export
from support.direct import Hands
from support.evidence import _bucket
from support.fleet import Fleet
from support.leftovers import NOON, prefix_of_table

PUBLIC = "2024/3/20.parquet"
AT_ONCE = {"keep_snapshots": 1, "snapshot_age_seconds": 0, "orphan_age_seconds": 1, "grace_seconds": 0}
"""Everything but the head may go."""


async def expire(fleet: Fleet, context: ExportContext, **more: Any) -> ExpirePage:
    """Let old snapshots go."""
    task = ExpireInput(fleet.name, "events", fleet.network, **more)
    page: ExpirePage = await ActivityEnvironment().run(Export(context).expire_snapshots, task)
    return page


async def refresh(fleet: Fleet, context: ExportContext, **more: Any) -> RefreshPage:
    """One page of public keys."""
    task = RefreshInput(fleet.name, "events", fleet.network, **more)
    page: RefreshPage = await ActivityEnvironment().run(Export(context).refresh_public, task)
    return page


async def start_upkeep(fleet: Fleet, **fields: Any) -> WorkflowHandle[Any, UpkeepReport]:
    """Start an Upkeep as a person would."""
    asked = {"environment": fleet.name, "network": fleet.network, "table": "events", **fields}
    return await fleet.temporal.start_workflow(
        UPKEEP_WORKFLOW,
        asked,
        id=f"upkeep-{uuid.uuid4()}",
        task_queue=fleet.queue,
        result_type=UpkeepReport,
    )


def read_object(fleet: Fleet, key: str) -> bytes:
    """What a stranger reads under a key; it goes on from the table's prefix."""
    with _bucket(fleet) as client:
        return bytes(client.get_object(Bucket="icefleet", Key=prefix_of_table(fleet) + key)["Body"].read())


def put_object(fleet: Fleet, key: str, body: bytes) -> None:
    """What somebody else puts there."""
    with _bucket(fleet) as client:
        client.put_object(Bucket="icefleet", Key=prefix_of_table(fleet) + key, Body=body)


class Late:
    """Late rows for the 20th, again and again."""

    def __init__(self, fleet: Fleet, hands: Hands) -> None:
        self.fleet, self.hands, self.count = fleet, hands, 0

    async def replace(self) -> str:
        """The commit that replaces the file of the 20th; answers the new one's key below the prefix."""
        self.count += 1
        updated, offset = f"2024-05-{self.count:02} 00:00:00", 1000 * self.count
        await self.fleet.insert("events", NOON, 5, updated=updated, offset=offset)
        [planned] = (await self.hands.plan(from_="2024-03-20")).todo
        file = await self.hands.export(planned)
        await self.hands.commit([file])
        await self.hands.announce()
        return file.key.removeprefix(prefix_of_table(self.fleet))

"""What lies beside a table's files: making it, ageing it, finding it and deleting it."""

import json
from typing import Any

from temporalio.client import WorkflowHandle
from temporalio.testing import ActivityEnvironment

from activities.context import ExportContext
from activities.contracts.export import ORPHANS_WORKFLOW
from activities.contracts.orphans import OrphansInput, OrphansPage, OrphansReport
from activities.export import Export
from support.evidence import _bucket
from support.fleet import Fleet, eventually
from worker.orphans import FoundOrphan, find_orphans

NOON = "toDateTime('2024-03-20 12:00:00', 'UTC')"


def prefix_of_table(fleet: Fleet, table: str = "events") -> str:
    """Under which all of a table's objects lie."""
    return f"xatu/{fleet.network}/databases/{fleet.database}/{table}/"


def keys(fleet: Fleet, table: str = "events") -> set[str]:
    """The objects under a table's prefix, as they go on from it; the public copy of its metadata is no matter here."""
    prefix = prefix_of_table(fleet, table)
    with _bucket(fleet) as client:
        listed = client.list_objects_v2(Bucket="icefleet", Prefix=prefix).get("Contents", [])
    return {key for entry in listed if not (key := entry["Key"].removeprefix(prefix)).startswith("metadata/")}


def begin_upload(fleet: Fleet, key: str, size: int) -> None:
    """What a worker leaves that dies in the middle of an upload."""
    with _bucket(fleet) as client:
        upload = client.create_multipart_upload(Bucket="icefleet", Key=key)
        client.upload_part(Bucket="icefleet", Key=key, UploadId=upload["UploadId"], PartNumber=1, Body=b"x" * size)


async def next_second(context: ExportContext) -> int:
    """Wait until the store's clock shows another second than that of everything made so far; answers it."""
    began = await context.store.now()

    async def moved() -> int:
        now = await context.store.now()
        return now if now > began else 0

    return int(await eventually(moved, every=0.05))


async def delete_before(fleet: Fleet, context: ExportContext, line: int, table: str = "events", **more: Any) -> Any:
    """One page of deletions, called as the loop would, of what was made before a second."""
    page: OrphansPage = await ActivityEnvironment().run(
        Export(context).delete_orphans,
        OrphansInput(fleet.name, table, fleet.network, older_than="1s", line=line, **more),
    )
    return page


async def listed(fleet: Fleet, *words: str) -> list[dict[str, Any]]:
    """What `icefleet orphans … --json` answers."""
    code, said, errors = await fleet.command("orphans", *words, "--json", seconds=90)
    assert (code, errors) == (0, "")
    found: list[dict[str, Any]] = json.loads(said)
    return found


async def found(fleet: Fleet, **more: Any) -> list[FoundOrphan]:
    """The same in this process."""
    settings = fleet.settings()
    every = find_orphans(settings, fleet.name, settings.exports(fleet.name), **more)
    return [orphan async for orphan in every if orphan is not None]


async def start_deletion(fleet: Fleet, **fields: Any) -> WorkflowHandle[Any, OrphansReport]:
    """Start a DeleteOrphans as a person would."""
    asked = {"environment": fleet.name, "network": fleet.network, "table": "events", "older_than": "1s", **fields}
    return await fleet.temporal.start_workflow(
        ORPHANS_WORKFLOW,
        asked,
        id=f"orphans-{fleet.name}-{len(fields)}",
        task_queue=fleet.queue,
        result_type=OrphansReport,
    )

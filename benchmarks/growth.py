"""Whether anything grows faster than the work: what a backfill leaves behind, beside that of one of half its size."""

import asyncio
from collections.abc import Mapping

from pyiceberg.table import Table
from temporalio.client import Client, WorkflowExecution

MOST = 2.3
"""Twice the work may leave behind so many times as much; with the square of anything it would be four."""


def check(half: Mapping[str, float], whole: Mapping[str, float]) -> None:
    """Print how everything that was measured has grown.

    Raises:
        RuntimeError: something grew by more than MOST.
    """
    steep = []
    for name, before in half.items():
        ratio = whole[name] / before
        print(f"  twice the partitions, {name}: {before:,.0f} became {whole[name]:,.0f}, {ratio:.2f} times", flush=True)
        if ratio > MOST:
            steep.append(f"{name} {ratio:.2f} times")
    if steep:
        raise RuntimeError(f"twice the partitions may take at most {MOST} times as much, not {', '.join(steep)}")


async def histories(client: Client, name: str, workflow_id: str) -> dict[str, float]:
    """Events and bytes of the histories of all runs of a workflow that has ended or is about to."""
    runs: list[WorkflowExecution] = []
    while not runs or any(run.close_time is None for run in runs):
        await asyncio.sleep(0.2)  # the list lags behind
        runs = [run async for run in client.list_workflows(f"WorkflowId = '{workflow_id}'")]
    return {
        f"events of {name}": sum(run.history_length for run in runs),
        f"bytes of {name}'s history": sum(run.raw_info.history_size_bytes for run in runs),
    }


def metadata_bytes(table: Table) -> int:
    """What a reader of the table's head reads before any data: metadata JSON, manifest list and manifests."""
    head = table.current_snapshot()
    if head is None:
        raise RuntimeError(f"{'.'.join(table.name())} has no snapshot")
    files = [table.metadata_location, head.manifest_list]
    manifests = sum(manifest.manifest_length for manifest in head.manifests(table.io))
    return manifests + sum(len(table.io.new_input(file)) for file in files)

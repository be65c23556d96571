"""A worker is killed as a power cut would: another one finishes, and nobody can tell from the result."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.evidence import make_bulky, objects, source_rows, table_rows

LETHAL = [
    "before-upload",
    "during-upload",
    "after-upload",
    "before-commit",
    "after-commit",
    "before-announce",
    "after-announce",
]


async def dead(process, seconds=30):
    return await asyncio.wait_for(asyncio.to_thread(process.wait), seconds)


@pytest.mark.parametrize("failpoint", LETHAL)
async def test_what_a_killed_worker_left_is_finished_exactly_once(fleet, failpoint):
    fleet.set_export(part_size_bytes=5 * 2**20, parallel_partitions=1)
    table = await make_bulky(fleet, days=2)
    t=time.monotonic()
    with fleet.worker_process(failpoint=failpoint) as process:
        request = await fleet.start(table)
        assert await dead(process) == -signal.SIGKILL
    print("died", time.monotonic()-t)
    left = objects(fleet)
    async with fleet.worker():
        report = await asyncio.wait_for(request.result(), 60)
        print("result", time.monotonic()-t)
        await fleet.loop_ended(table)
    print("ended", time.monotonic()-t)
    t0=None
    async for e in fleet.loop(table).fetch_history_events():
        ts=e.event_time.ToDatetime(); t0=t0 or ts
        print((ts-t0).total_seconds(), e.event_type, str(e.ListFields()[-1][1]).replace(chr(10)," ")[:120])
    assert report.status == "complete"
    assert report.exported + report.already_there == 2
    assert fleet.files(table) == [("2024/3/19.parquet", 8_000), ("2024/3/20.parquet", 8_000)]
    assert table_rows(fleet, table, "text") == await source_rows(fleet, table, "text")
    assert left.items() <= objects(fleet).items()
    snapshots = [str(snapshot.snapshot_id) for snapshot in fleet.table(table).snapshots()]
    assert len(snapshots) == 1
    assert [event["snapshotId"] for event in await fleet.events(table)] == snapshots

"""`make bench-backfill`: a long backfill of small partitions, and planning against a table of very many files.

10,000 partitions of 1,000 rows of 37 columns go through one `Backfill` and one worker. Planning looks at a table of
20,000 files, of which every manifest's entry is real and no object is there: planning reads none. All of the range is
asked for, nothing is to be done.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import attestations
from export import Bench, opened
from harness import Figure, median, report, scale, timed
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from temporalio.client import Client, WorkflowExecution, WorkflowHandle

from activities.contracts.backfill import BackfillReport, BackfillRequest
from activities.contracts.export import ExportRequest, PlanInput, loop_id
from activities.contracts.inputs import write_input
from activities.core.commits import NewFile
from activities.lake.commit import commit_files
from activities.plan import plan_page
from starter.backfill import start_backfill
from worker.wiring import connect_temporal, open_export, open_lake

COMMAND = "make bench-backfill"
LONG, WIDE = "long", "wide"
PARTS = (LONG, WIDE)
LAST = "2026-07-10"
"""20,000 hours after the first, and some."""
ROWS, WIDE_ROWS = 1_000, 100
"""Rows of a partition."""
COMMIT = 256
RUNS = 5
AIMS = {
    "backfill.partitions_per_second": 50,
    "backfill.snapshots_per_partition": 0.02,
    "plan.20k_files_seconds": 2,
}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append")
    chosen = list(dict.fromkeys(parser.parse_args().only or PARTS))
    with (
        tempfile.TemporaryDirectory(prefix="icefleet-bench-") as directory,
        opened(Path(directory), PARTS, last=LAST) as bench,
    ):
        figures = [figure for name in chosen for figure in {LONG: backfill, WIDE: planning}[name](bench)]
    report("backfill", figures, whole=len(chosen) == len(PARTS))
    sys.stdout.flush()
    os._exit(0)


def figure(name: str, value: float, unit: str, better: Literal["lower", "higher"]) -> Figure:
    print(f"  {name}: {value:.4f} {unit}", flush=True)
    return Figure(name, round(value, 4), unit, better, AIMS.get(name), COMMAND)


def fill(bench: Bench, table: str, partitions: int, rows: int) -> None:
    """So many hours of so many rows, from the first hour on."""
    print(f"filling {table} with {partitions:,} partitions of {rows:,} rows …", flush=True)
    for statement in attestations.create(table):
        bench.sql(statement)
    batch = max(1, attestations.BATCH // rows)
    for first in range(0, partitions, batch):
        count = min(batch, partitions - first)
        start = attestations.FIRST_HOUR + first * 3600
        at = f"toDateTime({start} + intDiv(number, {rows}) * 3600 + (number % 300) * 12)"
        bench.sql(attestations.made(table, count * rows, at))


def backfill(bench: Bench) -> list[Figure]:
    """All partitions of one table through one Backfill."""
    count = max(10, int(10_000 * scale()))
    fill(bench, LONG, count, ROWS)
    started = time.perf_counter()
    ended, lengths = bench.wait(_run(bench))
    seconds = time.perf_counter() - started
    if (ended.status, ended.exported) != ("complete", count):
        raise RuntimeError(f"{ended.status}: {ended.message} {ended.failures[:1]}")
    print(f"  {count:,} partitions in {seconds:.1f} s; events and bytes of histories: {lengths}")
    return [
        figure("backfill.partitions_per_second", count / seconds, "partitions/s", "higher"),
        figure("backfill.snapshots_per_partition", ended.snapshots / count, "snapshots", "lower"),
    ]


async def _run(bench: Bench) -> tuple[BackfillReport, dict[str, list[tuple[int, int]]]]:
    environment = bench.settings.environment("local")
    client = await connect_temporal(environment)
    request = BackfillRequest(tables=[LONG])
    handle = await start_backfill(client, environment.temporal.task_queue, request)
    ended = await handle.result()
    loop = client.get_workflow_handle(loop_id("local", attestations.NETWORK, LONG))
    return ended, {"Backfill": await _lengths(client, handle), "ExportTable": await _lengths(client, loop)}


async def _lengths(client: Client, handle: WorkflowHandle) -> list[tuple[int, int]]:
    """Events and bytes of the history of every run."""
    runs: list[WorkflowExecution] = []
    while not runs or any(run.close_time is None for run in runs):
        await asyncio.sleep(0.2)  # the list lags behind
        runs = [run async for run in client.list_workflows(f"WorkflowId = '{handle.id}'")]
    return [(run.history_length, run.raw_info.history_size_bytes) for run in runs]


def planning(bench: Bench) -> list[Figure]:
    """Seconds that a plan takes which finds that every one of the files is there, and fresh."""
    count = max(10, int(20_000 * scale()))
    fill(bench, WIDE, count, WIDE_ROWS)
    seconds = bench.wait(_plan(bench, count))
    return [figure("plan.20k_files_seconds", median(seconds), "s", "lower")]


async def _plan(bench: Bench, count: int) -> list[float]:
    environment = bench.settings.environment("local")
    client = await connect_temporal(environment)
    request = BackfillRequest(tables=[WIDE], from_="2024-03-20T00", to="2024-03-20T00")
    await (await start_backfill(client, environment.temporal.task_queue, request)).result()
    _add_files(bench, count)
    async with open_export(bench.settings, "local", client) as context:
        asked = ExportRequest(table=WIDE, network=attestations.NETWORK, from_="2024-03-20", to=LAST)
        seconds = []
        for _ in range(RUNS):
            started = time.perf_counter()
            plan = await plan_page(context, PlanInput("local", WIDE, attestations.NETWORK, "bench", write_input(asked)))
            seconds.append(time.perf_counter() - started)
            if (plan.todo, plan.cursor, plan.present) != ([], "", count):
                raise RuntimeError(f"{len(plan.todo)} to do, {plan.present} present, cursor {plan.cursor!r}")
    return seconds


def _add_files(bench: Bench, count: int) -> None:
    """Tell the table of a file for every partition but the first, each described as the first one's is."""
    lake = open_lake(bench.settings.environment("local"))
    identifier = f"{attestations.NETWORK}.{WIDE}"
    rule = bench.settings.table("local", WIDE, attestations.NETWORK).partition
    (first,) = [task.file for task in lake.load(identifier).scan().plan_files()]
    index = int(first.partition[0])

    def describe(table: Table, file: NewFile) -> DataFile:
        kept = ("content", "file_format", "record_count", "file_size_in_bytes", "column_sizes", "value_counts")
        kept += ("null_value_counts", "nan_value_counts", "lower_bounds", "upper_bounds", "split_offsets")
        kept += ("sort_order_id", "equality_ids", "key_metadata")
        same = {name: getattr(first, name) for name in kept}
        copy = DataFile.from_args(**same, file_path=file.path, partition=Record(file.index))
        copy.spec_id = table.metadata.default_spec_id
        return copy

    def commit() -> None:
        for begin in range(1, count, COMMIT):
            numbers = range(begin, min(begin + COMMIT, count))
            files = [NewFile(index + n, f"{first.file_path}-{n}.parquet", "missing") for n in numbers]
            commit_files(lake, identifier, rule, files, describe, summary={})

    print(f"  {count - 1:,} entries committed in {timed(commit):.1f} s", flush=True)


if __name__ == "__main__":
    main()

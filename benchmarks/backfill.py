"""`make bench-backfill`: a long backfill of small partitions, and planning against a table of very many files.

10,000 partitions of 1,000 rows of 37 columns go through one `Backfill` and one worker, after 5,000 of another table.
Time, histories and table metadata of both are held against each other: one that grew by more than 2.3 times fails the
benchmark. Planning looks at a table of 20,000 files, of which every manifest's entry is real and no object is there:
planning reads none. All of the range is asked for, nothing is to be done.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import attestations
import growth
from bench import Bench, opened
from harness import Figure, chosen_parts, median, report, scale, timed, told
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from activities.contracts.backfill import BackfillReport, BackfillRequest
from activities.contracts.export import ExportRequest, PlanInput, loop_id
from activities.contracts.inputs import write_input
from activities.core.commits import NewFile
from activities.lake.commit import commit_files
from activities.plan import plan_page
from starter.backfill import start_backfill
from worker.lake import open_lake
from worker.temporal import connect_temporal
from worker.wiring import open_export

COMMAND = "make bench-backfill"
LONG, HALF, WIDE = "long", "half", "wide"
PARTS = (LONG, WIDE)
SECONDS = "seconds"
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
    chosen = chosen_parts(__doc__, PARTS)
    with (
        tempfile.TemporaryDirectory(prefix="icefleet-bench-") as directory,
        opened(Path(directory), (HALF, *PARTS), last=LAST) as bench,
    ):
        figures = [figure for name in chosen for figure in {LONG: backfill, WIDE: planning}[name](bench)]
    report("backfill", figures, whole=len(chosen) == len(PARTS))
    sys.stdout.flush()
    os._exit(0)


def figure(name: str, value: float, unit: str, better: Literal["lower", "higher"]) -> Figure:
    return told(name, value, unit, better, AIMS, COMMAND)


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
    """All partitions of one table through one Backfill, after half as many of another one."""
    count = max(10, int(10_000 * scale()))
    _, half = _backfilled(bench, HALF, count // 2)
    ended, whole = _backfilled(bench, LONG, count)
    figures = [
        figure("backfill.partitions_per_second", count / whole[SECONDS], "partitions/s", "higher"),
        figure("backfill.snapshots_per_partition", ended.snapshots / count, "snapshots", "lower"),
    ]
    growth.check(half, whole)
    return figures


def _backfilled(bench: Bench, table: str, count: int) -> tuple[BackfillReport, dict[str, float]]:
    """Fill a table and run a backfill of it; answers the report, and what it took and left behind."""
    fill(bench, table, count, ROWS)
    bench.calm()
    started = time.perf_counter()
    ended, backfill_id = bench.wait(_run(bench, table))
    seconds = time.perf_counter() - started
    if (ended.status, ended.exported) != ("complete", count):
        raise RuntimeError(f"{ended.status}: {ended.message} {ended.failures[:1]}")
    print(f"  {count:,} partitions in {seconds:.1f} s", flush=True)
    loaded = open_lake(bench.settings.environment("local")).load(f"{attestations.NETWORK}.{table}")
    left = {"bytes of table metadata": growth.metadata_bytes(loaded)}
    return ended, {SECONDS: seconds, **bench.wait(_histories(bench, table, backfill_id)), **left}


async def _run(bench: Bench, table: str) -> tuple[BackfillReport, str]:
    environment = bench.settings.environment("local")
    client = await connect_temporal(environment)
    handle = await start_backfill(client, environment.temporal.task_queue, BackfillRequest(tables=[table]))
    return await handle.result(), handle.id


async def _histories(bench: Bench, table: str, backfill_id: str) -> dict[str, float]:
    client = await connect_temporal(bench.settings.environment("local"))
    loop = loop_id("local", attestations.NETWORK, table)
    return {
        **await growth.histories(client, "Backfill", backfill_id),
        **await growth.histories(client, "ExportTable", loop),
    }


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

"""Throughput of 1, 2 and 4 workers of two slots each, whose store answers 100 ms late.

On one machine workers can only be shown to help where they wait: each has two activity slots, and every answer of the
store comes 100 ms late. That is everything that workers ask of it: objects, the manifests that planning reads, and the
metadata that a commit reads and writes. The catalog and ClickHouse answer at once: neither is the store.

Four tables are asked for at once, as a backfill does, so that while one of them plans or commits, which is one step
after the other and takes one slot, partitions of the others go on. Each loop allows 16 activities: what is short is
slots. Small partitions share an activity as they do by default (`partitions_per_activity: 16`): what costs this
machine's cores time, the questions to source and catalog, is asked once for all of them, while each object is still
made on its own, one after the other, and waited for. For the same reason partitions are of 100 rows and four columns.
With one partition an activity, or columns by the dozen, four workers would meet the cores' limit first.

Every number of workers has tables of its own, of which some partitions are there when the measurement starts: tables
exist, workers have imported and connected. Time is from the requests to the last report: planning, export,
verification, commit. Events and public metadata follow a commit, and are waited for only after that; until then they
take slots from the export.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import attestations
from bench import Bench, worker_of
from harness import scale
from late import late

from activities.contracts.export import ExportReport, ExportRequest, loop_id
from starter.export import start_request
from worker.temporal import connect_temporal

LATE = "late"
"""The environment, its task queue, and the prefix of its objects."""
PORT = "BENCH_LATE_PORT"
DELAY = 0.1
"""Seconds."""
WORKERS = (1, 2, 4)
TABLES_EACH = 4
TABLES = tuple(f"late_{workers}_{number}" for workers in WORKERS for number in range(TABLES_EACH))
HOURS, FIRST_HOURS = 256, 16
"""Partitions of each table that are measured, and that are there before."""
ROWS = 100


def fill(table: str, partitions: int) -> Iterator[str]:
    """A table of four columns with so many hours."""
    yield f"CREATE DATABASE IF NOT EXISTS {attestations.DATABASE}"
    yield (
        f"CREATE TABLE {attestations.DATABASE}.{table} (updated_date_time DateTime, slot_start_date_time DateTime, "
        "slot UInt32, meta_network_name LowCardinality(String)) ENGINE = ReplacingMergeTree(updated_date_time) "
        "PARTITION BY (meta_network_name, toYYYYMM(slot_start_date_time)) "
        "ORDER BY (meta_network_name, slot_start_date_time, slot)"
    )
    yield (
        f"INSERT INTO {attestations.DATABASE}.{table} SELECT toDateTime(1711929600), "
        f"toDateTime({attestations.FIRST_HOUR} + intDiv(number, {ROWS}) * 3600 + (number % 300) * 12), number, "
        f"'{attestations.NETWORK}' FROM numbers({partitions * ROWS})"
    )


def late_environment(local: dict[str, Any]) -> dict[str, Any]:
    """An environment as `local`, of small workers with a slow store."""
    return {
        **local,
        "clickhouse": {"default": {**local["clickhouse"]["default"], "export_slots": 2}},
        "storage": {**local["storage"], "endpoint": f"http://127.0.0.1:${{{PORT}:-1}}", "prefix": LATE},
        "temporal": {**local["temporal"], "task_queue": LATE},
        "export": {"max_concurrent_activities": 2, "parallel_partitions": 16, "partitions_per_activity": 16},
    }


def speeds(bench: Bench) -> dict[int, float]:
    """Partitions a second by number of workers."""
    hours = max(16, int(HOURS * scale()))
    print(f"filling {len(TABLES)} tables with {FIRST_HOURS + hours} partitions of {ROWS:,} rows …", flush=True)
    for table in TABLES:
        for statement in fill(table, FIRST_HOURS + hours):
            bench.sql(statement)
    bench.calm()
    store = urlsplit(bench.settings.environment("local").storage.endpoint).port
    if store is None:
        raise RuntimeError("a store without a port")
    with late(store, DELAY) as port:
        os.environ[PORT] = str(port)
        return {workers: _speed(bench, workers, hours) for workers in WORKERS}


def _speed(bench: Bench, workers: int, hours: int) -> float:
    tables = [f"late_{workers}_{number}" for number in range(TABLES_EACH)]
    with ExitStack() as running:
        for number in range(workers):
            running.enter_context(worker_of(LATE, bench.directory, f"worker-{number}-of-{workers}"))
        bench.wait(_export(bench, tables, 0, FIRST_HOURS))
        bench.wait(_idle(bench, tables))
        started = time.perf_counter()
        bench.wait(_export(bench, tables, FIRST_HOURS, hours))
        seconds = time.perf_counter() - started
        bench.wait(_idle(bench, tables))  # what follows a commit is not left for the next workers
    count = hours * len(tables)
    print(f"  {workers} workers: {count:,} partitions of {len(tables)} tables in {seconds:.1f} s", flush=True)
    return count / seconds


async def _export(bench: Bench, tables: Sequence[str], first: int, hours: int) -> None:
    """So many hours of every table, all asked for at once."""
    environment = bench.settings.environment(LATE)
    client = await connect_temporal(environment)

    async def export(table: str) -> ExportReport:
        request = ExportRequest(
            table=table,
            network=attestations.NETWORK,
            environment=LATE,
            from_=_hour(first),
            to=_hour(first + hours - 1),
        )
        return await (await start_request(client, environment.temporal.task_queue, request)).result()

    for ended in await asyncio.gather(*(export(table) for table in tables)):
        if (ended.status, ended.exported) != ("complete", hours):
            raise RuntimeError(f"{ended.status}, {ended.exported} exported: {ended.message} {ended.failures[:1]}")


def _hour(number: int) -> str:
    return datetime.fromtimestamp(attestations.FIRST_HOUR + number * 3600, UTC).strftime("%Y-%m-%dT%H")


async def _idle(bench: Bench, tables: Sequence[str]) -> None:
    """Wait until the tables' loops have nothing left to do."""
    client = await connect_temporal(bench.settings.environment(LATE))
    loops = [client.get_workflow_handle(loop_id(LATE, attestations.NETWORK, table)) for table in tables]
    await asyncio.gather(*(loop.result() for loop in loops))

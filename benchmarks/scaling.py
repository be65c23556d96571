"""Throughput of 1, 2, 4 … workers of two slots each, whose store answers late: by 100 ms, or as a series says.

On one machine workers can only be shown to help where they wait: each has two activity slots, and every answer of the
store comes late. That is everything that workers ask of it: objects, the manifests that planning reads, and the
metadata that a commit reads and writes. The catalog and ClickHouse answer at once: neither is the store.

Several tables are asked for at once, as a backfill does, so that while one of them plans or commits, which is one step
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
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
FIRST_HOURS = 4
"""Partitions of each table that are there before."""
ROWS = 100


@dataclass(frozen=True)
class Series:
    """Numbers of workers that are measured one after the other."""

    name: str = "late"
    """What its tables begin with."""
    workers: tuple[int, ...] = (1, 2, 4)
    delay: float = 0.1
    """Seconds by which the store answers late."""
    tables_each: int = 4
    hours: int = 256
    """Partitions of each table that are measured."""

    def tables_of(self, workers: int) -> list[str]:
        """The tables of one number of workers."""
        return [f"{self.name}_{workers}_{number}" for number in range(self.tables_each)]

    @property
    def tables(self) -> list[str]:
        """All of them."""
        return [table for workers in self.workers for table in self.tables_of(workers)]


SERIES = Series()


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


@contextmanager
def slow_store(bench: Bench, tables: Sequence[str], hours: int, delay: float) -> Iterator[None]:
    """Tables with so many hours beyond their first, and the store that answers late."""
    for table in tables:
        for statement in fill(table, FIRST_HOURS + hours):
            bench.sql(statement)
    bench.calm()
    store = urlsplit(bench.settings.environment("local").storage.endpoint).port
    if store is None:
        raise RuntimeError("a store without a port")
    with late(store, delay) as port:
        os.environ[PORT] = str(port)
        yield


def speeds(bench: Bench, series: Series = SERIES) -> dict[int, float]:
    """Partitions a second by number of workers."""
    hours = max(16, int(series.hours * scale()))
    print(f"filling {len(series.tables)} tables with {FIRST_HOURS + hours} partitions of {ROWS:,} rows …", flush=True)
    with slow_store(bench, series.tables, hours, series.delay):
        return {workers: _speed(bench, workers, series.tables_of(workers), hours) for workers in series.workers}


def _speed(bench: Bench, workers: int, tables: Sequence[str], hours: int) -> float:
    with ExitStack() as running:
        for number in range(workers):
            running.enter_context(worker_of(LATE, bench.directory, f"worker-{number}-of-{workers}"))
        bench.wait(export_hours(bench, tables, 0, FIRST_HOURS))
        bench.wait(idle(bench, tables))
        started = time.perf_counter()
        bench.wait(export_hours(bench, tables, FIRST_HOURS, hours))
        seconds = time.perf_counter() - started
        bench.wait(idle(bench, tables))  # what follows a commit is not left for the next workers
    count = hours * len(tables)
    print(f"  {workers} workers: {count:,} partitions of {len(tables)} tables in {seconds:.1f} s", flush=True)
    return count / seconds


def drains(bench: Bench, series: Series, count: int) -> list[float]:
    """Seconds from SIGTERM to the end of a process, at random moments of an export that another worker goes on with."""
    [workers] = series.workers
    tables, hours = series.tables_of(workers), series.hours
    with slow_store(bench, tables, hours, series.delay), ExitStack() as running:
        last = running.enter_context(worker_of(LATE, bench.directory, "drained-0"))
        bench.wait(export_hours(bench, tables, 0, FIRST_HOURS))
        under_way = bench.loop.create_task(export_hours(bench, tables, FIRST_HOURS, hours))
        bench.wait(asyncio.sleep(1))  # it is asked for before the loop stands still for the next worker's start
        took: list[float] = []
        for number in range(count):
            moment = time.monotonic() + random.uniform(1, 4)  # noqa: S311 - any moment will do
            # While this one works: what starts while it drains would share the cores with what is measured.
            following = running.enter_context(worker_of(LATE, bench.directory, f"drained-{number + 1}"))
            bench.wait(asyncio.sleep(max(0.0, moment - time.monotonic())))
            if under_way.done():
                raise RuntimeError(f"the export ended before worker {number} was drained: nothing to be measured")
            took.append(_drained(last, f"worker {number}"))
            last = following
        under_way.cancel()  # what is left is nobody's figure; it ends with the stack
    return took


def _drained(worker: "subprocess.Popen[bytes]", name: str) -> float:
    started = time.perf_counter()
    worker.terminate()
    if code := worker.wait():
        raise RuntimeError(f"{name} ended with {code}")
    return time.perf_counter() - started


async def export_hours(bench: Bench, tables: Sequence[str], first: int, hours: int) -> None:
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


async def idle(bench: Bench, tables: Sequence[str]) -> None:
    """Wait until the tables' loops have nothing left to do."""
    client = await connect_temporal(bench.settings.environment(LATE))
    loops = [client.get_workflow_handle(loop_id(LATE, attestations.NETWORK, table)) for table in tables]
    await asyncio.gather(*(loop.result() for loop in loops))

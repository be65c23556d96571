"""`make bench-ingest`: change events from PostgreSQL to committed changelogs.

A worker's `IngestChangelog` empties a buffer of 500,000 events of 6 columns, and one of 100,000 events of 40 columns,
each in turn with a plain loop (psycopg, `pyarrow.Table.from_pylist`, PyIceberg's `Table.append`, DELETE) over the same
events in a buffer of its own, with as many events a commit as icefleet takes, and once with 1,000. Latency is that of
single rows committed at a source that is captured, until a reader of the catalog sees the snapshot that holds them.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from bench import worker_of
from changes import NARROW, WIDE, Changes, Column
from harness import MEGABYTE, Figure, Memory, alternate, median, report, scale, timed
from plainloop import PlainLoop
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from temporalio.client import Client

from activities.clients.buffer import Buffer
from activities.clients.postgres import PostgresSettings
from activities.contracts.cdc import (
    INGEST_WORKFLOW,
    INSTALL_WORKFLOW,
    STOP_SIGNAL,
    InstallReport,
    InstallRequest,
    PipelineRequest,
    ingest_id,
)
from activities.contracts.inputs import write_input
from deploy.local.stack import Stack
from worker.config import Environment, load_settings
from worker.wiring import connect_temporal, open_lake, pipeline_config

COMMAND = "make bench-ingest"
ENVIRONMENT = "local"
SHAPES: Mapping[str, tuple[Mapping[str, Column], int]] = {"narrow": (NARROW, 500_000), "wide": (WIDE, 100_000)}
"""Pipeline and table → its columns, and how many events a run takes."""
LATENCY = "latency"
PARTS = (*SHAPES, LATENCY)
WARM_EVENTS = 1_000
SMALL_BATCH, SMALL_SHARE = 1_000, 0.2
"""Events a commit of a loop that wants its rows seen soon, and the part of a run's events that it is given."""
RUNS = 3
COMMITS = 30
PATIENCE_SECONDS = 600
AIMS = {
    "ingest.events_per_second": 50_000,
    "ingest.speedup_vs_plain_loop": 5,
    "ingest.worker_growth_mb": 200,
    "ingest.latency_p50_seconds": 2,
}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append")
    chosen = list(dict.fromkeys(parser.parse_args().only or PARTS))
    with tempfile.TemporaryDirectory(prefix="icefleet-bench-") as directory, opened(Path(directory)) as bench:
        figures = measure(bench, chosen)
    report("ingest", figures, whole=len(chosen) == len(PARTS))
    sys.stdout.flush()
    os._exit(0)


def measure(bench: "Bench", chosen: Sequence[str]) -> list[Figure]:
    """Every chosen part in turn; the worker's growth is that of all buffers together, over its start."""
    figures = []
    with Memory(bench.worker_pid) as memory:
        if "narrow" in chosen:
            ours, plain, small = throughput(bench, "narrow")
            figures.append(figure("ingest.events_per_second", 1 / ours, "events/s", "higher"))
            figures.append(figure("ingest.speedup_vs_plain_loop", plain / ours, "times", "higher"))
            figures.append(figure("ingest.speedup_vs_plain_loop_by_1000", small / ours, "times", "higher"))
        if "wide" in chosen:
            ours, plain, small = throughput(bench, "wide")
            figures.append(figure("ingest.wide.events_per_second", 1 / ours, "events/s", "higher"))
            figures.append(figure("ingest.wide.speedup_vs_plain_loop", plain / ours, "times", "higher"))
            figures.append(figure("ingest.wide.speedup_vs_plain_loop_by_1000", small / ours, "times", "higher"))
    if figures:
        figures.append(figure("ingest.worker_growth_mb", (memory.peak - memory.idle) / MEGABYTE, "MB", "lower"))
    if LATENCY in chosen:
        figures.append(figure("ingest.latency_p50_seconds", median(bench.wait(latencies(bench))), "s", "lower"))
    return figures


def figure(name: str, value: float, unit: str, better: Literal["lower", "higher"]) -> Figure:
    print(f"  {name}: {value:.4f} {unit}", flush=True)
    return Figure(name, round(value, 4), unit, better, AIMS.get(name), COMMAND)


@dataclass
class Bench:
    """The worker's process, and the clients that the contenders use."""

    environment: Environment
    worker_pid: int
    temporal: Client
    catalog: Catalog
    loop: asyncio.AbstractEventLoop

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end."""
        return self.loop.run_until_complete(work)

    @property
    def postgres(self) -> PostgresSettings:
        """The database of all buffers."""
        return pipeline_config(ENVIRONMENT, LATENCY, self.environment.cdc[LATENCY]).buffer

    def rows_of(self, identifier: str) -> int:
        """How many rows a reader of the catalog sees; 0 when there is no table."""
        try:
            head = self.catalog.load_table(identifier).current_snapshot()
        except NoSuchTableError:
            return 0
        return int(head.summary["total-records"]) if head and head.summary else 0


@contextmanager
def opened(directory: Path) -> Iterator[Bench]:
    """The stack without ClickHouse, and a worker of the shipped environment `local` with our pipelines."""
    config = directory / "config"
    config.mkdir()
    local = yaml.safe_load(Path("config/environments.yaml").read_text())["environments"][ENVIRONMENT]
    (shipped,) = local.pop("cdc").values()
    local.pop("tables", None)
    local["cdc"] = {
        name: {"buffer": {**shipped["buffer"], "schema": f"bench_{name}"}}
        | ({"source": shipped["source"]} if name == LATENCY else {})
        for name in PARTS
    }
    (config / "environments.yaml").write_text(yaml.safe_dump({"environments": {ENVIRONMENT: local}}))
    (config / "tables.yaml").write_text("groups: {}\n")
    os.environ["ICEFLEET_LOCAL_DIR"] = str(directory / "local")
    os.environ["ICEFLEET_CONFIG_DIR"] = str(config)
    with (
        Stack(directory / "local", parts=("temporal", "nats", "s3", "postgres")),
        worker_of(ENVIRONMENT, directory) as worker,
    ):
        environment = load_settings().environment(ENVIRONMENT)
        loop = asyncio.new_event_loop()
        temporal = loop.run_until_complete(connect_temporal(environment))
        yield Bench(environment, worker.pid, temporal, open_lake(environment).catalog, loop)


def throughput(bench: Bench, name: str) -> tuple[float, float, float]:
    """Seconds an event takes icefleet, the plain loop, and the one with small commits: medians of runs in turn."""
    columns, most = SHAPES[name]
    count = max(WARM_EVENTS, int(most * scale()))
    few = max(WARM_EVENTS, int(count * SMALL_SHARE))
    contenders = {
        f"cdc.public_{name}_changelog": (_icefleet(bench, name), count),
        f"plain.{name}": (_plain(bench, name, name, bench.environment.cdc[name].batch_events), count),
        f"plain.{name}_small": (_plain(bench, name, f"{name}_small", SMALL_BATCH), few),
    }
    print(f"{name}: {count:,} events of {len(columns)} columns, {RUNS} runs each …", flush=True)
    for run, _ in contenders.values():
        run(WARM_EVENTS)
    turns = [lambda run=run, own=own: run(own) / own for run, own in contenders.values()]
    ours, plain, small = alternate(RUNS, *turns)
    print(f"  events/s: icefleet {_rates(ours)}; plain loop {_rates(plain)}, with small commits {_rates(small)}")
    for identifier, (_, own) in contenders.items():
        if (rows := bench.rows_of(identifier)) != WARM_EVENTS + RUNS * own:
            raise RuntimeError(f"{identifier} holds {rows:,} rows of {WARM_EVENTS + RUNS * own:,}")
    return median(ours), median(plain), median(small)


def _rates(seconds: Sequence[float]) -> str:
    return ", ".join(f"{1 / one:,.0f}" for one in seconds)


def _buffer(bench: Bench, schema: str, name: str, columns: Mapping[str, Column]) -> Changes:
    bench.wait(Buffer(bench.postgres, schema).install())
    changes = Changes(bench.postgres, schema, name, columns)
    changes.describe()
    return changes


def _icefleet(bench: Bench, name: str) -> Callable[[int], float]:
    """Seconds from the start of the loop until it has marked the last event, which it does after the commit."""
    changes = _buffer(bench, f"bench_{name}", name, SHAPES[name][0])

    def run(count: int) -> float:
        last = changes.fill(count)
        started = time.perf_counter()
        handle = bench.wait(_start_ingest(bench, name))
        with changes.connect() as connection:
            deadline = started + PATIENCE_SECONDS
            while changes.processed(connection) < last:
                if time.perf_counter() > deadline:
                    raise RuntimeError(f"{name}: not ingested within {PATIENCE_SECONDS} s")
                time.sleep(0.02)
        seconds = time.perf_counter() - started
        bench.wait(handle.signal(STOP_SIGNAL))
        bench.wait(handle.result())
        if letters := changes.letters():
            raise RuntimeError(f"{name}: {letters:,} dead letters")
        return seconds

    return run


async def _start_ingest(bench: Bench, name: str) -> Any:
    request = write_input(PipelineRequest(name, ENVIRONMENT))
    queue = bench.environment.temporal.cdc_task_queue
    return await bench.temporal.start_workflow(
        INGEST_WORKFLOW, request, id=ingest_id(ENVIRONMENT, name), task_queue=queue
    )


def _plain(bench: Bench, name: str, table: str, batch: int) -> Callable[[int], float]:
    """The peer, with so many events a commit."""
    schema = f"plain_{table}"
    changes = _buffer(bench, schema, table, SHAPES[name][0])
    peer = PlainLoop(changes, schema, bench.catalog, batch)

    def run(count: int) -> float:
        last = changes.fill(count)
        return timed(lambda: peer.run(last))

    return run


async def latencies(bench: Bench) -> list[float]:
    """Seconds from each COMMIT of a row until the catalog shows it, of commits some time apart."""
    source, changelog = bench.postgres, "cdc.public_ticks_changelog"
    pauses = random.Random(1)  # noqa: S311 - so that commits are in step with nothing
    async with await source.connect() as connection:
        await connection.execute("CREATE TABLE public.ticks (id bigint PRIMARY KEY, at timestamptz DEFAULT now())")
        await connection.execute("INSERT INTO public.ticks VALUES (0)")
        await _install(bench)
        await _seen(bench, changelog, 1)
        found = []
        for number in range(1, COMMITS + 1):
            await asyncio.sleep(pauses.uniform(0.1, 0.6))
            started = time.perf_counter()
            await connection.execute("INSERT INTO public.ticks VALUES (%s)", (number,))
            await _seen(bench, changelog, number + 1)
            found.append(time.perf_counter() - started)
    print(f"  seconds from COMMIT to snapshot: {min(found):.2f} to {max(found):.2f}", flush=True)
    return found


async def _install(bench: Bench) -> None:
    request = write_input(InstallRequest(LATENCY, ["public.ticks"], ENVIRONMENT))
    queue = bench.environment.temporal.cdc_task_queue
    installed = await bench.temporal.execute_workflow(
        INSTALL_WORKFLOW, request, id="bench-install", task_queue=queue, result_type=InstallReport
    )
    if installed.status != "installed":
        raise RuntimeError(f"{installed.status}: {installed.message}")


async def _seen(bench: Bench, identifier: str, rows: int) -> None:
    deadline = time.perf_counter() + PATIENCE_SECONDS
    while await asyncio.to_thread(bench.rows_of, identifier) < rows:
        if time.perf_counter() > deadline:
            raise RuntimeError(f"{identifier} never held {rows} rows")
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    main()

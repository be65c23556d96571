"""`make bench-ingest`: change events from PostgreSQL to committed changelogs.

A worker's `IngestChangelog` empties a buffer of 500,000 events of 6 columns, and one of 100,000 events of 40 columns,
each in turn with a plain loop (psycopg, `pyarrow.Table.from_pylist`, PyIceberg's `Table.append`, DELETE) over the same
events in a buffer of its own. Both are processes of their own, and what they grow by is counted from when they are
ready. The loop runs with 1,000, 10,000 and 100,000 events a commit. The more it takes the faster it is, and the more
memory it needs; `speedup_vs_plain_loop` is over the fastest of those that stay within the growth that icefleet is
allowed, and the others stand beside it. Latency is that of single rows committed at a source that is captured, until a
reader of the catalog sees the snapshot that holds them.
"""

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from bench import worker_of
from changes import NARROW, WIDE, Changes, Column
from harness import MEGABYTE, Figure, Memory, alternate, chosen_parts, median, report, scale, told
from plainloop import Peer, peer
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
from worker.lake import open_lake
from worker.temporal import connect_temporal
from worker.wiring_cdc import pipeline_config

COMMAND = "make bench-ingest"
ENVIRONMENT = "local"
SHAPES: Mapping[str, tuple[Mapping[str, Column], int]] = {"narrow": (NARROW, 500_000), "wide": (WIDE, 100_000)}
"""Pipeline and table → its columns, and how many events a run takes."""
LATENCY = "latency"
PARTS = (*SHAPES, LATENCY)
WARM_EVENTS = 1_000
BATCHES: Mapping[int, float] = {1_000: 0.2, 10_000: 0.6, 100_000: 1}
"""Events a commit of a plain loop → the part of a run's events that it is given: it takes its time."""
RUNS = 3
COMMITS = 30
PATIENCE_SECONDS = 600
GROWTH = "ingest.worker_growth_mb"
AIMS = {
    "ingest.events_per_second": 50_000,
    "ingest.speedup_vs_plain_loop": 5,
    GROWTH: 200,
    "ingest.latency_p50_seconds": 2,
}


def main() -> None:
    """Measure, print, write."""
    chosen = chosen_parts(__doc__, PARTS)
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
            figures += throughput(bench, "narrow", "ingest")
        if "wide" in chosen:
            figures += throughput(bench, "wide", "ingest.wide")
    if figures:
        figures.append(figure(GROWTH, (memory.peak - memory.idle) / MEGABYTE, "MB", "lower"))
    if LATENCY in chosen:
        figures.append(figure("ingest.latency_p50_seconds", median(bench.wait(latencies(bench))), "s", "lower"))
    return figures


def figure(name: str, value: float, unit: str, better: Literal["lower", "higher"]) -> Figure:
    return told(name, value, unit, better, AIMS, COMMAND)


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


def throughput(bench: Bench, name: str, prefix: str) -> list[Figure]:
    """Events a second of icefleet, and how many times those of each plain loop: medians of runs in turn."""
    columns, most = SHAPES[name]
    count = max(WARM_EVENTS, int(most * scale()))
    with ExitStack() as held:
        contenders = [
            _icefleet(bench, name, count),
            *(
                _plain(bench, name, batch, max(WARM_EVENTS, int(count * share)), held)
                for batch, share in BATCHES.items()
            ),
        ]
        print(f"{name}: {count:,} events of {len(columns)} columns, {RUNS} runs each …", flush=True)
        for one in contenders:
            one.run(WARM_EVENTS)
        seconds = alternate(RUNS, *(one.turn for one in contenders))
        growth = [one.peer.growth / MEGABYTE if one.peer else 0 for one in contenders]
    for one in contenders:
        if (rows := bench.rows_of(one.identifier)) != WARM_EVENTS + RUNS * one.count:
            raise RuntimeError(f"{one.identifier} holds {rows:,} rows of {WARM_EVENTS + RUNS * one.count:,}")
    for one, found, grown in zip(contenders, seconds, growth, strict=True):
        print(f"  {one.identifier}: {_rates(found)} events/s" + (f"; grew by {grown:.0f} MB" if grown else ""))
    own, *others = (median(found) for found in seconds)
    return compared(prefix, own, dict(zip(BATCHES, zip(others, growth[1:], strict=True), strict=True)))


def compared(prefix: str, own: float, others: Mapping[int, tuple[float, float]]) -> list[Figure]:
    """Figures from seconds an event of ours, and of the peer by events a commit, with the megabytes it grew by."""
    fit = [seconds for seconds, grown in others.values() if grown <= AIMS[GROWTH]]
    figures = [
        figure(f"{prefix}.events_per_second", 1 / own, "events/s", "higher"),
        figure(f"{prefix}.speedup_vs_plain_loop", min(fit) / own, "times", "higher"),
    ]
    for batch, (seconds, grown) in others.items():
        figures.append(figure(f"{prefix}.speedup_vs_plain_loop_by_{batch}", seconds / own, "times", "higher"))
        figures.append(figure(f"{prefix}.plain_loop_by_{batch}_growth_mb", grown, "MB", "lower"))
    return figures


@dataclass(frozen=True)
class Contender:
    """Who carries events into a table."""

    identifier: str
    run: Callable[[int], float]
    """Seconds that so many events take."""
    count: int
    """Events of one turn."""
    peer: Peer | None = None

    def turn(self) -> float:
        """Seconds an event takes."""
        return self.run(self.count) / self.count


def _rates(seconds: Sequence[float]) -> str:
    return ", ".join(f"{1 / one:,.0f}" for one in seconds)


def _buffer(bench: Bench, schema: str, name: str, columns: Mapping[str, Column]) -> Changes:
    bench.wait(Buffer(bench.postgres, schema).install())
    changes = Changes(bench.postgres, schema, name, columns)
    changes.describe()
    return changes


def _icefleet(bench: Bench, name: str, events: int) -> Contender:
    """From the start of the loop until it has marked the last event, which it does after the commit."""
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

    return Contender(f"cdc.public_{name}_changelog", run, events)


async def _start_ingest(bench: Bench, name: str) -> Any:
    request = write_input(PipelineRequest(name, ENVIRONMENT))
    queue = bench.environment.temporal.cdc_task_queue
    return await bench.temporal.start_workflow(
        INGEST_WORKFLOW, request, id=ingest_id(ENVIRONMENT, name), task_queue=queue
    )


def _plain(bench: Bench, name: str, batch: int, count: int, held: ExitStack) -> Contender:
    """The peer, with so many events a commit."""
    table = f"{name}_by_{batch}"
    changes = _buffer(bench, f"plain_{table}", table, SHAPES[name][0])
    loop = held.enter_context(peer(ENVIRONMENT, changes, batch))
    return Contender(f"plain.{table}", lambda count: loop.run(changes.fill(count)), count, loop)


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

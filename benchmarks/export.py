"""`make bench-export`: an export end to end, beside what the engine and plainer ways take for the same rows.

Everything runs in one go on this machine: the embedded stack, one worker process, partitions of 5 and 50 million rows
of 37 columns, and 1,000 partitions of 1,000 rows. Contenders take turns; figures are medians.
"""

import argparse
import asyncio
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import attestations
import published
import pyarrow.parquet as pq
import yaml
from harness import MEGABYTE, Figure, Memory, alternate, median, report, scale, timed

from activities.clients.clickhouse import ClickHouse
from activities.clients.objectstore import ObjectStore
from activities.contracts.adopt import AdoptReport, AdoptRequest
from activities.contracts.export import ADOPT_WORKFLOW, ExportReport, ExportRequest
from activities.contracts.inputs import write_input
from activities.core.columns import export_columns
from activities.core.partitions import index_of
from activities.core.query import Query, export_query
from activities.core.utf8 import REFUSED_TEXT
from activities.source import read_facts
from deploy.local.stack import Stack
from starter.export import start_request
from worker.config import Settings, load_settings
from worker.wiring import connect_temporal, open_clickhouse, open_store

COMMAND = "make bench-export"
PART = 8 * 2**20
RUNS = 3
PARTS = ("5m", "50m", "small", "direct", "adopt")
DIRECT = "direct"
"""An environment in which ClickHouse writes the files itself, and the one table that is exported there."""
SMALL = ("small", "smaller", "smallest")
"""A table for each run: an export that replaces what is there is another job."""
SMALL_ROWS = 1000
READY_SECONDS = 60
AIMS = {
    "export.5m.time_ratio_vs_native": 1.15,
    "export.50m.time_ratio_vs_native": 1.15,
    "export.50m.worker_growth_mb": 150,
    "export.small_partitions_per_second": 50,
    "adopt.files_per_second": 200,
    "export.direct.time_ratio_vs_native": 1.15,
}
GUARD = re.compile(rf"if\(throwIf\(.*?'{REFUSED_TEXT}'\) = 0, (.*?), \1\)(?= AS )")
"""The expression that carries the check of a row's text."""


@dataclass
class Bench:
    """The stack, a worker's process, and the clients that contenders use."""

    stack: Stack
    settings: Settings
    worker: subprocess.Popen[bytes]
    loop: asyncio.AbstractEventLoop
    clickhouse: ClickHouse
    store: ObjectStore
    directory: Path

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end."""
        return self.loop.run_until_complete(work)

    def sql(self, text: str) -> None:
        """Change the source."""
        self.wait(self.clickhouse.command(text))

    def query(self, hour: str) -> Query:
        """The query that an export of this hour sends, without the check of its text, which is our cost alone."""

        async def make() -> Query:
            config = self.settings.table("local", attestations.TABLE, attestations.NETWORK)
            facts = await read_facts(self.clickhouse, config)
            columns = export_columns(config, facts.columns)
            ours = export_query(config, facts, columns, attestations.NETWORK, index_of(config.partition, hour))
            return replace(ours, text=GUARD.sub(r"\1", ours.text))

        query: Query = self.wait(make())
        return query

    def literal(self, hour: str) -> str:
        """The same with its values written in, for statements that cannot carry parameters."""
        query = self.query(hour)
        text = query.text
        for name, value in query.parameters.items():
            start = text.index("{" + name + ":")
            kind = text[start + len(name) + 2 : text.index("}", start)]
            text = text.replace(text[start : text.index("}", start) + 1], f"CAST('{value}' AS {kind})")
        return text


def icefleet(bench: Bench, table: str, **fields: Any) -> Callable[[], float]:
    """The whole job: request, plan, transfer, verification, commit and event."""

    def run() -> float:
        async def export() -> ExportReport:
            environment = bench.settings.environment(fields.get("environment", "local"))
            client = await connect_temporal(environment)
            request = ExportRequest(table=table, network=attestations.NETWORK, force=True, **fields)
            handle = await start_request(client, environment.temporal.task_queue, request)
            return await handle.result()

        started = time.perf_counter()
        ended = bench.wait(export())
        if ended.status != "complete":
            raise RuntimeError(f"{ended.status}: {ended.message} {ended.failures[:1]}")
        return time.perf_counter() - started

    return run


def native(bench: Bench, hour: str) -> Callable[[], float]:
    """(a) The engine alone: INSERT INTO FUNCTION s3 of the same rows, nothing counted, nothing committed."""
    environment = bench.settings.environment("local").storage
    number = iter(range(1_000_000))
    select = bench.literal(hour)

    def run() -> float:
        url = f"{environment.endpoint}/{environment.bucket}/bench/native-{hour}-{next(number)}.parquet"
        keys = f"'{environment.access_key.get_secret_value()}', '{environment.secret_key.get_secret_value()}'"
        pinned = "prefer_column_name_to_alias = 1, output_format_parquet_compression_method = 'zstd', max_threads = 2"
        return timed(
            lambda: bench.sql(f"INSERT INTO FUNCTION s3('{url}', {keys}, 'Parquet') {select} SETTINGS {pinned}")
        )

    return run


def arrow(bench: Bench, hour: str) -> Callable[[], float]:
    """(b) Arrow batches over HTTP, encoded by pyarrow, uploaded at the end."""
    query = bench.query(hour)
    number = iter(range(1_000_000))

    def run() -> float:
        async def carry() -> None:
            client = await bench.clickhouse._open()  # noqa: SLF001 - a peer that is not ours to tidy
            settings = {"prefer_column_name_to_alias": 1, "max_threads": 2, "output_format_arrow_string_as_string": 1}
            sink, writer = io.BytesIO(), None
            stream = await client.query_arrow_stream(query.text, parameters=dict(query.parameters), settings=settings)
            async with stream:
                async for batch in stream:
                    writer = writer or pq.ParquetWriter(sink, batch.schema, compression="zstd")
                    writer.write(batch)
            if writer is not None:
                writer.close()
            await bench.store.create(f"bench/arrow-{hour}-{next(number)}.parquet", sink.getvalue(), "")

        return timed(lambda: bench.wait(carry()))

    return run


def in_memory(bench: Bench, hour: str) -> Callable[[], float]:
    """(c) The whole result in memory, to a file, uploaded, and counted at the source by a query of its own."""
    query = bench.query(hour)
    number = iter(range(1_000_000))

    def run() -> float:
        async def carry() -> None:
            client = await bench.clickhouse._open()  # noqa: SLF001
            settings = {"prefer_column_name_to_alias": 1, "max_threads": 2}
            table = await client.query_arrow(query.text, parameters=dict(query.parameters), settings=settings)
            with tempfile.TemporaryFile() as file:
                pq.write_table(table, file, compression="zstd")
                file.seek(0)
                body = file.read()
            await bench.store.create(f"bench/memory-{hour}-{next(number)}.parquet", body, "")
            where = query.text[query.text.index(" FROM ") : query.text.index(" ORDER BY ")]
            await bench.clickhouse.rows(Query(f"SELECT count() AS rows{where}", dict(query.parameters)))

        return timed(lambda: bench.wait(carry()))

    return run


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append")
    chosen = list(dict.fromkeys(parser.parse_args().only or PARTS))
    with tempfile.TemporaryDirectory(prefix="icefleet-bench-") as directory:
        figures = measure(Path(directory), chosen)
    report("export", figures, whole=len(chosen) == len(PARTS))
    sys.stdout.flush()
    os._exit(0)


def measure(directory: Path, chosen: list[str]) -> list[Figure]:
    """Start everything, and run what was chosen."""
    with opened(directory, (*SMALL, DIRECT), last="2024-05-01") as bench:
        return Benchmarks(bench).run(chosen)


@contextmanager
def opened(directory: Path, more: Sequence[str], *, last: str) -> Iterator[Bench]:
    """Stack, worker and clients, for the table of attestations and `more` like it, with hours up to the day `last`."""
    config = directory / "config"
    config.mkdir()
    tables: Any = attestations.tables_yaml(last=last)
    entries = tables["groups"]["hourly"]["tables"]
    entries += [dict(entries[0], name=name) for name in more]
    entries.append(published.entry(entries[0]))
    (config / "tables.yaml").write_text(yaml.safe_dump(tables))
    shipped = yaml.safe_load(Path("config/environments.yaml").read_text())
    local = shipped["environments"]["local"]
    local.pop("tables", None)
    direct = {**local, "storage": {**local["storage"], "prefix": DIRECT}, "export": {"transfer": "direct"}}
    direct["temporal"] = {**local["temporal"], "task_queue": DIRECT}
    (config / "environments.yaml").write_text(
        yaml.safe_dump(
            {
                "environments": {"local": local, DIRECT: direct},
                "export_mappings": [{"source": "local.default", "destination": name} for name in ("local", DIRECT)],
            }
        )
    )
    os.environ["ICEFLEET_LOCAL_DIR"] = str(directory / "local")
    os.environ["ICEFLEET_CONFIG_DIR"] = str(config)
    with Stack(directory / "local") as stack:
        settings = load_settings()
        loop = asyncio.new_event_loop()
        with worker_of("local", directory) as worker:
            store = loop.run_until_complete(open_store(settings.environment("local")).__aenter__())
            clickhouse = open_clickhouse(settings, "local.default")
            yield Bench(stack, settings, worker, loop, clickhouse, store, directory)
            loop.run_until_complete(clickhouse.close())
            loop.run_until_complete(store.__aexit__())


@contextmanager
def worker_of(environment: str, directory: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker that serves an environment and is ready, in a process of its own."""
    log = directory / f"worker-{environment}.log"
    program = str(Path(sys.executable).with_name("icefleet"))
    with log.open("wb") as output:
        worker = subprocess.Popen([program, "worker", "-e", environment], stdout=output, stderr=output)
    try:
        wait_for_worker(log)
        yield worker
    finally:
        worker.terminate()
        worker.wait()


def wait_for_worker(log: Path) -> None:
    """Until the worker says that it is ready, and so has imported what it needs."""
    deadline = time.monotonic() + READY_SECONDS
    while "worker is ready" not in log.read_text():
        if time.monotonic() > deadline:
            raise RuntimeError(f"the worker was not ready within {READY_SECONDS} s: {log.read_text()[-2000:]}")
        time.sleep(0.2)


class Benchmarks:
    """The measurements, one method each."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._figures: list[Figure] = []

    def run(self, chosen: list[str]) -> list[Figure]:
        """Fill the tables that are needed, measure, answer the figures."""
        for statement in attestations.create():
            self._bench.sql(statement)
        self._idle = Memory(self._bench.worker.pid).idle
        self._figure("worker.idle_rss_mb", self._idle / 1e6, "MB", "lower")
        for name in chosen:
            {
                "5m": self._five,
                "50m": self._fifty,
                "small": self._small,
                "direct": self._direct,
                "adopt": self._adopt,
            }[name]()
        return self._figures

    def _figure(self, name: str, value: float, unit: str, better: Literal["lower", "higher"]) -> None:
        self._figures.append(Figure(name, round(value, 4), unit, better, AIMS.get(name), COMMAND))
        print(f"  {name}: {value:.3f} {unit}", flush=True)

    def _fill(self, hour: int, rows: int, table: str = attestations.TABLE) -> str:
        label = f"2024-03-20T{hour:02d}"
        print(f"filling {label} with {rows:,} rows …", flush=True)
        for statement in attestations.fill(hour, rows, table):
            self._bench.sql(statement)
        start = attestations.FIRST_HOUR + hour * 3600
        where = f"slot_start_date_time >= toDateTime({start}) AND slot_start_date_time < toDateTime({start + 3600})"
        count = Query(f"SELECT count() AS rows FROM {attestations.DATABASE}.{table} FINAL WHERE {where}")
        found = self._bench.wait(self._bench.clickhouse.rows(count))[0]["rows"]
        if found != rows:
            raise RuntimeError(f"{label} was to hold {rows:,} rows, and holds {found:,}")
        self._calm()
        return label

    def _calm(self) -> None:
        """Wait until the source has merged what is new: that is nobody's time."""
        merging = Query("SELECT count() AS n FROM system.merges")
        while self._bench.wait(self._bench.clickhouse.rows(merging))[0]["n"]:
            time.sleep(1)

    def _five(self) -> None:
        bench, hour = self._bench, self._fill(1, int(5_000_000 * scale()))
        ours = icefleet(bench, attestations.TABLE, from_=hour, to=hour)
        ours()  # the first run makes the table
        seconds = alternate(RUNS, ours, native(bench, hour), arrow(bench, hour), in_memory(bench, hour))
        mine, engine, arrows, memory = (median(one) for one in seconds)
        print(f"  seconds: icefleet {mine:.2f}, engine {engine:.2f}, arrow {arrows:.2f}, in memory {memory:.2f}")
        self._figure("export.5m.time_ratio_vs_native", mine / engine, "times", "lower")
        self._figure("export.5m.time_ratio_vs_arrow", mine / arrows, "times", "lower")
        self._figure("export.5m.time_ratio_vs_in_memory", mine / memory, "times", "lower")

    def _fifty(self) -> None:
        bench, hour = self._bench, self._fill(2, int(50_000_000 * scale()))
        ours = icefleet(bench, attestations.TABLE, from_=hour, to=hour)
        with Memory(bench.worker.pid) as memory:
            seconds = alternate(RUNS, ours, native(bench, hour))
        mine, engine = (median(one) for one in seconds)
        print(f"  seconds: icefleet {mine:.1f} {seconds[0]}, engine {engine:.1f} {seconds[1]}")
        self._figure("export.50m.time_ratio_vs_native", mine / engine, "times", "lower")
        # Over the worker that had just started: what earlier exports left behind counts.
        self._figure("export.50m.worker_growth_mb", (memory.peak - self._idle) / MEGABYTE, "MB", "lower")

    def _small(self) -> None:
        count = max(10, int(1000 * scale()))
        start = attestations.FIRST_HOUR
        at = f"toDateTime({start} + intDiv(number, {SMALL_ROWS}) * 3600 + (number % 300) * 12)"
        for table in SMALL:
            for statement in attestations.create(table):
                self._bench.sql(statement)
            self._bench.sql(attestations.made(table, count * SMALL_ROWS, at))
        self._calm()
        seconds = [icefleet(self._bench, table)() for table in SMALL]
        print(f"  {count} partitions in {seconds} s")
        self._figure("export.small_partitions_per_second", count / median(seconds), "partitions/s", "higher")

    def _direct(self) -> None:
        bench, rows = self._bench, int(5_000_000 * scale())
        for statement in attestations.create(DIRECT):
            bench.sql(statement)
        hour = self._fill(3, rows)
        self._fill(3, rows, DIRECT)
        streamed = icefleet(bench, attestations.TABLE, from_=hour, to=hour)
        with worker_of(DIRECT, bench.directory):
            written = icefleet(bench, DIRECT, environment=DIRECT, from_=hour, to=hour)
            streamed()
            written()  # the first runs make the tables
            seconds = alternate(RUNS, written, streamed, native(bench, hour))
        direct, stream, engine = (median(one) for one in seconds)
        print(f"  seconds: direct {direct:.2f}, stream {stream:.2f}, engine {engine:.2f}")
        self._figure("export.direct.time_ratio_vs_native", direct / engine, "times", "lower")
        self._figure("export.direct.time_ratio_vs_stream", direct / stream, "times", "lower")

    def _adopt(self) -> None:
        bench, count = self._bench, max(100, int(5000 * scale()))
        for statement in attestations.create(published.TABLE):
            bench.sql(statement)
        bench.wait(published.publish(bench.clickhouse, bench.store, count))
        seconds = timed(lambda: bench.wait(adopt(bench, count)))
        print(f"  {count} files in {seconds:.1f} s")
        self._figure("adopt.files_per_second", count / seconds, "files/s", "higher")


async def adopt(bench: Bench, count: int) -> None:
    """The whole job: request, listing, footers, commits, events."""
    environment = bench.settings.environment("local")
    client = await connect_temporal(environment)
    request = AdoptRequest(table=published.TABLE, network=attestations.NETWORK)
    handle = await client.start_workflow(
        ADOPT_WORKFLOW,
        write_input(request),
        id="adopt",
        task_queue=environment.temporal.task_queue,
        result_type=AdoptReport,
    )
    ended = await handle.result()
    if ended.adopted != count:
        raise RuntimeError(f"{ended.status}: {ended.message} {ended.refusals[:1]}")


if __name__ == "__main__":
    main()

"""`make bench-export`: an export end to end, beside what the engine and plainer ways take for the same rows.

Everything runs in one go on this machine: the embedded stack, one worker process, partitions of 5 and 50 million rows
of 37 columns, and 1,000 partitions of 1,000 rows. Contenders take turns; figures are medians. How throughput grows
with workers is measured before a store that answers late (scaling.py).
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import attestations
import published
import scaling
from bench import Bench, opened, worker_of
from contenders import arrow, icefleet, in_memory, native
from harness import MEGABYTE, Figure, Memory, alternate, chosen_parts, median, report, scale, timed

from activities.contracts.adopt import AdoptReport, AdoptRequest
from activities.contracts.export import ADOPT_WORKFLOW
from activities.contracts.inputs import write_input
from activities.core.query import Query
from worker.temporal import connect_temporal

COMMAND = "make bench-export"
RUNS = 3
PARTS = ("5m", "50m", "small", "direct", "adopt", "workers")
DIRECT = "direct"
"""An environment in which ClickHouse writes the files itself, and the one table that is exported there."""
SMALL = ("small", "smaller", "smallest")
"""A table for each run: an export that replaces what is there is another job."""
SMALL_ROWS = 1000
AIMS = {
    "export.5m.time_ratio_vs_native": 1.15,
    "export.50m.time_ratio_vs_native": 1.15,
    "export.50m.worker_growth_mb": 150,
    "export.small_partitions_per_second": 50,
    "adopt.files_per_second": 200,
    "export.direct.time_ratio_vs_native": 1.15,
    "export.workers_4.speedup": 3,
}


def main() -> None:
    """Measure, print, write."""
    chosen = chosen_parts(__doc__, PARTS)
    with tempfile.TemporaryDirectory(prefix="icefleet-bench-") as directory:
        figures = measure(Path(directory), chosen)
    report("export", figures, whole=len(chosen) == len(PARTS))
    sys.stdout.flush()
    os._exit(0)


def measure(directory: Path, chosen: list[str]) -> list[Figure]:
    """Start everything, and run what was chosen."""
    environments = {DIRECT: direct, scaling.LATE: scaling.late_environment}
    tables = (*SMALL, DIRECT)
    with opened(directory, tables, last="2024-05-01", narrow=scaling.SERIES.tables, environments=environments) as bench:
        return Benchmarks(bench).run(chosen)


def direct(local: dict[str, Any]) -> dict[str, Any]:
    """An environment as `local`, in which ClickHouse writes the files itself."""
    return {
        **local,
        "storage": {**local["storage"], "prefix": DIRECT},
        "temporal": {**local["temporal"], "task_queue": DIRECT},
        "export": {"transfer": "direct"},
    }


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
        self._figure("export.worker_idle_rss_mb", self._idle / 1e6, "MB", "lower")
        for name in chosen:
            {
                "5m": self._five,
                "50m": self._fifty,
                "small": self._small,
                "direct": self._direct,
                "adopt": self._adopt,
                "workers": self._workers,
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
        self._bench.calm()
        return label

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
        self._bench.calm()
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

    def _workers(self) -> None:
        speeds = scaling.speeds(self._bench)
        self._figure("export.workers_1.partitions_per_second", speeds[1], "partitions/s", "higher")
        self._figure("export.workers_2.partitions_per_second", speeds[2], "partitions/s", "higher")
        self._figure("export.workers_4.partitions_per_second", speeds[4], "partitions/s", "higher")
        self._figure("export.workers_4.speedup", speeds[4] / speeds[1], "times", "higher")


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

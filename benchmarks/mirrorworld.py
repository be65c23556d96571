"""The stack without ClickHouse, a worker, and mirrors of changelogs that this process writes."""

import asyncio
import gc
import os
import re
import time
import urllib.request
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from bench import worker_of
from mirrorchanges import CHANGE, Rows
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from activities.compacting import compact_mirror
from activities.contracts.inputs import write_input
from activities.contracts.mirrors import (
    MERGE_ONCE_WORKFLOW,
    CompactReport,
    MergeInput,
    MergeOnceRequest,
    MergeReport,
    MirrorInput,
    OrderReport,
)
from activities.lake import mirror as mirrors
from activities.lake.expiry import expire
from activities.merging import merge_mirror
from activities.mirror_context import MirrorContext
from deploy.local.stack import Stack
from worker.config import Environment, load_settings
from worker.temporal import connect_temporal
from worker.wiring_mirrors import open_mirrors

ENVIRONMENT = "local"
MIRRORS = ("m1m", "m10m", "m100m", "reads")
LATENCY = "ticks"
PHASES = "merger.merge.duration_seconds"
FIRST_BATCH_ROWS = 1_000_000


COUNTED = re.compile(r"^SeaweedFS_s3_bucket_traffic_(sent|received)_bytes_total\{.*?\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Carried:
    """Bytes of objects between the store and everybody, as the store counts them: without headers, and without what
    the catalog is asked and answers. Whoever reads ahead and stops has read what was sent.
    """  # noqa: D205 - two sentences that belong together

    read: float = 0
    written: float = 0

    def __add__(self, other: "Carried") -> "Carried":
        return Carried(self.read + other.read, self.written + other.written)

    def __sub__(self, other: "Carried") -> "Carried":
        return Carried(self.read - other.read, self.written - other.written)


@dataclass
class World:
    """What contenders use."""

    environment: Environment
    directory: Path
    worker_pid: int
    metrics_port: int
    """Where the store says what it has counted."""
    context: MirrorContext
    temporal: Client
    catalog: Catalog
    reader: InMemoryMetricReader
    loop: asyncio.AbstractEventLoop

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end."""
        return self.loop.run_until_complete(work)

    def changelog(self, name: str) -> Table:
        """A changelog of one mirror, made anew."""
        self.catalog.create_namespace_if_not_exists("cdc")
        return self.catalog.create_table(f"cdc.{name}", CHANGE)

    def filled(self, name: str, count: int) -> tuple[Table, Rows]:
        """A changelog with `count` rows, and its mirror, which holds them."""
        changelog, rows = self.changelog(name), Rows(count)
        started = time.perf_counter()
        for piece in rows.first():
            changelog.append(rows.numbered(piece, pa.array(["insert"] * piece.num_rows)))
            self.merge(name)
        files = self.table(name).inspect.data_files().num_rows
        print(f"mirror.{name}: {count:,} rows in {files} files, {time.perf_counter() - started:.0f} s", flush=True)
        return changelog, rows

    def merge(self, name: str) -> MergeReport:
        """Turns of the engine until nothing is left to merge; answers the last one's report."""
        while True:
            asked = MergeInput(ENVIRONMENT, f"mirror.{name}", 600)
            report: MergeReport = self.wait(ActivityEnvironment().run(merge_mirror, self.context, asked))
            if not report.more:
                return report

    def compact(self, name: str, *, thorough: bool = False) -> CompactReport:
        """One compaction; a thorough one is what a person orders."""
        asked = MirrorInput(ENVIRONMENT, f"mirror.{name}", thorough)
        report: CompactReport = self.wait(ActivityEnvironment().run(compact_mirror, self.context, asked))
        return report

    def forget(self, name: str) -> None:
        """Let all snapshots of a changelog and of its mirror expire that lie behind what the next merge needs."""
        for identifier, is_needed in ((f"mirror.{name}", mirrors.needed), (f"cdc.{name}", _head_of)):
            expire(self.context.lake, identifier, lambda table, needed=is_needed: _others(table, needed(table)))

    def merge_by_workflow(self, name: str) -> None:
        """The same by the mirror's loop, in the worker."""
        request = write_input(MergeOnceRequest(f"mirror.{name}", ENVIRONMENT))
        report: OrderReport = self.wait(
            self.temporal.execute_workflow(
                MERGE_ONCE_WORKFLOW,
                request,
                id=f"bench-{name}-{time.time_ns()}",
                task_queue=self.environment.temporal.merge_task_queue,
                result_type=OrderReport,
            )
        )
        if report.status != "done":
            raise RuntimeError(f"mirror.{name}: {report.message}")

    def table(self, name: str) -> Table:
        """The mirror, as it is now."""
        return self.catalog.load_table(f"mirror.{name}")

    def phases(self) -> Mapping[str, float]:
        """Seconds that the engine has spent in each phase so far."""
        found = self.reader.get_metrics_data()
        points = [
            point
            for resource in (found.resource_metrics if found else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == PHASES
            for point in metric.data.data_points
        ]
        seconds: dict[str, float] = {}
        for point in points:
            phase = str((point.attributes or {}).get("phase", ""))
            seconds[phase] = seconds.get(phase, 0.0) + float(getattr(point, "sum", 0.0))
        return seconds

    def carried(self) -> Carried:
        """What has been read from the store and written to it so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
            found = COUNTED.findall(answer.read().decode())
        sums = {kind: sum(float(count) for one, count in found if one == kind) for kind in ("sent", "received")}
        return Carried(sums["sent"], sums["received"])


def _head_of(table: Table) -> set[int]:
    head = table.current_snapshot()
    return {head.snapshot_id} if head else set()


def _others(table: Table, needed: set[int]) -> list[int]:
    kept = needed | {ref.snapshot_id for ref in table.metadata.refs.values()}
    return [one.snapshot_id for one in table.snapshots() if one.snapshot_id not in kept]


@contextmanager
def opened(directory: Path) -> Iterator[World]:
    """The world; the worker serves the same mirrors as this process, which is to write to none at the same time."""
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    config = directory / "config"
    config.mkdir()
    local = yaml.safe_load(Path("config/environments.yaml").read_text())["environments"][ENVIRONMENT]
    shipped = next(iter(local.pop("cdc").values()))
    local.pop("tables", None)
    local["cdc"] = {LATENCY: {"source": shipped["source"], "buffer": {**shipped["buffer"], "schema": "bench_latency"}}}
    (config / "environments.yaml").write_text(yaml.safe_dump({"environments": {ENVIRONMENT: local}}))
    (config / "tables.yaml").write_text("groups: {}\n")
    (config / "mirrors.yaml").write_text(yaml.safe_dump({"mirrors": {ENVIRONMENT: entries()}}))
    os.environ["ICEFLEET_LOCAL_DIR"] = str(directory / "local")
    os.environ["ICEFLEET_CONFIG_DIR"] = str(config)
    with (
        Stack(directory / "local", parts=("temporal", "nats", "s3", "postgres")) as stack,
        worker_of(ENVIRONMENT, directory) as worker,
    ):
        settings = load_settings()
        environment = settings.environment(ENVIRONMENT)
        loop = asyncio.new_event_loop()
        temporal = loop.run_until_complete(connect_temporal(environment))
        opening = open_mirrors(settings, ENVIRONMENT, temporal)
        context = loop.run_until_complete(opening.__aenter__())
        gc.freeze()  # as a worker does before it is ready
        port, catalog = stack.ports["s3-metrics"], context.lake.catalog
        yield World(environment, directory, worker.pid, port, context, temporal, catalog, reader, loop)
        loop.run_until_complete(opening.__aexit__(None, None, None))


def entries() -> list[dict[str, Any]]:
    """What mirrors.yaml has: the one to be read is compacted when it is told to, and never by itself."""
    shape = {"primary_keys": ["id"], "batch_size": FIRST_BATCH_ROWS}
    made = [{**shape, "changelog_table": f"cdc.{name}", "mirror_table": f"mirror.{name}"} for name in MIRRORS]
    ticks = {**shape, "changelog_table": f"cdc.public_{LATENCY}_changelog", "mirror_table": f"mirror.{LATENCY}"}
    return [{"namespace": "mirror", **one} for one in (*made, ticks)]

"""One test's own environment on the shared stack: its own database, network, task queue and workflow ids."""

import asyncio
import itertools
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import yaml
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from activities import failpoints
from activities.cdc import Cdc
from activities.cdc_context import CdcContext
from activities.clients.clickhouse import ClickHouse
from activities.context import ExportContext
from activities.contracts.export import REQUEST_WORKFLOW, ExportReport, loop_id
from activities.core.query import Query
from activities.mirror_context import MirrorContext
from deploy.local.stack import Stack
from support import forks
from worker.clickhouse import open_clickhouse
from worker.config import Settings, load_settings
from worker.kinds import all_served
from worker.lake import open_lake
from worker.running import FleetWorker, running
from worker.serving import (
    EXPORTS,
    MIRRORS,
    allow_threads,
    export_rooms,
    mirror_rooms,
    slots_of,
    threads_of,
    worker_of,
)
from worker.temporal import connect_temporal
from worker.wiring import open_export
from worker.wiring_cdc import open_cdc
from worker.wiring_mirrors import open_mirrors

DAY = "2024-03-20"
COLUMNS = {
    "updated": "DateTime",
    "at": "DateTime",
    "number": "UInt64",
    "name": "LowCardinality(String)",
    "network": "LowCardinality(String)",
}
"""The small table that tests export when the schema is not the point."""
PARTS = ("clickhouse", "s3", "catalog", "nats", "temporal")
_numbers = itertools.count(1)


async def eventually(check: Callable[[], Any], *, seconds: float = 90, every: float = 0.1) -> Any:
    """Wait for a condition: answers its first true value. `check` may be a coroutine function."""
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"never came true in {seconds} s: {check}")
        await asyncio.sleep(every)


class Fleet:
    """An environment called `name` with one network called `network` and one source database called `database`.

    `export` and `endpoints` override config: limits (`heartbeat_seconds`, `partitions_per_commit` …), and where a
    part is found (`catalog`, `s3`, `nats`, `clickhouse` → port, such as that of a proxy). `cdc` are its pipelines, as
    `environments.yaml` has them (`support.ownpostgres` writes their databases).
    """

    def __init__(
        self,
        stack: Stack,
        directory: Path,
        *,
        export: Mapping[str, Any] | None = None,
        endpoints: Mapping[str, int] | None = None,
        cdc: Mapping[str, Any] | None = None,
    ) -> None:
        self.stack = stack
        mark = f"{next(_numbers)}x{uuid.uuid4().hex[:6]}"
        self.name, self.network, self.database = f"env{mark}", f"net{mark}", f"db{mark}"
        self.queue = f"queue-{mark}"
        self.cdc_queue = f"cdc-{mark}"
        self.merge_queue = f"merge-{mark}"
        self.upkeep_queue = f"upkeep-{mark}"
        self.directory = directory
        self.tables: list[tuple[str, dict[str, Any]]] = []
        self._export = {"heartbeat_seconds": 3, "retry_initial_seconds": 1, **(export or {})}
        self._cluster: dict[str, Any] = {}
        self._cdc: dict[str, Any] = dict(cdc or {})
        self._mirrors: list[dict[str, Any]] = []
        self._merge: dict[str, Any] = {"cache_directory": str(directory / "indexes")}
        self.storage: dict[str, Any] = {"named_collection": "icefleet"}
        self._nats: dict[str, Any] = {}
        self._endpoints = dict(endpoints or {})
        self._stack = AsyncExitStack()
        self.temporal: Client
        self.clickhouse: ClickHouse
        self.write_config()

    # --- config -----------------------------------------------------------------------------------------------

    def write_config(self) -> None:
        """(Re)write environments.yaml and tables.yaml from what this object holds."""
        port = {name: self._endpoints.get(name, self.stack.ports[name]) for name in PARTS}
        environment = {
            "clickhouse": {
                "default": {
                    "host": "127.0.0.1",
                    "port": port["clickhouse"],
                    "user": "icefleet",
                    "password_env": "ICEFLEET_LOCAL_CLICKHOUSE_PASSWORD",
                    "max_threads": 2,
                    **self._cluster,
                }
            },
            "storage": {
                "endpoint": f"http://127.0.0.1:{port['s3']}",
                "bucket": "icefleet",
                "access_key_env": "ICEFLEET_LOCAL_S3_ACCESS_KEY",
                "secret_key_env": "ICEFLEET_LOCAL_S3_SECRET_KEY",
                "public_url": f"http://127.0.0.1:{self.stack.ports['s3']}/icefleet",
                **self.storage,
            },
            "catalog": {
                "uri": f"http://127.0.0.1:{port['catalog']}",
                "warehouse": "lake",
                "credential_env": "ICEFLEET_LOCAL_CATALOG_CREDENTIAL",
                "oauth2_server_uri": f"http://127.0.0.1:{port['catalog']}/v1/oauth/tokens",
            },
            "nats": {"url": f"nats://127.0.0.1:{port['nats']}", **self._nats},
            "temporal": {
                "address": f"127.0.0.1:{port['temporal']}",
                "task_queue": self.queue,
                "cdc_task_queue": self.cdc_queue,
                "merge_task_queue": self.merge_queue,
                "upkeep_task_queue": self.upkeep_queue,
            },
            "export": self._export,
            "merge": self._merge,
            "cdc": self._cdc,
        }
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "environments.yaml").write_text(
            yaml.safe_dump(
                {
                    "environments": {self.name: environment},
                    "export_mappings": [{"source": f"{self.name}.default", "destination": self.name}],
                }
            )
        )
        kinds = {
            "daily": {"type": "daily"},
            "hourly": {"type": "hourly"},
            "chunked": {"type": "integer", "chunk_size": 1000},
        }
        groups: dict[str, Any] = {
            group: {
                "defaults": {"partition": kind, "lag": 0},
                "tables": [table for own, table in self.tables if own == group],
            }
            for group, kind in kinds.items()
        }
        (self.directory / "tables.yaml").write_text(yaml.safe_dump({"groups": groups}))
        (self.directory / "mirrors.yaml").write_text(yaml.safe_dump({"mirrors": {self.name: self._mirrors}}))

    def settings(self) -> Settings:
        """The config as a worker reads it."""
        return load_settings(self.directory)

    def set_export(self, **limits: Any) -> None:
        """Change limits of the environment; workers started later see them."""
        self._export |= limits
        self.write_config()

    def set_cluster(self, **values: Any) -> None:
        """Change slots and limits of the source; workers started later see them."""
        self._cluster |= values
        self.write_config()

    def set_cdc(self, **pipelines: Any) -> None:
        """Change pipelines, by name; workers started later see them."""
        self._cdc |= pipelines
        self.write_config()

    def set_mirrors(self, *mirrors: Mapping[str, Any], **limits: Any) -> None:
        """Change mirrors, as mirrors.yaml has them, and what a worker does for them; workers started later see them."""
        self._mirrors = [dict(mirror) for mirror in mirrors]
        self._merge |= limits
        self.write_config()

    def set_storage(self, **values: Any) -> None:
        """Change the bucket's part of config, such as the cache in front of it; workers started later see it."""
        self.storage |= values
        self.write_config()

    def set_nats(self, **values: Any) -> None:
        """Change how NATS is logged in to; workers started later see it."""
        self._nats |= values
        self.write_config()

    def point(self, **ports: int) -> None:
        """Send a part's traffic to another port, such as a proxy's; workers started later see it."""
        self._endpoints |= ports
        self.write_config()

    def add_table(self, group: str, name: str, column: str, **more: Any) -> None:
        """Put a table into tables.yaml. `group` is `daily`, `hourly` or `chunked`; `more` are its further keys."""
        network = {"name": self.network, **({"start_index": 0} if group == "chunked" else {"start_date": "2024-03-01"})}
        network |= more.pop("network", {})
        partition = {"column": column, **more.pop("partition", {})}
        table = {
            "name": name,
            "database": self.database,
            "networks": [network],
            "partition": partition,
            "network_column": "network",
            **more,
        }
        self.tables = [entry for entry in self.tables if entry[1]["name"] != name]
        self.tables.append((group, table))
        self.write_config()

    # --- source -----------------------------------------------------------------------------------------------

    async def sql(self, text: str) -> list[dict[str, Any]]:
        """Ask the source."""
        return await self.clickhouse.rows(Query(text))

    async def run_sql(self, text: str) -> None:
        """Change the source."""
        await self.clickhouse.command(text)

    async def make_days(self, name: str = "events", days: int = 3, rows: int = 100, **more: Any) -> str:
        """A small daily table: `days` days up to 2024-03-20, `rows` rows each. Answers its Iceberg identifier."""
        return await self._make("daily", name, 86_400, days, rows, {"network": {"end_date": DAY}, **more})

    async def make_hours(self, name: str = "events", hours: int = 6, rows: int = 10, **more: Any) -> str:
        """A small hourly table: the last `hours` hours of 2024-03-20."""
        return await self._make("hourly", name, 3_600, hours, rows, {"network": {"end_date": DAY}, **more})

    async def _make(self, group: str, name: str, step: int, count: int, rows: int, more: dict[str, Any]) -> str:
        columns = ", ".join(f"{column} {kind}" for column, kind in COLUMNS.items())
        await self.run_sql(
            f"CREATE TABLE {self.database}.{name} ({columns}) ENGINE = ReplacingMergeTree(updated) "
            "ORDER BY (network, at, number)"
        )
        await self.insert(
            name, f"toDateTime('2024-03-21 00:00:00', 'UTC') - ({step} * (1 + intDiv(number, {rows})))", count * rows
        )
        self.add_table(group, name, "at", **more)
        return f"{self.network}.{name}"

    async def insert(
        self, name: str, at: str, rows: int, *, updated: str = "2024-04-01 00:00:00", offset: int = 0
    ) -> None:
        """Insert `rows` rows; `at` is SQL over `number`."""
        await self.run_sql(
            f"INSERT INTO {self.database}.{name} (updated, at, number, name, network) SELECT "
            f"toDateTime('{updated}', 'UTC'), {at}, number + {offset}, concat('n', toString(number % 7)), "
            f"'{self.network}' FROM numbers({rows})"
        )

    async def queries(self, marker: str) -> list[dict[str, Any]]:
        """The source's query log: finished or failed queries whose comment contains `marker`."""
        await self.run_sql("SYSTEM FLUSH LOGS")
        return await self.sql(
            "SELECT query_id, query, log_comment, type, read_rows FROM system.query_log "
            f"WHERE type != 'QueryStart' AND position(log_comment, '{marker}') > 0 ORDER BY event_time_microseconds"
        )

    # --- work -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def worker(self, *, slots: int = 8) -> AsyncIterator[ExportContext]:
        """A worker of the fleet's exports, with so many slots for them, in this process."""
        async with (
            open_export(self.settings(), self.name, self.temporal) as context,
            running(self.workers(EXPORTS, export_rooms(context), export=slots)),
        ):
            yield context

    @asynccontextmanager
    async def cdc_worker(self) -> AsyncIterator[CdcContext]:
        """A worker of the fleet's pipelines in this process."""
        async with (
            open_cdc(self.settings(), self.name, self.temporal) as context,
            running(self.workers(("cdc",), [Cdc(context)])),
        ):
            yield context

    @asynccontextmanager
    async def merge_worker(self, *, slots: int = 4) -> AsyncIterator[MirrorContext]:
        """A worker of the fleet's mirrors in this process, which no event wakes."""
        async with (
            open_mirrors(self.settings(), self.name, self.temporal) as context,
            running(self.workers(MIRRORS, mirror_rooms(context), merge=slots)),
        ):
            yield context

    def workers(
        self, works: Sequence[str], rooms: Sequence[object], *, temporal: Client | None = None, **slots: int
    ) -> list[FleetWorker]:
        """Workers of some kinds of queues, which do not run yet; `slots` are those that differ from config's."""
        settings = self.settings()
        environment = settings.environment(self.name)
        serving = [one for one in all_served(settings, self.name) if one.work in works]
        having = {**slots_of(environment), **slots}
        allow_threads(threads_of(environment, serving, having))
        return [worker_of(temporal or self.temporal, one, rooms, slots=having[one.work]) for one in serving]

    @asynccontextmanager
    async def context(self) -> AsyncIterator[ExportContext]:
        """What activities work with, without a worker: to call their rooms directly."""
        async with open_export(self.settings(), self.name, self.temporal) as context:
            yield context

    @contextmanager
    def worker_process(
        self, *options: str, failpoint: str = "", variables: Mapping[str, str] | None = None
    ) -> Iterator[forks.Process]:
        """A worker in a process of its own, which dies at `failpoint` (`name`, or `name:n` for the n-th time it is
        reached); ended at the end if it still lives. `options` and `variables` are further ones of the command."""
        command = ["worker", "-e", self.name, *options]
        if failpoint:
            command += ["--failpoint", failpoint]
        log = self.directory / f"worker-{uuid.uuid4().hex[:6]}.log"
        with log.open("wb") as output:
            process = forks.start(command, {**self.variables(), **(variables or {})}, output, output)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()

    def variables(self) -> dict[str, str]:
        """The environment variables of a command that is to work with this fleet."""
        ours = {
            "ICEFLEET_LOCAL_DIR": str(self.stack.directory),
            "ICEFLEET_CONFIG_DIR": str(self.directory),
            "ICEFLEET_ENVIRONMENT": self.name,
        }
        return {**os.environ, **ours}

    async def command(self, *words: str, seconds: float = 180) -> tuple[int, str, str]:
        """Run `icefleet …` and answer exit code, output and errors."""
        return await forks.run(words, self.variables(), seconds)

    async def start(self, table: str = "events", **fields: Any) -> WorkflowHandle[Any, ExportReport]:
        """Start a RequestExport; `from_` stands for `from`."""
        payload = {"environment": self.name, "network": self.network, "table": table}
        payload |= {name.rstrip("_"): value for name, value in fields.items()}
        return await self.temporal.start_workflow(
            REQUEST_WORKFLOW, payload, id=f"request-{uuid.uuid4()}", task_queue=self.queue, result_type=ExportReport
        )

    async def request(self, table: str = "events", *, seconds: float = 180, **fields: Any) -> ExportReport:
        """Ask for an export and wait for its report."""
        return await asyncio.wait_for((await self.start(table, **fields)).result(), seconds)

    def loop(self, table: str = "events") -> WorkflowHandle[Any, Any]:
        """The table's loop."""
        return self.temporal.get_workflow_handle(loop_id(self.name, self.network, table))

    async def loop_ended(self, table: str = "events", *, seconds: float = 30) -> str:
        """Wait until the loop has nothing left to do; answers its status."""

        async def ended() -> str:
            status = (await self.loop(table).describe()).status
            return status.name if status is not None and status.name != "RUNNING" else ""

        return str(await eventually(ended, seconds=seconds))

    # --- results ----------------------------------------------------------------------------------------------

    def table(self, table: str = "events") -> Any:
        """The PyIceberg table as it is now; None when there is none."""
        return self.load(f"{self.network}.{table}")

    def load(self, identifier: str) -> Any:
        """The same of any identifier."""
        environment = self.settings().environment(self.name)
        direct = replace_ports(environment, self.stack)
        return open_lake(direct).load(identifier)

    def files(self, table: str = "events") -> list[tuple[str, int]]:
        """Path below the table's prefix and row count of every live file, sorted."""
        loaded = self.table(table)
        if loaded is None or loaded.current_snapshot() is None:
            return []
        found = loaded.inspect.files().to_pylist()
        return sorted((file["file_path"].split(f"/{table}/")[-1], file["record_count"]) for file in found)

    async def events(self, table: str = "events", network: str = "") -> list[dict[str, Any]]:
        """Every event of the table that the stream holds, in order, with its id as `_id`."""
        from nats.js.errors import NotFoundError  # noqa: PLC0415 - a reader that is not ours

        from support.busreader import messages  # noqa: PLC0415

        try:
            subject = f"icefleet.{self.name}.snapshot.{network or self.network}.{table}"
            found = await messages(self.stack.ports["nats"], subject)
        except NotFoundError:  # nothing has ever been announced, so there is no stream yet
            return []
        return [{**json.loads(one.data), "_id": (one.headers or {})["Nats-Msg-Id"]} for one in found]

    # --- life -------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        settings = self.settings()
        direct = replace_ports(settings.environment(self.name), self.stack)
        self.temporal = await connect_temporal(direct)
        self.clickhouse = open_clickhouse(replace(settings, environments={self.name: direct}), f"{self.name}.default")
        self._stack.push_async_callback(self.clickhouse.close)
        await self.run_sql(f"CREATE DATABASE {self.database}")
        return self

    async def __aexit__(self, *_: object) -> None:
        failpoints.disarm()
        query = (
            f"TaskQueue IN ('{self.queue}', '{self.cdc_queue}', '{self.merge_queue}') AND ExecutionStatus = 'Running'"
        )
        async for left in self.temporal.list_workflows(query):
            try:
                await self.temporal.get_workflow_handle(left.id).terminate("the test is over")
            except RPCError as ended:  # the list lags behind
                if ended.status != RPCStatusCode.NOT_FOUND:
                    raise
        await self.run_sql(f"DROP DATABASE {self.database}")
        await self._stack.aclose()


def replace_ports(environment: Any, stack: Stack) -> Any:
    """The environment with every part at its own port: what a test looks with must not go through a proxy."""
    clusters = {
        name: cluster.model_copy(update={"port": stack.ports["clickhouse"]})
        for name, cluster in environment.clickhouse.items()
    }
    catalog = f"http://127.0.0.1:{stack.ports['catalog']}"
    return environment.model_copy(
        update={
            "clickhouse": clusters,
            "storage": environment.storage.model_copy(update={"endpoint": f"http://127.0.0.1:{stack.ports['s3']}"}),
            "catalog": environment.catalog.model_copy(
                update={"uri": catalog, "oauth2_server_uri": f"{catalog}/v1/oauth/tokens"}
            ),
        }
    )

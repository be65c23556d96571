"""The sample of the demo in the stack that all tests share, and a worker of the environment `local`."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from activities.clients.clickhouse import ClickHouse
from activities.contracts.export import REQUEST_WORKFLOW, ExportReport
from activities.core.query import Query
from deploy.local.stack import Stack
from support import forks
from support.fleet import eventually
from worker.clickhouse import open_clickhouse
from worker.config import Environment, load_settings
from worker.temporal import connect_temporal

ROOT = Path(__file__).parents[2]
BLOCKS = "beacon_api_eth_v1_events_block"
ATTESTATIONS = "beacon_api_eth_v1_events_attestation"
EXECUTION = "canonical_execution_block"
TABLES = [f"{network}.{table}" for table in (BLOCKS, ATTESTATIONS, EXECUTION) for network in ("mainnet", "holesky")]


class Sample:
    """The seeded sample, exported by the repository's own config."""

    def __init__(self, stack: Stack, log: Path) -> None:
        self.stack = stack
        self.log = log
        self.environment: Environment
        self.clickhouse: ClickHouse
        self.reports: dict[str, ExportReport] = {}
        """By `<network>.<table>`, of the first export."""

    @property
    def variables(self) -> dict[str, str]:
        """Of a command that works with the sample."""
        ours = {"ICEFLEET_LOCAL_DIR": str(self.stack.directory), "ICEFLEET_CONFIG_DIR": str(ROOT / "config")}
        return {**os.environ, **ours}

    async def command(self, *words: str, seconds: float = 180, **variables: str) -> tuple[int, str, str]:
        """Run `icefleet …` and answer exit code, output and errors."""
        return await forks.run(words, {**self.variables, **variables}, seconds)

    async def sql(self, text: str, **parameters: Any) -> list[dict[str, Any]]:
        """Ask the source."""
        return await self.clickhouse.rows(Query(text, parameters))

    async def export(self, identifier: str, **fields: Any) -> ExportReport:
        """Ask for an export of `<network>.<table>` and wait for its report; `from_` stands for `from`."""
        network, _, table = identifier.partition(".")
        payload = {"table": table, "network": network} | {name.rstrip("_"): value for name, value in fields.items()}
        handle = await self.temporal.start_workflow(
            REQUEST_WORKFLOW,
            payload,
            id=f"sample-{identifier}-{os.urandom(4).hex()}",
            task_queue=self.environment.temporal.task_queue,
            result_type=ExportReport,
        )
        return await asyncio.wait_for(handle.result(), 180)

    async def open(self) -> None:
        settings = load_settings(ROOT / "config")
        self.environment = settings.environment("local")
        self.temporal = await connect_temporal(self.environment)
        self.clickhouse = open_clickhouse(settings, "local.default")


@pytest.fixture(scope="session")
async def sample(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sample]:
    """Seeded, every closed partition of both networks exported, and the worker still there."""
    own = Sample(stack, tmp_path_factory.mktemp("sample") / "worker.log")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICEFLEET_LOCAL_DIR", str(stack.directory))
        await own.open()
    # Leashed as the stack is: a test run that is killed leaves no worker behind.
    leash = [sys.executable, "-I", "-S", str(ROOT / "deploy" / "local" / "leash.py"), str(os.getpid())]
    command = [*leash, str(Path(sys.executable).with_name("icefleet")), "worker"]
    with own.log.open("wb") as log:
        worker = await asyncio.create_subprocess_exec(*command, env=own.variables, stdout=log, stderr=log)
    try:
        code, output, errors = await own.command("seed", "--scale", "0.34")
        assert code == 0, output + errors
        await eventually(lambda: b"worker is ready" in own.log.read_bytes())
        reports = await asyncio.gather(*(own.export(table) for table in TABLES))
        own.reports = dict(zip(TABLES, reports, strict=True))
        yield own
    finally:
        await own.clickhouse.close()
        worker.terminate()
        await asyncio.wait_for(worker.wait(), 30)

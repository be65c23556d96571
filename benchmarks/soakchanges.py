"""What a soak does to a table of PostgreSQL: its changes are captured, ingested and merged beside the exports."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any, Self

from bench import Bench
from pyiceberg.exceptions import NoSuchTableError

from activities.contracts.cdc import INSTALL_WORKFLOW, InstallReport, InstallRequest
from activities.contracts.inputs import write_input
from worker.lake import open_lake
from worker.temporal import connect_temporal
from worker.wiring_cdc import pipeline_config

ENVIRONMENT, PIPELINE = "local", "demo"
SOURCE = "public.soaked_orders"
CHANGELOG, MIRROR = "cdc.public_soaked_orders_changelog", "mirror.soaked_orders"
MIRRORS = [{"changelog_table": CHANGELOG, "mirror_table": MIRROR, "primary_keys": ["id"]}]
ROWS = 20
"""That a turn writes; as many older ones are changed, and one goes."""
PATIENCE_SECONDS = 300


class Changes:
    """Use as an async context manager; `go_on` is one turn."""

    def __init__(self, bench: Bench) -> None:
        self._environment = bench.settings.environment(ENVIRONMENT)
        self._source = pipeline_config(ENVIRONMENT, PIPELINE, self._environment.cdc[PIPELINE]).buffer
        self._opened = AsyncExitStack()
        self._turns = 0
        self.made = 0
        """Changes until then."""

    async def __aenter__(self) -> Self:
        self._lake = open_lake(self._environment)
        self._connection = await self._opened.enter_async_context(await self._source.connect())
        await self._ask(f"CREATE TABLE {SOURCE} (id bigint PRIMARY KEY, turn bigint NOT NULL, text text)")
        client = await connect_temporal(self._environment)
        installed: InstallReport = await client.execute_workflow(
            INSTALL_WORKFLOW,
            write_input(InstallRequest(PIPELINE, [SOURCE], ENVIRONMENT)),
            id="soak-install",
            task_queue=self._environment.temporal.cdc_task_queue,
            result_type=InstallReport,
        )
        if installed.status != "installed":
            raise RuntimeError(f"{installed.status}: {installed.message}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    async def go_on(self) -> None:
        """Insert some rows, change some older ones, delete one."""
        first = self._turns * ROWS
        self._turns += 1
        changed = await self._ask(
            f"INSERT INTO {SOURCE} SELECT id, {self._turns}, md5(id::text) "
            f"FROM generate_series({first}, {first + ROWS - 1}) id"
        )
        changed += await self._ask(
            f"UPDATE {SOURCE} SET turn = {self._turns} WHERE id BETWEEN {first - ROWS} AND {first - 1}"
        )
        self.made += changed + await self._ask(f"DELETE FROM {SOURCE} WHERE id = {first - ROWS}")

    async def arrive(self) -> None:
        """Wait until the mirror has the source's rows.

        Raises:
            RuntimeError: it never did: what this soak says of captures, ingests and merges is void.
        """
        async with self._connection.cursor() as cursor:
            await cursor.execute(f"SELECT id, turn FROM {SOURCE} ORDER BY id")
            wanted = await cursor.fetchall()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := await asyncio.to_thread(self._mirrored)) != wanted:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{MIRROR} has {len(found)} rows, which are not the {len(wanted)} of {SOURCE}")
            await asyncio.sleep(1)

    def _mirrored(self) -> list[tuple[Any, ...]]:
        try:
            rows = self._lake.catalog.load_table(MIRROR).scan(selected_fields=("id", "turn")).to_arrow()
        except NoSuchTableError:
            return []
        return sorted((row["id"], row["turn"]) for row in rows.to_pylist())

    async def _ask(self, statement: str) -> int:
        return (await self._connection.execute(statement)).rowcount

"""How long single rows take from COMMIT at a PostgreSQL to the mirror."""

import asyncio
import random
import time
from collections.abc import Iterator
from typing import Literal

from harness import median
from mirrorworld import ENVIRONMENT, LATENCY, World
from pyiceberg.exceptions import NoSuchTableError

from activities.contracts.cdc import INSTALL_WORKFLOW, InstallReport, InstallRequest
from activities.contracts.inputs import write_input
from worker.wiring_cdc import pipeline_config

Found = tuple[str, float, str, Literal["lower", "higher"]]
COMMITS = 30
PATIENCE_SECONDS = 120


def latency_figures(world: World) -> Iterator[Found]:
    """The median over commits some time apart."""
    found = world.wait(latencies(world))
    print(f"  seconds from COMMIT to mirror: {min(found):.2f} to {max(found):.2f}", flush=True)
    yield "cdc.latency_p50_seconds", median(found), "s", "lower"


async def latencies(world: World) -> list[float]:
    """Seconds from each COMMIT of a row until the catalog shows it in the mirror."""
    source = pipeline_config(ENVIRONMENT, LATENCY, world.environment.cdc[LATENCY]).buffer
    pauses = random.Random(1)  # noqa: S311 - so that commits are in step with nothing
    async with await source.connect() as connection:
        await connection.execute(f"CREATE TABLE public.{LATENCY} (id bigint PRIMARY KEY, at timestamptz DEFAULT now())")
        await connection.execute(f"INSERT INTO public.{LATENCY} VALUES (0)")
        request = write_input(InstallRequest(LATENCY, [f"public.{LATENCY}"], ENVIRONMENT))
        queue = world.environment.temporal.cdc_task_queue
        installed: InstallReport = await world.temporal.execute_workflow(
            INSTALL_WORKFLOW, request, id="bench-install", task_queue=queue, result_type=InstallReport
        )
        if installed.status != "installed":
            raise RuntimeError(f"{installed.status}: {installed.message}")
        await seen(world, 1)
        found = []
        for number in range(1, COMMITS + 1):
            await asyncio.sleep(pauses.uniform(0.1, 1.6))
            started = time.perf_counter()
            await connection.execute(f"INSERT INTO public.{LATENCY} VALUES (%s)", (number,))
            await seen(world, number + 1)
            found.append(time.perf_counter() - started)
    return found


async def seen(world: World, rows: int) -> None:
    """Wait until the mirror has so many rows: none of them is ever changed."""
    deadline = time.perf_counter() + PATIENCE_SECONDS
    while await asyncio.to_thread(rows_of, world) < rows:
        if time.perf_counter() > deadline:
            raise RuntimeError(f"mirror.{LATENCY} never held {rows} rows")
        await asyncio.sleep(0.02)


def rows_of(world: World) -> int:
    """How many rows a reader of the catalog sees; 0 when there is no table."""
    try:
        head = world.table(LATENCY).current_snapshot()
    except NoSuchTableError:
        return 0
    return int(head.summary["total-records"] or 0) if head and head.summary else 0

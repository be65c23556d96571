"""Ingests and first copies that die at named points: one process imports all once, and every victim is a fork of it.

    python dyingpipelines.py '[["directory", "environment", "pipeline", false, "cdc-after-commit"], …]'

Answers the signal that ended each, as a JSON list.
"""

from pathlib import Path

from temporalio.testing import ActivityEnvironment

from activities.contracts.cdc import CopyInput, IngestInput
from activities.copying import copy_table
from activities.ingesting import ingest_batch
from support.dying import let_die
from worker.config import load_settings
from worker.wiring_cdc import open_cdc

COPIED = "public.orders"


async def work(directory: str, environment: str, pipeline: str, copies: bool) -> None:  # noqa: FBT001 - from JSON
    """One batch or one copy, as a worker does it."""
    async with open_cdc(load_settings(Path(directory)), environment, None) as context:  # type: ignore[arg-type]
        if copies:
            await ActivityEnvironment().run(copy_table, context, CopyInput(environment, pipeline, COPIED))
        else:
            await ActivityEnvironment().run(ingest_batch, context, IngestInput(environment, pipeline, 0))


if __name__ == "__main__":
    let_die(work)

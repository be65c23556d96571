"""Ingests that die at named points: one process imports everything once, and every victim is a fork of it.

    python dyingingests.py '[["directory", "environment", "pipeline", "cdc-after-commit"], …]'

Answers the signal that ended each, as a JSON list.
"""

from pathlib import Path

from temporalio.testing import ActivityEnvironment

from activities.contracts.cdc import IngestInput
from activities.ingesting import ingest_batch
from support.dying import let_die
from worker.config import load_settings
from worker.wiring_cdc import open_cdc


async def ingest(directory: str, environment: str, pipeline: str) -> None:
    """One batch, as a worker does it."""
    async with open_cdc(load_settings(Path(directory)), environment, None) as context:  # type: ignore[arg-type]
        await ActivityEnvironment().run(ingest_batch, context, IngestInput(environment, pipeline, 0))


if __name__ == "__main__":
    let_die(ingest)

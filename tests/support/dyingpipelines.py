"""Ingests, copies and announcers that die at named points: forks of one process, which imports everything once.

    python dyingpipelines.py '[["directory", "environment", "pipeline", "batch", "cdc-after-commit"], …]'

Answers the signal that ended each, as a JSON list.
"""

from pathlib import Path

from temporalio.testing import ActivityEnvironment

from activities.announcing_changelogs import announce_changelogs
from activities.contracts.cdc import ChangelogsInput, CopyInput, IngestInput
from activities.copying import copy_table
from activities.ingesting import ingest_batch
from support.dying import let_die
from worker.config import load_settings
from worker.wiring_cdc import open_cdc

COPIED = "public.orders"


async def work(directory: str, environment: str, pipeline: str, doing: str) -> None:
    """One batch, one copy, or all announcements, as a worker does it."""
    async with open_cdc(load_settings(Path(directory)), environment, None) as context:  # type: ignore[arg-type]
        if doing == "announce":
            await ActivityEnvironment().run(announce_changelogs, context, ChangelogsInput(environment, pipeline, []))
        elif doing == "copy":
            await ActivityEnvironment().run(copy_table, context, CopyInput(environment, pipeline, COPIED))
        else:
            await ActivityEnvironment().run(ingest_batch, context, IngestInput(environment, pipeline, 0))


if __name__ == "__main__":
    let_die(work)

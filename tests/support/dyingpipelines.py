"""Ingests, copies and announcers that die at named points: forks of one process, which imports everything once.

    python dyingpipelines.py '[["directory", "environment", "pipeline", "cdc-after-commit"], …]'

What each does says its point. Answers the signal that ended each, as a JSON list.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from temporalio.testing import ActivityEnvironment

from activities import failpoints
from activities.announcing_changelogs import announce_changelogs
from activities.contracts.cdc import ChangelogsInput, CopyInput, IngestInput
from activities.copying import copy_table
from activities.ingesting import ingest_batch
from worker.config import load_settings
from worker.wiring_cdc import open_cdc

COPIED = "public.orders"


async def work(directory: str, environment: str, pipeline: str, failpoint: str) -> None:
    """One batch, one copy, or all announcements, as a worker does it."""
    async with open_cdc(load_settings(Path(directory)), environment, None) as context:  # type: ignore[arg-type]
        if failpoint.endswith("-announce"):
            await ActivityEnvironment().run(announce_changelogs, context, ChangelogsInput(environment, pipeline, []))
        elif failpoint in failpoints.COPY_NAMES:
            await ActivityEnvironment().run(copy_table, context, CopyInput(environment, pipeline, COPIED))
        else:
            await ActivityEnvironment().run(ingest_batch, context, IngestInput(environment, pipeline, 0))


def die(directory: str, environment: str, pipeline: str, failpoint: str) -> int:
    """Start one that is to die; answers its process id."""
    child = os.fork()
    if child == 0:
        failpoints.arm_death(failpoint)
        asyncio.run(work(directory, environment, pipeline, failpoint))
        os._exit(0)
    return child


def main() -> None:
    """Let all of them die at once."""
    children = [die(*victim) for victim in json.loads(sys.argv[1])]
    ends = [os.waitpid(child, 0)[1] for child in children]
    sys.stdout.write(json.dumps([os.WTERMSIG(end) if os.WIFSIGNALED(end) else 0 for end in ends]))


if __name__ == "__main__":
    main()

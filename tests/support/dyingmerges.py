"""Merges that die at named points: one process imports everything once, and every victim is a fork of it.

    python dyingmerges.py '[["directory", "environment", {…a MirrorConfig…}, "merge-after-commit"], …]'

Answers the signal that ended each, as a JSON list.
"""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from temporalio.testing import ActivityEnvironment

from activities import failpoints
from activities.contracts.mirrors import MergeInput
from activities.core.mirrors import MirrorConfig
from activities.merging import merge_mirror
from support.mirrorcontext import mirror_context
from worker.config import load_settings


async def merge(directory: str, environment: str, said: dict[str, Any]) -> None:
    """One turn, as a worker does it that has cached nothing."""
    config = MirrorConfig(**{**said, "primary_keys": tuple(said["primary_keys"])})
    with tempfile.TemporaryDirectory() as cache:
        settings = load_settings(Path(directory))
        async with mirror_context(settings, environment, None, Path(cache), config) as context:
            await ActivityEnvironment().run(merge_mirror, context, MergeInput(environment, config.mirror))


def die(directory: str, environment: str, said: dict[str, Any], failpoint: str) -> int:
    """Start one that is to die; answers its process id."""
    child = os.fork()
    if child == 0:
        failpoints.arm_death(failpoint)
        asyncio.run(merge(directory, environment, said))
        os._exit(0)
    return child


def main() -> None:
    """Let all of them die at once."""
    children = [die(*victim) for victim in json.loads(sys.argv[1])]
    ends = [os.waitpid(child, 0)[1] for child in children]
    sys.stdout.write(json.dumps([os.WTERMSIG(end) if os.WIFSIGNALED(end) else 0 for end in ends]))


if __name__ == "__main__":
    main()

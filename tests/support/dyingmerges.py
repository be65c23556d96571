"""Merges, and what else is done to mirrors, that die at named points.

One process imports everything once, and every victim is a fork of it.

    python dyingmerges.py '[["directory", "environment", {…a MirrorConfig…}, "merge", "merge-after-commit"], …]'

Answers the signal that ended each, as a JSON list.
"""

import tempfile
from pathlib import Path
from typing import Any

from temporalio.testing import ActivityEnvironment

from activities import sweeping
from activities.bootstrapping import bootstrap_mirror
from activities.compacting import compact_mirror
from activities.contracts.mirrors import MergeInput, MirrorInput
from activities.core.mirrors import ExpiryRules, MirrorConfig
from activities.merging import merge_mirror
from activities.mirror_index import rebuild_index
from activities.tidying import tidy_mirror
from support.dying import let_die
from support.mirrorcontext import mirror_context
from worker.config import load_settings

DOING: dict[str, Any] = {
    "compact": compact_mirror,
    "bootstrap": bootstrap_mirror,
    "tidy": tidy_mirror,
    "rebuild": rebuild_index,
}
"""What is done to a mirror beside merges; whatever is not among it is a merge."""


async def work(directory: str, environment: str, said: dict[str, Any], doing: str) -> None:
    """One turn, as a worker does it that has cached nothing."""
    keys, expiry = tuple(said["primary_keys"]), ExpiryRules(**said["expiry"])
    config = MirrorConfig(**{**said, "primary_keys": keys, "expiry": expiry})
    sweeping.SKEW_SECONDS = -2  # the store counts in whole seconds
    with tempfile.TemporaryDirectory() as cache:
        settings = load_settings(Path(directory))
        async with mirror_context(settings, environment, None, Path(cache), config) as context:
            if doing in DOING:
                asked = MirrorInput(environment, config.mirror, thorough=True)
                await ActivityEnvironment().run(DOING[doing], context, asked)
            else:
                await ActivityEnvironment().run(merge_mirror, context, MergeInput(environment, config.mirror))


if __name__ == "__main__":
    let_die(work)

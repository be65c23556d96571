"""A worker is killed as a power cut would, between any two steps of a merge: another one finishes, nothing twice.

All victims share a fleet, and each has a mirror of its own.
"""

import asyncio
import json
import os
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from activities import failpoints
from activities.contracts.mirrors import MergeReport
from support.fleet import Fleet
from support.mirrors import Mirror, gone, opened, put, same_by_all_readers, update

POINTS = [*sorted(failpoints.MERGE_NAMES), "merge-before-commit:2", "merge-after-commit:2"]
TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Aftermath:
    """What became of the merge of one victim."""

    signal: int
    report: MergeReport
    rows: list[tuple[Any, ...]]
    mirror: Mirror
    before: set[str]
    """Objects that the victim left."""
    after: set[str]


@pytest.fixture(scope="module")
async def aftermaths(stack, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICEFLEET_LOCAL_DIR", str(stack.directory))
        async with Fleet(stack, tmp_path_factory.mktemp("crashes")) as fleet, AsyncExitStack() as held:
            victims = {}
            for point in POINTS:
                # Pieces of two changes: each victim has two commits to make.
                one = await held.enter_async_context(opened(fleet, batch_rows=3))
                await one.write(put(1, name="a"), put(2, name="b"), put(3, name="c"))
                await one.merge()
                await one.write(update(1, name="d"), gone(2), put(4, name="e"))
                await one.write(update(3, name="f"), put(5, name="g"))
                victims[point] = one
            ends = await die(fleet, victims)
            found = {point: await aftermath(end, victims[point]) for point, end in ends.items()}
            tables = [one.config.mirror for one in victims.values()]
            yield found, dict(zip(POINTS, same_by_all_readers(fleet, tables), strict=True))


async def die(fleet: Fleet, victims: dict[str, Mirror]) -> dict[str, int]:
    keys = ("changelog", "mirror", "primary_keys", "batch_rows")
    asked = [
        [str(fleet.directory), fleet.name, {key: getattr(one.config, key) for key in keys}, point]
        for point, one in victims.items()
    ]
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(TESTS / "support" / "dyingmerges.py"), json.dumps(asked)),
        env={**fleet.variables(), "PYTHONPATH": path},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return dict(zip(victims, json.loads(output), strict=True))


async def aftermath(ended: int, one: Mirror) -> Aftermath:
    before = await one.objects()
    report = await one.merge()
    one.check()
    one.check_index()
    return Aftermath(ended, report, one.read("id", "name"), one, before, await one.objects())


@pytest.mark.parametrize("point", POINTS)
def test_whoever_comes_after_a_crash_finishes_and_merges_nothing_twice_cases_21_22_23_26(aftermaths, point):
    one, by_all = aftermaths[0][point], aftermaths[1][point]
    assert one.signal == signal.SIGKILL
    assert one.rows == [(1, "d"), (3, "f"), (4, "e"), (5, "g")]
    assert sorted(row[1:] for row in by_all) == one.rows
    # Two pieces, in as many commits, whoever made them.
    landed = {"merge-after-commit": 1, "merge-before-commit:2": 1, "merge-after-commit:2": 2}.get(point, 0)
    assert (one.report.commits, len(one.mirror.snapshots())) == (2 - landed, 3)
    # What is in doubt is never deleted.
    assert one.before <= one.after

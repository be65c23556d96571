"""A worker is killed as a power cut would, between any two steps of a merge: another one finishes, nothing twice.

So it is in a compaction, while a mirror begins again, and while what is old is deleted.

All victims share a fleet, and each has a mirror of its own.
"""

import signal
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities import failpoints, sweeping
from activities.bootstrapping import bootstrap_mirror
from activities.contracts.mirrors import CompactReport, MergeReport, MirrorInput, TidyReport
from activities.core.mirrors import ExpiryRules
from support.dying import deaths
from support.fleet import Fleet
from support.mirrors import Mirror, gone, opened, put, same_by_all_readers, update

POINTS = [*sorted(failpoints.MERGE_NAMES), "merge-before-commit:2", "merge-after-commit:2"]
OTHERS = [("compact", "compact-after-write"), ("compact", "compact-before-commit"), ("compact", "compact-after-commit")]
OTHERS += [("bootstrap", "merge-after-index"), ("bootstrap", "merge-before-commit"), ("tidy", "tidy-before-delete")]
VICTIMS = [*(("merge", point) for point in POINTS), *OTHERS]
AT_ONCE = ExpiryRules(keep_snapshots=1, snapshot_age_seconds=0, grace_seconds=0)
Victim = tuple[str, str]
"""What is done, and where that ends."""


@dataclass(frozen=True)
class Aftermath:
    """What became of the merge of one victim."""

    signal: int
    report: MergeReport | CompactReport | TidyReport
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
            patch.setattr(sweeping, "SKEW_SECONDS", -2)  # the store counts in whole seconds
            for doing, point in VICTIMS:
                # Pieces of two changes: each victim of a merge has two commits to make.
                one = await held.enter_async_context(opened(fleet, batch_rows=3, expiry=AT_ONCE))
                await one.write(put(1, name="a"), put(2, name="b"), put(3, name="c"))
                await one.merge()
                await one.write(update(1, name="d"), gone(2), put(4, name="e"))
                await one.write(update(3, name="f"), put(5, name="g"))
                if doing != "merge":
                    await one.drain()
                if doing == "tidy":
                    await one.tidy()  # lists what the next one deletes
                victims[doing, point] = one
            ends = await die(fleet, victims)
            found = {victim: await aftermath(end, victims[victim], victim[0]) for victim, end in ends.items()}
            tables = [one.config.mirror for one in victims.values()]
            yield found, dict(zip(VICTIMS, same_by_all_readers(fleet, tables), strict=True))


async def die(fleet: Fleet, victims: dict[Victim, Mirror]) -> dict[Victim, int]:
    keys = ("changelog", "mirror", "primary_keys", "batch_rows")
    asked = [
        [
            *(str(fleet.directory), fleet.name),
            {**{key: getattr(one.config, key) for key in keys}, "expiry": asdict(one.config.expiry)},
            *victim,
        ]
        for victim, one in victims.items()
    ]
    return dict(zip(victims, await deaths(fleet, "dyingmerges.py", asked), strict=True))


async def aftermath(ended: int, one: Mirror, doing: str) -> Aftermath:
    before = await one.objects()
    report = await DONE_AGAIN[doing](one)
    one.check()
    one.check_index()
    return Aftermath(ended, report, one.read("id", "name"), one, before, await one.objects())


async def bootstrap(one: Mirror) -> MergeReport:
    asked = MirrorInput(one.fleet.name, one.config.mirror)
    return await ActivityEnvironment().run(bootstrap_mirror, one.context, asked)


DONE_AGAIN = {
    "merge": Mirror.merge,
    "compact": lambda one: one.compact(thorough=True),
    "bootstrap": bootstrap,
    "tidy": Mirror.tidy,
}


@pytest.mark.parametrize("point", POINTS)
def test_whoever_comes_after_a_crash_finishes_and_merges_nothing_twice_cases_21_22_23_26(aftermaths, point):
    one, by_all = (found["merge", point] for found in aftermaths)
    assert one.signal == signal.SIGKILL
    assert one.rows == [(1, "d"), (3, "f"), (4, "e"), (5, "g")]
    assert sorted(row[1:] for row in by_all) == one.rows
    # Two pieces, in as many commits, whoever made them.
    landed = {"merge-after-commit": 1, "merge-before-commit:2": 1, "merge-after-commit:2": 2}.get(point, 0)
    assert (one.report.commits, len(one.mirror.snapshots())) == (2 - landed, 3)
    # What is in doubt is never deleted.
    assert one.before <= one.after


@pytest.mark.parametrize(("doing", "point"), OTHERS)
def test_whoever_comes_after_a_crash_of_what_else_is_done_finishes_it_and_readers_see_the_same_rows(
    aftermaths, doing, point
):
    one, by_all = (found[doing, point] for found in aftermaths)
    assert one.signal == signal.SIGKILL
    assert one.rows == [(1, "d"), (3, "f"), (4, "e"), (5, "g")]
    assert sorted(row[1:] for row in by_all) == one.rows
    if isinstance(one.report, TidyReport):
        assert (one.report.deleted > 0, one.report.problem) == (True, "")
        assert one.after < one.before
        return
    # Done once: by the next one, unless the commit had landed.
    landed = point == "compact-after-commit"
    assert (one.report.snapshot_id == "", len(one.mirror.snapshots())) == (landed, 4)
    assert one.before <= one.after

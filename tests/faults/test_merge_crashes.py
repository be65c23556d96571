"""A worker is killed as a power cut would, between any two steps of a merge: another one finishes, nothing twice.

So it is in a compaction, while a mirror begins again or gets a new index, and while what is old expires and is deleted.

All victims share a fleet, and each has a mirror of its own.
"""

import signal
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities import failpoints, sweeping
from activities.bootstrapping import bootstrap_mirror
from activities.contracts.mirrors import CompactReport, MergeReport, MirrorInput, TidyReport
from activities.core.mirrors import INDEX, ExpiryRules, IndexPointer
from activities.lake.mirrornames import named_by
from activities.mirror_index import rebuild_index
from support.dying import deaths
from support.fleet import Fleet
from support.mirrors import Mirror, gone, opened, put, same_by_all_readers, update

POINTS = [*sorted(failpoints.MERGE_NAMES), "merge-before-commit:2", "merge-after-commit:2"]
OTHERS = [(point.partition("-")[0], point) for point in sorted(failpoints.MIRROR_UPKEEP_NAMES)]
OTHERS += [("bootstrap", "merge-after-index"), ("bootstrap", "merge-before-commit")]
OTHERS += [("rebuild", point) for point in sorted(failpoints.REBUILD_NAMES)]
# A merge that finds no index makes it anew before it goes on.
OTHERS += [("lost", "rebuild-before-store"), ("lost", "rebuild-after-store")]
VICTIMS = [*(("merge", point) for point in POINTS), *OTHERS]
LANDED = {"compact-after-commit", "rebuild-after-commit"}
AT_ONCE = ExpiryRules(keep_snapshots=1, snapshot_age_seconds=0, grace_seconds=0)
Victim = tuple[str, str]
"""What is done, and where that ends."""


@dataclass(frozen=True)
class Aftermath:
    """What became of the merge of one victim."""

    signal: int
    report: MergeReport | CompactReport | TidyReport
    rows: list[tuple[Any, ...]]
    snapshots: int
    before: set[str]
    """Objects that the victim left."""
    after: set[str]
    late: MergeReport
    """Of a merge on a worker that has cached nothing, of a change that must lose and one that changes nothing."""
    needless: list[str]
    """Objects that nothing names once everything was swept."""


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
                if doing not in {"merge", "lost"}:
                    await one.drain()
                if doing == "lost":
                    await lose_index(one)
                if point.endswith("-delete"):
                    await one.tidy()  # lists what the next one deletes
                victims[doing, point] = one
            ends = await die(fleet, victims)
            known = {one.config.mirror: one.config for one in victims.values()}
            for one in victims.values():
                # Were the others unknown, each sweep would look through all of them as tables that were put aside.
                one.context = replace(one.context, mirrors=known)
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
    snapshots, after = len(one.snapshots()), await one.objects()
    late = await merge_late(one)
    needless = await swept(one)
    return Aftermath(ended, report, one.read("id", "name"), snapshots, before, after, late, needless)


async def merge_late(one: Mirror) -> MergeReport:
    """Merge an insert from before its key's delete, and an update to what is there, by the index in the store."""
    forget(one)
    await one.write(put(2, one.written[1].number, ordinal=1, name="late"), update(1, name="d"))
    report = await one.merge()
    one.check()
    one.check_index()
    return report


async def swept(one: Mirror) -> list[str]:
    """Let everything expire and go that may. What is left is enough; answered is what of it nothing names."""
    await one.tidy()
    await one.tidy()
    forget(one)
    one.check_index()
    one.check()
    store, left = one.context.store, sorted(await one.objects())
    named = named_by(one.table(), one.lake.files().part, one.context.index_cache)
    held = named.holds([f"{store.name}/{key}" for key in left])
    return [key for key, is_held in zip(left, held, strict=True) if not is_held]


def forget(one: Mirror) -> None:
    """From now on it is a worker that has cached nothing."""
    one.context = replace(one.context, cache_directory=one.fleet.directory / f"cold-{uuid.uuid4().hex}")


async def lose_index(one: Mirror) -> None:
    pointer = IndexPointer.load(one.snapshots()[-1][INDEX])
    assert pointer is not None
    await one.context.store.delete(one.context.store.key(pointer.path))
    forget(one)


def asking(work: Any) -> Callable[[Mirror], Awaitable[MergeReport]]:
    async def ask(one: Mirror) -> MergeReport:
        asked = MirrorInput(one.fleet.name, one.config.mirror)
        report: MergeReport = await ActivityEnvironment().run(work, one.context, asked)
        return report

    return ask


DONE_AGAIN = {
    "merge": Mirror.merge,
    "lost": Mirror.merge,
    "compact": lambda one: one.compact(thorough=True),
    "bootstrap": asking(bootstrap_mirror),
    "rebuild": asking(rebuild_index),
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
    assert (one.report.commits, one.snapshots) == (2 - landed, 3)
    # What is in doubt is never deleted.
    assert one.before <= one.after
    assert (one.late.index_rebuilt, one.needless) == ("", [])


@pytest.mark.parametrize(("doing", "point"), OTHERS)
def test_whoever_comes_after_a_crash_of_what_else_is_done_finishes_it_and_readers_see_the_same_rows(
    aftermaths, doing, point
):
    one, by_all = (found[doing, point] for found in aftermaths)
    assert one.signal == signal.SIGKILL
    assert one.rows == [(1, "d"), (3, "f"), (4, "e"), (5, "g")]
    assert sorted(row[1:] for row in by_all) == one.rows
    # The index that is there is what one made from scratch is; and what no snapshot names is gone, and nothing else.
    assert (one.late.index_rebuilt, one.late.superseded, one.needless) == ("", 1, [])
    if isinstance(one.report, TidyReport):
        did = (one.report.expired > 0, one.report.deleted > 0, one.report.problem)
        assert did == (point == "tidy-before-expire", point.endswith("-delete"), "")
        assert one.after < one.before if point.endswith("-delete") else one.before <= one.after
        return
    assert one.before <= one.after
    landed = point in LANDED
    if doing == "rebuild":
        assert (one.report.index_rebuilt, one.report.commits) == ("somebody asked for it", 1)
        assert one.snapshots == 4 + landed
    elif doing == "lost":
        assert ("cannot be read" in one.report.index_rebuilt, one.report.commits, one.snapshots) == (True, 2, 3)
    else:
        # Done once: by the next one, unless the commit had landed.
        assert (one.report.snapshot_id == "", one.snapshots) == (landed, 4)


def test_every_point_of_compactions_tidying_and_new_indexes_has_killed_somebody():
    assert {point for _, point in OTHERS} >= failpoints.MIRROR_UPKEEP_NAMES | failpoints.REBUILD_NAMES

"""What a mirror's loop tells the world: each thing that is wrong once, until it ends, whatever else is wrong."""

from datetime import timedelta

import pytest
from temporalio.common import RetryPolicy

from activities import findings
from activities.contracts.mirrors import BOOTSTRAP_SIGNAL, MERGE_SIGNAL, MergeInput, TidyReport
from activities.core.faults import BusUnavailable, CatalogUnavailable, MirrorForeign, StoreUnavailable
from support.cdcloops import progress_of
from support.findings import findings_of
from support.fleet import eventually
from support.measured import measured
from support.mirrorloops import MIRROR, merged, mirror_loops, told
from workflows import lasting, merge_mirror, mirror_upkeep, steered

FEW = RetryPolicy(initial_interval=timedelta(milliseconds=1), maximum_attempts=2)
DUE = merged(1, compaction_due="17 small files")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """What fails is tried again soon, and lasts as soon as it fails."""
    monkeypatch.setattr(steered, "TRY_AGAIN", timedelta(seconds=0.05))
    monkeypatch.setattr(mirror_upkeep, "AGAIN", timedelta(seconds=0.05))
    monkeypatch.setattr(mirror_upkeep, "REST", timedelta(0))
    monkeypatch.setattr(lasting, "LASTS_SECONDS", 0)
    for policy in (merge_mirror.MERGE, merge_mirror.REMAKE, mirror_upkeep.TIDY):
        monkeypatch.setitem(policy, "retry_policy", FEW)


async def said(fleet, kind="merge"):
    """What each event named, in order."""
    events = await findings_of(fleet, "orders", kind, network="shop")
    return [[one["partition"] for one in event.get("partitions", [])] for event in events]


async def test_what_a_kept_order_fails_with_and_what_merges_fail_with_are_each_told_once_until_they_end(fleet):
    async with mirror_loops(fleet) as own:
        loop = await own.start()
        await progress_of(loop, doing="", woken=False)
        own.rooms.remade = lambda *_: StoreUnavailable("away")
        own.rooms.always[MIRROR] = CatalogUnavailable("gone")
        door = await own.order(1, BOOTSTRAP_SIGNAL)
        both = told("StoreUnavailable: away", "CatalogUnavailable: gone")
        await progress_of(loop, told=both)
        orders, merges = len(own.rooms.done("bootstrap")), len(own.rooms.called(MergeInput))
        # However often one fails after the other.
        await eventually(
            lambda: len(own.rooms.done("bootstrap")) >= orders + 6 and len(own.rooms.called(MergeInput)) >= merges + 6
        )
        assert (await progress_of(loop))["told"] == both
        own.rooms.always.clear()
        await progress_of(loop, told=told("StoreUnavailable: away"))
        own.rooms.remade = lambda *_: merged(9)
        assert (await door.result())["status"] == "done"
        await progress_of(loop, told=told(), state="running", trouble=None)
        events = await said(fleet)
    assert events == [["StoreUnavailable"], ["CatalogUnavailable", "StoreUnavailable"], ["StoreUnavailable"], []]


async def test_faults_of_merges_that_take_turns_are_each_told_once_until_a_merge_ends_well(fleet):
    async with mirror_loops(fleet) as own:
        loop = await own.start()
        await progress_of(loop, doing="", woken=False)
        faults = [StoreUnavailable("away"), StoreUnavailable("away"), CatalogUnavailable("gone")]
        own.rooms.merges[MIRROR] = [*(faults + faults[2:]) * 5, merged()]
        await loop.signal(MERGE_SIGNAL)
        await eventually(lambda: not own.rooms.merges[MIRROR])
        await progress_of(loop, told=told(), state="running", trouble=None, woken=False)
        events = await said(fleet)
    assert events == [["StoreUnavailable"], ["CatalogUnavailable", "StoreUnavailable"], []]


async def test_compactions_that_keep_failing_are_a_finding_of_their_own_until_one_ends_well(fleet, monkeypatch):
    monkeypatch.setattr(lasting, "LASTS_SECONDS", 3600)
    with measured(findings) as points:
        async with mirror_loops(fleet) as own:
            own.rooms.merges[MIRROR] = [DUE]
            own.rooms.compacted = [MirrorForeign("file a is gone")]
            loop = await own.start()
            once = await progress_of(loop, doing="", woken=False, told=told())
            assert once["compaction"]["failing"]["causes"] == {"MirrorForeign": "file a is gone"}
            monkeypatch.setattr(lasting, "LASTS_SECONDS", 0)
            for count, file in enumerate("bc", 2):
                own.rooms.compacted = [MirrorForeign(f"file {file} is gone")]
                own.rooms.merges[MIRROR] = [DUE]
                await loop.signal(MERGE_SIGNAL)
                await eventually(lambda count=count: len(own.rooms.done("compact")) == count)
                failing = await progress_of(loop, told=told(compaction="MirrorForeign: file a is gone"))
            standing = points()["icefleet.findings"]
            own.rooms.merges[MIRROR] = [DUE]
            await loop.signal(MERGE_SIGNAL)
            await progress_of(loop, told=told())
        events = [await said(fleet, kind) for kind in ("upkeep", "merge")]
    assert failing["compaction"]["failed"].startswith("MirrorForeign: file c is gone (who must act: ")
    assert (failing["state"], failing["trouble"]) == ("running", None)
    assert events == [[["compaction"], []], []]
    about = {"environment": fleet.name, "network": "shop", "table": "orders"}
    assert ({**about, "kind": "upkeep"}, 1) in standing
    assert ({**about, "kind": "merge"}, 0) in standing


async def test_a_compaction_that_failed_and_is_due_no_more_is_told_no_more(fleet):
    async with mirror_loops(fleet) as own:
        own.rooms.merges[MIRROR] = [DUE]
        own.rooms.compacted = [MirrorForeign("file a is gone")]
        loop = await own.start()
        await progress_of(loop, told=told(compaction="MirrorForeign: file a is gone"))
        await loop.signal(MERGE_SIGNAL)
        ended = await progress_of(loop, told=told(), doing="", woken=False)
    assert (ended["compaction"]["failed"], ended["compaction"]["done"]) == ("", 0)


async def test_tidying_that_keeps_failing_is_a_finding_and_is_tried_again_though_nothing_is_merged(fleet):
    async with mirror_loops(fleet) as own:
        own.rooms.tidied = BusUnavailable("away")
        loop = await own.start()
        await progress_of(loop, told=told(tidying="BusUnavailable: away"))
        merges, tried = len(own.rooms.called(MergeInput)), len(own.rooms.done("tidy"))
        await eventually(lambda: len(own.rooms.done("tidy")) > tried + 4)
        own.rooms.tidied = TidyReport(announced=3)
        after = await progress_of(loop, told=told())
        assert len(own.rooms.called(MergeInput)) == merges
        # What no retry can mend ends a tidying well; it comes with the next merge again.
        own.rooms.tidied = TidyReport(problem="BusRefused: no stream takes it")
        await loop.signal(MERGE_SIGNAL)
        await progress_of(loop, told=told(tidying="BusRefused: no stream takes it"))
        own.rooms.tidied = TidyReport()
        await loop.signal(MERGE_SIGNAL)
        await progress_of(loop, told=told())
        events = [await said(fleet, kind) for kind in ("upkeep", "merge")]
    assert after["tidying"]["counts"]["announced"] == 3
    assert after["tidying"]["problem"] == ""
    assert events == [[["tidying"], [], ["tidying"], []], []]


async def test_what_fails_and_what_was_told_of_it_outlive_continuing_as_new(fleet):
    async with mirror_loops(fleet) as own:
        own.rooms.merges[MIRROR] = [DUE]
        own.rooms.compacted = [MirrorForeign("file a is gone")]
        own.rooms.tidied = TidyReport(problem="BusRefused: no stream takes it")
        loop = await own.start(turns_per_run=1)
        wrong = told(compaction="MirrorForeign: file a is gone", tidying="BusRefused: no stream takes it")
        await progress_of(loop, told=wrong)
        first = (await loop.describe()).run_id
        own.rooms.compacted, own.rooms.merges[MIRROR] = [MirrorForeign("file b is gone")], [DUE]
        await loop.signal(MERGE_SIGNAL)
        await eventually(lambda: len(own.rooms.done("compact")) == 2)
        await progress_of(loop, told=wrong, doing="", woken=False)
        assert (await loop.describe()).run_id != first
        events = await said(fleet, "upkeep")
    assert events[-1] == ["compaction", "tidying"]
    assert [len(event) for event in events] == sorted({len(event) for event in events})

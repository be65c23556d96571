"""The durable loop of a mirror: when it merges, what it does beside, people's orders, and continuing as new."""

import asyncio
import os
from datetime import timedelta

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.common import RetryPolicy

from activities import failpoints
from activities.contracts.mirrors import (
    BOOTSTRAP_SIGNAL,
    COMPACT_SIGNAL,
    MERGE_SIGNAL,
    MERGE_WORKFLOW,
    PAUSE_SIGNAL,
    REBUILD_SIGNAL,
    RESUME_SIGNAL,
    STOP_SIGNAL,
    CompactReport,
    MergeInput,
    MergeOnceRequest,
    MergeReport,
    MirrorTrouble,
    TidyReport,
)
from activities.core.faults import (
    BadConfig,
    CatalogRefused,
    ChangeInvalid,
    MirrorForeign,
    SchemaConflict,
    StoreRefused,
    StoreUnavailable,
    WatermarkLost,
)
from activities.mirrors import Mirrors
from support.backfills import details
from support.cdcloops import progress_of
from support.findings import findings_of
from support.fleet import eventually
from support.mirrorloops import MIRROR, NOTHING, merged, mirror_loops, told
from support.mirrors import opened, put
from workflows import lasting, merge_mirror, steered
from workflows.merge_mirror import MergeMirror

MIRRORS = int(os.environ.get("MERGE_MIRRORS") or 12)
"""`make test-large` has as many as case 61 says."""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """What is under way when an order comes gets less time to end by itself."""
    monkeypatch.setattr(MergeMirror, "grace", timedelta(seconds=0.2))


async def failure_of(door):
    """The cause of a run that is to fail."""
    with pytest.raises(WorkflowFailureError) as failed:
        await door.result()
    return failed.value.cause


async def test_a_loop_merges_until_nothing_is_left_and_then_waits_for_its_interval_or_a_signal(fleet):
    async with mirror_loops(fleet, sandboxed=True) as own:
        own.rooms.merges[MIRROR] = [merged(5, more=True, lag_events=3, lag_seconds=9.0), merged(3, interval_seconds=1)]
        own.rooms.tidied = TidyReport(announced=1, expired=2, deleted=3)
        loop = await own.start()
        # Nobody says anything: the third merge is that of the interval, which is a second, and then an hour.
        progress = await progress_of(loop, last={**vars(NOTHING)})
        await eventually(lambda: len(own.rooms.called(MergeInput)) == 3)
        await loop.signal(MERGE_SIGNAL)
        await eventually(lambda: len(own.rooms.called(MergeInput)) == 4)
        text = await details(loop)

        async def every_tidying_is_counted():
            announced = (await progress_of(loop))["tidying"]["counts"]["announced"]
            return announced == len(own.rooms.done("tidy")) >= 1

        await eventually(every_tidying_is_counted)
    assert (progress["state"], progress["mirror"], progress["watermark"]) == ("running", MIRROR, "41")
    assert {name: progress["counts"][name] for name in ("merges", "commits", "upserted")} == {
        "merges": 3,
        "commits": 2,
        "upserted": 8,
    }
    assert own.rooms.called(MergeInput) == [MergeInput(fleet.name, MIRROR, 60.0)] * 4
    assert text.splitlines()[0] == f"**{fleet.name}.{MIRROR}**: running"
    assert "merged up to changelog snapshot 41" in text


async def test_a_signal_that_comes_during_a_merge_brings_another_one(fleet):
    async with mirror_loops(fleet) as own:
        own.rooms.held.add(MIRROR)
        loop = await own.start()
        await eventually(lambda: own.rooms.running)
        for _ in range(3):
            await loop.signal(MERGE_SIGNAL)
        own.rooms.held.clear()
        progress = await progress_of(loop, doing="", woken=False)
        assert len(own.rooms.called(MergeInput)) == 2
    assert progress["counts"]["merges"] == 2


async def test_a_door_is_answered_by_a_merge_that_began_after_it_asked(fleet):
    async with mirror_loops(fleet, sandboxed=True) as own:
        own.rooms.held.add(MIRROR)
        await own.start()
        await eventually(lambda: own.rooms.running)
        own.rooms.merges[MIRROR] = [NOTHING, merged(7, more=True, deleted=2), merged(1)]
        door = await own.order()
        await eventually(lambda: own.rooms.called(MergeOnceRequest))
        own.rooms.held.clear()
        report = await door.result()
        assert len(own.rooms.called(MergeOnceRequest)) == 1
    assert report["status"] == "done"
    assert report["message"] == (
        f"{MIRROR} has everything up to changelog snapshot 41: 8 rows upserted and 2 deleted in 2 commits"
    )


@pytest.mark.parametrize("fault", [WatermarkLost, MirrorForeign, SchemaConflict, ChangeInvalid, BadConfig])
async def test_what_only_a_person_can_mend_holds_the_loop_is_told_to_the_world_and_ends_when_it_is_resumed(
    fleet, fault
):
    async with mirror_loops(fleet) as own:
        own.rooms.merges[MIRROR] = [fault("look at this")]
        loop = await own.start()
        progress = await progress_of(loop, state="waiting", told=told(f"{fault.__name__}: look at this"))
        text = await details(loop)
        refused = await failure_of(await own.order())
        await loop.signal(MERGE_SIGNAL)
        # Neither an event nor the clock ends it; one was told, once.
        held = await progress_of(loop, state="waiting")
        assert len(own.rooms.called(MergeInput)) == 1
        (found,) = await findings_of(fleet, "orders", "merge", network="shop")
        await loop.signal(RESUME_SIGNAL)
        await progress_of(loop, state="running", trouble=None, told=told())
        said = await findings_of(fleet, "orders", "merge", network="shop")
    assert progress["trouble"] == held["trouble"]
    assert (progress["trouble"]["cause"], progress["trouble"]["for_good"]) == (fault.__name__, True)
    assert f"{fault.__name__}: look at this (who must act: operator; goes on when it is told to" in text
    assert (refused.type, refused.details[1]) == (fault.__name__, {"who must act": "operator"})
    assert "icefleet mirrors resume" in refused.message
    assert found["table"] == MIRROR
    assert found["partitions"] == [{"partition": fault.__name__, "detail": f"{fault.__name__}: look at this"}]
    assert [len(event.get("partitions", [])) for event in said] == [1, 0]


async def test_a_mirror_that_is_dropped_while_it_is_merged_is_made_anew_and_needs_nobody_case_34(fleet):
    async with opened(fleet) as orders:
        name = orders.config.mirror

        async def drop():
            failpoints.disarm()
            await asyncio.to_thread(orders.lake.catalog.drop_table, name)

        await orders.write(put(1, name="a"))
        await orders.merge()
        await orders.write(put(2, name="b"))
        failpoints.arm("merge-before-commit", drop)
        async with mirror_loops(fleet, [name], rooms=Mirrors) as own:
            head = str(orders.changelog().current_snapshot().snapshot_id)
            progress = await progress_of(await own.start(name), watermark=head)
        assert (progress["state"], progress["trouble"]) == ("running", None)
        orders.check()


async def test_a_mirror_that_waits_for_its_changelog_says_so_fails_orders_and_is_a_finding_after_some_time(
    fleet, monkeypatch
):
    async with mirror_loops(fleet) as own:
        own.rooms.merges[MIRROR] = [MergeReport(waiting_for="changelog shop.typo is not in the catalog")] * 10_000
        loop = await own.start()
        progress = await progress_of(loop, doing="", woken=False)
        text = await details(loop)
        failed = await failure_of(await own.order())
        assert await findings_of(fleet, "orders", "merge", network="shop") == []
        monkeypatch.setattr(merge_mirror, "WAITS_LONG_SECONDS", 0.2)
        await loop.signal(MERGE_SIGNAL)
        await progress_of(loop, told=told("Waiting: changelog shop.typo is not in the catalog"))
        own.rooms.merges[MIRROR] = []
        await progress_of(loop, told=told())
        said = await findings_of(fleet, "orders", "merge", network="shop")
    assert (progress["state"], progress["due_at"] < progress["waiting_since"] + 901) == ("running", True)
    assert "- waits: changelog shop.typo is not in the catalog" in text
    assert (failed.type, failed.message) == ("BadConfig", f"{MIRROR} waits: changelog shop.typo is not in the catalog")
    assert [len(event.get("partitions", [])) for event in said] == [1, 0]


async def test_what_may_pass_is_tried_again_and_what_is_refused_is_tried_again_every_minute_or_when_asked(
    fleet, monkeypatch
):
    async with mirror_loops(fleet) as own:
        own.rooms.merges[MIRROR] = [StoreUnavailable("away"), CatalogRefused("no such warehouse")]
        loop = await own.start()
        progress = await progress_of(loop, state="waiting")
        assert "CatalogRefused: no such warehouse (who must act: operator; tried again every minute)" in await details(
            loop
        )
        own.rooms.merges[MIRROR] = [CatalogRefused("still none"), merged()]
        refused = await failure_of(await own.order(1))
        report = await (await own.order(2)).result()
        await progress_of(loop, state="running", trouble=None)
        assert await findings_of(fleet, "orders", "merge", network="shop") == []
        monkeypatch.setattr(steered, "TRY_AGAIN", timedelta(seconds=0.2))
        own.rooms.merges[MIRROR] = [CatalogRefused("again"), CatalogRefused("again"), merged(11)]
        # However often an event comes, it neither hastens the next try nor holds it up.
        while own.rooms.merges[MIRROR]:
            await loop.signal(MERGE_SIGNAL)
            await asyncio.sleep(0.01)
        await progress_of(loop, state="running", trouble=None, woken=False)
    assert progress["trouble"]["for_good"] is False
    assert (refused.type, report["status"]) == ("CatalogRefused", "done")
    # One that may pass was tried again by itself.
    assert len(own.rooms.called(MergeInput)) >= 2 + 2 + 3


@pytest.mark.parametrize("fault", [StoreRefused, StoreUnavailable])
async def test_what_fails_for_long_is_a_finding_once_though_it_may_pass_and_another_says_that_it_has(
    fleet, monkeypatch, fault
):
    monkeypatch.setattr(steered, "TRY_AGAIN", timedelta(seconds=0.1))
    few = RetryPolicy(initial_interval=timedelta(milliseconds=1), maximum_attempts=2)
    monkeypatch.setitem(merge_mirror.MERGE, "retry_policy", few)
    async with mirror_loops(fleet) as own:
        own.rooms.always[MIRROR] = fault("no key a-1")
        loop = await own.start()
        early = await progress_of(loop, state="waiting", doing="")
        assert await findings_of(fleet, "orders", "merge", network="shop") == []
        monkeypatch.setattr(lasting, "LASTS_SECONDS", 0.2)
        await progress_of(loop, told=told(f"{fault.__name__}: no key a-1"))
        # Neither another try nor other words of it is news, nor is that somebody asks for a merge.
        own.rooms.always[MIRROR] = fault("no key b-2")
        await failure_of(await own.order())
        own.rooms.always.clear()
        after = await progress_of(loop, state="running", trouble=None, told=told())
        said = await findings_of(fleet, "orders", "merge", network="shop")
    assert (early["trouble"]["for_good"], early["failing"]["causes"]) == (False, {fault.__name__: "no key a-1"})
    assert after["failing"]["causes"] == {}
    assert [event.get("partitions", []) for event in said] == [
        [{"partition": fault.__name__, "detail": f"{fault.__name__}: no key a-1"}],
        [],
    ]


@pytest.mark.timeout(300 + MIRRORS)
async def test_case_61_a_mirror_that_fails_keeps_no_other_from_going_on(fleet):
    mirrors = [f"shop.t{number}" for number in range(MIRRORS)]
    async with mirror_loops(fleet, mirrors, slots=4) as own:
        own.rooms.always = {"shop.t3": WatermarkLost("expired"), "shop.t4": StoreUnavailable("away")}
        loops = {mirror: await own.start(mirror) for mirror in mirrors}
        well = [name for name in mirrors if name not in own.rooms.always]
        for name in well:
            await eventually(lambda name=name: name in own.rooms.begun, seconds=MIRRORS)
            own.rooms.merges[name] = [merged(4)]
            await loops[name].signal(MERGE_SIGNAL)
        await eventually(lambda: not any(own.rooms.merges.values()), seconds=MIRRORS)
        for name in well[:: max(1, MIRRORS // 20)]:
            progress = await progress_of(loops[name], state="running", trouble=None, doing="")
            assert progress["counts"]["upserted"] == 4
        failing = await progress_of(loops["shop.t3"], state="waiting")
        tried = [call for call in own.rooms.called(MergeInput) if call.mirror == "shop.t4"]
    assert failing["trouble"]["cause"] == "WatermarkLost"
    assert tried


async def test_case_62_a_merge_that_is_paused_ends_begins_nothing_and_goes_on_when_it_is_resumed(fleet):
    async with mirror_loops(fleet) as own:
        own.rooms.held.add(MIRROR)
        loop = await own.start()
        await eventually(lambda: own.rooms.running)
        door = await own.order(1)
        await eventually(lambda: own.rooms.called(MergeOnceRequest))
        await loop.signal(PAUSE_SIGNAL)
        await eventually(lambda: not own.rooms.running)
        interrupted = await failure_of(door)
        own.rooms.held.clear()
        await loop.signal(MERGE_SIGNAL)
        refused = [await failure_of(await own.order(2)), await failure_of(await own.order(3, COMPACT_SIGNAL))]
        paused = await progress_of(loop, state="paused", doing="")
        began = len(own.rooms.called(MergeInput))
        own.rooms.merges[MIRROR] = [merged(6)]
        await loop.signal(RESUME_SIGNAL)
        resumed = await progress_of(loop, state="running", doing="", woken=False)
    assert (paused["counts"]["merges"], began, resumed["counts"]["upserted"]) == (0, 1, 6)
    assert paused["trouble"] is None
    assert {failure.message for failure in (interrupted, *refused)} == {
        f"{MIRROR} is paused; icefleet mirrors resume has it go on"
    }
    assert own.rooms.done("compact") == []


async def test_a_mirror_that_is_paused_or_held_tells_its_lag_and_its_trouble_again_until_it_goes_on(fleet, monkeypatch):
    monkeypatch.setattr(steered, "TRY_AGAIN", timedelta(seconds=0.1))
    async with opened(fleet) as orders:
        await orders.write(put(1, name="a"))
        async with mirror_loops(fleet, [orders.config.mirror], rooms=Mirrors) as own:
            loop = await own.start(orders.config.mirror)
            await progress_of(loop, doing="", lag_events=0, woken=False)
            await loop.signal(PAUSE_SIGNAL)
            await orders.write(put(2, name="b"), put(3, name="c"))
            paused = await progress_of(loop, state="paused", lag_events=2)
            text = await details(loop)
            await loop.signal(RESUME_SIGNAL)
            await progress_of(loop, state="running", lag_events=0)
    async with mirror_loops(fleet) as own:
        own.rooms.merges[MIRROR] = [BadConfig("look at this")]
        await own.start()
        await eventually(lambda: len(own.rooms.done("watch")) > 1)
    assert paused["lag_seconds"] > 0
    assert "; lag 2 changes, " in text


async def test_case_29_orders_that_arrive_while_the_loop_continues_as_new_are_carried_out_once_each(fleet):
    orders = [MERGE_SIGNAL, REBUILD_SIGNAL, COMPACT_SIGNAL] * 4
    async with mirror_loops(fleet) as own:
        own.rooms.merges[MIRROR] = [merged(1) for _ in range(4)]
        loop = await own.start(turns_per_run=1)
        doors = []
        # In rounds: orders that are all there before its first turn ends are one run's, and the rest of a round comes
        # while the loop goes from run to run.
        for begins in range(0, len(orders), 3):
            doors += [await own.order(number, orders[number]) for number in range(begins, begins + 3)]
            await doors[begins].result()
        reports = await asyncio.gather(*(door.result() for door in doors))
        progress = await progress_of(loop, doing="", woken=False)
        query = f"WorkflowId = '{loop.id}' AND ExecutionStatus = 'ContinuedAsNew'"

        async def runs() -> bool:
            return len([run async for run in fleet.temporal.list_workflows(query)]) >= 2

        await eventually(runs)
    assert [report["status"] for report in reports] == ["done"] * 12
    assert len(own.rooms.called(MergeOnceRequest)) == 12, "an order was lost, and its door had to remind the loop"
    assert (len(own.rooms.done("rebuild")), len(own.rooms.done("compact"))) == (4, 4)
    # Nothing that a merge counted is lost on the way from run to run either: a row of each, and three of each rebuild.
    assert progress["counts"]["upserted"] == 4 - len(own.rooms.merges[MIRROR]) + 4 * 3
    assert progress["orders"]["waiting"] == progress["orders"]["merging"] == []


async def test_case_29_an_event_that_arrives_while_the_loop_continues_as_new_is_followed_by_a_merge(fleet):
    async with mirror_loops(fleet) as own:
        loop = await own.start(turns_per_run=1)
        for _ in range(10):
            before = len(own.rooms.called(MergeInput))
            await loop.signal(MERGE_SIGNAL)
            await eventually(lambda before=before: len(own.rooms.called(MergeInput)) > before, every=0.01, seconds=20)


@pytest.mark.parametrize("signal", [MERGE_SIGNAL, COMPACT_SIGNAL])
async def test_case_29_a_signal_that_is_there_before_a_run_takes_over_is_not_lost_to_what_it_takes_over(fleet, signal):
    async with mirror_loops(fleet) as own:
        own.rooms.merges[MIRROR] = [merged(2)]
        loop = await own.start(turns_per_run=1)
        first = (await loop.describe()).run_id
        await eventually(lambda: continued(loop, first))
        [handed] = await handed_over(fleet, loop)
        await loop.terminate()
        own.rooms.calls.clear()
        payload = {"id": "an order", "answer_to": ""}
        again = await fleet.temporal.start_workflow(
            MERGE_WORKFLOW,
            {**handed, "turns_per_run": 200},
            id=loop.id,
            task_queue=fleet.merge_queue,
            start_signal=signal,
            start_signal_args=[payload] if signal == COMPACT_SIGNAL else [],
        )
        done = own.rooms.done if signal == COMPACT_SIGNAL else lambda _: own.rooms.called(MergeInput)
        await eventually(lambda: done("compact"), seconds=20)
        progress = await progress_of(again, doing="", woken=False)
    assert handed["carried"]["woken"] is False
    assert progress["counts"]["upserted"] == 2


async def continued(loop, first):
    return (await loop.describe()).run_id != first


async def handed_over(fleet, loop):
    """What the newest run was started with."""
    run = (await loop.describe()).run_id
    async for event in fleet.temporal.get_workflow_handle(loop.id, run_id=run).fetch_history_events():
        return await fleet.temporal.data_converter.decode(
            event.workflow_execution_started_event_attributes.input.payloads
        )
    raise AssertionError("no history")


async def test_a_compaction_that_is_due_comes_when_nothing_waits_and_merges_go_on_without_one_that_fails(fleet):
    async with mirror_loops(fleet) as own:
        due = "17 small files"
        own.rooms.merges[MIRROR] = [merged(1, more=True, compaction_due=due), merged(1, compaction_due=due)]
        own.rooms.compacted = [CompactReport("8", 17, 9, more=True), CompactReport("9", 9, 1)]
        loop = await own.start()
        await eventually(lambda: own.rooms.done("compact") == [MIRROR] * 2)
        first = await progress_of(loop, doing="")
        # Both merges came before it.
        order = [type(call) for call in own.rooms.calls if call == ("compact", MIRROR) or type(call) is MergeInput]
        own.rooms.merges[MIRROR] = [merged(1, compaction_due=due)]
        own.rooms.compacted = [MirrorForeign("somebody else")]
        await loop.signal(MERGE_SIGNAL)
        await eventually(lambda: len(own.rooms.done("compact")) == 3)
        failed = await progress_of(loop, doing="")
        text = await details(loop)
        own.rooms.merges[MIRROR] = [merged(2, compaction_due=due)]
        assert (await (await own.order()).result())["status"] == "done"
        assert len(own.rooms.done("compact")) == 3, "one that failed is not tried again at once"
    assert order == [MergeInput, MergeInput, tuple, tuple]
    assert first["compaction"]["done"] == 2
    assert failed["compaction"]["failed"].startswith("MirrorForeign: somebody else")
    assert (failed["state"], failed["trouble"]) == ("running", None)
    assert "compaction failed: MirrorForeign: somebody else" in text


async def test_orders_are_carried_out_and_answered_and_a_bootstrap_ends_what_held_the_loop(fleet):
    async with mirror_loops(fleet, sandboxed=True) as own:
        behind = merged(2, more=True, lag_events=3, lag_seconds=9.0, compaction_due="17 small files")
        own.rooms.merges[MIRROR] = [behind, WatermarkLost("expired")]
        loop = await own.start()
        before = await progress_of(loop, state="waiting", told=told("WatermarkLost: expired"))
        own.rooms.remade = lambda *_: MergeReport("8", commits=1, index_rebuilt="somebody asked for it")
        rebuilt = await (await own.order(1, REBUILD_SIGNAL)).result()
        still = await progress_of(loop, state="waiting")
        own.rooms.remade = lambda what, _: SchemaConflict(f"{what} cannot be")
        failed = await failure_of(await own.order(2, BOOTSTRAP_SIGNAL))
        own.rooms.remade = lambda *_: merged(9)
        began = await (await own.order(3, BOOTSTRAP_SIGNAL)).result()
        await progress_of(loop, state="running", trouble=None, told=told(), woken=False)
        compacted = await (await own.order(4, COMPACT_SIGNAL)).result()
        unknown = await failure_of(await own.order(5, "no such thing"))
    assert rebuilt["message"] == f"rebuild-index of {MIRROR} is done"
    assert still["trouble"]["cause"] == "WatermarkLost"
    # An index that is made anew moves the mirror nowhere.
    assert still["counts"] == {**before["counts"], "commits": 2, "indexes_rebuilt": 1}
    assert {
        name for name in ("watermark", "lag_events", "last_merge", "last", "compaction") if still[name] != before[name]
    } == set()
    assert (failed.type, failed.message) == ("SchemaConflict", "bootstrap cannot be")
    assert began["status"] == "done"
    assert compacted["message"] == "10 files became 2"
    assert (unknown.type, "'order' must be one of merge, rebuild-index" in unknown.message) == ("BadRequest", True)
    # A loop that begins asks whether an earlier one has left something.
    assert [list(call.merge) for call in own.rooms.called(MirrorTrouble)][-2:] == [["WatermarkLost"], []]


async def test_an_order_to_make_a_mirror_anew_that_cannot_go_on_is_a_finding_lets_merges_pass_and_is_kept(
    fleet, monkeypatch
):
    monkeypatch.setattr(steered, "TRY_AGAIN", timedelta(seconds=0.1))
    monkeypatch.setattr(lasting, "LASTS_SECONDS", 0)
    few = RetryPolicy(initial_interval=timedelta(milliseconds=1), maximum_attempts=2)
    monkeypatch.setitem(merge_mirror.REMAKE, "retry_policy", few)
    async with mirror_loops(fleet) as own:
        loop = await own.start()
        await progress_of(loop, doing="", woken=False)
        own.rooms.remade = lambda *_: StoreUnavailable("away")
        door, merges = await own.order(1, BOOTSTRAP_SIGNAL), len(own.rooms.called(MergeInput))
        await progress_of(loop, told=told("StoreUnavailable: away"))
        # A merge comes between two tries, also one that somebody waits for; it takes nothing back.
        await (await own.order(2)).result()
        await eventually(
            lambda: len(own.rooms.done("bootstrap")) >= 4 and len(own.rooms.called(MergeInput)) > merges + 1
        )
        text = await details(loop)
        assert len(await findings_of(fleet, "orders", "merge", network="shop")) == 1
        own.rooms.remade = lambda *_: merged(9)
        began = await door.result()
        await progress_of(loop, state="running", trouble=None, told=told(), doing="", woken=False)
        said = await findings_of(fleet, "orders", "merge", network="shop")
        # What only a person can end stays so, and an order that waits for better times is refused by a pause.
        own.rooms.merges[MIRROR] = [WatermarkLost("expired")]
        await loop.signal(MERGE_SIGNAL)
        await progress_of(loop, state="waiting", told=told("WatermarkLost: expired"))
        own.rooms.remade = lambda *_: StoreUnavailable("away")
        door = await own.order(3, REBUILD_SIGNAL)
        await eventually(lambda: len(own.rooms.done("rebuild")) >= 3)
        held = await progress_of(loop, told=told("StoreUnavailable: away", "WatermarkLost: expired"))
        monkeypatch.setattr(steered, "TRY_AGAIN", timedelta(hours=1))
        await loop.signal(PAUSE_SIGNAL)
        refused = await failure_of(door)
    assert "- an order is tried again: StoreUnavailable: away" in text
    assert began["status"] == "done"
    assert [len(event.get("partitions", [])) for event in said] == [1, 0]
    assert held["trouble"]["cause"] == "WatermarkLost"
    assert refused.message.startswith(f"{MIRROR} is paused")


async def test_under_another_id_a_loop_fails_and_a_loop_that_is_told_to_stop_ends_and_answers_who_waits(fleet):
    async with mirror_loops(fleet) as own:
        wrong = await failure_of(await own.start(identity="mine"))
        own.rooms.held.add(MIRROR)
        loop = await own.start()
        door = await own.order()
        await eventually(lambda: own.rooms.running and own.rooms.called(MergeOnceRequest))
        await loop.signal(STOP_SIGNAL)
        await loop.result()
        stopped = await failure_of(door)
        assert (await loop.describe()).status == WorkflowExecutionStatus.COMPLETED
    assert wrong.type == "WrongDoor"
    assert f"MergeMirror runs only as 'merge/{fleet.name}/{MIRROR}', so that a mirror has one" in wrong.message
    assert stopped.message in {
        "the loop was told to stop before it came to this",
        "it was interrupted by a pause or a stop",
    }


async def test_a_pause_and_a_trouble_outlive_continuing_as_new(fleet):
    async with mirror_loops(fleet) as own:
        own.rooms.merges[MIRROR] = [merged(2), WatermarkLost("expired")]
        loop = await own.start(turns_per_run=1)
        await progress_of(loop, doing="", woken=False)
        await loop.signal(MERGE_SIGNAL)
        await progress_of(loop, state="waiting", told=told("WatermarkLost: expired"))
        await loop.signal(PAUSE_SIGNAL)
        first = (await loop.describe()).run_id
        progress = await progress_of(loop, state="paused")
        assert (progress["trouble"]["cause"], progress["counts"]["upserted"]) == ("WatermarkLost", 2)
        assert first

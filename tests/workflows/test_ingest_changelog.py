"""The durable loop of ingest: batches, what goes on beside them, people's orders, and continuing as new."""

import asyncio
from datetime import timedelta

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError

from activities.contracts.cdc import (
    PAUSE_SIGNAL,
    RESUME_SIGNAL,
    STOP_SIGNAL,
    ChangelogsInput,
    CopyInput,
    CopyReport,
    IngestInput,
    KeepInput,
    KeepPage,
    LettersReport,
    LettersRequest,
    LoopSignal,
    copy_id,
)
from activities.core.faults import CatalogRefused, CatalogUnavailable, StoreUnavailable, UnsupportedType
from support.backfills import details
from support.cdcloops import PIPELINE, batch, ingested, loops, progress_of
from support.fleet import eventually
from worker.cdc_status import failing_copies
from workflows.ingest_changelog import IngestChangelog

NO_COPIES = {"waiting": [], "under_way": [], "failed": {}}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """What is under way when an order comes gets less time to end by itself."""
    monkeypatch.setattr(IngestChangelog, "grace", timedelta(seconds=0.2))


def copied(table: str, **more: object) -> CopyReport:
    return CopyReport(table, f"cdc.{table}", 10, 100, "0/1", **{"snapshot_id": "9", **more})


async def test_what_a_batch_brought_or_found_there_is_announced_and_nothing_else(fleet):
    there = batch("public.b", snapshot_id="", already_there=3)
    nothing = batch("public.c", snapshot_id="", events=0)
    async with loops(fleet, sandboxed=True) as own:
        own.rooms.ingests = [ingested(batch("public.a"), there, nothing, last_lsn="0/16", unlisted=["cdc.public.z"])]
        loop = await own.ingest()
        progress = await progress_of(loop, last_lsn="0/16", unannounced=[])
        await eventually(lambda: own.rooms.running == ["ingest"])
    announced = own.rooms.called(ChangelogsInput)
    # What a run before this one may have left is looked for first, in every changelog.
    assert announced[0] == ChangelogsInput(fleet.name, PIPELINE, [])
    assert [name for asked in announced[1:] for name in asked.changelogs] == [
        *("cdc.public.a", "cdc.public.b", "cdc.public.z"),
    ]
    assert {name: progress["counts"][name] for name in ("batches", "events", "bytes")} == {
        "batches": 1,
        "events": 6,
        "bytes": 60,
    }
    assert own.rooms.called(IngestInput) == [IngestInput(fleet.name, PIPELINE, 60.0)] * 2


async def test_what_could_not_be_announced_is_announced_with_a_later_turn_though_its_changelog_has_nothing_new(fleet):
    async with loops(fleet) as own:
        loop = await own.ingest()
        await progress_of(loop, unannounced=[])
        await eventually(lambda: own.rooms.running == ["ingest"])
        own.rooms.announcing = [CatalogRefused("the token has expired")]
        own.rooms.ingests = [ingested(batch("public.a"))]
        await loop.signal(RESUME_SIGNAL)
        await eventually(lambda: own.rooms.ingests == own.rooms.announcing == [])
        own.rooms.ingests = [ingested()]
        await loop.signal(RESUME_SIGNAL)
        await eventually(lambda: len(own.rooms.called(ChangelogsInput)) == 3)
        progress = await progress_of(loop, unannounced=[])
    assert progress["counts"]["announced"] == 1
    assert [asked.changelogs for asked in own.rooms.called(ChangelogsInput)] == [[], ["cdc.public.a"], ["cdc.public.a"]]


async def test_what_a_batch_left_follows_at_once_and_what_was_tried_before_is_announced_with_everything(fleet):
    async with loops(fleet) as own:
        own.rooms.ingests = [ingested(more=True), ingested(tried_before=True)]
        loop = await own.ingest()
        await eventually(lambda: own.rooms.running == ["ingest"])
        await progress_of(loop, unannounced=[])
        announced = own.rooms.called(ChangelogsInput)
    # Once when the loop began, and once for what a worker that died may have committed.
    assert [asked.changelogs for asked in announced] == [[], []]
    # What a batch left does not wait for the time of the next one.
    assert [asked.at_once for asked in own.rooms.called(IngestInput)] == [False, True, False]


async def test_case_61_a_table_that_fails_is_shown_until_it_goes_on_and_keeps_no_other_from_going_on(fleet):
    failed = batch("public.b", events=0, snapshot_id="", failed="SchemaConflict: date is no long", stopped=True)
    async with loops(fleet) as own:
        own.rooms.ingests = [ingested(batch("public.a"), failed), ingested(batch("public.a"))]
        loop = await own.ingest()
        await eventually(lambda: own.rooms.running == ["ingest"])
        progress = await progress_of(loop)
        text = await details(loop)
        own.rooms.ingests = [ingested(batch("public.b"))]
        door = await own.settle(action="resume-table", table="public.b", letters=[])
        report = await door.result()
        await progress_of(loop, failing=[])
    assert [(one["table"], one["failed"]) for one in progress["failing"]] == [
        ("public.b", "SchemaConflict: date is no long")
    ]
    assert "public.b is stopped: SchemaConflict: date is no long" in text
    assert progress["counts"]["events"] == 6
    assert report["status"] == "done"


async def test_a_batch_that_no_retry_can_mend_is_shown_and_orders_are_carried_out_meanwhile(fleet):
    async with loops(fleet) as own:
        own.rooms.ingests = [CatalogRefused("no such warehouse")]
        loop = await own.ingest()
        progress = await progress_of(loop, state="waiting")
        assert "CatalogRefused: no such warehouse (who must act: operator; tried again every minute)" in await details(
            loop
        )
        own.rooms.ingests = [CatalogRefused("no such warehouse")]
        assert (await (await own.settle()).result())["status"] == "done"
        own.rooms.ingests = [ingested(batch("public.a"))]
        await loop.signal(RESUME_SIGNAL)
        await progress_of(loop, state="running", trouble=None)
    assert progress["trouble"]["cause"] == "CatalogRefused"


async def test_case_62_a_paused_ingest_begins_nothing_carries_out_orders_and_goes_on_when_it_is_resumed(fleet):
    async with loops(fleet) as own:
        loop = await own.ingest()
        await eventually(lambda: own.rooms.running == ["ingest"])
        await loop.signal(PAUSE_SIGNAL)
        await eventually(lambda: own.rooms.running == [])
        own.rooms.ingests = [ingested(batch("public.a"))]
        assert (await (await own.settle()).result())["status"] == "done"
        paused = await progress_of(loop, state="paused")
        began = len(own.rooms.called(IngestInput))
        await loop.signal(RESUME_SIGNAL)
        resumed = await progress_of(loop, state="running")
        await eventually(lambda: own.rooms.ingests == [])
    assert (paused["counts"]["batches"], began) == (0, 1)
    assert resumed["trouble"] is None


async def test_case_29_orders_that_arrive_while_the_loop_continues_as_new_are_carried_out_once_each(fleet):
    orders = 12
    async with loops(fleet) as own:
        own.rooms.settled = lambda request: LettersReport("done", str(request.letters), request.letters[0])
        own.rooms.ingests = [ingested(batch("public.a")) for _ in range(4)]
        loop = await own.ingest(turns_per_run=1)
        doors = [await own.settle(number) for number in range(1, orders + 1)]
        reports = await asyncio.gather(*(door.result() for door in doors))
        await eventually(lambda: own.rooms.running == ["ingest"])
        progress = await progress_of(loop, letters=[])
        query = f"WorkflowId = '{loop.id}' AND ExecutionStatus = 'ContinuedAsNew'"

        async def runs() -> bool:
            return len([run async for run in fleet.temporal.list_workflows(query)]) >= 4

        await eventually(runs)
    assert [report["changed"] for report in reports] == list(range(1, orders + 1))
    settled = [request.letters[0] for request in own.rooms.called(LettersRequest)]
    assert sorted(settled) == list(range(1, orders + 1))
    assert len(own.rooms.called(LoopSignal)) == orders, "an order was lost, and its door had to remind the loop of it"
    # Nothing that a batch counted is lost on the way from run to run either.
    assert (progress["counts"]["batches"], progress["counts"]["events"]) == (4, 12)


async def test_an_order_that_fails_fails_its_door_with_its_cause_and_the_loop_goes_on(fleet):
    async with loops(fleet) as own:
        own.rooms.settled = lambda _: UnsupportedType("no such event")
        loop = await own.ingest()
        await eventually(lambda: own.rooms.running == ["ingest"])
        door = await own.settle()
        failure = await failed(door)
        await eventually(lambda: own.rooms.running == ["ingest"])
        assert (await progress_of(loop, letters=[]))["state"] == "running"
        refused = await failed(await own.settle(2, action="drop"))
    assert (failure.type, failure.message) == ("UnsupportedType", "no such event")
    assert failure.details[1] == {"who must act": "operator"}
    assert refused.type == "BadRequest"
    assert "'reason' is missing" in refused.message


async def test_copies_run_two_at_once_outlive_the_loops_runs_and_are_announced(fleet):
    waiting = ["public.a", "public.b", "public.c"]
    async with loops(fleet) as own:
        own.rooms.ingests = [ingested(to_copy=waiting) for _ in range(3)]
        loop = await own.ingest(turns_per_run=2)
        await eventually(lambda: sorted(own.rooms.running) == ["ingest", "public.a", "public.b"])
        own.rooms.ingests = [ingested(to_copy=["public.b", "public.c"])]
        own.rooms.copied["public.a"] = copied("public.a")
        await eventually(lambda: sorted(own.rooms.running) == ["ingest", "public.b", "public.c"])
        progress = await progress_of(loop, unannounced=[])
        own.rooms.copied |= {"public.b": copied("public.b"), "public.c": copied("public.c")}
        await progress_of(loop, copies=NO_COPIES, unannounced=[])
    assert sorted(progress["copies"]["under_way"]) == ["public.b", "public.c"]
    assert sorted(call.table for call in own.rooms.called(CopyInput)) == waiting
    announced = {name for asked in own.rooms.called(ChangelogsInput) for name in asked.changelogs}
    assert announced == {f"cdc.{table}" for table in waiting}


async def test_a_copy_that_fails_is_shown_and_tried_again_when_the_loop_is_told_to_go_on(fleet):
    async with loops(fleet) as own:
        own.rooms.ingests = [ingested(to_copy=["public.a"])]
        own.rooms.copied["public.a"] = UnsupportedType("point has no form")
        loop = await own.ingest()
        words = "UnsupportedType: point has no form (who must act: operator)"
        await progress_of(loop, copies={"waiting": ["public.a"], "under_way": [], "failed": {"public.a": words}})
        assert f"copy of public.a failed: {words}" in await details(loop)
        own.rooms.copied["public.a"] = copied("public.a")
        await loop.signal(RESUME_SIGNAL)
        await progress_of(loop, copies=NO_COPIES)
        assert (await progress_of(loop))["counts"]["copied_rows"] == 10


async def test_status_knows_why_a_copy_fails_that_is_tried_again_and_again(fleet):
    async with loops(fleet) as own:
        own.rooms.ingests = [ingested(to_copy=["public.a"])]
        own.rooms.copied["public.a"] = StoreUnavailable("slow down")
        loop = await own.ingest()

        async def why() -> dict[str, str]:
            return await failing_copies(fleet.temporal, fleet.name, PIPELINE, await progress_of(loop))

        said = await eventually(why)
        assert said["public.a"].startswith("its copy fails and is tried again: copy_table, attempt ")
        assert said["public.a"].endswith(": StoreUnavailable: slow down")
        own.rooms.copied["public.a"] = copied("public.a")
        await progress_of(loop, copies=NO_COPIES)
        assert await why() == {}


async def test_a_loop_that_is_told_to_stop_ends_its_copies_and_itself(fleet):
    async with loops(fleet) as own:
        own.rooms.ingests = [ingested(to_copy=["public.a"])]
        loop = await own.ingest()
        await eventually(lambda: sorted(own.rooms.running) == ["ingest", "public.a"])
        await loop.signal(STOP_SIGNAL)
        await loop.result()
        await eventually(lambda: own.rooms.running == [])
        copy = fleet.temporal.get_workflow_handle(copy_id(fleet.name, PIPELINE, "public.a"))

        async def ended() -> bool:
            return (await copy.describe()).status == WorkflowExecutionStatus.CANCELED

        await eventually(ended)


async def failed(door):
    """The cause of a run that is to fail."""
    try:
        await door.result()
    except Exception as failure:  # noqa: BLE001 - its cause is what matters
        return failure.__cause__
    raise AssertionError("it was to fail")


async def test_a_changelog_is_kept_in_order_step_by_step_between_batches_over_runs_of_the_loop(fleet):
    async with loops(fleet) as own:
        own.rooms.kept = [
            KeepPage(deleted=2, freed=30),
            KeepPage(compacted=9, more=True, snapshot=True),
            KeepPage(compacted=4, snapshot=True),
        ]
        await own.ingest(turns_per_run=2)
        await eventually(lambda: own.rooms.running == ["ingest"])
        report = await (await own.keep()).result()
        failing = await own.keep("cdc.others")
        own.rooms.kept = [CatalogRefused("no such warehouse")]
        with pytest.raises(WorkflowFailureError) as failed:
            await failing.result()
        await own.handle("ingest").signal(PAUSE_SIGNAL)
        await progress_of(own.handle("ingest"), state="paused")
        with pytest.raises(WorkflowFailureError) as refused:
            await (await own.keep()).result()
    assert (report["status"], report["deleted"], report["freed"], report["compacted"]) == ("complete", 2, 30, 13)
    calls = [call.step if isinstance(call, KeepInput) else "batch" for call in own.rooms.calls if is_turn(call)]
    steps = [call for call in calls if call != "batch"]
    assert steps[:6] == ["delete", "compact", "compact", "manifests", "expire", "note"]
    assert "batch" in calls[calls.index("compact") : calls.index("manifests")]
    assert "cdc.orders" in {name for asked in own.rooms.called(ChangelogsInput) for name in asked.changelogs}
    assert failed.value.cause.type == "CatalogRefused"
    assert "is paused" in refused.value.cause.message


def is_turn(call):
    return isinstance(call, KeepInput | IngestInput)


async def test_upkeep_has_its_turns_while_batches_fail_that_are_tried_again(fleet):
    async with loops(fleet) as own:
        await own.ingest()
        await eventually(lambda: own.rooms.running == ["ingest"])
        own.rooms.ingests = [CatalogUnavailable("away") for _ in range(100)]
        async with asyncio.timeout(30):
            report = await (await own.keep()).result()
        own.rooms.ingests.clear()
        # Afterwards a batch is tried until it gets through, as ever.
        await eventually(lambda: own.rooms.running == ["ingest"])
    calls = [call.step if isinstance(call, KeepInput) else "batch" for call in own.rooms.calls if is_turn(call)]
    assert report["status"] == "nothing_to_do"
    assert calls[1:11] == [
        "delete",
        "batch",
        "compact",
        "batch",
        "manifests",
        "batch",
        "expire",
        "batch",
        "note",
        "batch",
    ]


async def test_a_turn_of_upkeep_that_landed_although_a_pause_came_is_announced_during_the_pause(fleet):
    async with loops(fleet) as own:
        loop = await own.ingest()
        await eventually(lambda: own.rooms.running == ["ingest"])
        own.rooms.landing = KeepPage(compacted=9, more=True, snapshot=True)
        door = await own.keep()
        await eventually(lambda: own.rooms.running == ["keep"])
        await loop.signal(PAUSE_SIGNAL)
        with pytest.raises(WorkflowFailureError):
            await door.result()
        await progress_of(loop, state="paused", unannounced=[])
    assert "cdc.orders" in {name for asked in own.rooms.called(ChangelogsInput) for name in asked.changelogs}

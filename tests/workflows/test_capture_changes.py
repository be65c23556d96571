"""The durable loop of capture: turns, orders, and faults that wait for people."""

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import ApplicationError

from activities.contracts.cdc import PAUSE_SIGNAL, RESUME_SIGNAL, STOP_SIGNAL, CaptureInput
from activities.core.faults import BadRequest, PostgresRefused, SlotLost
from support.backfills import details
from support.cdcloops import PIPELINE, captured, loops, progress_of
from support.fleet import eventually
from workflows import steered


async def test_one_turn_follows_another_and_the_loop_counts_what_they_brought(fleet):
    async with loops(fleet, sandboxed=True) as own:
        own.rooms.captures = [captured(5), captured(7, captured_lsn="0/20", retained_wal_bytes=9)]
        loop = await own.capture()
        progress = await progress_of(loop, events=12, transactions=4, state="running")
        await eventually(lambda: own.rooms.running)
        text = await details(loop)
    assert progress["last"]["captured_lsn"] == "0/20"
    assert own.rooms.called(CaptureInput) == [CaptureInput(fleet.name, PIPELINE, 60.0)] * 3
    assert text.splitlines()[0] == f"**{fleet.name}.shop**: running"
    assert "everything up to 0/20 is in the buffer; the slot held back 9 bytes of log" in text


@pytest.mark.parametrize("ends", [captured(0, ended="given up at 50 GiB"), SlotLost("given up at 50 GiB")], ids=type)
async def test_a_capture_whose_slot_is_lost_says_so_and_waits_until_it_is_told_to_go_on(fleet, ends):
    async with loops(fleet) as own:
        own.rooms.captures = [ends]
        loop = await own.capture()
        progress = await progress_of(loop, state="waiting")
        text = await details(loop)
        assert len(own.rooms.called(CaptureInput)) == 1
        own.rooms.captures = [captured(3)]
        await loop.signal(RESUME_SIGNAL)
        await progress_of(loop, state="running", events=3, trouble=None)
    assert progress["trouble"] == {
        "cause": "SlotLost",
        "message": "given up at 50 GiB",
        "who": "operator",
        "for_good": True,
    }
    assert "SlotLost: given up at 50 GiB (who must act: operator; goes on when it is told to" in text


async def test_a_capture_that_is_refused_shows_it_and_tries_again_by_itself(fleet, monkeypatch):
    monkeypatch.setattr(steered, "TRY_AGAIN", steered.timedelta(seconds=0.2))
    async with loops(fleet) as own:
        own.rooms.captures = [PostgresRefused("wrong password"), PostgresRefused("wrong password"), captured(3)]
        loop = await own.capture()
        progress = await progress_of(loop, state="waiting")
        await progress_of(loop, state="running", events=3, trouble=None)
    assert (progress["trouble"]["cause"], progress["trouble"]["for_good"]) == ("PostgresRefused", False)


async def test_case_62_a_paused_capture_lets_go_of_the_slot_and_goes_on_when_it_is_resumed(fleet):
    async with loops(fleet) as own:
        loop = await own.capture()
        await eventually(lambda: own.rooms.running == ["capture"])
        await loop.signal(PAUSE_SIGNAL)
        await eventually(lambda: own.rooms.running == [])
        assert (await progress_of(loop, state="paused"))["trouble"] is None
        own.rooms.captures = [captured(4)]
        await loop.signal(RESUME_SIGNAL)
        await progress_of(loop, state="running", events=4)


async def test_a_slot_is_watched_also_while_its_capture_is_paused_and_given_up_at_the_limit(fleet, monkeypatch):
    monkeypatch.setattr(steered, "TRY_AGAIN", steered.timedelta(seconds=0.2))
    async with loops(fleet) as own:
        loop = await own.capture(turns_per_run=3)
        await eventually(lambda: own.rooms.running == ["capture"])
        own.rooms.watched = [PostgresRefused("wrong password"), captured(0), captured(0, ended="given up at 50 GiB")]
        await loop.signal(PAUSE_SIGNAL)
        # What cannot be looked at is looked at again; and the loop, which looks for ever, continues as new.
        await eventually(lambda: len(own.rooms.looks) > 3)
        progress = await progress_of(loop, state="paused")
        assert (progress["trouble"]["cause"], progress["trouble"]["message"]) == ("SlotLost", "given up at 50 GiB")
        assert len(own.rooms.called(CaptureInput)) == 1
        own.rooms.captures, own.rooms.watched = [captured(4)], [captured(0)]
        await loop.signal(RESUME_SIGNAL)
        await progress_of(loop, state="running", events=4, trouble=None)


async def test_how_an_interrupted_turn_ends_is_no_trouble_of_the_loop(fleet):
    async with loops(fleet) as own:
        own.rooms.last_words = PostgresRefused("wrong password")
        loop = await own.capture()
        await eventually(lambda: own.rooms.running == ["capture"])
        await loop.signal(PAUSE_SIGNAL)
        await eventually(lambda: own.rooms.running == [])
        assert (await progress_of(loop, state="paused"))["trouble"] is None
        own.rooms.captures = [captured(4)]
        await loop.signal(RESUME_SIGNAL)
        await progress_of(loop, state="running", events=4)


async def test_a_pause_outlives_continuing_as_new_and_a_stop_ends_the_loop(fleet):
    async with loops(fleet) as own:
        own.rooms.captures = [captured(1)]
        loop = await own.capture(turns_per_run=1)
        first = (await loop.describe()).run_id
        await eventually(lambda: own.rooms.running == ["capture"])
        await loop.signal(PAUSE_SIGNAL)
        # The interrupted turn was the only one of its run.
        assert (await progress_of(loop, state="paused", events=1))["transactions"] == 2
        assert (await loop.describe()).run_id != first
        await loop.signal(STOP_SIGNAL)
        await loop.result()
        assert (await loop.describe()).status == WorkflowExecutionStatus.COMPLETED


async def test_under_another_id_a_loop_fails_at_once_and_names_the_door(fleet):
    async with loops(fleet) as own:
        started = await own.start("CaptureChanges", "mine")
        with pytest.raises(WorkflowFailureError) as failed:
            await started.result()
    cause = failed.value.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == "WrongDoor"
    assert f"CaptureChanges runs only as 'cdc/capture/{fleet.name}/shop'" in cause.message


async def test_a_pipeline_that_config_does_not_have_fails_its_loops_at_once(fleet):
    missing = BadRequest("no pipeline 'shpo' under `cdc` of environment 'test'; did you mean `shop`?")
    async with loops(fleet) as own:
        own.rooms.captures, own.rooms.ingests = [missing], [missing]
        for loop in (await own.capture(), await own.ingest()):
            with pytest.raises(WorkflowFailureError) as failed:
                await loop.result()
            cause = failed.value.cause
            assert isinstance(cause, ApplicationError)
            assert (cause.type, cause.message, cause.details) == (
                *("BadRequest", str(missing)),
                ({"who must act": "user"},),
            )


async def test_a_pipeline_that_config_has_lost_waits_for_it_to_come_back(fleet, monkeypatch):
    monkeypatch.setattr(steered, "TRY_AGAIN", steered.timedelta(seconds=0.2))
    async with loops(fleet) as own:
        own.rooms.captures = [captured(1), BadRequest("no pipeline"), BadRequest("no pipeline"), captured(2)]
        loop = await own.capture(turns_per_run=1)
        await progress_of(loop, events=3, state="running")


async def test_a_worker_that_stops_hands_its_capture_over_before_its_grace_is_over(fleet):
    async with loops(fleet) as other:
        loop = await other.capture()
        await eventually(lambda: other.rooms.running)
    # The first worker has left: what it ran was let go within its 10 seconds, and waits for the next one.
    async with loops(fleet) as own:
        await eventually(lambda: own.rooms.running)
        pending = (await loop.describe()).raw_description.pending_activities
    assert [(one.activity_type.name, one.last_failure.application_failure_info.type) for one in pending] == [
        ("capture_changes", "WorkerStopped")
    ]

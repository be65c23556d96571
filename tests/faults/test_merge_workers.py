"""Merges in their loop: paused in the middle, and taken from a worker of which Temporal hears no more."""

from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio.api.enums.v1 import TimeoutType

from activities.contracts.mirrors import PAUSE_SIGNAL, RESUME_SIGNAL
from activities.mirrors import Mirrors
from support.cdcloops import progress_of
from support.faultproxy import TcpFaults
from support.fleet import eventually
from support.gate import gate_at
from support.merges import assert_merged_once, begun, commit_of
from support.mirrorloops import mirror_loops
from worker.temporal import connect_temporal
from workflows import merge_mirror
from workflows.merge_mirror import MergeMirror

MERGED = {"state": "running", "doing": "", "woken": False, "lag_events": 0}


async def test_a_merge_that_is_paused_in_its_middle_is_given_up_and_made_once_after_it_is_resumed_case_62(
    fleet, monkeypatch
):
    monkeypatch.setattr(MergeMirror, "grace", timedelta(seconds=0.2))
    async with begun(fleet) as mirror:
        async with mirror_loops(fleet, [mirror.config.mirror], rooms=Mirrors) as own:
            async with gate_at("merge-before-commit") as gate:
                loop = await own.start(mirror.config.mirror)
                await gate.reached()
                await loop.signal(PAUSE_SIGNAL)
                paused = await progress_of(loop, state="paused", doing="")
            rows = mirror.read("id", "name")
            await loop.signal(RESUME_SIGNAL)
            merged = await progress_of(loop, **MERGED)
        assert_merged_once(mirror)
    assert (paused["counts"]["commits"], paused["trouble"]) == (0, None)
    assert rows == [(1, "a"), (2, "b"), (3, "c")]
    assert [merged["counts"][name] for name in ("commits", "upserted", "deleted")] == [1, 2, 1]


@asynccontextmanager
async def worker_behind(fleet, wire, mirror):
    """A worker that reaches Temporal through a wire; whoever asks for the fleet's client has a way of his own."""
    direct = fleet.temporal
    fleet.point(temporal=wire.port)
    fleet.temporal = await connect_temporal(fleet.settings().environment(fleet.name, "temporal"))
    try:
        async with mirror_loops(fleet, [mirror], rooms=Mirrors) as own:
            fleet.temporal = direct
            fleet.point(temporal=fleet.stack.ports["temporal"])
            yield own
    finally:
        fleet.temporal = direct


async def test_a_merge_whose_heartbeats_stayed_away_lands_nowhere_once_another_worker_has_merged_case_27(
    fleet, catalog, monkeypatch
):
    """Its worker lost its way to Temporal, and to nothing else: it goes on, and sends its commit in the end."""
    monkeypatch.setitem(merge_mirror.MERGE, "heartbeat_timeout", timedelta(seconds=3))
    async with begun(fleet) as mirror, TcpFaults(fleet.stack.ports["temporal"]) as wire:
        name, commit = mirror.config.mirror, commit_of(mirror)

        def sent():
            return catalog.count(commit["method"], commit["path"])

        async with gate_at("merge-before-commit") as gate, worker_behind(fleet, wire, name) as lost:
            loop = await lost.start(name)
            await gate.reached()
            gate.let_by()
            wire.hang()
            async with mirror_loops(fleet, [name], rooms=Mirrors):
                await eventually(lambda: len(mirror.snapshots()) == 2)
                before = sent()
                gate.open()
                await eventually(lambda: sent() > before)
                merged = await progress_of(loop, **MERGED)
                assert await timeouts(loop) == [TimeoutType.TIMEOUT_TYPE_HEARTBEAT]
                await wire.mend()
        assert_merged_once(mirror)
    assert [merged["counts"][name] for name in ("commits", "upserted", "deleted")] == [1, 2, 1]


async def timeouts(loop):
    """Why attempts of the loop's merges were taken from their worker."""
    found = []
    async for event in loop.fetch_history_events():
        begun_again = event.activity_task_started_event_attributes
        if begun_again.attempt > 1:
            found.append(begun_again.last_failure.timeout_failure_info.timeout_type)
    return found

"""Merges in their loop that are paused in the middle."""

from datetime import timedelta

from activities.contracts.mirrors import PAUSE_SIGNAL, RESUME_SIGNAL
from activities.mirrors import Mirrors
from support.cdcloops import progress_of
from support.gate import gate_at
from support.merges import assert_merged_once, begun
from support.mirrorloops import mirror_loops
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

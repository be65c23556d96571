"""A commit whose answer is lost is recognised; one that did not land is made; nothing is deleted in doubt."""

import asyncio
from collections import Counter

import pytest
from temporalio.exceptions import ApplicationError

from activities.core.faults import CatalogUnavailable, CommitConflict
from activities.lake import sending
from activities.lake.catalog import Lake
from support.direct import COMMIT, Hands, metadata_files
from support.faultproxy import Answer, AnswerInstead, Hold, HoldAnswer, Late
from support.fleet import replace_ports
from support.lakereaders import by_duckdb, by_pyiceberg
from support.lostanswers import LANDED, NOT_LANDED, deletions


def assert_whole(fleet, days, rows, engines=(by_pyiceberg,)):
    """One file for each of the newest days, and the engines read every row once."""
    counts = dict(Counter(name for name, _ in fleet.files()))
    assert counts == {f"2024/3/{21 - day}.parquet": 1 for day in range(1, days + 1)}
    environment = replace_ports(fleet.settings().environment(fleet.name), fleet.stack)
    for read in engines:
        [found] = read(environment, [f"{fleet.network}.events"])
        assert sorted(row[2] for row in found) == list(range(days * rows))


@pytest.mark.parametrize("fault", LANDED)
async def test_a_commit_whose_answer_is_lost_is_recognised(fleet, catalog, s3, fault):
    await fleet.make_days(days=2, rows=50)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        plan = await hands.plan()
        rule = catalog.on(fault, **COMMIT)
        report = await hands.commit(await hands.export_all(plan))
    [snapshot] = fleet.table().snapshots()
    assert rule.times_struck == 1
    assert (report.committed, report.already_there, report.rows) == (2, 0, 100)
    assert report.snapshot_id == str(snapshot.snapshot_id)
    assert deletions(s3) == []
    assert metadata_files(fleet)[1] == set()
    assert_whole(fleet, days=2, rows=50, engines=(by_pyiceberg, by_duckdb))


async def test_a_commit_that_takes_longer_than_the_time_out_is_recognised(fleet, catalog, monkeypatch):
    await fleet.make_days(days=2, rows=50)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        exported = await hands.export_all(await hands.plan())
        monkeypatch.setattr(context.lake, "_timeout", 1)
        monkeypatch.setattr(context.lake, "_catalog", None)
        slow = catalog.on(HoldAnswer(), **COMMIT)
        report = await hands.commit(exported)
        slow.fault.released.set()
    assert slow.landed.is_set()
    assert (report.committed, report.already_there, len(fleet.table().snapshots())) == (2, 0, 1)
    assert_whole(fleet, days=2, rows=50)


@pytest.mark.parametrize("fault", NOT_LANDED)
async def test_a_commit_that_did_not_land_is_made(fleet, catalog, fault):
    await fleet.make_days(days=2, rows=50)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        plan = await hands.plan()
        rule = catalog.on(fault, **COMMIT)
        report = await hands.commit(await hands.export_all(plan))
    assert (rule.times_struck, catalog.count(**COMMIT)) == (1, 2)
    assert (report.committed, report.already_there, len(fleet.table().snapshots())) == (2, 0, 1)
    assert_whole(fleet, days=2, rows=50)


async def test_a_commit_that_lands_late_lands_beside_no_other(fleet, catalog, s3):
    """The first try is stuck on the way, a second one lands, then the first arrives: the catalog refuses it."""
    await fleet.make_days(days=2, rows=50)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        plan = await hands.plan()
        stuck = catalog.on(Late(), **COMMIT)
        report = await hands.commit(await hands.export_all(plan))
        stuck.fault.released.set()
        await asyncio.wait_for(stuck.landed.wait(), 10)
    assert (report.committed, len(fleet.table().snapshots())) == (2, 1)
    # While nobody knew whether the first try would land, its manifests were kept.
    assert deletions(s3) == []
    assert len(metadata_files(fleet)[1]) == 2
    assert_whole(fleet, days=2, rows=50)


async def test_a_late_commit_that_lands_first_is_not_made_again(fleet, catalog):
    await fleet.make_days(days=2, rows=50)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        exported = await hands.export_all(await hands.plan())
        stuck, second = catalog.on(Late(), **COMMIT), catalog.on(Hold(), **COMMIT)
        committing = asyncio.create_task(hands.commit(exported))
        await asyncio.wait_for(second.struck.wait(), 10)
        stuck.fault.released.set()
        await asyncio.wait_for(stuck.landed.wait(), 10)
        second.fault.released.set()
        report = await committing
    [snapshot] = fleet.table().snapshots()
    assert (report.committed, report.already_there) == (2, 0)
    assert report.snapshot_id == str(snapshot.snapshot_id)
    # The second try was refused for certain, so nothing of it is left.
    assert metadata_files(fleet)[1] == set()
    assert_whole(fleet, days=2, rows=50)


async def test_a_refused_try_leaves_no_manifests_and_keeps_those_of_the_winner(fleet, catalog):
    await fleet.make_days(days=2, rows=50)
    async with fleet.context() as slow, fleet.context() as fast:
        loser, winner = Hands(fleet, slow), Hands(fleet, fast)
        plan = await loser.plan()
        [first, second] = await loser.export_all(plan)
        held = catalog.on(Hold(), **COMMIT)
        losing = asyncio.create_task(loser.commit([first]))
        await asyncio.wait_for(held.struck.wait(), 10)
        await winner.commit([second])
        held.fault.released.set()
        assert (await losing).committed == 1
    assert len(fleet.table().snapshots()) == 2
    assert metadata_files(fleet)[1] == set()
    assert_whole(fleet, days=2, rows=50)


async def test_a_commit_that_loses_every_race_says_so_and_leaves_no_manifests(fleet, catalog, monkeypatch):
    monkeypatch.setattr(sending, "TRIES", 3)
    await fleet.make_days(days=1, rows=5)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        exported = await hands.export_all(await hands.plan())
        refusing = catalog.on(Answer(409, b"{}"), times=None, **COMMIT)
        with pytest.raises(ApplicationError, match="3 commits in a row lost against other writers") as lost:
            await hands.commit(exported)
        assert (lost.value.type, lost.value.non_retryable) == (CommitConflict.__name__, False)
        assert refusing.times_struck == 3
        assert metadata_files(fleet) == (set(), set())
        catalog.mend()
        assert (await hands.commit(exported)).committed == 1


async def test_a_catalog_that_only_answers_with_errors_is_called_unavailable(fleet, catalog, monkeypatch):
    monkeypatch.setattr(sending, "TRIES", 3)
    await fleet.make_days(days=1, rows=5)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        exported = await hands.export_all(await hands.plan())
        catalog.on(Answer(500, b"{}"), times=None, **COMMIT)
        with pytest.raises(ApplicationError, match=r"\.events.*(did not answer|not known)") as away:
            await hands.commit(exported)
        assert (away.value.type, away.value.non_retryable) == (CatalogUnavailable.__name__, False)


async def test_a_last_try_that_landed_without_an_answer_is_still_recognised(fleet, catalog, monkeypatch):
    monkeypatch.setattr(sending, "TRIES", 2)
    await fleet.make_days(days=1, rows=5)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        exported = await hands.export_all(await hands.plan())
        catalog.on(Answer(500, b"{}"), **COMMIT)
        catalog.on(AnswerInstead(500, b"{}"), **COMMIT)
        report = await hands.commit(exported)
    assert (report.committed, report.snapshot_id) == (1, str(fleet.table().snapshots()[0].snapshot_id))


async def test_the_report_of_a_request_tells_the_truth_when_the_answer_of_its_commit_was_lost(fleet, catalog):
    await fleet.make_days(days=2, rows=50)
    catalog.on(AnswerInstead(500, b"{}"), **COMMIT)
    async with fleet.worker():
        report = await fleet.request()
        await fleet.loop_ended()
    [snapshot] = fleet.table().snapshots()
    assert (report.status, report.exported, report.already_there, report.rows) == ("complete", 2, 0, 100)
    assert report.snapshots == [str(snapshot.snapshot_id)]
    assert [event["snapshotId"] for event in await fleet.events()] == report.snapshots


def test_the_time_out_of_the_catalog_is_finite():
    assert 0 < Lake({"uri": "http://127.0.0.1:1"})._timeout <= 60

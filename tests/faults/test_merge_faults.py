"""Merges while answers are lost, servers say no, and other writers come between."""

import asyncio

import pytest
from pyiceberg.expressions import EqualTo

from activities import failpoints, merging
from activities.core.faults import (
    CatalogRefused,
    CatalogUnavailable,
    CommitConflict,
    MirrorForeign,
    StoreRefused,
    StoreUnavailable,
    WatermarkLost,
)
from activities.lake import sending
from support.faultproxy import Answer, Late
from support.lostanswers import LANDED, NOT_LANDED, deletions
from support.merges import assert_merged_once, begun, commit_of
from support.mirrors import compact, gone, put, same_by_all_readers, update


async def at(point, action):
    """Do something once when a point is reached."""

    async def once():
        failpoints.disarm()
        await action()

    failpoints.arm(point, once)


@pytest.fixture(autouse=True)
def disarmed():
    yield
    failpoints.disarm()


# --- answers that are lost ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", LANDED)
async def test_a_commit_whose_answer_is_lost_is_recognised_and_nothing_is_deleted_cases_24_25_26(
    fleet, catalog, s3, fault
):
    async with begun(fleet) as mirror:
        before = await mirror.objects()
        rule = catalog.on(fault, **commit_of(mirror))
        assert_merged_once(mirror, await mirror.merge())
        assert rule.times_struck == 1
        assert before <= await mirror.objects()
        assert deletions(s3) == []


@pytest.mark.parametrize("fault", NOT_LANDED)
async def test_a_commit_that_did_not_land_is_made_cases_24_25(fleet, catalog, fault):
    async with begun(fleet) as mirror:
        rule = catalog.on(fault, **commit_of(mirror))
        assert_merged_once(mirror, await mirror.merge())
        assert rule.times_struck == 1


async def test_a_commit_that_lands_late_lands_on_nothing_else_and_nothing_is_merged_twice_cases_24_27(fleet, catalog):
    """The request of a worker that gave up arrives when another one has committed the same changes."""
    async with begun(fleet) as mirror:
        late = Late()
        rule = catalog.on(late, **commit_of(mirror))
        report = await mirror.merge()
        assert_merged_once(mirror, report)
        late.released.set()
        await rule.landed.wait()
        assert len(mirror.snapshots()) == 2
        mirror.check()


async def test_a_catalog_that_stays_silent_is_told_and_the_merge_goes_on_when_it_is_back_cases_24_26(
    fleet, catalog, s3, monkeypatch
):
    monkeypatch.setattr(sending, "WAIT_SECONDS", 0.001)
    async with begun(fleet) as mirror:
        catalog.on(Answer(503, b"{}"), times=None, **commit_of(mirror))
        with pytest.raises(CatalogUnavailable, match="none of 20 commits landed"):
            await mirror.merge()
        written = await mirror.objects()
        catalog.mend()
        assert_merged_once(mirror, await mirror.merge())
        assert written <= await mirror.objects()
        assert deletions(s3) == []


# --- other writers --------------------------------------------------------------------------------------------


async def test_a_zombie_that_commits_while_another_worker_merges_the_same_changes_nothing_case_27(fleet):
    async with begun(fleet) as mirror:
        reports = []

        async def other():
            reports.append(await mirror.merge())

        await at("merge-before-commit", other)
        mine = await mirror.merge()
        assert (mine.commits, reports[0].commits) == (0, 1)
        assert_merged_once(mirror, reports[0])


async def test_two_workers_at_once_merge_everything_once_case_28(fleet):
    async with begun(fleet, batch_rows=1) as mirror:
        before = len(mirror.snapshots())
        for key in range(10, 14):
            await mirror.write(put(key, name="x"), update(1, name=f"n{key}"))
        reports = await asyncio.gather(mirror.merge(), mirror.merge())
        mirror.check()
        mirror.check_index()
        assert sum(one.commits for one in reports) == len(mirror.snapshots()) - before
        assert sum(one.upserted for one in reports) == 2 + 8


async def test_rows_that_others_append_delete_and_rewrite_between_plan_and_commit_are_followed_case_31(fleet):
    async with begun(fleet) as mirror:
        table = mirror.table()
        theirs = table.scan().to_arrow().slice(0, 1).to_pylist()[0] | {"id": 77, "name": "theirs"}

        async def append():
            mirror.table().append(
                table.schema().as_arrow().empty_table().from_pylist([theirs], table.schema().as_arrow())
            )

        await at("merge-before-commit", append)
        report = await mirror.merge()
        assert (report.commits, report.upserted, bool(report.index_rebuilt)) == (1, 2, True)
        assert mirror.read("id", "name") == [(1, "d"), (3, "c"), (4, "e"), (77, "theirs")]
        mirror.check_index()
        await mirror.write(update(77, name="ours"), update(4, name="f"))

        async def delete():
            mirror.table().delete(EqualTo("id", 3))  # rewrites the file that holds it

        await at("merge-before-commit", delete)
        report = await mirror.merge()
        assert (report.commits, bool(report.index_rebuilt)) == (1, True)
        assert mirror.read("id", "name") == [(1, "d"), (4, "f"), (77, "ours")]
        mirror.check_index()
        await mirror.write(gone(1), update(4, name="g"))
        assert (await mirror.merge()).index_rebuilt == ""
        mirror.check_index()
        assert len(mirror.by_all_readers()) == 2


async def test_another_writers_compaction_moves_rows_and_the_merge_finds_them_cases_31_32(fleet):
    async with begun(fleet) as mirror:

        async def compact():
            table = mirror.table()
            table.overwrite(table.scan().to_arrow())

        await at("merge-before-commit", compact)
        report = await mirror.merge()
        assert (report.commits, report.upserted, report.deleted) == (1, 2, 1)
        mirror.check()
        mirror.check_index()
        assert len(mirror.by_all_readers()) == 3


async def test_a_writer_that_never_stops_is_given_up_on_after_bounded_tries_case_33(fleet, monkeypatch):
    monkeypatch.setattr(merging, "TRIES", 5)
    async with begun(fleet) as mirror:
        tries = 0

        async def commit_something():
            nonlocal tries
            tries += 1
            with mirror.table().transaction() as transaction, transaction.update_snapshot().fast_append():
                pass

        failpoints.arm("merge-before-commit", commit_something)
        with pytest.raises(CommitConflict, match="5 commits in a row lost"):
            await mirror.merge()
        assert tries == 6
        failpoints.disarm()
        assert (await mirror.merge()).commits == 1
        mirror.check()


async def test_a_mirror_that_was_rolled_back_stops_and_says_so_case_34(fleet):
    async with begun(fleet) as mirror:
        [first] = mirror.table().snapshots()
        await mirror.merge()
        mirror.table().manage_snapshots().rollback_to_snapshot(first.snapshot_id).commit()
        await mirror.write(put(9, name="z"))
        with pytest.raises(MirrorForeign, match=r"rolled back.*--bootstrap"):
            await mirror.merge()


async def test_a_mirror_whose_way_to_the_last_merge_others_let_expire_says_what_brings_it_back(fleet):
    async with begun(fleet) as mirror:
        await mirror.merge()
        merged = mirror.table().current_snapshot().snapshot_id
        for _ in range(3):
            compact(mirror.table())
        between = [one.snapshot_id for one in mirror.table().snapshots()][2:-1]
        mirror.table().maintenance.expire_snapshots().by_ids(between[:1]).commit()
        await mirror.write(put(9, name="z"))
        with pytest.raises(MirrorForeign, match=rf"expire.* snapshot {merged}.*set_current_snapshot.*--bootstrap"):
            await mirror.merge()
        mirror.table().manage_snapshots().set_current_snapshot(snapshot_id=merged).commit()
        assert (await mirror.merge()).index_rebuilt == ""
        mirror.check()
        mirror.check_index()


async def test_a_mirror_that_was_dropped_is_made_anew_from_the_whole_changelog_case_34(fleet):
    async with begun(fleet) as mirror:

        async def drop():
            mirror.lake.catalog.drop_table(mirror.config.mirror)

        await at("merge-before-commit", drop)
        try:
            report = await mirror.merge()
        except StoreUnavailable:  # some catalogs delete the metadata, too, which is all that is seen then
            report = await mirror.merge()
        assert report.scanned == 6
        mirror.check()
        mirror.check_index()


async def test_a_changelog_that_was_made_anew_or_dropped_is_told_and_not_merged_case_34(fleet):
    async with begun(fleet) as mirror:
        mirror.lake.catalog.drop_table(mirror.config.changelog)
        with pytest.raises(WatermarkLost, match=r"not in the catalog any more.*--bootstrap"):
            await mirror.merge()
        mirror.make({"id": "long", "name": "string"})
        with pytest.raises(WatermarkLost, match=r"dropped and made anew.*--bootstrap"):
            await mirror.merge()
        assert len(mirror.read("id")) == 3


# --- servers that say no --------------------------------------------------------------------------------------


async def test_a_store_and_a_catalog_that_ask_to_slow_down_only_take_longer_case_64(fleet, catalog, s3):
    slow = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
    async with begun(fleet) as mirror:
        put_rule = s3.on(Answer(503, slow, "application/xml"), method="PUT", path="/mirrors/", times=2)
        commit_rule = catalog.on(Answer(429, b"{}"), times=2, **commit_of(mirror))
        assert_merged_once(mirror, await mirror.merge())
        assert (put_rule.times_struck, commit_rule.times_struck) == (2, 2)


async def test_credentials_that_have_expired_are_told_and_the_merge_goes_on_with_new_ones_case_65(fleet, catalog, s3):
    denied = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
    async with begun(fleet) as mirror:
        s3.on(Answer(403, denied, "application/xml"), method="PUT", path="/mirrors/", times=None)
        with pytest.raises(StoreRefused, match="expired"):
            await mirror.merge()
        s3.mend()
        catalog.on(Answer(403, b"{}"), times=None, **commit_of(mirror))
        with pytest.raises(CatalogRefused):
            await mirror.merge()
        catalog.mend()
        assert_merged_once(mirror, await mirror.merge())


async def test_a_failure_of_one_mirror_leaves_the_others_alone_and_all_readers_see_whole_rows(fleet, catalog):
    async with begun(fleet) as broken, begun(fleet) as whole:
        catalog.on(Answer(403, b"{}"), times=None, **commit_of(broken))
        with pytest.raises(CatalogRefused):
            await broken.merge()
        await whole.merge()
        rows = same_by_all_readers(fleet, [broken.config.mirror, whole.config.mirror])
        assert [len(one) for one in rows] == [3, 3]

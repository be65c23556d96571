"""Beginning again, and copies behind a truncate: the old rows are there until all of the new ones are (I6)."""

import pytest
from pyiceberg.types import StringType
from temporalio.testing import ActivityEnvironment

from activities import bootstrapping, failpoints, sweeping
from activities.bootstrapping import bootstrap_mirror
from activities.contracts.mirrors import MirrorInput
from activities.core.faults import ChangeInvalid, CommitConflict, MirrorForeign, WatermarkLost
from activities.core.mirrors import ExpiryRules
from support.following import Follower
from support.lakereaders import ALWAYS_TRUE
from support.mirrors import Row, compact, gone, opened, put, truncated, update


@pytest.fixture
async def orders(fleet):
    async with opened(fleet) as mirror:
        await mirror.write(*(put(key, name=f"n{key}") for key in range(1, 8)))
        await mirror.merge()
        await mirror.write(gone(2), update(3, name="again"), put(9, name="new"))
        await mirror.merge()
        yield mirror


@pytest.fixture(autouse=True)
def disarmed():
    yield
    failpoints.disarm()


async def bootstrap(mirror):
    return await ActivityEnvironment().run(
        bootstrap_mirror, mirror.context, MirrorInput(mirror.fleet.name, mirror.config.mirror)
    )


def watched(mirror, point, seen):
    """Collect what readers see whenever a point is reached."""

    async def look():
        seen.append(mirror.read("id", "name"))

    failpoints.arm(point, look)


async def test_a_mirror_that_begins_again_changes_in_one_commit_whatever_the_pieces(orders, monkeypatch):
    monkeypatch.setattr(bootstrapping, "PIECE_ROWS", 3)
    orders.configure(batch_rows=3)
    # Pieces need what earlier ones brought: values that are not carried, deletes, late changes.
    await orders.write(put(4, unchanged=["name"]), gone(5), put(1, 0x50, name="late"), put(2, 0x50, name="late"))
    before, old_files, seen = orders.read("id", "name"), await orders.objects("data/"), []
    watched(orders, "merge-after-write", seen)
    report = await bootstrap(orders)
    assert len(seen) > 3
    assert all(one == before for one in seen)
    assert (report.commits, report.scanned, len(orders.snapshots())) == (1, 14, 3)
    orders.check()
    orders.check_index()
    live = {orders.context.store.key(one["file_path"]) for one in orders.table().inspect.data_files().to_pylist()}
    assert not live & old_files
    assert len(orders.by_all_readers()) == 6
    # It goes on from there, with its deletes remembered.
    failpoints.disarm()
    await orders.write(put(5, 0x60, name="late"), update(9, name="newer"))
    assert ((await orders.merge()).superseded, orders.watermark().partial) == (1, "")
    orders.check()


async def test_a_mirror_begins_again_from_a_changelog_that_was_made_anew_with_other_columns(orders):
    orders.configure(schema="permissive")
    orders.lake.catalog.drop_table(orders.config.changelog)
    orders.make({"more": "string", "name": "string", "id": "long"})
    orders.written, orders.lsn = [], 0
    await orders.write(put(1, name="one", more="x"), put(20, name="twenty"))
    with pytest.raises(WatermarkLost, match="made anew"):
        await orders.merge()
    await bootstrap(orders)
    assert orders.read("id", "name", "more") == [(1, "one", "x"), (20, "twenty", None)]
    orders.check_index()
    await orders.write(update(1, name="two", more="y"))
    assert (await orders.merge()).upserted == 1
    assert len(orders.by_all_readers()) == 2


@pytest.mark.parametrize("way", ["rolled back", "deleted"])
async def test_a_change_that_cannot_be_understood_is_mended_in_either_way_that_its_fault_names(orders, way):
    before = orders.changelog().current_snapshot().snapshot_id
    await orders.write(Row("upsurt", {"id": 1, "name": "wrong"}))
    with pytest.raises(
        ChangeInvalid, match=r"roll the changelog back .* append what is right, or delete .*--bootstrap"
    ):
        await orders.merge()
    orders.written.pop()
    if way == "rolled back":
        orders.changelog().manage_snapshots().rollback_to_snapshot(before).commit()
        await orders.write(update(1, name="right"))
        await orders.merge()
    else:
        orders.changelog().delete("cdc_operation = 'upsurt'")
        with pytest.raises(ChangeInvalid):
            await orders.merge()
        await bootstrap(orders)
    orders.check()


async def test_a_changelog_that_was_renamed_is_merged_on_once_it_is_put_back_as_the_fault_says(orders):
    aside = f"{orders.config.changelog}_aside"
    orders.lake.catalog.rename_table(orders.config.changelog, aside)
    with pytest.raises(WatermarkLost, match=r"any more; put it back under that name.*mirrors resume\)"):
        await orders.merge()
    orders.lake.catalog.rename_table(aside, orders.config.changelog)
    await orders.write(update(1, name="later"))
    assert (await orders.merge()).scanned == 1
    orders.check()


async def test_a_mirror_that_was_rolled_back_begins_again(orders):
    first = orders.table().snapshots()[0]
    orders.table().manage_snapshots().rollback_to_snapshot(first.snapshot_id).commit()
    with pytest.raises(MirrorForeign, match="rolled back"):
        await orders.merge()
    await bootstrap(orders)
    orders.check()
    orders.check_index()
    await orders.write(update(1, name="two"))
    await orders.merge()
    orders.check()


@pytest.mark.parametrize("name", ["id", "name", "cdc_sequence_number"])
async def test_a_column_that_others_put_in_anothers_place_is_refused_and_a_mirror_begins_again_without_it(orders, name):
    with orders.table().update_schema(allow_incompatible_changes=True) as update_schema:
        kind = orders.table().schema().find_type(name)
        update_schema.delete_column(name)
    with orders.table().update_schema() as update_schema:
        update_schema.add_column(name, kind)
    await orders.write(update(1, name="newer"))
    with pytest.raises(MirrorForeign, match=f"{name} are not the columns that merges brought"):
        await orders.merge()
    await bootstrap(orders)
    await orders.write(update(7, name="on it goes"))
    await orders.merge()
    orders.check()
    orders.check_index()


async def test_columns_that_others_renamed_in_turn_are_refused_until_they_are_renamed_back(fleet):
    async with opened(fleet, {"id": "long", "name": "string", "label": "string"}) as mirror:

        def swap():
            for old, new in (("name", "aside"), ("label", "name"), ("aside", "label")):
                with mirror.table().update_schema() as update_schema:
                    update_schema.rename_column(old, new)

        await mirror.write(put(1, name="a", label="b"), put(2, name="c", label="d"))
        await mirror.merge()
        swap()
        await mirror.write(update(1, name="newer", label="b"))
        with pytest.raises(MirrorForeign, match="label, name are not the columns that merges brought"):
            await mirror.merge()
        swap()
        await mirror.merge()
        mirror.check()


async def test_whatever_others_committed_while_a_mirror_begins_again_is_replaced(orders):
    await orders.write(put(30, name="x"))

    async def merge():
        failpoints.disarm()
        await orders.merge()

    failpoints.arm("merge-before-commit", merge)
    await bootstrap(orders)
    assert len(orders.snapshots()) == 4
    orders.check()
    orders.check_index()


async def test_what_was_stored_for_a_head_that_moved_long_ago_is_not_committed_since_a_sweep_deletes_it(
    orders, monkeypatch
):
    monkeypatch.setattr(sweeping, "SKEW_SECONDS", 0)
    orders.configure(expiry=ExpiryRules(keep_snapshots=1, snapshot_age_seconds=0, grace_seconds=0))
    await orders.write(put(30, name="x"))
    swept = []

    async def merge_and_sweep():
        failpoints.disarm()
        await orders.merge()
        with monkeypatch.context() as later:
            later.setattr(sweeping, "SKEW_SECONDS", -2)  # the store counts in whole seconds
            swept.extend([await orders.tidy(), await orders.tidy()])

    failpoints.arm("merge-before-commit", merge_and_sweep)
    with pytest.raises(CommitConflict, match="begins again once more"):
        await bootstrap(orders)
    assert swept[1].deleted
    orders.check()
    await bootstrap(orders)
    orders.check()
    orders.check_index()


async def test_a_watermark_that_has_expired_is_said_and_the_mirror_begins_again_on_request_case_47(orders):
    await orders.write(put(30, name="x"), put(31, name="y"))
    compact(orders.changelog())
    table = orders.changelog()
    head = table.current_snapshot().snapshot_id
    table.maintenance.expire_snapshots().by_ids(
        [one.snapshot_id for one in table.snapshots() if one.snapshot_id != head]
    ).commit()
    before = orders.read("id")
    with pytest.raises(WatermarkLost, match=r"expire.*--bootstrap"):
        await orders.merge()
    assert orders.read("id") == before
    await bootstrap(orders)
    orders.check()
    await orders.write(put(32, name="z"))
    await orders.merge()
    orders.check()
    # I5: whether what is older than all that is left was deleted, nobody knows.
    await orders.write(put(33, 0x50, name="late"))
    assert (await orders.merge()).refused == 1
    assert (33,) not in orders.read("id")


async def test_what_a_mirror_begins_with_is_held_against_expiry_until_it_is_there_case_47(orders):
    """It may take longer than the changelog's snapshots are kept."""
    follower = Follower(orders.context.lake, orders.config)

    async def meanwhile():
        await orders.write(put(20, name="meanwhile"))
        await orders.write(put(21, name="and more"))
        assert follower.let_expire() == 2

    failpoints.arm("merge-before-commit", meanwhile)
    await bootstrap(orders)
    failpoints.disarm()
    follower.let_expire()
    await orders.merge()
    orders.check()
    assert {20, 21} < {key for (key,) in orders.read("id")}


async def test_a_changelog_that_was_compacted_is_not_merged_again_case_48(orders):
    await orders.write(put(30, name="x"))
    await orders.merge()
    compact(orders.changelog())
    report = await orders.merge()
    assert (report.scanned, report.upserted, report.more) == (0, 0, False)
    await orders.write(put(31, name="y"))
    report = await orders.merge()
    assert (report.scanned, report.upserted) == (1, 1)
    orders.check()


async def test_an_empty_changelog_empties_a_mirror_that_begins_again(orders):
    orders.changelog().delete(ALWAYS_TRUE)
    await bootstrap(orders)
    assert orders.by_all_readers() == []
    orders.written = []
    await orders.write(put(1, 1, name="old number"))
    await orders.merge()
    orders.check()


async def test_a_copy_behind_a_truncate_becomes_visible_at_once_though_it_is_merged_in_pieces(orders):
    orders.configure(batch_rows=3)
    number = 0x900
    rows = [truncated(number), *(put(key, number, ordinal=key, name="copied") for key in range(1, 12))]
    await orders.write(*rows)
    before, seen = orders.read("id", "name"), []
    watched(orders, "merge-after-write", seen)
    report = await orders.merge()
    assert len(seen) > 3
    assert all(one == before for one in seen)
    assert (report.commits, report.scanned, orders.watermark().partial) == (1, 12, "")
    orders.check()
    orders.check_index()
    assert len(orders.by_all_readers()) == 11
    await orders.write(*(Row("update", {"id": key, "name": "again"}) for key in range(1, 12)))
    assert (await orders.drain())[-1].more is False
    orders.check()


async def test_a_mirror_whose_columns_changed_begins_again_under_its_changelogs_columns(orders):
    with orders.changelog().update_schema() as changing:
        changing.add_column("more", StringType())
    await orders.write(put(40, name="x", more="y"))
    await bootstrap(orders)
    orders.check()
    await orders.write(put(41, name="x", more="z"))
    await orders.merge()
    orders.check()

"""The index may be lost, damaged, stale or foreign: that costs time, and never a row (I5)."""

import shutil
import uuid
from dataclasses import replace
from decimal import Decimal

import pyarrow as pa
import pytest
from temporalio.testing import ActivityEnvironment

from activities.contracts.mirrors import MirrorInput
from activities.core import indexplan
from activities.core.faults import BadConfig
from activities.core.mirrors import INDEX, IndexPointer
from activities.mirror_index import rebuild_index
from support.lakereaders import ALWAYS_TRUE
from support.mirrors import Row, gone, opened, put, truncated, update


@pytest.fixture
async def orders(fleet):
    """A mirror of some merges, with deleted keys 2 and 5."""
    async with opened(fleet) as mirror:
        await mirror.write(*(put(key, name=f"n{key}") for key in range(1, 8)))
        await mirror.merge()
        await mirror.write(gone(2), update(3, name="again"))
        await mirror.merge()
        await mirror.write(gone(5), put(9, name="new"))
        await mirror.merge()
        forget_cache(mirror)
        yield mirror


def forget_cache(mirror):
    """From now on it is a worker that has cached nothing."""
    shutil.rmtree(mirror.context.cache_directory, ignore_errors=True)
    cold = mirror.context.cache_directory.with_name(f"cold-{uuid.uuid4().hex}")
    mirror.context = replace(mirror.context, cache_directory=cold)


def pointer(mirror):
    found = IndexPointer.load(mirror.snapshots()[-1][INDEX])
    assert found is not None
    return found


async def spoil(mirror, how):
    """Damage the index that the head names, of which no worker has a copy; answers what the merge must say of it."""
    forget_cache(mirror)
    store, key = mirror.context.store, mirror.context.store.key(pointer(mirror).path)
    body = await store.tail(key, 2**30)
    await store.delete(key)
    match how:
        case "missing":
            return "cannot be read"
        case "truncated":
            await store.create(key, body[: len(body) // 2], "x")
        case "bit-flipped":
            await store.create(key, body[:100] + bytes([body[100] ^ 1]) + body[101:], "x")
        case "another version":
            spoilt = body.replace(b'\\"version\\":2', b'\\"version\\":7')
            assert spoilt != body
            await store.create(key, spoilt, "x")
    return ""


async def merge_late_events(mirror):
    """Inserts of deleted keys from before their deletes, late updates, and something new."""
    first = mirror.written[1].number
    await mirror.write(put(2, first, name="late"), put(5, first, name="late"), update(3, first, name="late"))
    await mirror.write(update(9, name="newer"), put(10, name="new"), gone(1))
    return await mirror.merge()


@pytest.mark.parametrize("how", ["missing", "truncated", "bit-flipped", "another version"])
async def test_a_lost_or_damaged_index_is_made_anew_and_deleted_keys_stay_deleted_case_35(orders, how):
    says = await spoil(orders, how)
    report = await merge_late_events(orders)
    assert report.index_rebuilt
    assert says in report.index_rebuilt
    assert (report.commits, report.upserted, report.deleted, report.superseded) == (1, 2, 1, 3)
    orders.check()
    orders.check_index()
    assert (await merge_late_events(orders)).index_rebuilt == ""


async def test_a_worker_that_has_cached_nothing_fetches_the_index_and_rebuilds_none(orders):
    forget_cache(orders)
    report = await merge_late_events(orders)
    assert (report.index_rebuilt, report.upserted, report.superseded) == ("", 2, 3)
    orders.check()
    orders.check_index()


async def test_a_key_update_that_waits_while_the_index_is_lost_takes_values_from_its_old_row_cases_13_35_52(orders):
    await spoil(orders, "missing")
    number = orders.lsn + 16
    moved = Row("insert", {"id": 70}, number, 1, ("name",))
    await orders.write(put(71, number - 1, name="n71"), gone(71, number), moved)
    assert (await orders.merge()).index_rebuilt
    assert [row for row in orders.read("id", "name") if row[0] >= 70] == [(70, "n71")]
    orders.check_index()


async def test_an_index_of_an_older_snapshot_is_noticed_and_made_anew_cases_36_37(orders):
    """A head that names the index of the merge before: it lacks files, and has those that are gone."""
    older = orders.snapshots()[-2][INDEX]
    table = orders.table()
    snapshot = table.current_snapshot()
    summary = {**snapshot.summary.additional_properties, INDEX: older}
    with table.transaction() as transaction:
        transaction.update_snapshot(snapshot_properties=summary).fast_append().commit()
    table = orders.table()
    table.manage_snapshots().create_tag(table.current_snapshot().snapshot_id, "icefleet-watermark").commit()
    report = await merge_late_events(orders)
    assert "data files that it does not know" in report.index_rebuilt
    orders.check()
    orders.check_index()


async def test_an_index_is_made_anew_on_request_in_a_commit_that_changes_no_row(orders):
    before, rows = pointer(orders), orders.rows()
    asked = MirrorInput(orders.fleet.name, orders.config.mirror)
    report = await ActivityEnvironment().run(rebuild_index, orders.context, asked)
    assert (report.commits, report.index_rebuilt) == (1, "somebody asked for it")
    assert pointer(orders) != before
    assert orders.rows() == rows
    orders.check_index()
    assert len(orders.by_all_readers()) == 6
    late = await merge_late_events(orders)
    assert (late.index_rebuilt, late.superseded) == ("", 3)
    orders.check()


async def test_files_of_several_row_groups_and_a_whole_group_that_is_deleted_keep_their_offsets_cases_40_41(
    fleet, monkeypatch
):
    monkeypatch.setattr("activities.lake.mirrorfiles.GROUP_ROWS", 10)
    async with opened(fleet) as mirror:
        await mirror.write(*(put(key, name=f"n{key}") for key in range(60)))
        await mirror.merge()
        await mirror.write(*(gone(key) for key in range(20, 30)))
        await mirror.merge()
        mirror.check_index()
        # Values of old rows are read by their positions, behind the group that is gone as well.
        await mirror.write(*(put(key, unchanged=["name"]) for key in (0, 19, 30, 59)), update(31, name="x"), gone(58))
        await mirror.merge()
        mirror.check()
        forget_cache(mirror)
        await ActivityEnvironment().run(rebuild_index, mirror.context, MirrorInput(fleet.name, mirror.config.mirror))
        await mirror.write(*(update(key, name="y") for key in range(0, 60, 7) if not 20 <= key < 30))
        await mirror.merge()
        mirror.check()
        mirror.check_index()
        assert len(mirror.by_all_readers()) == 49


async def test_folding_and_merging_keep_every_lookup_over_many_merges_case_38(fleet, monkeypatch):
    monkeypatch.setattr(indexplan, "FAN", 3)
    async with opened(fleet) as mirror:
        await mirror.write(*(put(key, name="x") for key in range(200)))
        await mirror.merge()
        for turn in range(10):
            rows = [update(key, name=f"t{turn}") for key in range(turn, 200, 11)]
            await mirror.write(*rows, gone(turn), put(1000 + turn, name="new"))
            await mirror.merge()
        mirror.check()
        mirror.check_index()
        # What was merged into the base beside a merge is in the store, where a worker finds it that has nothing.
        mirror.context = replace(mirror.context, cache_directory=mirror.context.cache_directory / "cold")
        mirror.check_index()
        heads = {IndexPointer.load(said[INDEX]).path for said in mirror.snapshots()}
        assert {mirror.context.store.path(key) for key in await mirror.objects("index/")} > heads


async def test_a_rebuilt_index_knows_of_truncates_and_of_what_the_changelog_forgot(orders):
    await orders.write(truncated(), put(3, name="after"), gone(9))
    await orders.merge()
    await spoil(orders, "missing")
    await orders.write(put(1, 0x111, name="late"), put(9, 0x112, name="late"), put(4, name="there"))
    report = await orders.merge()
    assert (bool(report.index_rebuilt), report.upserted) == (True, 1)
    orders.check()
    orders.check_index()


async def test_deletes_that_neither_index_nor_changelog_know_any_more_have_older_events_refused(orders):
    """I5: refused and counted, not guessed."""
    orders.changelog().delete(ALWAYS_TRUE)  # everything is merged, so this loses nothing
    await orders.merge()
    await spoil(orders, "missing")
    first = orders.written[1].number
    newest = orders.watermark().newest
    await orders.write(put(2, first, name="late"), put(77, first, name="late"), update(3, first, name="late"))
    await orders.write(put(78, name="there"))
    report = await orders.merge()
    assert (report.refused, report.upserted, report.superseded) == (2, 1, 1)
    assert orders.watermark().horizon == newest
    assert sorted(orders.read("id")) == [(1,), (3,), (4,), (6,), (7,), (9,), (78,)]
    orders.check_index()


@pytest.mark.parametrize("kind", ["decimal(2, 0)", "decimal(10, 0)", "decimal(38, 0)", "int"])
async def test_a_lost_index_is_made_anew_from_sequence_numbers_of_every_width_and_rows_without_one_are_oldest(
    fleet, kind
):
    async with opened(fleet, {"id": "long", "name": "string", "version": kind}, sequence_column="version") as mirror:

        def row(key, version, name):
            number = version if kind == "int" else Decimal(version)
            return Row("insert", {"id": key, "name": name, "version": number}, version)

        await mirror.write(row(1, 5, "old"), row(2, 20, "newer"))
        await mirror.merge()
        theirs = pa.Table.from_pylist([{"id": 9, "name": "theirs"}], mirror.table().scan().to_arrow().schema)
        mirror.table().append(theirs)
        await mirror.write(row(1, 10, "new"), row(2, 10, "late"), row(9, 1, "ours"))
        assert (await mirror.merge()).index_rebuilt
        assert mirror.read("id", "name") == [(1, "new"), (2, "newer"), (9, "ours")]
        mirror.check_index()


@pytest.mark.parametrize(
    ("old", "config"),
    [("id", {"primary_keys": ("renamed",)}), ("cdc_sequence_number", {"sequence_column": "renamed"})],
)
async def test_a_lost_index_is_made_anew_under_the_names_that_key_and_sequence_get_in_the_same_merge_case_49(
    orders, old, config
):
    orders.configure(schema="permissive")
    await spoil(orders, "missing")
    with orders.changelog().update_schema() as changing:
        changing.rename_column(old, "renamed")
    orders.configure(**config)
    asked = MirrorInput(orders.fleet.name, orders.config.mirror)
    with pytest.raises(BadConfig, match=r"has no column renamed yet; merge first, or mend primary_keys"):
        await ActivityEnvironment().run(rebuild_index, orders.context, asked)

    def row(operation, key, number, name):
        values = {"id": key, "cdc_sequence_number": f"{number:032x}", "name": name}
        return Row(operation, {"renamed" if column == old else column: value for column, value in values.items()})

    newer = 0x9000 << 64
    await orders.write(row("insert", 10, newer, "new"), row("update", 1, newer, "again"), row("update", 3, 1, "late"))
    report = await orders.merge()
    assert (report.commits, report.upserted, report.superseded) == (1, 2, 1)
    assert report.index_rebuilt
    names = {1: "again", 3: "again", 4: "n4", 6: "n6", 7: "n7", 9: "new", 10: "new"}
    assert sorted(orders.read(orders.config.primary_keys[0], "name")) == list(names.items())
    orders.check_index()
    assert (await ActivityEnvironment().run(rebuild_index, orders.context, asked)).commits == 1
    orders.check_index()

"""Compaction: the same rows in fewer files, the watermark carried on, and the index still right."""

import asyncio
from dataclasses import replace

import pytest
from pyiceberg.transforms import BucketTransform

from activities import compacting, failpoints
from activities.core import indexmoves
from activities.core.faults import CommitConflict
from activities.core.mirrors import INDEX, WATERMARK, CompactionRules
from activities.lake import mirror as mirrors
from activities.mirror_head import head_of
from support.mirrors import gone, opened, put, update

RULES = CompactionRules(small_files=4)


@pytest.fixture
async def orders(fleet):
    async with opened(fleet, compaction=RULES) as mirror:
        yield mirror


def files(orders):
    return orders.table().inspect.files().to_pylist()


async def test_what_merges_and_compactions_make_lies_where_the_next_worker_finds_it_if_they_are_killed(orders):
    def there():
        return sorted(path.parent.suffix for path in orders.context.cache_directory.glob("*/*.parquet"))

    seen = []

    async def look():
        seen.append(there())

    for point in ("merge-after-write", "compact-after-write"):
        failpoints.arm(point, look)
        await fill(orders)
        await orders.compact()
        failpoints.disarm()
    assert seen[0] == [".part"]
    assert seen[-1] == [".part"]
    assert there() == []


async def fill(orders):
    """Six merges: seven small data files would be there but for the one that is deleted whole, and some deletes."""
    for start in range(0, 60, 10):
        await orders.write(*(put(key, name=f"n{key}") for key in range(start, start + 10)))
        await orders.merge()
    await orders.write(*(gone(key) for key in range(10)), update(20, name="again"), gone(33))
    return await orders.merge()


@pytest.mark.parametrize("stretches", [indexmoves.MOST_STRETCHES, 0])
async def test_rows_are_the_same_and_later_merges_find_them_where_they_went_cases_32_42_46(
    orders, stretches, monkeypatch
):
    """Whether the index learns of stretches or of each row."""
    monkeypatch.setattr(indexmoves, "MOST_STRETCHES", stretches)
    assert (await fill(orders)).compaction_due == "6 files are small"
    before, rows = orders.watermark(), orders.by_all_readers()
    report = await orders.compact()
    head = orders.table().current_snapshot()
    assert (report.snapshot_id, report.files_before, report.files_after) == (str(head.snapshot_id), 6, 1)
    assert (report.rows, report.more, len(rows)) == (49, False, 49)
    [held] = files(orders)
    assert (held["content"], held["record_count"]) == (0, 49)
    said = head.summary.additional_properties
    assert (head.summary.operation.value, said["total-delete-files"], said["total-records"]) == ("replace", "0", "49")
    assert orders.watermark() == before
    assert orders.by_all_readers() == rows
    orders.check_index()
    # The index knows where the rows are, and still knows what was deleted.
    await orders.write(update(20, name="moved"), gone(41), put(3, 1, name="late"), put(70, name="new"))
    merged = await orders.merge()
    assert (merged.index_rebuilt, merged.upserted, merged.deleted, merged.superseded) == ("", 2, 1, 1)
    orders.check()
    orders.by_all_readers()


async def test_nothing_is_rewritten_that_is_not_due_unless_a_person_asks(orders):
    await orders.write(put(1, name="a"), put(2, name="b"))
    await orders.merge()
    await orders.write(put(3, name="c"), gone(2))
    await orders.merge()
    orders.configure(compaction=CompactionRules(deleted_ratio=0.9))
    count = len(orders.snapshots())
    assert (await orders.compact()).snapshot_id == ""
    assert len(orders.snapshots()) == count
    report = await orders.compact(thorough=True)
    assert (report.files_before, report.files_after, report.rows) == (2, 1, 2)
    assert (await orders.compact(thorough=True)).snapshot_id == ""
    orders.check()


async def test_what_is_deleted_of_files_that_are_not_rewritten_stays_deleted_cases_32_42_46(orders):
    """Six data files share a delete file, and two of them are rewritten."""
    for start in range(0, 60, 10):
        await orders.write(*(put(key, name=f"n{key}") for key in range(start, start + 10)))
        await orders.merge()
    await orders.write(*(gone(start) for start in range(0, 60, 10)))
    await orders.merge()
    assert [(one["content"], one["record_count"]) for one in files(orders) if one["content"]] == [(1, 6)]
    rows = orders.by_all_readers()
    orders.configure(compaction=replace(RULES, bytes_per_turn=1))
    report = await orders.compact()
    assert (report.files_before, report.files_after, report.rows, report.more) == (2, 1, 18, True)
    assert [(one["content"], one["record_count"]) for one in files(orders) if one["content"]] == [(1, 4)]
    assert orders.snapshots()[-1]["total-position-deletes"] == "4"
    assert orders.by_all_readers() == rows
    orders.check_index()
    await orders.write(gone(1), gone(11), gone(21), update(31, name="again"))
    assert (await orders.merge()).index_rebuilt == ""
    orders.check()
    orders.by_all_readers()


async def test_a_merge_between_plan_and_commit_has_the_compaction_planned_anew_cases_31_32(orders):
    await fill(orders)
    await orders.write(update(50, name="meanwhile"), gone(51))

    async def merge_meanwhile():
        failpoints.disarm()
        await orders.merge()

    failpoints.arm("compact-before-commit", merge_meanwhile)
    report = await orders.compact()
    assert (report.files_after, report.rows) == (1, 48)
    orders.check()
    said = orders.snapshots()
    assert [("icefleet.mirror.compacted-rows" in one, INDEX in one, WATERMARK in one) for one in said[-2:]] == [
        (False, True, True),
        (True, True, True),
    ]
    await orders.write(update(50, name="after"))
    assert (await orders.merge()).index_rebuilt == ""
    orders.check()


async def test_a_mirror_that_others_wrote_to_is_compacted_without_its_index(orders):
    """Case 31: their rows come along, and the next merge makes the index anew."""
    await fill(orders)
    theirs = orders.table().scan(limit=1).to_arrow().set_column(1, "id", [[1000]])
    await asyncio.to_thread(orders.table().append, theirs)
    report = await orders.compact()
    assert (report.rows, INDEX in orders.snapshots()[-1]) == (50, False)
    assert len(orders.by_all_readers()) == 50
    await orders.write(update(1000, name="ours"))
    assert (await orders.merge()).index_rebuilt
    assert (1000, "ours") in orders.read("id", "name")
    orders.check_index()


async def test_rows_that_others_wrote_without_a_sequence_number_are_compacted_with_an_index_of_each_row(
    orders, monkeypatch
):
    """Case 31, once the index has been made anew."""
    monkeypatch.setattr(indexmoves, "MOST_STRETCHES", 0)
    await fill(orders)
    theirs = orders.table().scan(limit=1).to_arrow().select(["id", "name"]).set_column(0, "id", [[1000]])
    await asyncio.to_thread(orders.table().append, theirs)
    await orders.write(put(70, name="new"))
    assert (await orders.merge()).index_rebuilt
    assert (await orders.compact(thorough=True)).rows == 51
    orders.check_index()
    await orders.write(update(1000, name="ours"))
    assert not (await orders.merge()).index_rebuilt
    assert (1000, "ours") in orders.read("id", "name")


async def test_an_index_learns_of_each_row_where_rows_beside_each_other_go_into_other_partitions_case_45(
    orders, monkeypatch
):
    """However few are deleted: of a large table it would get far more stretches than it may have in memory."""
    monkeypatch.setattr(indexmoves, "MOST_STRETCHES", 30)
    await fill(orders)
    with orders.table().update_spec() as changing:
        changing.add_field("id", BucketTransform(4), "id_bucket")
    assert (await orders.compact(thorough=True)).rows == 49
    mirror = mirrors.read(orders.lake, orders.config)
    head = await head_of(orders.context, mirror, mirror.watermark)
    assert sum(map(len, head.index.moves)) <= 30
    orders.check_index()
    orders.check()


async def test_partitions_stay_apart_and_rows_that_change_theirs_move_cases_44_45(fleet):
    fields = {"id": "long", "name": "string", "kind": "int"}
    async with opened(fleet, fields, compaction=RULES, partition=(("kind", "identity"),)) as orders:
        for start in range(5):
            await orders.write(put(start, name="a", kind=1), put(start + 10, name="b", kind=start % 2))
            await orders.merge()
        await orders.write(update(1, name="a", kind=2), update(2, name="c", kind=1))
        await orders.merge()
        assert sorted(row[2:] for row in orders.by_all_readers()).count(("a", 2)) == 1
        report = await orders.compact(thorough=True)
        orders.check()
        assert (report.files_after, sorted(file["partition"]["kind"] for file in files(orders))) == (2, [0, 1, 2])
        with orders.table().update_spec() as spec:
            spec.remove_field("kind")
            spec.add_field("id", "bucket[2]")
        await orders.write(update(1, name="after", kind=2), gone(3), put(50, name="x", kind=0))
        assert (await orders.merge()).commits == 1
        orders.check()
        orders.by_all_readers()
        await orders.compact(thorough=True)
        orders.check()
        assert len({file["spec_id"] for file in files(orders)}) <= 2
        orders.by_all_readers()


class DiedError(Exception):
    """Stands for the end of the worker: nothing of what it knew is left."""


@pytest.mark.parametrize("point", ["compact-after-write", "compact-before-commit", "compact-after-commit"])
async def test_a_worker_that_dies_leaves_the_old_files_or_the_new_ones_cases_21_23(orders, point):
    await fill(orders)

    async def die():
        raise DiedError

    failpoints.arm(point, die)
    with pytest.raises(DiedError):
        await orders.compact()
    failpoints.disarm()
    landed = point == "compact-after-commit"
    assert len(files(orders)) == (1 if landed else 7)
    assert (await orders.compact()).files_after == (0 if landed else 1)
    await orders.write(update(20, name="after"), gone(41))
    assert (await orders.merge()).index_rebuilt == ""
    orders.check()


async def test_a_writer_that_never_stops_has_the_compaction_given_up_with_a_clear_cause_case_33(orders, monkeypatch):
    monkeypatch.setattr(compacting, "TRIES", 2)
    await fill(orders)
    held = orders.table().scan(limit=1).to_arrow()

    async def append():
        await asyncio.to_thread(orders.table().append, held.set_column(1, "id", [[1000 + len(orders.snapshots())]]))

    failpoints.arm("compact-before-commit", append)
    with pytest.raises(CommitConflict, match="2 compactions in a row lost against other writers"):
        await orders.compact()
    failpoints.disarm()
    assert (await orders.compact()).files_after == 1


async def test_lists_move_with_their_rows(fleet):
    async with opened(fleet, {"id": "long", "tags": "list<string>"}, compaction=RULES) as tagged:
        for key in range(4):
            await tagged.write(put(key, tags=[f"t{key}", None]), put(key + 10, tags=None))
            await tagged.merge()
        assert (await tagged.compact()).files_after == 1
        await tagged.write(put(1, unchanged=("tags",)), gone(2))
        await tagged.merge()
        tagged.check()
        tagged.check_index()

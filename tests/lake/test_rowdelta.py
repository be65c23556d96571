"""Row deltas: new rows, deletes, watermark and tag in one commit, and every reader sees the same rows."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import DataFileContent

from activities.core.drift import RenameField
from activities.core.faults import MirrorForeign
from activities.core.mirrors import TAG, WATERMARK
from activities.lake import live, manifests, positiondeletes, rowdelta
from activities.lake.positiondeletes import Touched, deleted_rows, described, write
from activities.lake.remembered import Remembered
from activities.lake.rowdelta import RowDelta
from activities.lake.schema import changed
from support.mirrortables import hand_mirror, rows_of, watermark


@pytest.fixture
async def orders(fleet, tmp_path):
    async with hand_mirror(fleet, tmp_path) as made:
        yield made


def ids(rows):
    return [row[1:] for row in rows]


async def test_readers_see_what_is_left_after_deletes(orders):
    """Cases 42 and 46: a second delete of the same file still leaves one delete file for it."""
    await orders.apply(rows_of(range(6)))
    [path] = orders.live()
    await orders.apply(rows_of([7]), {path: [1, 4]})
    last = await orders.apply(None, {path: [0]}, summary={"icefleet.mirror.deleted": "1"})
    assert ids(orders.rows()) == [(2, "n2"), (3, "n3"), (5, "n5"), (7, "n7")]
    held = orders.live()
    assert [len(held[one].deletes) for one in sorted(held, key=lambda one: held[one].sequence)] == [1, 0]
    assert deleted_rows(orders.lake.files(), held[path]).tolist() == [0, 1, 4]
    table = orders.read().table
    head = table.current_snapshot()
    assert (head.snapshot_id, table.metadata.refs[TAG].snapshot_id) == (last, last)
    said = head.summary.additional_properties
    assert {name: said[name] for name in said if name.startswith("total") and "size" not in name} == {
        "total-records": "7",
        "total-data-files": "2",
        "total-delete-files": "1",
        "total-position-deletes": "3",
        "total-equality-deletes": "0",
    }
    assert (said["icefleet.mirror.deleted"], said[WATERMARK]) == ("1", watermark().dump())
    assert [one.summary.operation.value for one in table.snapshots()] == ["append", "overwrite", "overwrite"]


async def test_readers_see_the_same_through_delete_files_of_one_data_file_and_of_several_cases_42_46(orders):
    """Delete files as the release before wrote them become such of several; of old snapshots they are read as well."""
    orders.target_bytes = 1
    await orders.apply(pa.concat_tables([rows_of(range(start, start + 4)) for start in range(0, 24, 4)]))
    paths = sorted(orders.live())
    first = {path: orders.live()[path].data.lower_bounds[2][0] for path in paths}
    alone = [await orders.apply(None, {paths[number]: [number % 4]}) for number in (0, 2, 4)][-1]
    assert orders.deletes() == [1, 1, 1]
    await orders.apply(rows_of([50]))
    shared = await orders.apply(None, {path: [1] for path in paths})
    assert orders.deletes() == [6]
    last = await orders.apply(None, {paths[3]: [3]})
    assert orders.deletes() == [6]
    gone = {first[paths[number]] + number % 4 for number in (0, 2, 4)}
    told = {alone: sorted({*range(24)} - gone)}
    gone |= {first[path] + 1 for path in paths}
    told[shared] = sorted({*range(24), 50} - gone)
    told[last] = sorted({*range(24), 50} - gone - {first[paths[3]] + 3})
    assert [row[1] for row in orders.rows()] == told[last]
    for snapshot, expected in told.items():
        assert orders.ids_then(snapshot) == [expected] * 3
    start = first[paths[3]]
    assert orders.ids_where(f"id >= {start} AND id < {start + 4}") == [[start, start + 2]] * 3


async def test_a_file_of_which_everything_is_deleted_leaves_with_its_deletes(orders):
    """Case 43."""
    await orders.apply(rows_of([1, 2]))
    await orders.apply(rows_of([3]))
    [path, other] = sorted(orders.live(), key=lambda one: orders.live()[one].sequence)
    await orders.apply(None, {path: [0]})
    await orders.apply(None, {path: [1]})
    held = orders.live()
    assert (list(held), held[other].deletes) == ([other], ())
    said = orders.read().table.current_snapshot().summary.additional_properties
    assert (said["total-delete-files"], said["total-data-files"], said["total-records"]) == ("0", "1", "1")
    await orders.apply(None, {other: [0]})
    await orders.apply()
    assert (orders.rows(), orders.live()) == ([], {})
    await orders.apply(rows_of([5]))
    assert ids(orders.rows()) == [(5, "n5")]


async def test_what_is_remembered_of_manifests_is_what_is_read_of_them(orders, monkeypatch):
    """Nothing of a commit is read back, and whoever reads it finds the same."""
    await orders.apply(rows_of(range(6)))
    [path] = orders.live()
    await orders.apply(rows_of([7]), {path: [1, 4]})
    await orders.apply(rows_of([8]), {path: [2]})
    table = orders.read().table

    def plain(value):
        return dict(value) if isinstance(value, Mapping) else str(value)

    def seen():
        listed = live.manifests_of(table.io, table.current_snapshot())
        entries = [entry for some in live.live_entries(table.io, listed) for entry in some]
        words = [[entry[place] for place in range(4)] for entry in entries]
        files = [[plain(entry.data_file[place]) for place in range(len(entry.data_file))] for entry in entries]
        specs = [entry.data_file.spec_id for entry in entries]
        return [[str(one[place]) for place in range(len(one))] for one in listed], words, files, specs

    with monkeypatch.context() as nothing_is_read:
        nothing_is_read.setattr(table.io, "new_input", None)
        remembered = seen()
    monkeypatch.setattr(live, "_known", Remembered(0, len))
    monkeypatch.setattr(live, "_listed", Remembered(0, len))
    assert seen() == remembered


async def test_a_schema_that_comes_back_is_the_one_that_was_there(orders):
    """Case 49: a column is renamed and gets its old name again; every snapshot names a schema that the table has."""
    await orders.apply(rows_of([1]))
    for number, names in enumerate([("name", "label"), ("label", "name"), ("name", "label")], 2):
        now = orders.read().table.schema()
        renamed = changed(now, [RenameField(*names)], last_id=now.highest_field_id, schema_id=number)
        rows = rows_of([number]).rename_columns(["cdc_sequence_number", "id", names[1]])
        await orders.apply(rows, schema=renamed)
    assert ids(orders.rows()) == [(one, f"n{one}") for one in range(1, 5)]
    table = orders.read().table
    known = {one.schema_id for one in table.metadata.schemas}
    assert len(known) == 2
    first, second = sorted(known)
    assert [one.schema_id for one in table.snapshots()] == [first, second, first, second]
    assert table.schema().column_names[-1] == "label"


async def test_what_other_writers_delete_counts_and_is_folded_into_ours(orders):
    """Case 31: a delete file of another engine about two of our data files."""
    await orders.apply(rows_of(range(5)))
    await orders.apply(rows_of(range(5, 10)))
    first, second = sorted(orders.live(), key=lambda one: orders.live()[one].sequence)
    body = pa.BufferOutputStream()
    pq.write_table(pa.table({"file_path": sorted([first, second]), "pos": [1, 1]}), body)
    stored = await orders.put({0: body.getvalue().to_pybytes()}, "deletes/", ".parquet")
    theirs = described(write((Touched(orders.live()[first], np.array([1], np.uint32)),)), stored[0])
    theirs[4], theirs[5], theirs[10], theirs[11] = 2, body.getvalue().size, None, None
    positiondeletes._known = Remembered(0, len)
    rowdelta.commit(orders.lake, orders.read().table, RowDelta({WATERMARK: watermark().dump()}, add_deletes=[theirs]))
    await orders.apply(None, {first: [0]})
    assert [row[1] for row in orders.rows()] == [2, 3, 4, 5, 7, 8, 9]
    assert [len(file.deletes) for file in orders.live().values()] == [1, 1]
    assert orders.read().table.current_snapshot().summary["total-delete-files"] == "1"


async def test_deletes_by_value_are_refused(orders):
    await orders.apply(rows_of(range(5)))
    [path] = orders.live()
    made = write((Touched(orders.live()[path], np.array([1], np.uint32)),))
    stored = await orders.put({0: made.body}, "deletes/", ".parquet")
    theirs = described(made, stored[0])
    theirs[0], theirs[14] = DataFileContent.EQUALITY_DELETES, [2]
    rowdelta.commit(orders.lake, orders.read().table, RowDelta({WATERMARK: watermark().dump()}, add_deletes=[theirs]))
    with pytest.raises(MirrorForeign, match="deleted rows by their values"):
        orders.live()


async def test_manifests_stay_few_and_small(orders, monkeypatch):
    """A commit writes one manifest of data and one of deletes, and puts small ones together now and then."""
    for name, value in (("MERGE_AT", 4), ("SMALL", 6), ("LARGEST", 5)):
        monkeypatch.setattr(manifests, name, value)
    orders.target_bytes = 1
    for number in range(14):
        rows = pa.concat_tables([rows_of([number * 10 + at]) for at in range(2)])
        touched = {path: [0] for path in sorted(orders.live())[:1]} if number == 13 else None
        await orders.apply(rows, touched)
        table = orders.read().table
        held = table.current_snapshot().manifests(table.io)
        assert len(held) < 12
        assert all((one.added_files_count or 0) + (one.existing_files_count or 0) <= 5 for one in held)
    assert len(orders.rows()) == 27
    assert {one.data.file_path for one in orders.live().values()} == set(orders.live())
    assert [file.sequence for file in orders.live().values()].count(1) in {1, 2}

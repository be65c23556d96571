"""Row deltas: new rows, deletes, watermark and tag in one commit, and every reader sees the same rows."""

import pytest

from activities.core.mirrors import TAG, WATERMARK
from activities.lake.positiondeletes import deleted_rows
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
    assert ids(orders.rows()) == [(0, "n0"), (2, "n2"), (3, "n3"), (5, "n5"), (7, "n7")]
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
    assert ids(orders.rows()) == [(3, "n3")]

"""What is new in a changelog since a watermark: each change once, whatever became of old snapshots, or a clear stop."""

import itertools
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.snapshots import Operation
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import DecimalType, IntegerType, LongType, NestedField, StringType

from activities.core.drift import AddField, RenameField, WidenField
from activities.core.faults import BadConfig, ChangeInvalid, WatermarkLost
from activities.core.iceberg_types import parse_iceberg
from activities.core.mirrors import Watermark
from activities.core.publication import Shown
from activities.lake import positiondeletes
from activities.lake.changedeletes import Deletes
from activities.lake.changelogtag import advance_tag
from activities.lake.changereading import OpenFile
from activities.lake.expiry import expire, old_snapshots
from activities.lake.history import Announced
from activities.lake.live import live_files
from activities.lake.rowdelta import RowDelta, commit
from support.changelogs import line, lines, opened
from support.following import Follower, append, config_of, make_changelog, rewrite

LONG = parse_iceberg("long")
EPOCHS = itertools.count(100)


@pytest.fixture
async def orders(fleet):
    async with opened(fleet) as changelog:
        await changelog.create()
        yield changelog


def follower(changelog, **more):
    return Follower(changelog.context.lake, config_of(changelog.identifier, **more))


# --- whole snapshots ------------------------------------------------------------------------------------------


async def test_every_change_comes_once_and_the_watermark_names_the_head(orders):
    mirror = follower(orders)
    assert mirror.one() is None  # case 56: nothing, and nothing to remember
    await orders.append(1, 2)
    await orders.append(3)
    assert mirror.ids() == [1, 2, 3]
    await orders.append(4, 5)
    await orders.append(6)
    found = mirror.pending()
    assert ([one.rows for one in found.snapshots], found.rows) == ([2, 1], 3)
    assert found.oldest_ms == mirror.table.snapshots()[-2].timestamp_ms
    assert mirror.ids() == [4, 5, 6]
    head = mirror.table.current_snapshot()
    assert (mirror.watermark.snapshot_id, mirror.watermark.sequence_number, mirror.watermark.committed_ms) == (
        head.snapshot_id,
        head.sequence_number,
        head.timestamp_ms,
    )
    assert mirror.pieces == [3, 3]
    assert (mirror.one(), mirror.pending().oldest_ms) == (None, 0)


async def test_snapshots_are_taken_together_while_they_fit(orders):
    mirror = follower(orders, batch_rows=5)
    await orders.append(1)
    assert mirror.ids() == [1]
    for first in range(2, 14, 2):
        await orders.append(first, first + 1)
    assert mirror.ids() == list(range(2, 14))
    assert mirror.pieces == [1, 4, 4, 4]


async def test_changes_are_found_when_manifests_were_merged(orders):
    """Our own commits put twenty small manifests into one."""
    mirror = follower(orders)
    await orders.append(1)
    assert mirror.ids() == [1]
    for number in range(2, 26):
        await orders.append(number)
    assert len(mirror.table.current_snapshot().manifests(mirror.table.io)) < 20
    found = mirror.pending()
    assert [one.rows for one in found.snapshots] == [1] * 24
    assert mirror.ids() == list(range(2, 26))


async def test_old_files_are_read_as_the_changelog_is_today(fleet):
    """Cases 49 and 50: fields added, renamed, widened, dropped and made again between the snapshots of one piece."""
    async with opened(fleet, fields={"id": "int", "name": "string", "gone": "string"}) as orders:
        state = await orders.create()
        text = line(1, "1", "one", "old", operation="update").replace(",,1,", ',"[""name"",""gone""]",1,')
        orders.commit(state, 1, files=await orders.write(state, [text.encode()], 1))
        state = orders.state()
        changes = [
            RenameField("gone", "gone_until_2"),
            RenameField("name", "title"),
            WidenField("id", LONG),
            AddField("gone", LONG),
            AddField("tags", parse_iceberg("list<string>")),
        ]
        fields = {"id": "long", "title": "string", "gone": "long", "tags": "list<string>"}
        piece = line(2, str(2**40), "two", "7", '"[""x""]"').encode()
        after = await orders.write(state, [piece], 2, changes=changes, fields=fields)
        orders.commit(state, 2, files=after, changes=changes, columns_text="changed")
        mirror = follower(orders)
        names = ["cdc_unchanged", "id", "title", "gone_until_2", "gone", "tags"]
        taken = mirror.one(names)
        assert taken.changes.to_pylist() == [
            dict(zip(names, (["title", "gone_until_2"], 1, "one", "old", None, None), strict=True)),
            dict(zip(names, (None, 2**40, "two", None, 7, ["x"]), strict=True)),
        ]
        assert taken.changes.schema.field("id").type == pa.int64()


async def test_a_column_that_others_dropped_is_not_read_and_one_made_again_is_another(fleet, orders):
    """Cases 49 and 50, for a changelog that somebody else writes."""
    lake = orders.context.lake
    schema = Schema(
        NestedField(1, "op", StringType()),
        NestedField(2, "seq", IntegerType()),
        NestedField(3, "id", DecimalType(9, 2)),
        NestedField(4, "note", StringType()),
    )
    table = make_changelog(lake, f"{fleet.network}.theirs", schema)
    old = {"op": ["i"], "seq": pa.array([1], pa.int32()), "id": pa.array([1], pa.decimal128(9, 2)), "note": ["a"]}
    table.append(pa.table(old))
    with table.update_schema() as update:
        update.delete_column("note")
        update.update_column("seq", LongType())
        update.update_column("id", DecimalType(12, 2))
    with table.update_schema() as update:
        update.add_column("note", LongType())
    new = {"op": ["u"], "seq": [2**40], "id": pa.array([1], pa.decimal128(12, 2)), "note": [5]}
    table.append(pa.table(new))
    mirror = Follower(lake, config_of(f"{fleet.network}.theirs", sequence_column="seq", operation_column="op"))
    assert mirror.all("op", "seq", "note") == [("i", 1, None), ("u", 2**40, 5)]
    with pytest.raises(BadConfig, match="no column 'nothing'"):
        Follower(lake, config_of(f"{fleet.network}.theirs", sequence_column="nothing")).pending()


async def test_files_without_field_ids_and_columns_that_only_a_partition_names_are_read(fleet, orders):
    """As tables have them that were taken over from Hive."""
    lake, identifier = orders.context.lake, f"{fleet.network}.taken"
    fields = [("op", StringType()), ("seq", LongType()), ("id", LongType()), ("shop", StringType())]
    schema = Schema(*(NestedField(number, name, kind) for number, (name, kind) in enumerate(fields, 1)))
    spec = PartitionSpec(PartitionField(4, 1000, IdentityTransform(), "shop"))
    table = lake.catalog.create_table(identifier, schema=schema, partition_spec=spec)
    rows = pa.table({"op": ["c"], "seq": [1], "id": [10], "shop": ["berlin"]})
    path = f"s3://icefleet/{identifier}/one.parquet"
    with table.io.new_output(path).create() as sink:
        pq.write_table(rows, sink)
    table.add_files([path])
    mirror = Follower(lake, config_of(identifier, sequence_column="seq", operation_column="op"))
    assert mirror.all("id", "shop") == [(10, "berlin")]


# --- snapshots that are too large -----------------------------------------------------------------------------


def transaction(lsn, first, last, operation="insert"):
    """Changes of one transaction: ordinals and ids from `first` to `last`."""
    found = []
    for number in range(first, last + 1):
        text = line(lsn, str(number), f"n{number}", operation=operation)
        found.append(text.replace(f"{lsn:016x}{0:016x}", f"{lsn:016x}{number:016x}"))
    return "".join(found)


async def test_a_transaction_larger_than_a_batch_comes_in_parts_by_sequence_number(orders):
    """Case 59, in small: each part leaves a watermark with which another worker goes on."""
    mirror = follower(orders, batch_rows=20)
    await orders.append(1)
    assert mirror.ids() == [1]
    state = orders.state()
    pieces = [transaction(5, 1, 40).encode(), (transaction(5, 41, 50) + transaction(6, 51, 53)).encode()]
    orders.commit(state, 53, files=await orders.write(state, pieces, 53))
    await orders.append(60)
    assert mirror.all("cdc_sequence_number", "id", plan_once=False) == [
        *((f"{5:016x}{number:016x}", number) for number in range(1, 51)),
        *((f"{6:016x}{number:016x}", number) for number in range(51, 54)),
        (f"{60:016x}{0:016x}", 60),
    ]
    assert mirror.pieces == [1, 20, 20, 13, 1]
    assert mirror.watermark.partial == ""


async def test_an_older_event_in_a_later_snapshot_is_not_taken_for_merged(orders):
    """Case 4: the part of a snapshot that is merged says nothing of the snapshots after it."""
    await orders.append(9)
    mirror = follower(orders, batch_rows=2)
    assert mirror.ids() == [9]
    await orders.append(*range(11, 16))
    mirror.one()
    assert int(mirror.watermark.partial[:16], 16) == 12
    await orders.append(10, 16)  # 10 comes late
    mirror.tag()
    mirror.let_expire()  # both snapshots look like one now
    assert sorted(mirror.ids()) == [10, 13, 14, 15, 16]


async def test_many_bytes_make_a_piece_of_fewer_changes(orders):
    """Case 58: what compresses well is counted as it is in memory."""
    state = orders.state()
    wide = "".join(line(number, str(number), "x" * 10_000) for number in range(1, 201))
    orders.commit(state, 200, files=await orders.write(state, [wide.encode()], 200))
    mirror = follower(orders, batch_bytes=500_000)
    assert [value for value, _ in mirror.all("id", "name")] == list(range(1, 201))
    assert len(mirror.pieces) > 4
    assert max(mirror.pieces) <= 50


@pytest.mark.parametrize("group_bytes", [0, 2**30], ids=["bit by bit", "by row groups"])
async def test_files_that_are_too_large_to_be_fetched_at_once_hold_the_same(orders, monkeypatch, group_bytes):
    """Case 58."""
    monkeypatch.setattr("activities.lake.content.WHOLE_BYTES", 0)
    monkeypatch.setattr("activities.lake.content.GROUP_BYTES", group_bytes)
    await orders.append(*range(1, 10))
    mirror = follower(orders, batch_rows=4)
    assert mirror.all("id", "name") == [(number, f"n{number}") for number in range(1, 10)]
    assert mirror.pieces == [4, 4, 1]


async def test_pieces_of_a_large_snapshot_do_not_read_the_whole_of_it(orders, monkeypatch):
    """Case 59: the cost of a piece follows the piece, since statistics say which row groups hold it."""
    monkeypatch.setattr("activities.lake.rows.GROUP_BYTES", 50_000)
    state = orders.state()
    pieces = [transaction(5, first, first + 499).encode() for first in range(1, 10_001, 500)]
    orders.commit(state, 1, files=await orders.write(state, pieces, 1))
    read = []
    batches = OpenFile.batches

    def counted(self, groups=None):
        read.extend(groups or [])
        return batches(self, groups)

    monkeypatch.setattr(OpenFile, "batches", counted)
    mirror = follower(orders, batch_rows=500)
    assert mirror.ids() == list(range(1, 10_001))
    assert mirror.pieces == [500] * 20
    groups = len(set(read))
    assert groups >= 15
    assert len(read) < 20 * 8, f"{len(read)} times a row group was read, of {groups}"


def numbered(kind, numbers):
    rows = [(number, "i", place) for place, number in enumerate(numbers)]
    columns = {
        "seq": pa.array([number for number, _, _ in rows], kind),
        "op": [operation for _, operation, _ in rows],
        "id": [place for _, _, place in rows],
    }
    return pa.table(columns)


@pytest.mark.parametrize(
    ("iceberg", "kind", "numbers", "format_"),
    [
        (LongType(), pa.int64(), [7, 0, 0, 2**62, 3, 0, 12, 0], "auto"),
        (DecimalType(38, 0), pa.decimal128(38, 0), [10**30, 0, 5, 10**37, 7], "auto"),
        (StringType(), pa.string(), ["9", "A", "10", "ff", "0100", "b"], "hex"),
        (StringType(), pa.string(), ["9", "10", "100", "99", "0"], "decimal"),
    ],
    ids=["long", "decimal", "hex", "decimal-text"],
)
async def test_numbers_of_others_are_compared_as_numbers_where_a_snapshot_is_cut(
    fleet, orders, iceberg, kind, numbers, format_
):
    """Cases 11 and 12: also where texts sort otherwise, and where many changes have one number."""
    lake, name = orders.context.lake, f"{fleet.network}.theirs"
    schema = Schema(
        NestedField(1, "seq", iceberg), NestedField(2, "op", StringType()), NestedField(3, "id", LongType())
    )
    make_changelog(lake, name, schema).append(numbered(kind, numbers))
    more = {"sequence_column": "seq", "operation_column": "op", "sequence_format": format_}
    mirror = Follower(lake, config_of(name, batch_rows=2, **more))
    found = mirror.all("id", plan_once=False)

    def number_of(place):
        value = numbers[place]
        return int(value, 16 if format_ == "hex" else 10) if isinstance(value, str) else value

    assert mirror.pieces == [2] * (len(numbers) // 2) + [1] * (len(numbers) % 2)
    places = [place for (place,) in found]
    by_number = sorted(range(len(numbers)), key=number_of)
    for first in range(0, len(numbers), 2):
        assert sorted(places[first : first + 2]) == sorted(by_number[first : first + 2])


async def test_a_change_without_a_number_stops_a_cut(fleet, orders):
    lake, name = orders.context.lake, f"{fleet.network}.theirs"
    schema = Schema(
        NestedField(1, "seq", LongType()), NestedField(2, "op", StringType()), NestedField(3, "id", LongType())
    )
    make_changelog(lake, name, schema).append(numbered(pa.int64(), [1, None, 3]))
    mirror = Follower(lake, config_of(name, batch_rows=2, sequence_column="seq", operation_column="op"))
    with pytest.raises(ChangeInvalid, match=r"theirs, column seq: null is no sequence number"):
        mirror.one()


# --- a mirror that begins -------------------------------------------------------------------------------------


async def test_a_mirror_that_begins_reads_what_is_there_though_history_has_expired(orders):
    """Bootstrap over an existing changelog, in parts, during which more comes and more expires."""
    for number in range(1, 8):
        await orders.append(number)
    mirror = follower(orders, batch_rows=3)
    assert mirror.let_expire() == 6
    mirror.one()
    assert (mirror.watermark.snapshot_id, mirror.pieces) == (None, [3])
    await orders.append(8)
    mirror.one()
    assert mirror.let_expire() == 1  # the snapshot with which it began
    await orders.append(9)
    assert mirror.ids() == [7, 8, 9]
    assert mirror.pieces == [3, 3, 1, 2]


async def test_a_mirror_does_not_begin_with_a_changelog_of_which_rows_are_deleted_by_delete_files(orders):
    """It would show what a reader of the changelog does not see; one that goes on had merged them before."""
    await orders.append(1, 2)
    going_on, beginning = follower(orders), follower(orders)
    going_on.ids()
    table = going_on.table
    [live] = live_files(table).values()
    made = positiondeletes.write((positiondeletes.Touched(live, np.array([0], np.uint32)),))
    stored = f"s3://icefleet/{orders.identifier}/deletes.parquet"
    with table.io.new_output(stored).create() as sink:
        sink.write(made.body)
    commit(beginning.lake, table, RowDelta({}, add_deletes=[positiondeletes.described(made, stored)]))
    with pytest.raises(ChangeInvalid, match=r"rows of it are deleted by delete files.*rewrite_data_files"):
        beginning.pending()
    await orders.append(3)
    assert going_on.ids() == [3]


# --- what others do -------------------------------------------------------------------------------------------


async def rewritten(changelog, numbers, *operation):
    """All files put into one with these changes."""
    files = await changelog.write(changelog.state(), [lines(numbers)], numbers[-1], epoch=next(EPOCHS))
    rewrite(changelog.context.lake.load(changelog.identifier), files, *operation)


async def test_a_rewrite_is_not_merged_again_and_takes_nothing_away(orders):
    """Case 48: a compaction, of files that are merged and of some that are not."""
    await orders.append(1, 2)
    mirror = follower(orders)
    assert mirror.ids() == [1, 2]
    await orders.append(3)
    await rewritten(orders, [1, 2, 3])
    await orders.append(4)
    assert mirror.ids() == [3, 4]
    await rewritten(orders, [1, 2, 3, 4])
    found = mirror.pending()
    assert (found.rewritten, found.has_changes) == (True, False)
    assert mirror.one().piece.rows == 0  # the watermark moves, so that the rewrite may expire
    assert mirror.one() is None
    mirror.let_expire()
    await orders.append(5)
    assert mirror.ids() == [5]


async def test_a_compaction_by_an_overwrite_is_seen_to_be_one(orders):
    """Case 48: PyIceberg has no other word for it."""
    await orders.append(1, 2)
    await orders.append(3)
    mirror = follower(orders)
    assert mirror.ids() == [1, 2, 3]
    await rewritten(orders, [1, 2, 3], Operation.OVERWRITE)
    await orders.append(4)
    assert mirror.ids() == [4]


async def test_an_overwrite_that_is_no_compaction_stops_the_merge(orders):
    await orders.append(1, 2)
    mirror = follower(orders)
    mirror.ids()
    await orders.append(3)
    await rewritten(orders, [2, 3], Operation.OVERWRITE)
    with pytest.raises(WatermarkLost, match=r"was overwritten by snapshot .* 1 files with 2 rows stand where 2 with 3"):
        mirror.pending()


async def test_what_others_delete_before_it_is_merged_is_merged_all_the_same(orders):
    """A pure delete brings nothing; the append before it did."""
    await orders.append(1)
    mirror = follower(orders)
    mirror.ids()
    await orders.append(2)
    mirror.table.delete("id = 2")
    await orders.append(3)
    assert mirror.ids() == [2, 3]


async def test_a_changelog_that_was_made_anew_is_noticed(orders):
    """Case 34."""
    await orders.append(1)
    mirror = follower(orders)
    mirror.ids()
    orders.context.lake.catalog.drop_table(orders.identifier)
    await orders.create()
    with pytest.raises(WatermarkLost, match=r"was dropped and made anew.*merge --bootstrap"):
        mirror.pending()


async def test_a_changelog_that_was_rolled_back_is_noticed(orders):
    """Case 34: at once, and also when more has come since."""
    await orders.append(1)
    first = orders.state().snapshot_id
    await orders.append(2)
    mirror = follower(orders)
    mirror.ids()
    mirror.table.manage_snapshots().rollback_to_snapshot(first).commit()
    with pytest.raises(WatermarkLost, match="was rolled back"):
        mirror.pending()
    append(mirror.table, await orders.write(orders.state(), [lines([7])], 7))
    with pytest.raises(WatermarkLost, match="was rolled back"):
        mirror.pending()


@pytest.mark.parametrize("forgotten", [False, True])
async def test_a_changelog_that_was_rolled_back_behind_what_is_merged_in_part_is_noticed(orders, forgotten):
    """Case 34: the watermark's snapshot is there, and changes are in the mirror that the changelog has no more."""
    await orders.append(1)
    mirror = follower(orders, batch_rows=2)
    mirror.ids()
    await orders.append(2, 3, 4, 5)
    mirror.one()
    assert mirror.watermark.partial
    mirror.table.manage_snapshots().rollback_to_snapshot(mirror.watermark.snapshot_id).commit()
    if forgotten:
        mirror.let_expire()
        append(mirror.table, await orders.write(orders.state(), [lines([7])], 7))
    with pytest.raises(WatermarkLost, match=r"was rolled back.* in part.*merge --bootstrap"):
        mirror.pending()


# --- snapshots that have expired ------------------------------------------------------------------------------


async def test_a_mirror_that_is_tagged_survives_a_pause_in_which_everything_expires(orders):
    """Case 47: our own changelogs let snapshots go after an hour."""
    await orders.append(1, 2)
    mirror = follower(orders)
    mirror.ids()
    assert advance_tag(mirror.lake, mirror.config, mirror.watermark)
    for number in range(3, 7):
        await orders.append(number)

    def as_pipelines_do(table):
        """Announced, and old enough, as if an hour had passed."""
        head = table.current_snapshot()
        announced = Announced(head.snapshot_id, head.sequence_number)
        return old_snapshots(table, announced, Shown(), keep=1, before_ms=head.timestamp_ms + 1)

    assert expire(mirror.lake, orders.identifier, as_pipelines_do) == 3
    found = mirror.pending()
    assert (len(found.snapshots), found.rows, found.oldest_ms) == (1, 4, mirror.watermark.committed_ms)
    await orders.append(7)
    assert mirror.ids() == list(range(3, 8))
    assert mirror.one() is None


async def test_an_expired_watermark_is_no_loss_as_long_as_nothing_between_has_expired(orders):
    """Case 47."""
    await orders.append(1)
    mirror = follower(orders)
    mirror.ids()
    await orders.append(2)
    await orders.append(3)
    assert mirror.let_expire(keep=2) == 1
    assert mirror.table.snapshot_by_id(mirror.watermark.snapshot_id) is None
    assert mirror.ids() == [2, 3]


async def test_what_has_expired_unseen_is_said_and_never_skipped(orders):
    """Case 47."""
    await orders.append(1)
    mirror = follower(orders)
    mirror.ids()
    for number in (2, 3, 4):
        await orders.append(number)
    mirror.let_expire()
    with pytest.raises(WatermarkLost, match=r"has let snapshots between .* expire, and no tag 'icefleet-mirror-"):
        mirror.pending()


async def test_files_that_are_gone_since_the_tag_stop_the_merge(orders):
    """Case 47: something was taken away while nobody looked."""
    await orders.append(1)
    mirror = follower(orders)
    mirror.ids()
    mirror.tag()
    await orders.append(2)
    mirror.table.delete("id = 1")
    await orders.append(3)
    mirror.let_expire()
    with pytest.raises(WatermarkLost, match="lacks 1 files that it had before, such as s3://"):
        mirror.pending()


async def test_a_snapshot_that_is_merged_in_part_may_expire(orders):
    """Cases 47 and 59."""
    await orders.append(1)
    mirror = follower(orders, batch_rows=2)
    mirror.ids()
    mirror.tag()
    await orders.append(2, 3, 4, 5)
    mirror.one()
    await orders.append(6)
    await orders.append(7)
    mirror.let_expire()
    assert mirror.all("id", plan_once=False) == [(number,) for number in (4, 5, 6, 7)]
    assert mirror.pieces[2:] == [2, 2]
    assert mirror.watermark.snapshot_id == mirror.table.current_snapshot().snapshot_id


# --- deletes for an index that is made anew -------------------------------------------------------------------


def changes(*events):
    """Lines of (number, operation, id)."""
    return "".join(line(number, str(key), "n", operation=operation) for number, operation, key in events).encode()


async def written(changelog, *events):
    state = changelog.state()
    position = events[-1][0]
    changelog.commit(state, position, files=await changelog.write(state, [changes(*events)], position))


def deletes_of(mirror, **more):
    table = mirror.table
    first = {"snapshot_id": 1, "sequence_number": 1, "committed_ms": 1, "newest": text_of(99)}
    watermark = Watermark(**{"changelog_uuid": str(table.metadata.table_uuid), **first, **more})
    found = Deletes(table, mirror.config, watermark, mirror.lake.files())
    rows = [row for one in found for row in one.to_pylist()]
    return [(row["id"], int(row["cdc_sequence_number"][:16], 16)) for row in rows], found.horizon


def text_of(lsn):
    return f"{lsn:016x}{0:016x}"


async def test_the_deletes_of_a_changelog_are_found_with_their_numbers(orders):
    """Case 35: what an index needs that was lost."""
    await written(orders, (3, "insert", 1), (4, "insert", 2), (5, "delete", 1))
    await written(orders, (6, "update", 2))
    await written(orders, (7, "delete", 2), (8, "insert", 2))
    mirror = follower(orders)
    assert deletes_of(mirror) == ([(1, 5), (2, 7)], "")
    assert deletes_of(mirror, truncated=text_of(6)) == ([(2, 7)], "")
    assert deletes_of(mirror, horizon=text_of(5)) == ([(2, 7)], text_of(5))
    assert deletes_of(mirror, horizon=text_of(4)) == ([(1, 5), (2, 7)], text_of(4))
    # What is not merged yet still has a row to delete.
    assert deletes_of(mirror, newest=text_of(6)) == ([(1, 5)], "")
    assert deletes_of(mirror, newest="") == ([], "")


async def test_of_a_changelog_whose_history_has_expired_deletes_are_known_from_its_oldest_change_on(orders):
    """Invariant I5: what may have been deleted before that is refused, not guessed."""
    await written(orders, (3, "delete", 1))
    await written(orders, (5, "insert", 2))
    await written(orders, (7, "delete", 2))
    mirror = follower(orders)
    mirror.let_expire()
    assert deletes_of(mirror) == ([(1, 3), (2, 7)], f"{2:016x}{2**64 - 1:016x}")
    assert deletes_of(mirror, horizon=text_of(4))[1] == text_of(4)


async def test_of_a_changelog_that_was_compacted_since_deletes_are_known_from_its_oldest_change_on(orders):
    """Invariant I5: a late change is not refused as long as the changelog has what was before it."""
    await written(orders, (3, "delete", 1))
    await written(orders, (5, "insert", 2))
    mirror = follower(orders)
    mirror.ids()
    mirror.let_expire()
    for _ in range(2):
        rewrite(mirror.table, await orders.write(orders.state(), [changes((3, "delete", 1), (5, "insert", 2))], 5))
    await written(orders, (1, "insert", 9), (7, "insert", 3))
    merged = vars(mirror.watermark) | {"newest": text_of(5)}
    assert deletes_of(mirror, **merged) == ([(1, 3)], f"{2:016x}{2**64 - 1:016x}")


async def test_a_watermark_survives_its_text(orders):
    await orders.append(*range(1, 6))
    mirror = follower(orders, batch_rows=2)
    mirror.one()
    watermark = mirror.watermark
    assert Watermark.load(watermark.dump(), "m") == watermark
    assert watermark.partial_sequence_number == 1


async def something_happens(orders, mirror, dice, written):
    """Answers how many changes were written by then: their ids are 1 to that."""
    match dice.choice(["append", "append", "rewrite", "tag", "expire"]):
        case "append":
            more = dice.choice([1, 2, 5])
            await orders.append(*range(written + 1, written + more + 1))
            return written + more
        case "rewrite" if written:
            await rewritten(orders, list(range(1, written + 1)))
        case "tag" if mirror.watermark is not None:
            advance_tag(mirror.lake, mirror.config, mirror.watermark)
        case "expire":
            mirror.let_expire(keep=dice.choice([1, 2, 3]))
    return written


@pytest.mark.parametrize("seed", [3, 11])
async def test_whatever_happens_to_a_changelog_no_change_is_skipped(orders, seed):
    """Cases 47, 48 and 58 in any order: everything comes, or the mirror says that it is lost and begins again."""
    dice, mirror = random.Random(seed), follower(orders, batch_rows=3)
    written, seen, lost = 0, list[int](), 0
    for turn in range(24):
        if turn < 23:
            written = await something_happens(orders, mirror, dice, written)
        try:
            while (turn == 23 or dice.random() < 0.5) and (taken := mirror.one(["id"])) is not None:
                seen += taken.changes.column("id").to_pylist()
        except WatermarkLost:
            mirror.watermark, seen, lost = None, [], lost + 1  # as a bootstrap does
    while (taken := mirror.one(["id"])) is not None:
        seen += taken.changes.column("id").to_pylist()
    assert set(seen) == set(range(1, written + 1)), f"seed {seed}, lost {lost} times"

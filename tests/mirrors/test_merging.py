"""Merging: of every key the newest change, whatever the order and the batches in which changes come."""

import random

import pytest
from structlog.testing import capture_logs

from activities.core import indexplan
from activities.core.faults import BadConfig, ChangeInvalid
from support.mirrors import Row, gone, opened, put, truncated, update


@pytest.fixture
async def orders(fleet):
    async with opened(fleet) as mirror:
        yield mirror


async def test_a_first_merge_makes_the_mirror_and_three_readers_find_the_newest_row_of_every_key(orders):
    await orders.write(put(1, name="a"), put(2, name="b"), update(1, name="c"), gone(2), put(3, name="d"))
    report = await orders.merge()
    assert (report.commits, report.scanned, report.upserted, report.deleted, report.superseded) == (1, 5, 2, 0, 2)
    assert (report.more, report.lag_events, report.refused, report.ties) == (False, 0, 0, 0)
    assert report.watermark == str(orders.changelog().current_snapshot().snapshot_id)
    assert report.watermark_sequence == orders.written[-1].sequence
    assert orders.by_all_readers() == [(orders.written[2].sequence, 1, "c"), (orders.written[4].sequence, 3, "d")]
    orders.check()


async def test_later_merges_replace_and_delete_rows_by_one_delete_file_for_each_data_file_cases_42_46(orders):
    await orders.write(*(put(key, name=f"n{key}") for key in range(10)))
    await orders.merge()
    for key in range(4):
        await orders.write(update(key, name="again"), gone(9 - key))
        report = await orders.merge()
        assert (report.upserted, report.deleted, report.commits) == (1, 1, 1)
    orders.check()
    deletes = orders.table().inspect.delete_files().to_pylist()
    [(name, count)] = [(one["file_path"], one["record_count"]) for one in deletes]
    assert (count, name.startswith("s3://")) == (8, True)
    assert len(orders.by_all_readers()) == 6


async def test_exact_duplicates_and_replays_of_the_whole_changelog_change_nothing_cases_1_4(orders):
    rows = orders.numbered([put(1, name="a"), put(2, name="b"), update(1, name="c"), gone(2)])
    await orders.write(*rows, *rows)
    report = await orders.merge()
    assert (report.ties, report.superseded) == (4, 2)
    await orders.write(*rows)
    again = await orders.merge()
    assert (again.commits, again.upserted, again.deleted, again.superseded) == (1, 0, 0, 4)
    await orders.write(*rows[:2])
    await orders.merge()
    orders.check()
    assert orders.read("id", "name") == [(1, "c")]


async def test_of_two_changes_with_one_sequence_number_the_first_wins_in_one_batch_and_in_two_case_2(orders):
    await orders.write(put(1, 7, name="first"), put(1, 7, name="second"))
    assert (await orders.merge()).ties == 1
    await orders.write(put(1, 7, name="third"), put(2, 8, name="first"))
    await orders.merge()
    await orders.write(put(2, 8, name="second"))
    assert (await orders.merge()).superseded == 1
    assert orders.read("id", "name") == [(1, "first"), (2, "first")]


async def test_order_of_arrival_does_not_matter_in_a_batch_nor_across_batches_cases_3_4_5_6_7_8(orders):
    history = orders.numbered(
        [
            *(put(1, name="a"), update(1, name="b"), gone(1), put(1, name="c"), update(1, name="d")),  # case 8
            *(gone(2), put(2, name="e")),  # case 6
            *(put(3, name="f"), gone(3)),  # case 7
            *(put(4, name="g"), gone(4)),
        ]
    )
    shuffled = list(history)
    random.Random(4).shuffle(shuffled)
    await orders.write(*shuffled)
    await orders.merge()
    orders.check()
    assert orders.read("id", "name") == [(1, "d"), (2, "e")]
    # Case 5: a late insert after a merged delete, and late updates of what is newer by now (case 4).
    await orders.write(*(row for row in history if row.operation != "delete"))
    report = await orders.merge()
    assert (report.upserted, report.deleted) == (0, 0)
    orders.check()


async def test_a_mirror_tells_readers_that_cannot_read_its_encodings_in_vectors_not_to(orders):
    """Parquet's delta encodings, which Iceberg's vectorized reader refused for long, and Spark uses it unless told."""
    await orders.write(put(1, name="a"))
    await orders.merge()
    assert orders.table().properties["read.parquet.vectorization.enabled"] == "false"


async def test_a_hundred_updates_of_one_key_are_one_row_case_9(orders):
    await orders.write(*(update(1, name=f"n{number}") for number in range(100)))
    report = await orders.merge()
    assert (report.upserted, report.superseded, orders.read("name")) == (1, 99, [("n99",)])


async def test_changes_of_one_transaction_are_told_apart_by_their_ordinals_case_10(orders):
    await orders.write(put(1, 5, ordinal=2, name="third"), put(1, 5, ordinal=1, name="second"), put(1, 5, name="first"))
    await orders.merge()
    assert orders.read("name") == [("third",)]
    await orders.write(put(1, 5, ordinal=1, name="late"), put(1, 5, ordinal=10, name="eleventh"))
    await orders.merge()
    assert orders.read("name") == [("eleventh",)]


STREAMED = (put(1, 16, name="streamed"), gone(2, 17))
COPIED = (put(1, 0, name="copied"), put(2, 0, name="copied"), put(3, 0, name="copied"))


@pytest.mark.parametrize(
    "batches",
    [(STREAMED, COPIED), (COPIED, STREAMED), ((*STREAMED, *COPIED),), ((*COPIED, *STREAMED),)],
    ids=["stream first", "copy first", "at once", "at once, copy first"],
)
async def test_rows_of_a_first_copy_lose_against_the_stream_in_whatever_order_they_come_case_12(orders, batches):
    """A first copy has the sequence number of before its slot: 0/0 when others made it."""
    for rows in batches:
        await orders.write(*rows)
        await orders.merge()
    assert orders.read("id", "name") == [(1, "streamed"), (3, "copied")]
    # Nor does a copy that comes once more bring back what the stream has deleted since.
    await orders.write(*COPIED)
    report = await orders.merge()
    assert (report.upserted, report.deleted) == (0, 0)
    orders.check()
    orders.check_index()


async def test_a_delete_of_an_unknown_key_leaves_no_row_and_is_remembered_case_20(orders):
    await orders.write(gone(1, 50))
    report = await orders.merge()
    assert (report.commits, report.upserted, report.deleted) == (1, 0, 0)
    await orders.write(put(1, 49, name="late"), put(2, 51, name="there"))
    assert (await orders.merge()).superseded == 1
    assert orders.read("id") == [(2,)]


async def test_a_batch_of_deletes_alone_and_files_of_which_nothing_is_left_cases_43_57(orders):
    await orders.write(*(put(key, name="x") for key in range(50)))
    await orders.merge()
    await orders.write(*(put(key, name="y") for key in range(50, 60)))
    await orders.merge()
    await orders.write(*(gone(key) for key in range(50)), gone(55))
    report = await orders.merge()
    assert (report.upserted, report.deleted) == (0, 51)
    orders.check()
    assert len(orders.table().inspect.data_files()) == 1
    assert len(orders.by_all_readers()) == 9
    await orders.write(*(gone(key) for key in range(50, 60)))
    assert (await orders.merge()).deleted == 9
    assert orders.by_all_readers() == []
    assert len(orders.table().inspect.files()) == 0
    await orders.write(put(1, name="back"))
    await orders.merge()
    orders.check()


async def test_nothing_new_makes_no_snapshot_and_a_batch_that_loses_moves_the_watermark_case_56(orders):
    await orders.write(put(1, 9, name="a"))
    await orders.merge()
    report = await orders.merge()
    assert (report.commits, report.snapshot_id, len(orders.snapshots())) == (0, "", 1)
    assert report.watermark == str(orders.changelog().current_snapshot().snapshot_id)
    await orders.write(put(1, 8, name="late"))
    report = await orders.merge()
    assert (report.commits, report.superseded, len(orders.snapshots())) == (1, 1, 2)
    assert orders.watermark().snapshot_id == orders.changelog().current_snapshot().snapshot_id
    assert (await orders.merge()).commits == 0


async def test_an_empty_changelog_makes_an_empty_mirror_that_is_filled_later(orders):
    assert (await orders.merge()).commits == 0
    await orders.write(put(1, name="a"))
    await orders.merge()
    orders.check()


async def test_a_key_update_moves_the_row_and_keys_that_take_each_others_place_stay_apart_case_13(orders):
    await orders.write(put(1, name="one"), put(2, name="two"))
    await orders.merge()
    # 1 → 2 while 2 → 3, in one transaction: each is a delete of the old key and an insert of the new one.
    await orders.write(
        gone(2, 0x900, ordinal=0),
        put(3, 0x900, ordinal=1, name="two"),
        gone(1, 0x900, ordinal=2),
        put(2, 0x900, ordinal=3, name="one"),
    )
    await orders.merge()
    orders.check()
    assert orders.read("id", "name") == [(2, "one"), (3, "two")]


async def test_unchanged_values_are_kept_also_when_they_are_chained_in_one_batch_case_52(orders):
    long = "x" * 10_000
    await orders.write(put(1, name=long), put(2, name="short"))
    await orders.merge()
    await orders.write(put(1, unchanged=["name"]), put(1, unchanged=["name"]), put(2, unchanged=["name"]))
    assert (await orders.merge()).upserted == 2
    assert orders.read("id", "name") == [(1, long), (2, "short")]
    # In one batch with the value itself, and beyond a change of the key that does not carry it either.
    await orders.write(
        put(3, name="new"),
        put(3, unchanged=["name"]),
        gone(1, 0x900, ordinal=0),
        Row("insert", {"id": 7}, 0x900, 1, ("name",)),
        Row("update", {"id": 7}, 0x910, 0, ("name",)),
        gone(7, 0x920, ordinal=0),
        Row("insert", {"id": 8}, 0x920, 1, ("name",)),
    )
    await orders.merge()
    assert orders.read("id", "name") == [(2, "short"), (3, "new"), (8, long)]


async def test_the_column_of_unchanged_values_is_no_column_of_the_mirror_wherever_config_names_it(fleet):
    async with opened(fleet, metadata_columns=("cdc_lsn", "cdc_timestamp")) as mirror:
        await mirror.write(put(1, name="a"), put(2, name="b"))
        await mirror.write(put(1, unchanged=["name"]))
        await mirror.merge()
        assert [field.name for field in mirror.table().schema().fields] == ["cdc_sequence_number", "id", "name"]
        mirror.check()


async def test_an_update_that_lacks_a_value_which_nothing_older_has_is_refused_with_the_way_out(orders):
    await orders.write(put(1, unchanged=["name"]))
    with pytest.raises(ChangeInvalid, match="name"):
        await orders.merge()


async def test_a_truncate_in_the_middle_of_a_batch_takes_what_is_older_and_nothing_else_case_53(orders):
    await orders.write(put(1, 1, name="old"), put(2, 2, name="old"), put(5, 90, name="newer"))
    await orders.merge()
    await orders.write(put(3, 50, name="before"), truncated(60), put(4, 70, name="after"), put(2, 40, name="late"))
    report = await orders.merge()
    assert orders.read("id", "name") == [(4, "after"), (5, "newer")]
    assert (report.upserted, report.deleted) == (1, 2)
    assert orders.watermark().truncated == f"{60:016x}{0:016x}"
    # What is older than the truncate loses for ever, known or not.
    await orders.write(put(1, 59, name="late"), put(6, 59, name="late"), put(7, 61, name="there"))
    await orders.merge()
    orders.check()
    assert orders.read("id") == [(4,), (5,), (7,)]
    await orders.write(update(5, name="again"), gone(4))
    await orders.merge()
    orders.check()
    assert len(orders.by_all_readers()) == 2


async def test_a_truncate_of_everything_leaves_no_file_and_the_copy_behind_it_fills_the_mirror(orders):
    await orders.write(*(put(key, name="old") for key in range(20)))
    await orders.merge()
    await orders.write(truncated())
    report = await orders.merge()
    assert (report.deleted, orders.by_all_readers()) == (20, [])
    await orders.write(truncated(), *(put(key, name="copied") for key in range(5)))
    await orders.merge()
    orders.check()


async def test_an_event_from_before_what_is_remembered_is_refused_and_counted(orders, monkeypatch):
    """I5: whether its key was deleted, nobody knows any more. It is said which."""
    monkeypatch.setattr(indexplan, "FAN", 4)
    orders.configure(late_event_horizon_seconds=0)
    await orders.write(put(1, 10, name="a"), put(2, 11, name="b"))
    await orders.merge()
    await orders.write(gone(1, 20))
    await orders.merge()
    number = 30
    while not orders.watermark().horizon and number < 1000:  # until the index forgets what it may, a second later
        await orders.write(put(2, number, name=f"b{number}"))
        await orders.merge()
        number += 1
    assert orders.watermark().horizon == f"{20:016x}{0:016x}"
    await orders.write(put(1, 15, name="late"), put(3, 15, name="unknown"), put(2, 12, name="late"), gone(9, 15))
    with capture_logs() as said:
        report = await orders.merge()
    assert (report.refused, report.upserted, report.superseded) == (2, 0, 1)
    [warned] = [one for one in said if one["event"].startswith("changes are refused")]
    assert (warned["log_level"], warned["mirror"], warned["changes"]) == ("warning", orders.config.mirror, 2)
    late = f"{15:016x}{0:016x}"
    such_as = sorted(warned["such_as"], key=lambda change: change["id"])
    assert such_as == [{"id": key, "cdc_sequence_number": late} for key in (1, 3)]
    assert orders.read("id") == [(2,)]
    await orders.write(put(1, number, name="new"))
    await orders.merge()
    assert orders.read("id") == [(1,), (2,)]


async def test_a_changelog_without_a_key_or_with_other_columns_than_config_says_is_refused_case_19(orders):
    await orders.write(put(1, name="a"))
    orders.configure(primary_keys=())
    with pytest.raises(BadConfig, match="primary_keys"):
        await orders.merge()
    orders.configure(primary_keys=("nobody",))
    with pytest.raises(BadConfig, match="nobody"):
        await orders.merge()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (Row("upsurt", {"id": 1}, 5), "cdc_operation.*upsurt"),
        (Row("insert", {"id": 1}, 5), "cdc_sequence_number"),
    ],
)
async def test_a_change_that_cannot_be_understood_stops_the_mirror_and_is_named(orders, row, says, monkeypatch):
    if row.operation == "insert":
        monkeypatch.setattr(Row, "sequence", property(lambda _: "not a number"))
    await orders.write(row)
    with pytest.raises(ChangeInvalid, match=says):
        await orders.merge()

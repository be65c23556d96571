"""Changelog tables: rows, schema and position travel together, each event once."""

import asyncio
from datetime import date, time

import pytest
from pyiceberg.types import StringType

from activities.core.drift import AddField, RenameField, WidenField
from activities.core.faults import ChangelogForeign, CommitConflict, SchemaConflict
from activities.core.iceberg_types import parse_iceberg
from activities.lake import changelog as changelogs
from support.changelogs import BUFFER, PIPELINE, SOURCE, line, lines, opened
from support.fleet import replace_ports
from support.lakereaders import by_clickhouse, by_duckdb, by_pyiceberg

LONG = parse_iceberg("long")
TEXT = parse_iceberg("string")


@pytest.fixture
async def orders(fleet):
    async with opened(fleet) as changelog:
        yield changelog


def read_all(fleet, changelog, readers=(by_pyiceberg, by_duckdb, by_clickhouse)):
    """The rows without our columns, in the order of their first one: each reader finds the same."""
    environment = replace_ports(fleet.settings().environment(fleet.name), fleet.stack)
    found = []
    for read in readers:
        [rows] = read(environment, [changelog.identifier])
        # To ClickHouse a list is never null.
        plain = [tuple(() if value is None else value for value in row[5:]) for row in rows]
        found.append(sorted(plain, key=lambda row: row[0]))
    assert all(one == found[0] for one in found)
    return found[0]


def loaded(fleet, changelog):
    return fleet.load(changelog.identifier)


def by_others(table, files, *, instead_of_all=False):
    """What another engine does to the table: an append, or a compaction of all that it holds."""
    with table.transaction() as transaction:
        update = transaction.update_snapshot()
        producer = update.overwrite() if instead_of_all else update.fast_append()
        for task in table.scan().plan_files() if instead_of_all else ():
            producer.delete_data_file(task.file)
        for file in changelogs._described(table.metadata, files):
            producer.append_data_file(file)
        producer.commit()


async def test_a_commit_brings_rows_position_and_summary_and_says_so_in_the_table(fleet, orders):
    await orders.create()
    done = await orders.append(1, 2)
    state = orders.state()
    table = loaded(fleet, orders)
    [snapshot] = table.snapshots()
    assert (done.landed, done.snapshot_id, state.snapshot_id) == (True, snapshot.snapshot_id, snapshot.snapshot_id)
    assert (state.position, state.buffer_id, state.pipeline, state.source_table) == (2, BUFFER, PIPELINE, SOURCE)
    assert (state.copied_lsn, state.rolled_back, state.holds_rows) == (None, False, True)
    assert table.properties["icefleet.cdc.snapshot-id"] == str(snapshot.snapshot_id)
    said = snapshot.summary.additional_properties
    assert (said["icefleet.cdc.position"], said["icefleet.cdc.pipeline"], said["icefleet.cdc.events"]) == (
        "2",
        PIPELINE,
        "2",
    )
    assert read_all(fleet, orders, [by_pyiceberg]) == [(1, "n1"), (2, "n2")]


async def test_files_are_in_the_partition_of_their_day_and_the_manifest_bounds_sequence_and_time(fleet, orders):
    state = await orders.create()
    files = await orders.write(state, [lines([1, 2]), lines([3], "2024-03-21"), lines([4], "1969-12-31")], 4)
    orders.commit(state, 4, files=files)
    found = loaded(fleet, orders).inspect.files().sort_by("file_path").to_pylist()
    assert [file["partition"] for file in found] == [
        {"cdc_timestamp_day": date.fromisoformat(day)} for day in ("1969-12-31", "2024-03-20", "2024-03-21")
    ]
    assert [file["file_path"].split("/orders_changelog/")[1] for file in found] == [
        f"data/date={day}/00000000000000000001-00000000000000000004-1.parquet"
        for day in ("1969-12-31", "2024-03-20", "2024-03-21")
    ]
    metrics = found[1]["readable_metrics"]
    assert (metrics["cdc_sequence_number"]["lower_bound"], metrics["cdc_sequence_number"]["upper_bound"]) == (
        f"{1:016x}{0:016x}",
        f"{2:016x}{0:016x}",
    )
    assert metrics["cdc_timestamp"]["lower_bound"].isoformat() == "2024-03-20T12:00:00.000001+00:00"
    assert (metrics["id"]["lower_bound"], metrics["id"]["upper_bound"], metrics["id"]["null_value_count"]) == (1, 2, 0)
    assert [file["record_count"] for file in found] == [1, 2, 1]


async def test_all_three_readers_find_every_type_as_it_was_written(fleet):
    values = {
        "int": ("-2147483648", -(2**31)),
        "boolean": ("t", ("bool", True)),
        "float": ("1.5", ("float", "1.5")),
        "double": ("-0", ("float", "-0.0")),
        "decimal(9, 2)": ("-1234567.25", ("decimal", "-1234567.25")),
        "decimal(18, 3)": ("1.125", ("decimal", "1.125")),
        "decimal(38, 5)": ("-123456789012345678901234567890123.45678",) * 2,
        "date": ("0001-01-01", date(1, 1, 1)),
        "timestamptz": ("9999-12-31 23:59:59.999999+00", ("time", 253402300799999999)),
        "timestamp": ("0001-01-01 00:00:00.5", ("local", -62135596799500000)),
        "uuid": ("0f0e0d0c-0b0a-4908-8706-050403020100",) * 2,
        "list<long>": ('"[""1"",null]"', (1, None)),
        "list<string>": ('"[""a,b"",""""]"', ("a,b", "")),
        "binary": ("\\x0041", ("bytes", "0041")),
        "time": ("23:59:59.999999", time(23, 59, 59, 999999)),
    }
    expected = [one if kind != "decimal(38, 5)" else ("decimal", one) for kind, (_, one) in values.items()]
    # Two are others to ClickHouse: bytes are text, and of a time it shows whole seconds.
    clickhouse = [*expected[:-2], "\x00A", 86399]
    async with opened(fleet, fields={f"c{number}": kind for number, kind in enumerate(values)}) as changelog:
        state = await changelog.create()
        piece = line(1, *(text for text, _ in values.values())).encode()
        changelog.commit(state, 1, files=await changelog.write(state, [piece], 1))
        assert read_all(fleet, changelog, [by_pyiceberg, by_duckdb]) == [tuple(expected)]
        assert read_all(fleet, changelog, [by_clickhouse]) == [tuple(clickhouse)]


async def test_old_files_are_read_right_after_fields_were_added_renamed_widened_and_made_again(fleet):
    """Cases 49 and 50: what was written before keeps its field ids, whatever its fields are called today."""
    async with opened(fleet, fields={"id": "int", "name": "string", "gone": "string"}) as orders:
        state = await orders.create()
        before = await orders.write(state, [line(1, "1", "one", "old").encode()], 1)
        orders.commit(state, 1, files=before)
        state = orders.state()
        changes = [
            RenameField("gone", "gone_until_2"),
            RenameField("name", "title"),
            WidenField("id", LONG),
            AddField("gone", LONG),
            AddField("tags", parse_iceberg("list<string>")),
        ]
        fields = {"id": "long", "title": "string", "gone": "long", "tags": "list<string>"}
        after = await orders.write(
            state, [line(2, str(2**40), "two", "7", '"[""x""]"').encode()], 2, changes=changes, fields=fields
        )
        done = orders.commit(state, 2, files=after, changes=changes, columns_text="changed")
        assert read_all(fleet, orders) == [
            (1, "one", "old", (), ()),
            (2**40, "two", (), 7, ("x",)),
        ]
        now = orders.state()
        assert [field.name for field in now.schema.fields[5:]] == ["id", "title", "gone_until_2", "gone", "tags"]
        assert (now.columns, now.position, now.types["id"]) == ("changed", 2, LONG)
        assert loaded(fleet, orders).snapshot_by_id(done.snapshot_id).schema_id == now.schema_id


async def test_a_batch_of_schema_events_alone_moves_the_position_and_the_head(fleet, orders):
    """An empty snapshot: without one a late request of before could take the position back."""
    await orders.create()
    before = await orders.append(1, 2)
    state = orders.state()
    done = orders.commit(state, 3, changes=[AddField("more", TEXT)], columns_text="more")
    assert (done.landed, orders.state().position, orders.state().columns) == (True, 3, "more")
    assert done.snapshot_id not in {None, before.snapshot_id}
    assert read_all(fleet, orders) == [(1, "n1", ()), (2, "n2", ())]


async def test_a_commit_that_is_there_already_is_not_made_again(fleet, orders):
    """Case 23: the worker died after the commit, before anybody heard of it."""
    state = await orders.create()
    files = await orders.write(state, [lines([1, 2])], 2)
    orders.commit(state, 2, files=files)
    again = orders.commit(state, 2, files=files)
    assert (again.landed, again.snapshot_id, len(loaded(fleet, orders).snapshots())) == (False, None, 1)


async def test_of_two_workers_with_other_bounds_only_one_lands(fleet, orders):
    """Cases 27 and 28: a worker that lost its lock without knowing is told to plan anew."""
    state = await orders.create()
    slow = await orders.write(state, [lines([1, 2, 3])], 3, epoch=1)
    orders.commit(state, 2, files=await orders.write(state, [lines([1, 2])], 2, epoch=2))
    with pytest.raises(CommitConflict, match="from event 0 to 2"):
        orders.commit(state, 3, files=slow)
    assert read_all(fleet, orders, [by_pyiceberg]) == [(1, "n1"), (2, "n2")]


async def test_of_two_workers_at_once_only_one_lands(fleet, orders):
    """Case 28."""
    state = await orders.create()
    files = [await orders.write(state, [lines([1, 2])], 2, epoch=epoch) for epoch in range(4)]
    done = await asyncio.gather(*(asyncio.to_thread(orders.commit, state, 2, files=one) for one in files))
    assert sorted(one.landed for one in done) == [False, False, False, True]
    assert read_all(fleet, orders, [by_pyiceberg]) == [(1, "n1"), (2, "n2")]


async def test_what_others_do_to_the_table_meanwhile_is_followed(fleet, orders):
    """Case 31: an append, a delete and a compaction of others between plan and commit."""
    await orders.create()
    await orders.append(1, 2)
    state = orders.state()
    files = await orders.write(state, [lines([3])], 3)
    theirs = await orders.write(state, [lines([8])], 8)
    rewritten = await orders.write(state, [lines([1, 2, 8])], 9)
    by_others(loaded(fleet, orders), theirs)
    by_others(loaded(fleet, orders), rewritten, instead_of_all=True)
    assert orders.state().rolled_back is False
    assert orders.commit(state, 3, files=files).landed
    assert read_all(fleet, orders, [by_pyiceberg]) == [(1, "n1"), (2, "n2"), (3, "n3"), (8, "n8")]


async def test_a_schema_that_others_changed_meanwhile_has_the_batch_planned_anew(fleet, orders):
    state = await orders.create()
    files = await orders.write(state, [lines([1])], 1)
    with loaded(fleet, orders).update_schema() as update:
        update.add_column("theirs", StringType())
    with pytest.raises(CommitConflict, match="schema meanwhile"):
        orders.commit(state, 1, files=files)
    state = orders.state()
    assert orders.commit(state, 1, files=await orders.write(state, [lines([1])], 1, epoch=2)).landed
    assert read_all(fleet, orders, [by_pyiceberg]) == [(1, "n1", ())]


async def test_a_change_that_does_not_fit_the_table_is_refused(fleet, orders):
    state = await orders.create()
    for change in (
        AddField("id", LONG),
        RenameField("none", "more"),
        RenameField("id", "name"),
        WidenField("none", LONG),
    ):
        with pytest.raises(SchemaConflict, match="id, name"):
            changelogs.schema_after(state, [change])


async def test_a_changelog_that_was_rolled_back_is_seen_and_gets_no_rows(fleet, orders):
    """Case 34."""
    await orders.create()
    first = await orders.append(1)
    await orders.append(2)
    state = orders.state()
    files = await orders.write(state, [lines([3])], 3)
    loaded(fleet, orders).manage_snapshots().rollback_to_snapshot(first.snapshot_id).commit()
    assert orders.state().rolled_back
    with pytest.raises(ChangelogForeign, match="rolled back"):
        orders.commit(state, 3, files=files)
    by_others(loaded(fleet, orders), await orders.write(state, [lines([8])], 8))
    assert orders.state().rolled_back
    assert read_all(fleet, orders, [by_pyiceberg]) == [(1, "n1"), (8, "n8")]


async def test_snapshots_that_expired_are_no_rollback(fleet, orders):
    await orders.create()
    await orders.append(1)
    await orders.append(2)
    rewritten = await orders.write(orders.state(), [lines([1, 2])], 9)
    by_others(loaded(fleet, orders), rewritten, instead_of_all=True)
    table = loaded(fleet, orders)
    head = table.current_snapshot().snapshot_id
    gone = [one.snapshot_id for one in table.snapshots() if one.snapshot_id != head]
    table.maintenance.expire_snapshots().by_ids(gone).commit()
    state = orders.state()
    assert (len(loaded(fleet, orders).snapshots()), state.rolled_back) == (1, False)
    assert orders.commit(state, 3, files=await orders.write(state, [lines([3])], 3)).landed


async def test_a_changelog_that_was_dropped_or_made_anew_is_seen(fleet, orders):
    """Case 34."""
    state = await orders.create()
    files = await orders.write(state, [lines([1])], 1)
    orders.context.lake.catalog.drop_table(orders.identifier)
    assert changelogs.read_state(orders.context.lake, orders.identifier) is None
    with pytest.raises(ChangelogForeign, match="not in the catalog any more"):
        orders.commit(state, 1, files=files)
    anew = await orders.create()
    assert anew.uuid != state.uuid
    with pytest.raises(ChangelogForeign, match="made anew"):
        orders.commit(state, 1, files=files)
    assert loaded(fleet, orders).snapshots() == []


async def test_a_table_of_others_and_one_of_another_buffer_are_refused(fleet, orders):
    state = await orders.create()
    with loaded(fleet, orders).transaction() as change:
        change.set_properties({changelogs.BUFFER: "another"})
    with pytest.raises(ChangelogForeign, match="another buffer"):
        orders.commit(state, 1)
    with loaded(fleet, orders).transaction() as change:
        change.remove_properties(changelogs.POSITION)
    with pytest.raises(ChangelogForeign, match="no changelog of a pipeline"):
        orders.state()

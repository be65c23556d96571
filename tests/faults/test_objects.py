"""Objects are created once and never changed; what replaces a file lies beside it."""

import re
from dataclasses import replace

import pytest
from temporalio.exceptions import ApplicationError

from activities import failpoints
from activities.core.commits import NewFile
from activities.core.partitions import index_of
from activities.footers import stored_footer
from activities.lake.commit import commit_files
from activities.lake.files import data_file
from support.direct import Hands
from support.evidence import objects, source_rows, table_rows
from support.gate import failing_at

ROWS = 20
NOON = "toDateTime('2024-03-20 12:00:00', 'UTC')"


@pytest.fixture
async def hands(fleet):
    await fleet.make_days(days=1, rows=ROWS)
    async with fleet.context() as context:
        yield Hands(fleet, context)


def keys(fleet):
    return sorted(key.split("/events/")[-1] for key in objects(fleet))


async def exports(fleet):
    """How many queries have read a partition for an export."""
    return len(await fleet.queries(f"icefleet {fleet.network}.events partition"))


async def more_rows(fleet, *, updated, rows=5, offset=900):
    await fleet.insert("events", NOON, rows, updated=updated, offset=offset)


def die_once():
    """What a worker that dies looks like to the next attempt: the object is there, and nobody says so."""
    return RuntimeError("the worker died here")


async def dies_after_upload(hands):
    """An export that nobody hears of any more once its object is there; the plan that it was of."""
    plan = await hands.plan()
    async with failing_at("after-upload", die_once, times=1):
        with pytest.raises(ApplicationError, match="the worker died here"):
            await hands.export_all(plan)
    return plan


async def test_an_object_of_another_origin_is_never_overwritten_and_the_partition_gets_a_key_beside_it(fleet, hands):
    public = f"xatu/{fleet.network}/databases/{fleet.database}/events/2024/3/20.parquet"
    assert await hands.context.store.create(public, b"somebody else's", "another recipe")
    before = objects(fleet)
    report = await hands.run()
    assert (report.committed, report.rows) == (1, ROWS)
    [(key, rows)] = fleet.files()
    assert re.fullmatch(r"2024/3/20-[0-9a-f]{8}\.parquet", key)
    assert rows == ROWS
    assert before.items() <= objects(fleet).items()
    assert await hands.context.store.tail(public, 100) == b"somebody else's"


async def test_an_object_left_by_a_crash_after_its_upload_is_adopted_without_asking_for_its_rows_again(fleet, hands):
    plan = await dies_after_upload(hands)
    left, asked = objects(fleet), await exports(fleet)
    assert len(left) == 1
    [exported] = await hands.export_all(plan, attempt=2)
    report = await hands.commit([exported])
    assert (exported.adopted, exported.rows, report.rows) == (True, ROWS, ROWS)
    assert await exports(fleet) == asked
    assert objects(fleet) == left
    assert table_rows(fleet) == await source_rows(fleet)


@pytest.mark.parametrize("rows", [ROWS, 10**9], ids=["small", "large"])
async def test_an_object_left_behind_is_adopted_by_another_request_too(fleet, hands, rows):
    plan = await dies_after_upload(hands)
    left, asked = objects(fleet), await exports(fleet)
    [exported] = [await hands.export(replace(planned, rows=rows)) for planned in plan.todo]
    assert (exported.adopted, exported.rows) == (True, ROWS)
    assert objects(fleet) == left
    # Only a large partition is worth a look before its rows are asked for.
    assert await exports(fleet) == (asked + 1 if rows == ROWS else asked)


@pytest.mark.parametrize(
    "updated", ["2024-05-01 00:00:00", "2024-04-01 00:00:00"], ids=["newer", "of the same version"]
)
async def test_an_object_left_by_a_crash_is_not_adopted_when_rows_have_arrived(fleet, hands, updated):
    """Versions count in seconds: rows may arrive that are no newer than those which are there."""
    await dies_after_upload(hands)
    left = objects(fleet)
    await more_rows(fleet, updated=updated)
    report = await hands.run()
    assert (report.committed, report.rows) == (1, ROWS + 5)
    assert left.items() <= objects(fleet).items()
    assert table_rows(fleet) == await source_rows(fleet)


async def test_a_partition_whose_left_over_objects_are_outdated_again_and_again_is_still_exported(fleet, hands):
    for crash in range(3):
        await dies_after_upload(hands)
        await more_rows(fleet, updated="2024-04-01 00:00:00", offset=900 + 10 * crash)
    report = await hands.run()
    assert (report.committed, report.rows) == (1, ROWS + 15)
    assert table_rows(fleet) == await source_rows(fleet)


async def test_a_stale_partition_is_replaced_in_one_snapshot_under_a_new_key_and_its_old_object_stays(fleet, hands):
    await hands.run()
    old = objects(fleet)
    await more_rows(fleet, updated="2024-05-01 00:00:00")
    plan = await hands.plan()
    assert [(one.partition, one.reason) for one in plan.todo] == [("2024-03-20", "stale")]
    report = await hands.commit(await hands.export_all(plan))
    assert (report.committed, report.rows) == (1, ROWS + 5)
    assert_replaced(fleet, old, added=ROWS + 5, removed=ROWS)
    assert table_rows(fleet) == await source_rows(fleet)


def assert_replaced(fleet, old, *, added, removed):
    """The head's snapshot took the old file out and put one in beside it; the old object is what it was."""
    first, second = fleet.table().snapshots()
    assert second.parent_snapshot_id == first.snapshot_id
    assert second.summary.operation.value == "overwrite"
    changes = {name: second.summary[name] for name in ("added-data-files", "deleted-data-files", "total-data-files")}
    assert changes == {"added-data-files": "1", "deleted-data-files": "1", "total-data-files": "1"}
    assert (second.summary["added-records"], second.summary["deleted-records"]) == (str(added), str(removed))
    assert old.items() <= objects(fleet).items()
    [(key, rows)] = fleet.files()
    assert key != "2024/3/20.parquet"
    assert rows == added
    assert sorted(["2024/3/20.parquet", key]) == keys(fleet)


async def test_force_replaces_a_fresh_file_in_one_snapshot_under_a_new_key(fleet, hands):
    await hands.run()
    old = objects(fleet)
    async with fleet.worker():
        report = await fleet.request(from_="2024-03-20", force=True)
        await fleet.loop_ended()
    assert (report.status, report.forced, report.exported, report.already_there) == ("complete", 1, 1, 0)
    assert_replaced(fleet, old, added=ROWS, removed=ROWS)
    assert [part["replaced"] for part in (await fleet.events())[-1]["partitions"]] == [True]


async def test_a_forced_export_that_is_tried_again_finds_its_own_object(fleet, hands):
    await hands.run()
    forced = Hands(fleet, hands.context, request_id="forced")
    plan = await forced.plan(force=True)
    async with failing_at("after-upload", die_once, times=1):
        with pytest.raises(ApplicationError, match="the worker died here"):
            await forced.export_all(plan)
    left = objects(fleet)
    [exported] = await forced.export_all(plan)
    assert (exported.adopted, (await forced.commit([exported])).committed) == (True, 1)
    assert objects(fleet) == left
    # The same request, planned again after an interruption, knows what it has done.
    assert (await forced.plan(force=True)).todo == []
    # Another one does it again, of course.
    assert len((await Hands(fleet, hands.context, request_id="another").plan(force=True)).todo) == 1


async def test_a_forced_export_that_is_tried_again_after_newer_rows_arrived_takes_them_along(fleet, hands):
    await hands.run()
    forced = Hands(fleet, hands.context, request_id="forced")
    plan = await forced.plan(force=True)
    async with failing_at("after-upload", die_once, times=1):
        with pytest.raises(ApplicationError, match="the worker died here"):
            await forced.export_all(plan)
    left = objects(fleet)
    await more_rows(fleet, updated="2024-05-01 00:00:00")
    report = await forced.commit(await forced.export_all(plan))
    assert (report.committed, report.rows) == (1, ROWS + 5)
    assert left.items() <= objects(fleet).items()
    assert (await forced.plan(force=True)).todo == []


@pytest.mark.parametrize(
    "updated", ["2024-05-01 00:00:00", "2024-04-01 00:00:00"], ids=["newer", "of the same version"]
)
async def test_rows_that_arrive_while_a_partition_is_exported_leave_no_object_and_the_next_try_has_them(
    fleet, hands, updated
):
    [planned] = (await hands.plan()).todo
    arrived = []

    async def arrive():
        if not arrived:
            arrived.append(True)
            await more_rows(fleet, updated=updated)

    # The sample has been taken when this point is reached; what arrives now is in the stream, and was not in it.
    failpoints.arm("before-upload", arrive)
    try:
        if updated > "2024-04-02":
            with pytest.raises(ApplicationError, match=r"events partition 2024-03-20: newer rows arrived") as moved:
                await hands.export(planned)
            assert (moved.value.type, moved.value.non_retryable) == ("SourceMoved", False)
            assert objects(fleet) == {}
        exported = await hands.export(planned)
    finally:
        failpoints.disarm()
    assert exported.rows == ROWS + 5
    await hands.commit([exported])
    assert table_rows(fleet) == await source_rows(fleet)


async def test_a_partition_that_moves_once_is_exported_again_and_not_reported_as_failed(fleet):
    await fleet.make_days(days=1, rows=ROWS)
    arrived = []

    async def arrive():
        if not arrived:
            arrived.append(True)
            await more_rows(fleet, updated="2024-05-01 00:00:00")

    async with fleet.worker():
        failpoints.arm("before-upload", arrive)
        report = await fleet.request()
    assert (report.status, report.exported, report.failed, report.rows) == ("complete", 1, 0, ROWS + 5)
    assert fleet.files() == [("2024/3/20.parquet", ROWS + 5)]


async def test_a_partition_that_moves_every_time_is_said_to_be_left_and_is_no_success_to_who_named_it(fleet):
    fleet.set_export(partition_attempts=2)
    await fleet.make_days(days=1, rows=ROWS)
    arrived = []

    async def arrive():
        arrived.append(True)
        await more_rows(fleet, updated=f"2024-05-{len(arrived):02} 00:00:00", offset=1000 * len(arrived))

    async with fleet.worker():
        failpoints.arm("before-upload", arrive)
        named = await fleet.request(from_="2024-03-20", to="2024-03-20")
        due = await fleet.request()
        failpoints.disarm()
        late = await fleet.request()
    left = f"0 partitions with 0 rows committed to {fleet.network}.events, 1 left for later that got rows whenever"
    assert (named.status, named.exported, named.moved, named.open, named.failed) == ("partial", 0, 1, 1, 0)
    assert named.message.startswith(left)
    assert (due.status, due.exported, due.moved, due.failed, due.suspended) == ("nothing_to_do", 0, 1, 0, 0)
    assert due.message.startswith(left)
    assert (late.status, late.exported, late.moved) == ("complete", 1, 0)


async def test_a_second_file_that_a_foreign_writer_adds_to_a_partition_is_named_beside_ours(fleet, hands):
    await hands.run()
    [ours] = [str(file["file_path"]) for file in fleet.table().inspect.files().to_pylist()]
    store, config = hands.context.store, hands.context.find_table("events", fleet.network)
    key = store.key(ours)
    await store.create(f"{key}.copy", await store.tail(key, 10_000_000), "foreign")
    footer = await stored_footer(hands.context, f"{key}.copy", (await store.head(key)).size)
    index = index_of(config.partition, "2024-03-20")
    table = fleet.table()
    with table.transaction() as foreign, foreign.update_snapshot().fast_append() as append:
        append.append_data_file(data_file(table, config.partition, index, f"{ours}.copy", footer, "updated"))
    with pytest.raises(ApplicationError, match="partition 2024-03-20 is held by two files") as two:
        await hands.plan()
    assert two.value.type == "SchemaConflict"
    assert ours in two.value.message
    assert f"{ours}.copy" in two.value.message
    # Nor does a commit that was planned before it put a third one beside them.
    commit = commit_files(
        hands.context.lake,
        f"{fleet.network}.events",
        config.partition,
        [NewFile(index, f"{ours}.third", "missing")],
        lambda *_: pytest.fail("nothing is to be described"),
        summary={},
    )
    assert (commit.snapshot_id, len(commit.plan.there)) == (None, 1)

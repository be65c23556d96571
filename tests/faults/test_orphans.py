"""What no snapshot names goes when it is old enough and asked for, and nothing else ever does."""

import asyncio
import signal

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError, CancelledError

from activities.core.orphans import line_of
from support.direct import COMMIT, Hands
from support.evidence import open_uploads, source_rows, table_rows
from support.faultproxy import Hold, HttpFaults
from support.fleet import eventually
from support.gate import gate_at
from support.lakereaders import by_duckdb
from support.leftovers import (
    NOON,
    begin_upload,
    delete_before,
    found,
    keys,
    listed,
    next_second,
    prefix_of_table,
    start_deletion,
)

ROWS = 10


@pytest.fixture(autouse=True)
def soon(fleet):
    """A second is old enough."""
    fleet.set_export(orphan_age_seconds=1)


@pytest.fixture
async def hands(fleet):
    await fleet.make_days(days=2, rows=ROWS)
    async with fleet.context() as context:
        yield Hands(fleet, context)


async def export_one(hands, day, **request):
    """The object of one day, which nobody commits."""
    [planned] = (await hands.plan(from_=f"2024-03-{day}", to=f"2024-03-{day}", **request)).todo
    return await hands.export(planned)


async def commit_day(hands, day):
    return await hands.commit([await export_one(hands, day)])


async def replace_20(hands, fleet, *, updated, offset):
    """Late rows for the 20th, and the commit that replaces its file; answers the new one's key."""
    await fleet.insert("events", NOON, 5, updated=updated, offset=offset)
    file = await export_one(hands, 20)
    await hands.commit([file])
    return file.key.removeprefix(prefix_of_table(fleet))


def expire(fleet, *ids):
    fleet.table().maintenance.expire_snapshots().by_ids(list(ids)).commit()


async def test_what_a_killed_worker_left_is_listed_until_the_next_export_adopts_it(fleet):
    await fleet.make_days(days=1, rows=ROWS)
    with fleet.worker_process(failpoint="after-upload") as process:
        request = await fleet.start()
        assert await asyncio.wait_for(asyncio.to_thread(process.wait), 60) == -signal.SIGKILL
    [left] = await listed(fleet, "events", "-n", fleet.network)
    key = f"{prefix_of_table(fleet)}2024/3/20.parquet"
    assert (left["table"], left["key"], left["kind"]) == (f"{fleet.network}.events", key, "data object")
    assert left["bytes"] > 0
    assert left["last_modified"].endswith("+00:00")
    async with fleet.worker():
        report = await asyncio.wait_for(request.result(), 60)
        await fleet.loop_ended()
    assert (report.status, report.exported) == ("complete", 1)
    assert keys(fleet) == {"2024/3/20.parquet"}
    assert await found(fleet) == []


async def test_only_what_no_snapshot_branch_or_tag_names_and_is_old_enough_goes(fleet, hands):
    await commit_day(hands, 20)
    first = fleet.table().current_snapshot().snapshot_id
    fleet.table().manage_snapshots().create_tag(first, "keep").commit()
    branched = await replace_20(hands, fleet, updated="2024-04-30 00:00:00", offset=850)
    branch = fleet.table().current_snapshot().snapshot_id
    fleet.table().manage_snapshots().create_branch(branch, "audit").commit()
    expired = await replace_20(hands, fleet, updated="2024-05-01 00:00:00", offset=900)
    second = fleet.table().current_snapshot().snapshot_id
    retained = await replace_20(hands, fleet, updated="2024-05-02 00:00:00", offset=950)
    third = fleet.table().current_snapshot().snapshot_id
    await commit_day(hands, 19)
    live = await replace_20(hands, fleet, updated="2024-05-03 00:00:00", offset=980)
    expire(fleet, second)
    expire(fleet, third)
    await fleet.insert("events", "toDateTime('2024-03-18 12:00:00', 'UTC')", 5, offset=500)
    await fleet.insert("events", "toDateTime('2024-03-17 12:00:00', 'UTC')", 5, offset=600)
    await export_one(hands, 18)
    line = await next_second(hands.context)
    await export_one(hands, 17)
    named = {"2024/3/20.parquet", "2024/3/19.parquet", branched, retained, live}
    assert keys(fleet) == {*named, expired, "2024/3/18.parquet", "2024/3/17.parquet"}

    dry = await delete_before(fleet, hands.context, line, dry_run=True)
    assert (dry.deleted, dry.young, line_of(fleet.table().properties)) == (2, 1, 0)
    page = await delete_before(fleet, hands.context, line)

    assert (page.deleted, page.young, page.foreign, page.cursor) == (2, 1, 0, "")
    assert page.bytes == dry.bytes > 0
    assert {key.removeprefix(f"data object: {prefix_of_table(fleet)}") for key in page.keys} == {
        expired,
        "2024/3/18.parquet",
    }
    assert keys(fleet) == {*named, "2024/3/17.parquet"}
    assert fleet.table().scan(snapshot_id=first).to_arrow().num_rows == ROWS
    assert fleet.table().scan(snapshot_id=branch).to_arrow().num_rows == ROWS + 5
    [rows] = by_duckdb(fleet.settings().environment(fleet.name), [f"{fleet.network}.events"])
    assert len(rows) == 2 * ROWS + 20
    # The next request carries over what had been thrown away, and adopts what was kept.
    await hands.run()
    assert table_rows(fleet) == await source_rows(fleet)


async def test_a_file_that_a_commit_under_way_names_is_not_lost_when_the_commit_arrives_after_the_deletion(
    fleet, hands
):
    async with HttpFaults(fleet.stack.ports["catalog"]) as catalog:
        fleet.point(catalog=catalog.port)
        async with fleet.context() as context:
            zombie = Hands(fleet, context)
            late = await export_one(zombie, 20)
            line = await next_second(hands.context)
            held = catalog.on(Hold(), **COMMIT)
            committing = asyncio.create_task(zombie.commit([late]))
            await asyncio.wait_for(held.struck.wait(), 10)
            assert (await delete_before(fleet, hands.context, line)).deleted == 1
            held.fault.released.set()
            with pytest.raises(ApplicationError, match="is being deleted as an orphan; ask for the partition again"):
                await committing
    fleet.point(catalog=fleet.stack.ports["catalog"])
    # A line in a table that holds nothing yet is a snapshot of nothing, which any reader must bear.
    assert by_duckdb(fleet.settings().environment(fleet.name), [f"{fleet.network}.events"]) == [[]]
    assert table_rows(fleet) == []
    assert (await hands.run()).committed == 2
    assert table_rows(fleet) == await source_rows(fleet)


async def test_a_file_that_was_committed_before_the_line_is_drawn_stays(fleet, hands):
    exported = await export_one(hands, 20)
    line = await next_second(hands.context)
    async with HttpFaults(fleet.stack.ports["catalog"]) as catalog:
        fleet.point(catalog=catalog.port)
        async with fleet.context() as context:
            held = catalog.on(Hold(), **COMMIT)
            deleting = asyncio.create_task(delete_before(fleet, context, line))
            await asyncio.wait_for(held.struck.wait(), 10)
            assert (await hands.commit([exported])).committed == 1
            held.fault.released.set()
            page = await deleting
    assert page.deleted == 0
    assert fleet.files() == [("2024/3/20.parquet", ROWS)]
    assert line_of(fleet.table().properties) == line
    assert len(table_rows(fleet)) == ROWS


async def test_what_is_older_than_the_line_is_not_adopted_any_more(fleet, hands):
    await export_one(hands, 20)
    line = await next_second(hands.context)
    async with gate_at("before-delete") as gate:
        deleting = asyncio.create_task(delete_before(fleet, hands.context, line))
        await gate.reached()
        again = await export_one(hands, 20)
        await hands.commit([again])
        gate.open()
        # By now the table holds the partition, and what lies at its public key is read by URL: upkeep refreshes it.
        assert (await deleting).deleted == 0
    assert again.key != f"{prefix_of_table(fleet)}2024/3/20.parquet"
    assert keys(fleet) == {"2024/3/20.parquet", again.key.removeprefix(prefix_of_table(fleet))}
    assert len(table_rows(fleet)) == ROWS


async def test_a_deletion_that_was_overtaken_leaves_the_object_that_took_the_place_of_the_deleted_one(fleet, hands):
    await export_one(hands, 20)
    line = await next_second(hands.context)
    async with gate_at("before-delete") as gate:
        overtaken = asyncio.create_task(delete_before(fleet, hands.context, line))
        await gate.reached()
        gate.let_by()
        assert (await delete_before(fleet, hands.context, line)).deleted == 1
        assert (await export_one(hands, 20)).key.endswith("2024/3/20.parquet")
        gate.open()
        assert (await overtaken).deleted == 0
    assert keys(fleet) == {"2024/3/20.parquet"}
    await hands.run()
    assert table_rows(fleet) == await source_rows(fleet)


async def test_a_deletion_waits_for_the_page_and_everything_committed_can_be_read(fleet):
    await fleet.make_days(days=3, rows=ROWS)
    async with fleet.worker() as context:
        hands = Hands(fleet, context)
        await fleet.request(from_="2024-03-18", to="2024-03-18")
        [planned] = (await hands.plan(from_="2024-03-18", to="2024-03-18", force=True)).todo
        lost = (await hands.export(planned)).key.removeprefix(prefix_of_table(fleet))
        async with gate_at("before-commit") as gate:
            exporting = await fleet.start()
            await gate.reached()
            await next_second(context)
            await next_second(context)
            deleting = await start_deletion(fleet)
            await eventually(lambda: known(fleet, 2))
            in_flight = {"2024/3/18.parquet", "2024/3/19.parquet", "2024/3/20.parquet"}
            assert keys(fleet) == {*in_flight, lost}
            assert await pending(fleet) == ["commit_partitions"]
            gate.open()
            exported, deleted = await asyncio.gather(exporting.result(), deleting.result())
        await fleet.loop_ended()
    assert (exported.status, exported.exported) == ("complete", 2)
    assert (deleted.status, deleted.deleted, deleted.young) == ("complete", 1, 0)
    assert deleted.message.startswith(f"1 orphans of {fleet.network}.events older than 1s deleted (")
    assert keys(fleet) == in_flight
    assert table_rows(fleet) == await source_rows(fleet)
    [rows] = by_duckdb(fleet.settings().environment(fleet.name), [f"{fleet.network}.events"])
    assert len(rows) == 3 * ROWS
    assert len(await fleet.events()) == 3  # the line before a deletion is a snapshot, and is announced as one


async def test_a_deletion_that_is_withdrawn_ends_at_once_and_deletes_nothing_more(fleet, hands):
    await export_one(hands, 20)
    async with fleet.worker() as context:
        for _ in range(2):
            await next_second(context)
        async with gate_at("before-delete") as gate:
            deleting = await start_deletion(fleet)
            await gate.reached()
            await deleting.cancel()
            with pytest.raises(WorkflowFailureError) as ended:
                await asyncio.wait_for(deleting.result(), 15)
            assert isinstance(ended.value.cause, CancelledError)
        assert await fleet.loop_ended() == "COMPLETED"
    assert keys(fleet) == {"2024/3/20.parquet"}


async def known(fleet, count):
    progress = await fleet.loop().query("progress")
    return len(progress["requests"]) + progress["waiting"] == count


async def pending(fleet):
    described = await fleet.loop().describe()
    return [activity.activity_type.name for activity in described.raw_description.pending_activities]


async def test_an_unfinished_upload_is_listed_with_its_bytes_and_dropped(fleet, hands):
    await commit_day(hands, 20)
    old, young = (f"{prefix_of_table(fleet)}2024/3/{day}.parquet" for day in (17, 16))
    begin_upload(fleet, old, 5 * 2**20)
    line = await next_second(hands.context)
    begin_upload(fleet, young, 100)
    seen = {(orphan.key, orphan.bytes, orphan.kind) for orphan in await found(fleet)}
    assert seen == {(old, 5 * 2**20, "unfinished upload"), (young, 100, "unfinished upload")}
    page = await delete_before(fleet, hands.context, line)
    assert (page.deleted, page.young, page.keys) == (1, 1, [f"unfinished upload: {old}"])
    assert open_uploads(fleet) == [young]
    assert line_of(fleet.table().properties) == 0  # what is no object needs no line


async def test_objects_of_other_origin_and_of_tables_with_a_longer_name_are_left_alone(fleet):
    await fleet.make_days(days=1, rows=ROWS)
    await fleet.make_days("events_block", days=1, rows=ROWS)
    async with fleet.context() as context:
        for table in ("events", "events_block"):
            await export_one(Hands(fleet, context, table=table), 20)
        foreign = f"{prefix_of_table(fleet)}2024/1/1.parquet"
        assert await context.store.create(foreign, b"somebody else's", "")
        line = await next_second(context)
        page = await delete_before(fleet, context, line)
    assert (page.deleted, page.foreign) == (1, 1)
    assert keys(fleet) == {"2024/1/1.parquet"}
    assert keys(fleet, "events_block") == {"2024/3/20.parquet"}
    assert [orphan.table for orphan in await found(fleet)] == [f"{fleet.network}.events_block"]


async def test_metadata_that_no_snapshot_names_goes_when_it_is_asked_for_and_the_rest_stays(fleet, hands):
    await hands.run()
    bucket, _, location = fleet.table().location().removeprefix("s3://").partition("/")
    store = hands.context.store.bucket(bucket)
    lost = f"{location}/metadata/snap-1-0-lost.avro"
    assert await store.create(lost, b"left by a refused commit", "")
    line = await next_second(hands.context)
    before = {one.key async for page in store.objects(f"{location}/metadata/") for one in page}
    assert await found(fleet) == []
    assert [(orphan.key, orphan.kind) for orphan in await found(fleet, metadata=True)] == [(lost, "metadata")]
    assert (await delete_before(fleet, hands.context, line)).deleted == 0
    page = await delete_before(fleet, hands.context, line, metadata=True)
    assert page.keys == [f"metadata: {lost}"]
    after = {one.key async for page in store.objects(f"{location}/metadata/") for one in page}
    assert before - after == {lost}
    assert table_rows(fleet) == await source_rows(fleet)


async def test_a_deletion_goes_on_where_the_time_of_the_attempt_before_was_up(fleet, hands, monkeypatch):
    exported = [await export_one(hands, day) for day in (19, 20)]
    line = await next_second(hands.context)
    with monkeypatch.context() as patch:
        patch.setattr("activities.orphan_deletion.WORK_SECONDS", -1)
        page = await delete_before(fleet, hands.context, line)
    assert (page.deleted, page.cursor) == (0, "data object:")
    assert len(keys(fleet)) == 2
    page = await delete_before(fleet, hands.context, line, cursor=f"data object:{exported[0].key}")
    assert (page.deleted, page.cursor) == (1, "")
    assert keys(fleet) == {"2024/3/19.parquet"}


async def test_nothing_of_a_table_that_the_catalog_does_not_have_goes(fleet, hands):
    await export_one(hands, 20)
    line = await next_second(hands.context)
    hands.context.lake.catalog.drop_table(f"{fleet.network}.events")
    with pytest.raises(ApplicationError, match="is not in the catalog: what it names is not known, nothing goes"):
        await delete_before(fleet, hands.context, line)
    assert keys(fleet) == {"2024/3/20.parquet"}
    assert await found(fleet) == []


async def test_what_a_renamed_table_names_is_no_orphan_of_the_one_that_took_its_place(fleet, hands):
    await commit_day(hands, 20)
    lake = hands.context.lake.catalog
    lake.rename_table(f"{fleet.network}.events", f"{fleet.network}.events_of_old")
    await commit_day(hands, 19)
    assert keys(fleet) == {"2024/3/19.parquet", "2024/3/20.parquet"}
    assert await found(fleet) == []
    await delete_before(fleet, hands.context, await next_second(hands.context))
    assert keys(fleet) == {"2024/3/19.parquet", "2024/3/20.parquet"}
    old = lake.load_table(f"{fleet.network}.events_of_old")
    assert old.scan().to_arrow().num_rows > 0

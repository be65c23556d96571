"""Thorough upkeep of exported tables: what expired goes after the grace period, and manifests become few."""

import asyncio

import pytest
from temporalio.testing import ActivityEnvironment

from activities import failpoints
from activities.contracts.orphans import OrphansInput
from activities.contracts.upkeep import ManifestsInput
from activities.export import Export
from activities.lake.fewermanifests import MERGE_AT
from support.direct import Hands
from support.evidence import source_rows, table_rows
from support.gate import failing_at
from support.leftovers import delete_before, keys, next_second
from support.mirrors import same_by_all_readers
from support.upkeep import AT_ONCE, PUBLIC, Late, expire, refresh


@pytest.fixture
async def hands(fleet):
    fleet.set_export(**AT_ONCE)
    await fleet.make_days(days=2, rows=10)
    await fleet.make_days("many", days=MERGE_AT, rows=3)
    async with fleet.context() as context:
        yield Hands(fleet, context)


async def sweep(fleet, context, **more):
    """What upkeep deletes."""
    task = OrphansInput(fleet.name, "events", fleet.network, "", metadata=True, after_expiry=True, **more)
    return await ActivityEnvironment().run(Export(context).delete_orphans, task)


async def merge(fleet, context, **more):
    task = ManifestsInput(fleet.name, "many", fleet.network, **more)
    return await ActivityEnvironment().run(Export(context).merge_manifests, task)


async def test_what_expired_goes_with_its_metadata_and_a_reader_has_the_grace_period(fleet, hands):
    await hands.run()
    begun = fleet.table().scan()
    late = Late(fleet, hands)
    await late.replace()
    newest = await late.replace()
    # Until something is appended, the newest snapshot still names what it has replaced.
    await fleet.insert("events", "toDateTime('2024-03-18 12:00:00', 'UTC')", 5, offset=500)
    await hands.run(from_="2024-03-18", to="2024-03-18")
    await hands.announce()
    assert (await expire(fleet, hands.context)).expired == 3
    fleet.set_export(grace_seconds=3600)
    await next_second(hands.context)
    async with fleet.context() as patient:
        kept = await sweep(fleet, patient)
    assert (kept.deleted, kept.waiting[:26]) == (0, "nothing is deleted for 3599"[:26])
    assert begun.to_arrow().num_rows == 20
    named = len(keys(fleet))
    done = await sweep(fleet, hands.context)
    kinds = {key.partition(":")[0] for key in done.keys}
    assert (kinds, named - len(keys(fleet))) == ({"data object", "metadata"}, 1)
    assert (newest in keys(fleet), PUBLIC in keys(fleet)) == (True, True)
    assert [key for key in done.keys if key.endswith(".metadata.json")] == []  # twenty are kept
    assert table_rows(fleet) == await source_rows(fleet)
    await refresh(fleet, hands.context)
    bucket, _, place = fleet.table().location().rpartition("://")[2].partition("/")
    stray = f"{place.rstrip('/')}/metadata/00000-stray.metadata.json"
    await hands.context.store.bucket(bucket).create(stray, b"{}", "nobody")
    for _ in range(3):
        await next_second(hands.context)
    more = await sweep(fleet, hands.context)
    assert [key for key in more.keys if key.endswith(".metadata.json")] == [f"metadata: {stray}"]
    assert table_rows(fleet) == await source_rows(fleet)


async def test_upkeep_deletes_nothing_of_a_partition_that_the_table_does_not_hold(fleet, hands):
    """The table was dropped and made anew, and the source has let the older day go: its object is all that is left."""
    await hands.run()
    hands.context.lake.catalog.drop_table(f"{fleet.network}.events")
    await fleet.run_sql(f"DELETE FROM {fleet.database}.events WHERE toDate(at) = '2024-03-19'")
    await hands.run()
    await hands.export_all(await hands.plan(from_="2024-03-20", force=True))  # by a worker that dies then
    assert ([name for name, _ in fleet.files()], len(keys(fleet))) == ([PUBLIC], 3)
    for _ in range(2):
        await next_second(hands.context)
    would = await sweep(fleet, hands.context, dry_run=True)
    done = await sweep(fleet, hands.context)
    assert (would.deleted, would.kept, done.kept) == (done.deleted, 1, 1)
    assert keys(fleet) == {PUBLIC, "2024/3/19.parquet"}
    # Whoever asks for it himself has it deleted.
    page = await delete_before(fleet, hands.context, await next_second(hands.context))
    assert (page.deleted, page.kept, keys(fleet)) == (1, 0, {PUBLIC})


def held(table):
    """What the head says of every file: who brought it, and when by Iceberg's own count."""
    columns = ["snapshot_id", "sequence_number", "file_sequence_number"]
    rows = table.inspect.entries().to_pylist()
    return sorted([*(row[name] for name in columns), row["data_file"]["file_path"]] for row in rows)


async def test_many_small_manifests_become_one_and_say_the_same_to_every_reader(fleet, hands):
    own = Hands(fleet, hands.context, table="many")
    plan = await own.plan()
    for planned in plan.todo:
        await own.commit([await own.export(planned)])
    name = f"{fleet.network}.many"
    rows, before = same_by_all_readers(fleet, [name]), held(fleet.table("many"))
    dry = await merge(fleet, hands.context, dry_run=True)
    async with failing_at("before-manifests", lambda: asyncio.CancelledError("the worker died"), times=1):
        with pytest.raises(asyncio.CancelledError):
            await merge(fleet, hands.context)
    failpoints.disarm()
    done = await merge(fleet, hands.context)
    assert (dry.before, dry.after, done.before, done.after, done.more) == (MERGE_AT, 1, MERGE_AT, 1, False)
    assert held(fleet.table("many")) == before
    assert same_by_all_readers(fleet, [name]) == rows
    head = fleet.table("many").current_snapshot()
    said = head.summary.additional_properties
    assert (head.summary.operation.value, said["total-data-files"], said["total-records"]) == ("replace", "8", "24")
    again = await merge(fleet, hands.context)
    assert (again.before, again.after, fleet.table("many").current_snapshot()) == (1, 1, head)
    # The table goes on: what is there is known, and what is late replaces it.
    assert (await own.plan()).todo == []
    await own.run(from_="2024-03-20", force=True)
    assert same_by_all_readers(fleet, [name]) == rows
    assert (await own.announce()).announced == MERGE_AT + 2

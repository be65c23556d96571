"""Small partitions share an activity, and nobody can tell from the result."""

from collections import Counter

import pytest

from activities.contracts.export import LOOP_WORKFLOW
from support.evidence import make_bulky, objects, prefix_of, retried, source_rows, table_rows
from support.fleet import Fleet, eventually


async def activities_of(fleet: Fleet, table: str = "events") -> Counter[str]:
    """How many activities of each kind the table's loop has started, over all of its runs."""
    counted: Counter[str] = Counter()
    query = f"WorkflowType = '{LOOP_WORKFLOW}' AND TaskQueue = '{fleet.queue}'"
    async for run in fleet.temporal.list_workflows(query):
        if run.id == fleet.loop(table).id:
            async for event in fleet.temporal.get_workflow_handle(run.id, run_id=run.run_id).fetch_history_events():
                if event.HasField("activity_task_scheduled_event_attributes"):
                    counted[event.activity_task_scheduled_event_attributes.activity_type.name] += 1
    return counted


async def asked(fleet: Fleet, table: str = "events") -> Counter[str]:
    """How often the source was asked for the table's rows, or for counts that collapse them."""
    await fleet.run_sql("SYSTEM FLUSH LOGS")
    kinds = {"FORMAT Parquet": "alone", "FORMAT Arrow": "together", "count() AS rows": "counts"}
    told = ", ".join(f"position(said, '{words}') > 0, '{kind}'" for words, kind in kinds.items())
    log = await fleet.sql(
        f"SELECT multiIf({told}, 'others') AS kind "
        "FROM (SELECT type, replaceAll(query, '`', '') AS said FROM system.query_log) "
        f"WHERE type = 'QueryFinish' AND position(said, 'FROM {fleet.database}.{table} FINAL') > 0"
    )
    return Counter(str(row["kind"]) for row in log)


@pytest.mark.parametrize(("rows_per_query", "alone", "together"), [(20_000, 0, 2), (60, 0, 4), (0, 24, 0)])
async def test_small_partitions_are_read_and_verified_together_and_each_is_an_object_of_its_own(
    fleet: Fleet, rows_per_query, alone, together
):
    await fleet.make_hours(hours=24, rows=10)
    fleet.set_export(parallel_partitions=2, rows_per_query=rows_per_query)
    async with fleet.worker():
        report = await fleet.request()
        assert (report.status, report.exported, report.rows) == ("complete", 24, 240)
        await fleet.loop_ended()
    assert (await activities_of(fleet))["export_partitions"] == 2
    queries = await asked(fleet)
    # Each activity of twelve asks once for all of its partitions, unless they have more rows than one query may have.
    assert (queries["alone"], queries["together"], queries["counts"]) == (alone, together, 2)
    assert fleet.files() == sorted((f"2024/3/20/{hour}.parquet", 10) for hour in range(24))
    assert set(objects(fleet)) == {
        f"{prefix_of(fleet)}databases/{fleet.database}/events/{name}" for name, _ in fleet.files()
    }
    assert table_rows(fleet) == await source_rows(fleet)


async def test_large_partitions_share_with_nobody(fleet: Fleet):
    await fleet.make_hours(hours=8, rows=10)
    fleet.set_export(parallel_partitions=1, small_partition_rows=9)
    async with fleet.worker():
        assert (await fleet.request()).exported == 8
        await fleet.loop_ended()
    assert (await activities_of(fleet))["export_partitions"] == 8


async def test_a_partition_that_fails_costs_those_that_shared_with_it_nothing(fleet: Fleet):
    await fleet.make_hours(hours=8, rows=10)
    fleet.set_export(parallel_partitions=1)
    await fleet.run_sql(
        f"INSERT INTO {fleet.database}.events SELECT toDateTime('2024-04-02 00:00:00', 'UTC'), "
        f"toDateTime('2024-03-20 20:30:00', 'UTC'), 777, unhex('61ff'), '{fleet.network}'"
    )
    async with fleet.worker():
        report = await fleet.request()
        assert (report.status, report.exported, report.failed) == ("partial", 7, 1)
        failure = report.failures[0]
        assert (failure.partition, failure.cause) == ("2024-03-20T20", "UnsupportedType")
        assert f"{fleet.network}.events partition 2024-03-20T20: text that is not UTF-8" in failure.message
        assert "column name in 1 rows (write `name: binary`)" in failure.message
        await fleet.loop_ended()
        # All of them together, then the one that was left, alone.
        assert (await activities_of(fleet))["export_partitions"] == 2
        assert "2024/3/20/20.parquet" not in {name for name, _ in fleet.files()}
        await fleet.run_sql(
            f"INSERT INTO {fleet.database}.events SELECT toDateTime('2024-04-03 00:00:00', 'UTC'), at, number, "
            f"'mended', network FROM {fleet.database}.events WHERE number = 777"
        )
        report = await fleet.request()
        assert (report.status, report.exported) == ("complete", 1)
    assert table_rows(fleet) == await source_rows(fleet)


async def test_partitions_of_few_but_heavy_rows_do_not_wait_in_memory_for_each_other(fleet: Fleet):
    fleet.set_export(parallel_partitions=1, part_size_bytes=5 * 2**20)
    table = await make_bulky(fleet, days=6, rows=4_000)
    async with fleet.worker() as context:
        held: list[int] = []
        create = context.store.create

        async def watched(key: str, body: bytes, recipe: str) -> bool:
            held.append(len(body))
            return await create(key, body, recipe)

        context.store.create = watched  # type: ignore[method-assign]
        report = await fleet.request(table)
        assert (report.status, report.exported) == ("complete", 6)
        await fleet.loop_ended(table)
    assert len(held) == 6
    assert (await activities_of(fleet, table))["export_partitions"] == 1
    # Two of them fill a part's worth of memory, so they are verified and created two by two.
    assert (await asked(fleet, table))["counts"] == 3
    assert table_rows(fleet, table, "text") == await source_rows(fleet, table, "text")


async def test_a_worker_that_dies_among_its_partitions_leaves_objects_that_are_adopted(fleet: Fleet):
    await fleet.make_hours(hours=6, rows=10)
    fleet.set_export(parallel_partitions=1)
    with fleet.worker_process(failpoint="after-upload") as process:
        request = await fleet.start()
        await eventually(lambda: process.poll() is not None, seconds=60)
    left = objects(fleet)
    assert len(left) == 1
    async with fleet.worker():
        report = await request.result()
        assert (report.status, report.exported) == ("complete", 6)
        await fleet.loop_ended()
    assert await retried(fleet, "export_partitions") == ""
    assert {key: objects(fleet)[key] for key in left} == left
    assert table_rows(fleet) == await source_rows(fleet)

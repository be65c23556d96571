"""What is there is not done again, and what is empty is asked about once."""

from support.direct import Hands
from support.evidence import objects


async def plan_queries(fleet):
    return len(await fleet.queries(f"icefleet plan {fleet.network}."))


async def every_query(fleet):
    """Queries that the fleet's activities have sent about its database or with its network, but for this one."""
    await fleet.run_sql("SYSTEM FLUSH LOGS")
    [row] = await fleet.sql(
        "SELECT count() AS found FROM system.query_log WHERE type = 'QueryFinish' AND query_kind = 'Select' "
        f"AND position(query, '{fleet.database}.') + position(query, '`{fleet.database}`') > 0 "
        "AND position(query, 'query_log') = 0"
    )
    return int(row["found"])


async def test_a_second_request_over_a_fully_exported_range_commits_nothing_and_says_so(fleet):
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker():
        await fleet.request(from_="2024-03-18", to="2024-03-20")
        before, head, asked = objects(fleet), fleet.table().metadata_location, await every_query(fleet)
        second = await fleet.request(from_="2024-03-18", to="2024-03-20")
        await fleet.loop_ended()
    assert (second.status, second.present, second.exported, second.snapshots) == ("nothing_to_do", 3, 0, [])
    assert second.message == f"nothing to do: {fleet.network}.events holds all 3 of the closed partitions asked for"
    assert objects(fleet) == before
    assert fleet.table().metadata_location == head
    assert await every_query(fleet) - asked == 1
    assert len(await fleet.events()) == 1


async def test_ten_thousand_empty_partitions_cost_one_source_query_and_are_remembered(fleet):
    await fleet.make_hours(hours=2, rows=5, network={"start_date": "2023-01-29", "end_date": "2024-03-20"})
    async with fleet.worker():
        first = await fleet.request()
        surveyed, asked = await plan_queries(fleet), await every_query(fleet)
        head = fleet.table().metadata_location
        second = await fleet.request()
        await fleet.loop_ended()
    assert (first.status, first.exported, first.failed) == ("complete", 2, 0)
    assert first.empty == first.expected - 2 == 417 * 24 - 2
    assert surveyed == 1
    # Whatever is due, said a moment later: two partitions in the look-back are looked at, no empty one is.
    assert (second.status, second.present, second.empty) == ("nothing_to_do", 2, first.empty)
    [again] = (await fleet.queries(f"icefleet plan {fleet.network}."))[surveyed:] or [None]
    assert again is None or again["read_rows"] <= 10
    assert await every_query(fleet) - asked <= 1
    assert fleet.table().metadata_location == head
    assert len(fleet.table().properties["icefleet.empty"]) < 200


async def test_late_rows_of_a_partition_that_was_empty_are_exported_by_the_next_run_that_looks_back_so_far(fleet):
    await fleet.make_hours(hours=2, rows=5)
    async with fleet.worker():
        first = await fleet.request()
        await fleet.insert("events", "toDateTime('2024-03-20 19:30:00', 'UTC')", 7, offset=100)
        second = await fleet.request()
        third = await fleet.request()
    assert (first.status, first.exported, first.empty) == ("complete", 2, 20 * 24 - 2)
    assert (second.status, second.missing, second.exported, second.empty) == ("complete", 1, 1, first.empty - 1)
    assert fleet.files() == [("2024/3/20/19.parquet", 7), ("2024/3/20/22.parquet", 5), ("2024/3/20/23.parquet", 5)]
    assert (third.status, third.present, third.empty) == ("nothing_to_do", 3, second.empty)


async def test_ten_thousand_empty_partitions_cost_no_more_queries_than_ten(fleet):
    await fleet.make_hours(hours=1, rows=5, network={"start_date": "2024-03-20", "end_date": "2024-03-20"})
    await fleet.make_hours("wide", hours=1, rows=5, network={"start_date": "2023-01-29", "end_date": "2024-03-20"})
    counts = []
    async with fleet.context() as context:
        for table in ("events", "wide"):
            before = await every_query(fleet)
            report = await Hands(fleet, context, table=table).run()
            counts.append(await every_query(fleet) - before)
            assert report.committed == 1
    assert counts[1] <= counts[0] + 1


async def test_a_table_of_nothing_but_empty_partitions_is_remembered_without_a_snapshot(fleet):
    await fleet.make_days(days=1, rows=1, network={"start_date": "2024-03-01", "end_date": "2024-03-10"})
    async with fleet.worker():
        first = await fleet.request()
        surveyed = await plan_queries(fleet)
        second = await fleet.request()
    assert [(one.status, one.empty, one.snapshots) for one in (first, second)] == [("nothing_to_do", 10, [])] * 2
    assert await plan_queries(fleet) == surveyed == 1
    assert fleet.table().snapshots() == []


async def test_whoever_names_a_range_has_its_empty_partitions_looked_at_again(fleet):
    await fleet.make_days(days=1, rows=1)
    async with fleet.worker():
        await fleet.request()
        await fleet.insert("events", "toDateTime('2024-03-10 10:00:00', 'UTC')", 7, offset=500)
        due = await fleet.request()
        named = await fleet.request(from_="2024-03-10")
        after = await fleet.request()
    assert (due.status, due.exported) == ("nothing_to_do", 0)
    assert (named.status, named.exported, named.rows) == ("complete", 1, 7)
    # What has a file by now is not counted as empty any more.
    assert (after.present, after.empty, after.expected) == (2, 18, 20)
    assert fleet.files() == [("2024/3/10.parquet", 7), ("2024/3/20.parquet", 1)]


async def test_a_dry_run_writes_nothing_anywhere(fleet):
    await fleet.make_days(days=2, rows=5)
    async with fleet.worker():
        report = await fleet.request(dry_run=True)
        await fleet.loop_ended()
    assert (report.status, report.missing, report.exported) == ("dry_run", 2, 0)
    assert fleet.table() is None
    assert objects(fleet) == {}
    assert await fleet.events() == []


async def test_a_table_that_drops_duplicates_without_a_version_is_exported_once_whatever_its_raw_rows_count(fleet):
    """Its raw count is twice its rows, and halves when the engine merges: neither makes a partition stale."""
    table = f"{fleet.database}.events"
    columns = "at DateTime, number UInt64, name String, network String"
    await fleet.run_sql(f"CREATE TABLE {table} ({columns}) ENGINE = ReplacingMergeTree ORDER BY (network, at, number)")
    await fleet.run_sql(f"SYSTEM STOP MERGES {table}")
    for _ in range(2):
        await fleet.run_sql(
            f"INSERT INTO {table} SELECT toDateTime('2024-03-20 10:00:00', 'UTC'), number, 'x', '{fleet.network}' "
            "FROM numbers(10)"
        )
    fleet.add_table("daily", "events", "at", network={"start_date": "2024-03-20", "end_date": "2024-03-20"})
    async with fleet.worker():
        first, second = await fleet.request(), await fleet.request()
        await fleet.run_sql(f"SYSTEM START MERGES {table}")
        await fleet.run_sql(f"OPTIMIZE TABLE {table} FINAL")
        third = await fleet.request()
    assert [(one.status, one.exported, one.rows) for one in (first, second, third)] == [
        ("complete", 1, 10),
        ("nothing_to_do", 0, 0),
        ("nothing_to_do", 0, 0),
    ]
    assert third.shrunk == []

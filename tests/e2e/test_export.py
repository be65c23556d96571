"""The main job, seen from outside: a table crosses, once, and what is there stays there."""

import pytest
from temporalio.client import WorkflowFailureError


async def test_every_partition_arrives_once_and_a_second_request_says_that_nothing_is_left(fleet):
    await fleet.make_days(days=3, rows=100)
    async with fleet.worker():
        first = await fleet.request()
        second = await fleet.request()
    assert (first.status, first.exported, first.rows) == ("complete", 3, 300)
    assert fleet.files() == [("2024/3/18.parquet", 100), ("2024/3/19.parquet", 100), ("2024/3/20.parquet", 100)]
    assert (second.status, second.exported, second.snapshots) == ("nothing_to_do", 0, [])
    assert "nothing to do" in second.message
    events = await fleet.events()
    assert [partition["partition"] for partition in events[0]["partitions"]] == [
        "2024-03-18",
        "2024-03-19",
        "2024-03-20",
    ]
    assert len(events) == 1


async def test_a_partition_whose_newest_row_is_marked_as_deleted_is_exported_once_and_not_taken_for_moving(fleet):
    """FINAL takes the mark away with the newest version: plans must not wait for it, nor for an export as new as it."""
    await fleet.run_sql(
        f"CREATE TABLE {fleet.database}.events (updated DateTime, at DateTime, number UInt64, name String, "
        "network String, gone UInt8) ENGINE = ReplacingMergeTree(updated, gone) ORDER BY (network, at, number)"
    )
    fleet.add_table("daily", "events", "at", network={"start_date": "2024-03-20", "end_date": "2024-03-20"})
    await fleet.insert("events", "toDateTime('2024-03-20 12:00:00', 'UTC')", 10)
    await fleet.run_sql(
        f"INSERT INTO {fleet.database}.events (updated, at, number, network, gone) "
        f"VALUES ('2024-04-02', '2024-03-20 12:00:00', 3, '{fleet.network}', 1)"
    )
    async with fleet.worker():
        first = await fleet.request()
        second = await fleet.request()
    assert (first.status, first.exported, first.rows, first.open) == ("complete", 1, 9, 0)
    assert fleet.files() == [("2024/3/20.parquet", 9)]
    assert (second.status, second.present, second.stale, second.open) == ("nothing_to_do", 1, 0, 0)


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("MaterializedView", "MATERIALIZED VIEW {0}.events TO {0}.held AS SELECT * FROM {0}.come"),
        ("Merge", "TABLE {0}.events AS {0}.held ENGINE = Merge('{0}', '^held$')"),
        (
            "Buffer",
            "TABLE {0}.events AS {0}.held ENGINE = Buffer('{0}', 'held', 1, 9, 9, 99, 99, 999, 999)",
        ),
    ],
)
async def test_a_table_that_does_not_say_whether_its_rows_collapse_is_refused(fleet, kind, made):
    """Both versions of a row would be exported, and counted as right."""
    await fleet.make_days("held", days=1, rows=10)
    await fleet.run_sql(f"CREATE TABLE {fleet.database}.come AS {fleet.database}.held ENGINE = Null")
    await fleet.run_sql(f"CREATE {made.format(fleet.database)}")
    fleet.add_table("daily", "events", "at", network={"start_date": "2024-03-20", "end_date": "2024-03-20"})
    async with fleet.worker():
        with pytest.raises(WorkflowFailureError) as failed:
            await fleet.request()
    assert failed.value.cause.type == "BadConfig"
    assert f"events: its rows lie behind an engine {kind}, which does not say" in failed.value.cause.message
    assert "name the table that holds them, or a view" in failed.value.cause.message
    assert fleet.table() is None

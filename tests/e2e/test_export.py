"""The main job, seen from outside: a table crosses, once, and what is there stays there."""


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

"""ClickHouse fails before a stream, in the middle of one, or shortens a result: nothing of it reaches the public."""

import asyncio
import re

import pytest
from temporalio.client import WorkflowFailureError

from support.evidence import make_bulky, objects, open_uploads, retried, source_rows, table_rows
from support.faultproxy import Answer, CutBefore, CutBody, Delay, HttpFaults, Seen, TcpFaults
from support.fleet import eventually
from support.ownclickhouse import endpoint, make_elsewhere

GROUP = 1_000_000
"""Rows of a Parquet row group: the first is sent while the next is made."""


def export_of(day: int) -> str:
    """The one query that fetches a day's rows, told by its comment among all that concern the day."""
    return rf"log_comment=[^&]*partition\+2024-03-{day}"


@pytest.mark.parametrize(
    "fault",
    [Answer(500, b"Code: 210. DB::Exception: broken"), Answer(503, b"busy", "text/plain"), CutBefore()],
    ids=["500", "503", "cut"],
)
async def test_a_source_that_fails_before_its_first_byte_is_asked_again(fleet, fault):
    await fleet.make_days(days=3, rows=50)
    async with HttpFaults(fleet.stack.ports["clickhouse"]) as clickhouse:
        fleet.point(clickhouse=clickhouse.port)
        broken = clickhouse.on(fault, path=export_of(19), times=1)
        async with fleet.worker():
            report = await fleet.request()
    assert broken.times_struck == 1
    assert clickhouse.count(path=export_of(19)) == 2
    assert (report.status, report.exported, report.failed) == ("complete", 3, 0)
    assert table_rows(fleet) == await source_rows(fleet)


async def test_a_partition_that_keeps_failing_is_listed_with_its_cause_and_a_later_request_picks_it_up(fleet):
    await fleet.make_days(days=3, rows=50)
    fleet.set_export(partition_attempts=3)
    async with HttpFaults(fleet.stack.ports["clickhouse"]) as clickhouse:
        fleet.point(clickhouse=clickhouse.port)
        words = b"Code: 241. DB::Exception: Memory limit (total) exceeded. (MEMORY_LIMIT_EXCEEDED)"
        broken = clickhouse.on(Answer(500, words, "text/plain"), path=export_of(19), times=None)
        async with fleet.worker():
            partial = await fleet.request()
            assert fleet.files() == [("2024/3/18.parquet", 50), ("2024/3/20.parquet", 50)]
            clickhouse.mend()
            mended = await fleet.request()
    assert broken.times_struck == 3
    assert (partial.status, partial.exported, partial.failed) == ("partial", 2, 1)
    (failed,) = partial.failures
    assert (failed.partition, failed.cause) == ("2024-03-19", "SourceUnavailable")
    assert "Memory limit (total) exceeded" in failed.message
    assert (mended.status, mended.missing, mended.exported) == ("complete", 1, 1)
    assert table_rows(fleet) == await source_rows(fleet)


async def test_a_source_that_refuses_connections_for_a_while_is_waited_for(fleet):
    await fleet.make_days(days=2, rows=50)
    async with TcpFaults(fleet.stack.ports["clickhouse"]) as clickhouse:
        fleet.point(clickhouse=clickhouse.port)
        async with fleet.worker():
            assert (await fleet.request()).exported == 2
            await clickhouse.refuse()
            request = await fleet.start(force=True)
            await eventually(lambda: retried(fleet, "plan_partitions"))
            await clickhouse.mend()
            report = await asyncio.wait_for(request.result(), 30)
    assert (report.status, report.exported) == ("complete", 2)
    assert table_rows(fleet) == await source_rows(fleet)


async def test_a_stream_that_is_cut_in_the_middle_leaves_no_object_and_is_begun_again(fleet):
    fleet.set_export(part_size_bytes=5 * 2**20, retry_initial_seconds=2)
    table = await make_bulky(fleet, days=2, rows=16_000)
    async with HttpFaults(fleet.stack.ports["clickhouse"]) as clickhouse:
        fleet.point(clickhouse=clickhouse.port)
        broken = clickhouse.on(CutBody(after_bytes=7 * 2**20), path=export_of(20))
        async with fleet.worker():
            request = await fleet.start(table)
            await eventually(lambda: retried(fleet, "export_partitions", table))
            assert not [key for key in objects(fleet) if key.endswith("3/20.parquet")]
            assert not [key for key in open_uploads(fleet) if key.endswith("3/20.parquet")]
            report = await asyncio.wait_for(request.result(), 30)
    assert broken.times_struck == 1
    assert (report.status, report.exported) == ("complete", 2)
    assert table_rows(fleet, table, "text") == await source_rows(fleet, table, "text")
    assert open_uploads(fleet) == []


@pytest.mark.parametrize(
    "fault", [CutBody(after_bytes=100), Answer(200, b"", "application/octet-stream")], ids=["cut", "short"]
)
async def test_an_answer_for_several_partitions_that_is_not_whole_is_asked_for_one_by_one(fleet, fault):
    await fleet.make_hours(hours=6, rows=10)
    fleet.set_export(parallel_partitions=1)
    async with HttpFaults(fleet.stack.ports["clickhouse"]) as clickhouse:
        fleet.point(clickhouse=clickhouse.port)
        broken = clickhouse.on(fault, path=r"log_comment=[^&]*6\+partitions\+from")
        async with fleet.worker():
            report = await fleet.request()
            assert await retried(fleet, "export_partitions") == ""
    assert broken.times_struck == 1
    assert clickhouse.count(path=r"log_comment=[^&]*\+partition\+2024-03-20T") == 6
    assert (report.status, report.exported, report.rows) == ("complete", 6, 60)
    assert table_rows(fleet) == await source_rows(fleet)


async def make_poisoned(fleet, rows: int) -> str:
    """Three days of `rows` rows; the last row of 2024-03-19 holds a number that no decimal of 38 digits can hold."""
    name = "poisoned"
    await fleet.run_sql(
        f"CREATE TABLE {fleet.database}.{name} (at DateTime, number UInt64, a UInt64, b UInt64, big Int256, "
        "network LowCardinality(String)) ENGINE = MergeTree ORDER BY (network, at, number)"
    )
    for day, count in ((18, 10), (19, rows), (20, 10)):
        await fleet.run_sql(
            f"INSERT INTO {fleet.database}.{name} SELECT toDateTime('2024-03-{day} 00:00:00', 'UTC') + "
            f"intDiv(number * 80000, {count}), number, rand64(1), rand64(2), if({day} = 19 AND number = {count - 1}, "
            f"toInt256(concat('1', repeat('0', 50))), 7), '{fleet.network}' FROM numbers({count})"
        )
    types = {"big": "decimal(38, 0)"}
    fleet.add_table("daily", name, "at", network={"start_date": "2024-03-18", "end_date": "2024-03-20"}, types=types)
    return name


@pytest.mark.parametrize("rows", [10, GROUP + 300_000], ids=["before_the_first_byte", "in_mid_stream"])
async def test_an_exception_of_clickhouse_stops_one_partition_and_is_its_cause(fleet, rows):
    fleet.set_export(partition_attempts=2, part_size_bytes=5 * 2**20)
    table = await make_poisoned(fleet, rows)
    async with fleet.worker():
        report = await fleet.request(table)
    assert (report.status, report.exported, report.failed) == ("partial", 2, 1)
    (failed,) = report.failures
    assert failed.partition == "2024-03-19"
    assert failed.cause == "UnsupportedType"
    assert "Too many digits (39 > 38) in decimal value" in failed.message
    assert fleet.files(table) == [("2024/3/18.parquet", 10), ("2024/3/20.parquet", 10)]
    assert len(objects(fleet)) == 2
    assert open_uploads(fleet) == []


# --- profiles -------------------------------------------------------------------------------------------------------


async def test_a_profile_that_caps_results_shortens_no_export_and_hides_no_partition(fleet, tmp_path):
    profile = {"limit": 1, "max_result_rows": 1, "result_overflow_mode": "break", "max_block_size": 100}
    async with endpoint(fleet, tmp_path / "clickhouse", **profile) as (port, password):
        await make_elsewhere(fleet, port, password)
        async with fleet.worker():
            report = await fleet.request()
    assert (report.status, report.exported, report.empty) == ("complete", 3, 0)
    assert fleet.files() == [(f"2024/3/{day}.parquet", 1_000) for day in (18, 19, 20)]


async def test_a_profile_that_breaks_off_reading_fails_the_request_and_shortens_nothing(fleet, tmp_path):
    profile = {"max_rows_to_read": 1500, "read_overflow_mode": "break", "max_block_size": 100}
    async with endpoint(fleet, tmp_path / "clickhouse", **profile) as (port, password):
        await make_elsewhere(fleet, port, password)
        async with fleet.worker():
            request = await fleet.start()
            with pytest.raises(WorkflowFailureError) as failed:
                await asyncio.wait_for(request.result(), 30)
    assert "max_rows_to_read" in str(failed.value.cause) or "Limit for rows" in str(failed.value.cause)
    assert fleet.files() == []
    assert objects(fleet) == {}


async def test_a_source_that_takes_longer_than_a_heartbeat_to_count_a_partition_is_waited_for(fleet):
    await fleet.make_days(days=1, rows=50)
    async with HttpFaults(fleet.stack.ports["clickhouse"]) as clickhouse:
        fleet.point(clickhouse=clickhouse.port)
        fetch = export_of(20)

        def counts(seen: Seen) -> bool:
            return "param_low" in seen.path and not re.search(fetch, seen.path) and clickhouse.count(path=fetch) > 0

        slow = clickhouse.on(Delay(4), when=counts)
        async with fleet.worker():
            report = await fleet.request()
    assert slow.times_struck == 1
    assert clickhouse.count(path=fetch) == 1
    assert (report.status, report.exported) == ("complete", 1)

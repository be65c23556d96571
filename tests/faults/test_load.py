"""The load on a source: slots, limits and a source that takes no more queries; none of it costs a partition."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import aiohttp
import pytest
from temporalio.service import RPCError

from activities.clients.clickhouse import ClickHouse, ClickHouseSettings
from activities.core.faults import SourceBusy
from activities.core.query import Query
from support.evidence import make_bulky, objects, source_rows, table_rows
from support.faultproxy import Answer, Hold, HttpFaults
from support.fleet import eventually
from support.ownclickhouse import endpoint, make_elsewhere

STREAMS = r"log_comment=[^&]*partition\+2024-03-"
"""Queries that fetch a partition, told by their comment."""
FULL = b"Code: 202. DB::Exception: Too many simultaneous queries for user u. (TOO_MANY_SIMULTANEOUS_QUERIES)"


async def waiting(fleet, activity: str, what: str, *, longer_than: float = 0) -> bool:
    """Whether an activity of the loop is at its first attempt, has run so long, and says that it waits for `what`."""
    with contextlib.suppress(RPCError):  # no loop yet
        for pending in (await fleet.loop().describe()).raw_description.pending_activities:
            since = pending.last_started_time.ToDatetime(UTC)
            said = "".join(payload.data.decode() for payload in pending.heartbeat_details.payloads)
            if (pending.activity_type.name, pending.attempt) == (activity, 1) and what in said:
                return (datetime.now(UTC) - since).total_seconds() > longer_than
    return False


async def attempts(fleet) -> set[int]:
    """The attempts at which the activities of the loop began."""
    history = await fleet.loop().fetch_history()
    begun = [event.activity_task_started_event_attributes for event in history.events]
    return {event.attempt for event in begun if event.attempt}


@contextlib.asynccontextmanager
async def client(port: int, password: str, **slots: int) -> AsyncIterator[ClickHouse]:
    own = ClickHouse(ClickHouseSettings("own.default", "127.0.0.1", port, False, "icefleet", password, {}, **slots))  # noqa: FBT003 - no TLS
    try:
        yield own
    finally:
        await own.close()


def at_the_stack(fleet, port: int, **slots: int) -> contextlib.AbstractAsyncContextManager[ClickHouse]:
    password = fleet.settings().cluster(f"{fleet.name}.default").password.get_secret_value()
    return client(port, password, **slots)


# --- slots ----------------------------------------------------------------------------------------------------------


async def test_a_worker_streams_within_its_slots_and_a_wait_longer_than_a_heartbeat_time_out_is_no_failure(fleet):
    fleet.set_cluster(export_slots=1)
    fleet.set_export(heartbeat_seconds=1, partition_attempts=1)
    await fleet.make_days(days=3, rows=50)
    async with HttpFaults(fleet.stack.ports["clickhouse"]) as clickhouse:
        fleet.point(clickhouse=clickhouse.port)
        held = Hold()
        clickhouse.on(held, path=STREAMS, times=1)
        async with fleet.worker():
            request = await fleet.start()
            slot = f"waits for one of the 1 export slots for ClickHouse {fleet.name}.default"
            await eventually(lambda: waiting(fleet, "export_partitions", slot, longer_than=3))
            assert clickhouse.count(path=STREAMS) == 1
            held.released.set()
            report = await asyncio.wait_for(request.result(), 30)
    assert (report.status, report.exported, report.failed) == ("complete", 3, 0)
    assert clickhouse.count(path=STREAMS) == 3
    assert await attempts(fleet) == {1}


async def test_a_stream_that_is_given_up_gives_its_slot_back_at_once(fleet):
    await fleet.make_days(days=1, rows=1000)
    query = Query(f"SELECT * FROM {fleet.database}.events")
    async with at_the_stack(fleet, fleet.stack.ports["clickhouse"], export_slots=1) as own:
        async with contextlib.aclosing(own.parquet(query, query_id="", comment="")) as given_up:
            assert (await anext(given_up))[:4] == b"PAR1"
        async with asyncio.timeout(10), contextlib.aclosing(own.parquet(query, query_id="", comment="")) as whole:
            assert b"".join([chunk async for chunk in whole])[-4:] == b"PAR1"


async def test_a_worker_never_has_more_connections_than_its_export_and_lookup_slots(fleet):
    async with HttpFaults(fleet.stack.ports["clickhouse"]) as clickhouse, AsyncExitStack() as stack:
        own = await stack.enter_async_context(at_the_stack(fleet, clickhouse.port, export_slots=2, lookup_slots=1))
        await own.rows(Query("SELECT 1"))
        held = Hold()
        asked = clickhouse.on(held, when=lambda _: True, times=None)
        looking = asyncio.gather(*(own.rows(Query("SELECT 1 AS one")) for _ in range(9)))
        await eventually(lambda: asked.times_struck == 3)
        for _ in range(5):  # whoever has not come by now has no connection to come with
            await fleet.sql("SELECT 1")
        assert asked.times_struck == 3
        held.released.set()
        assert await looking == [[{"one": 1}]] * 9


# --- a source that is full ------------------------------------------------------------------------------------------


async def test_a_source_that_takes_no_more_queries_is_waited_for_and_costs_no_attempt(fleet, tmp_path):
    fleet.set_export(partition_attempts=1, heartbeat_seconds=2)
    async with endpoint(fleet, tmp_path / "clickhouse", max_concurrent_queries_for_user=1) as (port, password):
        await make_elsewhere(fleet, port, password)
        headers = {"X-ClickHouse-User": "icefleet", "X-ClickHouse-Key": password}
        endless = "SELECT sleepEachRow(1) FROM numbers(600) SETTINGS max_block_size = 1"
        async with aiohttp.ClientSession(headers=headers) as other, client(port, password) as impatient:

            async def occupy() -> None:
                while True:  # it may be turned away itself
                    async with other.post(f"http://127.0.0.1:{port}/", data=endless) as answer:
                        await answer.read()

            occupied = asyncio.create_task(occupy())

            async def full() -> bool:
                try:
                    await impatient.rows(Query("SELECT 1"))
                except SourceBusy as busy:
                    return "Too many simultaneous queries for user" in str(busy)
                return False

            await eventually(full)
            async with fleet.worker():
                request = await fleet.start()
                full_words = (
                    f"waits for ClickHouse {fleet.name}.default (127.0.0.1:{port}), which takes no more queries"
                )
                await eventually(lambda: waiting(fleet, "plan_partitions", full_words))
                occupied.cancel()
                await asyncio.gather(occupied, return_exceptions=True)
                await other.close()
                report = await asyncio.wait_for(request.result(), 60)
    assert (report.status, report.exported, report.failed) == ("complete", 3, 0)
    assert fleet.files() == [(f"2024/3/{day}.parquet", 1_000) for day in (18, 19, 20)]
    assert await attempts(fleet) == {1}


async def test_a_source_that_stays_full_ends_an_attempt_by_its_time_out_which_says_what_was_waited_for(fleet):
    fleet.set_export(partition_attempts=1, partition_timeout_seconds=3)
    await fleet.make_days(days=2, rows=50)
    async with HttpFaults(fleet.stack.ports["clickhouse"]) as clickhouse:
        fleet.point(clickhouse=clickhouse.port)
        turned_away = clickhouse.on(Answer(500, FULL, "text/plain"), path=f"{STREAMS}19", times=None)
        async with fleet.worker():
            report = await fleet.request()
    assert turned_away.times_struck > 1
    assert (report.status, report.exported, report.failed) == ("partial", 1, 1)
    (failed,) = report.failures
    assert (failed.partition, failed.cause) == ("2024-03-19", "TimedOut")
    assert "which takes no more queries just now" in failed.message


# --- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "value"), [("max_bytes_to_read", 2_000_000), ("max_memory_usage", 12_000_000)], ids=["bytes", "memory"]
)
async def test_a_partition_that_meets_a_limit_of_config_is_refused_once_and_the_way_out_is_named(fleet, limit, value):
    fleet.set_cluster(**{limit: value})
    fleet.set_export(partition_attempts=3)
    table = await make_bulky(fleet, days=1, rows=40_000)
    async with HttpFaults(fleet.stack.ports["clickhouse"]) as clickhouse:
        fleet.point(clickhouse=clickhouse.port)
        async with fleet.worker():
            report = await fleet.request(table)
    assert clickhouse.count(path=STREAMS) == 1
    assert (report.status, report.exported, report.failed) == ("partial", 0, 1)
    (failed,) = report.failures
    assert failed.cause == "SourceRefused"
    way_out = (
        f"raise {limit} (now {value}) of this cluster in environments.yaml, or cut the table into smaller partitions"
    )
    assert failed.message.endswith(way_out)
    assert objects(fleet) == {}


async def test_every_limit_of_config_travels_with_every_query_and_what_is_0_does_not(fleet):
    limits = {"max_execution_time": 100, "max_memory_usage": 10**9, "max_threads": 1, "max_rows_to_read": 10**6}
    fleet.set_cluster(**limits, max_bytes_to_read=0)
    await fleet.make_days(days=1, rows=50)
    async with fleet.worker():
        assert (await fleet.request()).exported == 1
    await fleet.run_sql("SYSTEM FLUSH LOGS")
    asked = await fleet.sql(
        "SELECT toJSONString(Settings) AS settings FROM system.query_log WHERE type = 'QueryFinish' "
        f"AND position(query, '{fleet.database}') > 0 AND Settings['max_execution_time'] = '100'"
    )
    sent = [json.loads(row["settings"]) for row in asked]
    assert len(sent) >= 4
    for settings in sent:
        assert {name: int(settings[name]) for name in limits} == limits
        assert "max_bytes_to_read" not in settings
    assert table_rows(fleet) == await source_rows(fleet)


# --- what the source allows -----------------------------------------------------------------------------------------


async def test_config_check_source_names_every_bound_of_the_source_that_config_would_run_into(fleet, tmp_path):
    allowed = {"max_memory_usage": 10**9, "max_threads": 8}
    profile = {"max_concurrent_queries_for_user": 15}
    async with endpoint(fleet, tmp_path / "clickhouse", highest=allowed, **profile) as (port, password):
        await make_elsewhere(fleet, port, password)
        fleet.set_export(max_workers=2)
        fleet.set_cluster(export_slots=4, lookup_slots=4, max_memory_usage=2 * 10**9)
        code, said, errors = await fleet.command("config", "check", "--source", "--json")
        assert (code, errors) == (1, "")
        (source,) = json.loads(said)["sources"].values()
        name = f"{fleet.name}.default"
        fence, memory = source["problems"]
        assert (fence["table"], fence["column"]) == ("", "")
        assert fence["problem"] == (
            f"the source {name} runs at most 15 queries at once (max_concurrent_queries_for_user), and 2 workers x "
            "(4 export slots + 4 lookup slots) can send 16 at once"
        )
        allows = f"the source {name} allows max_memory_usage up to 1000000000, and queries send '2000000000'"
        assert memory["problem"] == allows
        assert "Setting max_memory_usage shouldn't be greater than 1000000000" in source["unreachable"]

        fleet.set_cluster(export_slots=3, max_memory_usage=10**9)
        code, said, errors = await fleet.command("config", "check", "--source")
        assert (code, said, errors) == (0, f"{name}: 1 table, nothing wrong\n", "")

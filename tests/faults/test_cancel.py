"""Work that nobody wants any more ends at once, at the source and in the store, and leaves nothing half-done."""

import asyncio
import signal
import sys
import time
from pathlib import Path

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import CancelledError

from support.evidence import (
    make_bulky,
    make_slow,
    objects,
    open_uploads,
    running_exports,
    source_rows,
    table_rows,
)
from support.faultproxy import Hold, HttpFaults
from support.fleet import eventually

GONE_SECONDS = 5
"""How soon the query of a cancelled export must be gone from the server."""


async def nothing_is_left(fleet, table):
    """The query is gone within seconds, and no object, no upload and no commit is there."""
    await eventually(lambda: no_export_runs(fleet), seconds=GONE_SECONDS)
    assert objects(fleet) == {}
    assert open_uploads(fleet) == []
    assert fleet.files(table) == []


async def no_export_runs(fleet):
    return not await running_exports(fleet)


async def completes_later(fleet, table):
    await make_slow(fleet, 0)
    report = await fleet.request(table, seconds=30)
    assert (report.status, report.exported) == ("complete", 1)
    assert table_rows(fleet, table) == await source_rows(fleet)


async def test_ctrl_c_of_the_command_ends_the_query_and_a_later_request_completes(fleet):
    await fleet.make_days(days=1, rows=2_000)
    table = await make_slow(fleet)
    async with fleet.worker():
        command = [str(Path(sys.executable).with_name("icefleet")), "export", table, "-n", fleet.network, "--wait"]
        process = await asyncio.create_subprocess_exec(
            *command, "-e", fleet.name, env=fleet.variables(), stderr=asyncio.subprocess.PIPE
        )
        await eventually(lambda: running_exports(fleet))
        process.send_signal(signal.SIGINT)
        _, errors = await asyncio.wait_for(process.communicate(), 15)
        assert process.returncode == 130, errors
        assert b"withdrawn" in errors
        await nothing_is_left(fleet, table)
        await completes_later(fleet, table)


async def test_cancelling_a_request_ends_its_query_and_a_later_request_completes(fleet):
    await fleet.make_days(days=1, rows=2_000)
    table = await make_slow(fleet)
    async with fleet.worker():
        request = await fleet.start(table)
        await eventually(lambda: running_exports(fleet))
        asked = time.monotonic()
        await request.cancel()
        with pytest.raises(WorkflowFailureError) as ended:
            await asyncio.wait_for(request.result(), 15)
        assert isinstance(ended.value.cause, CancelledError)
        await nothing_is_left(fleet, table)
        assert time.monotonic() - asked < 10
        assert await fleet.loop_ended(table) == "COMPLETED"
        await completes_later(fleet, table)


async def test_cancelling_a_loop_ends_its_query_and_tells_those_who_wait(fleet):
    await fleet.make_days(days=1, rows=2_000)
    table = await make_slow(fleet)
    async with fleet.worker():
        request = await fleet.start(table)
        await eventually(lambda: running_exports(fleet))
        await fleet.loop(table).cancel()
        report = await asyncio.wait_for(request.result(), 15)
        assert (report.status, report.exported) == ("cancelled", 0)
        assert await fleet.loop_ended(table) == "CANCELED"
        await nothing_is_left(fleet, table)
        await completes_later(fleet, table)


async def test_cancelling_in_the_middle_of_an_upload_drops_its_parts(fleet):
    fleet.set_export(part_size_bytes=5 * 2**20)
    table = await make_bulky(fleet, rows=16_000)
    async with HttpFaults(fleet.stack.ports["s3"]) as store:
        fleet.point(s3=store.port)
        held = store.on(Hold(), method="PUT", path="partNumber=2", times=None)
        async with fleet.worker():
            request = await fleet.start(table)
            await asyncio.wait_for(held.struck.wait(), 15)
            assert len(open_uploads(fleet)) == 1
            await request.cancel()
            with pytest.raises(WorkflowFailureError):
                await asyncio.wait_for(request.result(), 15)
            await nothing_is_left(fleet, table)
            store.mend()
            assert (await fleet.request(table)).status == "complete"
    assert table_rows(fleet, table, "text") == await source_rows(fleet, table, "text")


async def make_slow_and_quick_day(fleet):
    """2024-03-20 takes 20 s to read; 2024-03-19 no time."""
    await fleet.make_days(days=1, rows=1_000)
    await fleet.insert("events", "toDateTime('2024-03-19 00:00:00', 'UTC')", 5, offset=5_000)
    return await make_slow(fleet)


async def test_withdrawing_the_request_in_flight_lets_the_waiting_one_of_the_same_loop_be_served(fleet):
    table = await make_slow_and_quick_day(fleet)
    async with fleet.worker():
        slow = await fleet.start(table, from_="2024-03-20", to="2024-03-20")
        await eventually(lambda: running_exports(fleet))
        quick = await fleet.start(table, from_="2024-03-19", to="2024-03-19")
        await eventually(lambda: waiting_or_known(fleet, table, 2))
        await slow.cancel()
        report = await asyncio.wait_for(quick.result(), 15)
        assert (await slow.describe()).status in (WorkflowExecutionStatus.CANCELED, WorkflowExecutionStatus.RUNNING)
    assert (report.status, report.exported, report.rows) == ("complete", 1, 5)
    assert fleet.files(table) == [("2024/3/19.parquet", 5)]


async def test_withdrawing_a_waiting_request_leaves_the_one_in_flight_alone(fleet):
    await fleet.make_days(days=1, rows=150)
    table = await make_slow(fleet)
    async with fleet.worker():
        working = await fleet.start(table, from_="2024-03-20", to="2024-03-20")
        before = await eventually(lambda: running_exports(fleet))
        waiting = await fleet.start(table, from_="2024-03-20", to="2024-03-20", force=True)
        await eventually(lambda: waiting_or_known(fleet, table, 2))
        await waiting.cancel()
        assert await running_exports(fleet) == before
        report = await asyncio.wait_for(working.result(), 20)
        with pytest.raises(WorkflowFailureError) as ended:
            await asyncio.wait_for(waiting.result(), 15)
        assert isinstance(ended.value.cause, CancelledError)
        await fleet.loop_ended(table)
    assert (report.status, report.exported, report.rows) == ("complete", 1, 150)
    assert fleet.files(table) == [("2024/3/20.parquet", 150)]


async def waiting_or_known(fleet, table, count):
    progress = await fleet.loop(table).query("progress")
    return len(progress["requests"]) + progress["waiting"] == count


async def test_a_worker_that_is_told_to_stop_hands_its_partition_back_and_leaves_in_time(fleet):
    await fleet.make_days(days=1, rows=2_000)
    table = await make_slow(fleet)
    with fleet.worker_process("--grace", "1") as process:
        request = await fleet.start(table)
        await eventually(lambda: running_exports(fleet))
        process.terminate()
        asked = time.monotonic()
        assert await asyncio.wait_for(asyncio.to_thread(process.wait), 20) == 0
        assert time.monotonic() - asked < 8
    await nothing_is_left(fleet, table)
    await make_slow(fleet, 0)
    async with fleet.worker():
        report = await asyncio.wait_for(request.result(), 30)
    assert (report.status, report.exported, report.rows) == ("complete", 1, 2_000)
    assert table_rows(fleet, table) == await source_rows(fleet)

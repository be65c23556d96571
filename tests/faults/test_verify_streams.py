"""A source's answer that breaks is no proof of anything: neither of a difference nor of equality."""

import asyncio
import io
import time
from collections.abc import AsyncGenerator, Sequence

import pyarrow as pa
import pytest

from activities.clients.clickhouse import ClickHouse, ClickHouseSettings
from activities.comparing import arrow_checksum
from activities.core.faults import ResultIncomplete, SourceRefused
from activities.core.iceberg_types import parse_iceberg
from activities.lake.checksums import checksum

TYPES = {"number": parse_iceberg("long"), "text": parse_iceberg("string")}
BATCHES = [
    pa.RecordBatch.from_pydict({"number": list(range(start, start + 50)), "text": [f"row {start}"] * 50})
    for start in range(0, 200, 50)
]
CLICKHOUSE = ClickHouse(ClickHouseSettings("local.default", "127.0.0.1", 1, False, "", "", {}))  # noqa: FBT003


def written() -> bytes:
    out = io.BytesIO()
    with pa.ipc.new_stream(out, BATCHES[0].schema) as stream:
        for batch in BATCHES:
            stream.write_batch(batch)
    return out.getvalue()


async def chunks(pieces: Sequence[bytes]) -> AsyncGenerator[bytes]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


@pytest.mark.parametrize("width", [7, 100, 10_000])
async def test_a_stream_that_comes_in_pieces_has_the_checksum_of_its_rows(width):
    whole = written()
    pieces = [whole[start : start + width] for start in range(0, len(whole), width)]
    assert await arrow_checksum(CLICKHOUSE, chunks(pieces), TYPES) == checksum(BATCHES, TYPES)


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.4, 0.7, 0.99])
async def test_a_stream_that_ends_early_is_incomplete_wherever_it_ends(kept):
    whole = written()
    with pytest.raises(ResultIncomplete, match="whole"):
        await arrow_checksum(CLICKHOUSE, chunks([whole[: int(len(whole) * kept)]]), TYPES)


async def test_a_stream_that_ends_between_two_batches_is_incomplete():
    whole = written()
    last = pa.ipc.open_stream(whole)
    position = len(whole) - 8  # all batches are there, and the mark at the end is not
    assert sum(batch.num_rows for batch in last) == 200
    with pytest.raises(ResultIncomplete, match="is not whole"):
        await arrow_checksum(CLICKHOUSE, chunks([whole[:position]]), TYPES)


async def test_an_exception_in_the_middle_of_a_stream_is_what_is_told():
    said = b"Code: 159. DB::Exception: Timeout exceeded: elapsed 10 seconds. (TIMEOUT_EXCEEDED)\n"
    broken = written()[:-300] + b"__exception__\r\ntag\r\n" + said + b"80 tag\r\n__exception__\r\n"
    with pytest.raises(SourceRefused, match="max_execution_time"):
        await arrow_checksum(CLICKHOUSE, chunks([broken]), TYPES)


async def test_what_the_source_raises_on_the_way_comes_out_as_it_is():
    async def failing() -> AsyncGenerator[bytes]:
        yield written()[:500]
        raise ResultIncomplete("the connection broke")

    with pytest.raises(ResultIncomplete, match="the connection broke"):
        await arrow_checksum(CLICKHOUSE, failing(), TYPES)


@pytest.mark.parametrize(("seconds", "times"), [(0, 1), (0.1, 1), (0.1, 2)])
async def test_cancelling_ends_the_reading_at_once_and_closes_the_stream(seconds, times):
    """Also one that takes a moment to give up what it was asked for, and also when somebody cancels again meanwhile."""
    reached, closed = asyncio.Event(), asyncio.Event()

    async def hanging() -> AsyncGenerator[bytes]:
        try:
            yield written()[:500]
            reached.set()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(seconds)
            closed.set()

    task = asyncio.create_task(arrow_checksum(CLICKHOUSE, hanging(), TYPES))
    await reached.wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await task
    assert closed.is_set()


async def test_a_cancellation_is_heard_while_the_reading_thread_has_only_just_asked_for_a_chunk(monkeypatch):
    ask = asyncio.run_coroutine_threadsafe

    def slowly(*asked):
        """The loop may have begun with it, and have been cancelled, before the thread goes on."""
        future = ask(*asked)
        time.sleep(0.3)
        return future

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", slowly)
    reached = asyncio.Event()

    async def hanging() -> AsyncGenerator[bytes]:
        yield written()[:500]
        reached.set()
        await asyncio.sleep(60)

    task = asyncio.create_task(arrow_checksum(CLICKHOUSE, hanging(), TYPES))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await task

"""What a ClickHouse does with running queries, and the embedded one with its process."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
import uuid

import aiohttp
import psutil
import pytest

embedded_only = pytest.mark.skipif("CLICKHOUSE_URL" in os.environ, reason="starts and stops the embedded endpoint")

ENDLESS = "SELECT number, toString(number) FROM numbers(100000000000)"
SILENT = "SELECT count() FROM (SELECT number % 1000003 AS k, uniqExact(number) FROM numbers(100000000000) GROUP BY k)"
FINAL = "SELECT max(sipHash64(n.a, m.number)) FROM newest AS n FINAL CROSS JOIN numbers(10000000) AS m"


# query ids, progress and KILL QUERY


async def test_a_running_query_shows_its_id_and_its_progress(http):
    query_id = f"seen-{uuid.uuid4()}"
    task = asyncio.ensure_future(http.ask(SILENT, query_id=query_id, log_comment="a heartbeat's"))
    sql = (
        "SELECT read_rows, query, Settings['log_comment'] AS comment FROM system.processes "
        f"WHERE query_id = '{query_id}' FORMAT JSONEachRow"
    )

    async def has_read() -> bool:
        seen.extend(json.loads(line) for line in (await http.ask(sql)).splitlines())
        return bool(seen) and int(seen[-1]["read_rows"]) > 0

    seen: list[dict] = []
    await http.until(has_read, 5)
    first = int(seen[-1]["read_rows"])

    async def reads_on() -> bool:
        return await has_read() and int(seen[-1]["read_rows"]) > first

    await http.until(reads_on, 5)
    assert (seen[-1]["query"], seen[-1]["comment"]) == (SILENT, "a heartbeat's")
    task.cancel()
    await http.until_it_is_gone(query_id, 3)


async def test_a_second_query_with_the_id_of_a_running_one_is_refused(http):
    query_id = f"twice-{uuid.uuid4()}"
    task = asyncio.ensure_future(http.ask(SILENT, query_id=query_id))
    await http.until_it_runs(query_id)
    async with http.open("SELECT 1", query_id=query_id) as response:
        assert (response.status, response.headers["X-ClickHouse-Exception-Code"]) == (500, "216")
    task.cancel()
    await http.until_it_is_gone(query_id, 3)


@pytest.mark.parametrize("mode", ["SYNC", "ASYNC"])
@pytest.mark.parametrize("sql", [SILENT, f"{ENDLESS} FORMAT Parquet", FINAL])
async def test_kill_query_ends_a_query_and_its_client_hears_of_it_within_a_second(http, sql, mode):
    await http.ask("CREATE TABLE IF NOT EXISTS newest (a UInt64, b UInt64) ENGINE = ReplacingMergeTree ORDER BY a")
    await http.ask("INSERT INTO newest SELECT number, 1 FROM numbers(100000)")
    query_id = f"killed-{uuid.uuid4()}"
    tail = b""

    async def client() -> str:
        """The exception's code, from a header or from the end of the body, once the answer has ended."""
        nonlocal tail
        async with http.open(sql, query_id=query_id) as response:
            with contextlib.suppress(aiohttp.ClientPayloadError):
                while piece := await response.content.readany():
                    tail = (tail + piece)[-1000:]
        heard.append(time.monotonic())
        return response.headers.get("X-ClickHouse-Exception-Code", "")

    heard: list[float] = []
    task = asyncio.ensure_future(client())
    await http.until_it_runs(query_id)
    began = time.monotonic()
    killed = await http.ask(f"KILL QUERY WHERE query_id = {{id:String}} {mode}", param_id=query_id)
    assert killed.split("\t")[:2] == [{"SYNC": "finished", "ASYNC": "waiting"}[mode], query_id]
    if mode == "SYNC":
        assert not await http.runs(query_id)
    code = await asyncio.wait_for(task, 5)
    assert heard[0] - began < 1
    assert code == "394" or b"Code: 394. DB::Exception: Query was cancelled" in tail
    # The embedded engine still encodes the Parquet row group in hand before it lets go of the query.
    await http.until_it_is_gone(query_id, 3 if "Parquet" in sql else 1)


async def test_kill_query_reaches_a_query_whose_client_does_not_read(http):
    query_id = f"slow-{uuid.uuid4()}"
    async with http.open(f"{ENDLESS} FORMAT Native", query_id=query_id) as response:
        await response.content.read(1)
        began = time.monotonic()
        await http.ask(f"KILL QUERY WHERE query_id = '{query_id}' ASYNC")
        await http.until_it_is_gone(query_id, 2)
        assert time.monotonic() - began < 1.5
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_kill_query_of_nothing_kills_nothing(http):
    assert await http.ask("KILL QUERY WHERE query_id = 'nobody' SYNC") == ""


# clients that go away


@pytest.mark.parametrize("sql", [SILENT, f"{ENDLESS} FORMAT Parquet"])
async def test_a_select_whose_client_goes_away_ends_within_two_seconds(http, sql):
    query_id = f"left-{uuid.uuid4()}"
    task = asyncio.ensure_future(http.ask(sql, query_id=query_id, cancel_http_readonly_queries_on_client_close="1"))
    await http.until_it_runs(query_id)
    task.cancel()
    await http.until_it_is_gone(query_id, 2)


# the process


@embedded_only
async def test_data_survives_a_restart_and_a_kill(own_endpoint):
    for ending in (signal.SIGTERM, signal.SIGKILL):
        http = own_endpoint()
        await http.ask("CREATE TABLE IF NOT EXISTS kept (a UInt64) ENGINE = MergeTree ORDER BY a")
        await http.ask("INSERT INTO kept SELECT number FROM numbers(1000)")
        http.server.stop(ending)
    assert await own_endpoint().rows_in("kept") == 2000


@embedded_only
async def test_sigterm_cancels_what_runs_and_ends_the_process_cleanly_within_three_seconds(own_endpoint):
    http = own_endpoint()
    silent = asyncio.ensure_future(http.ask(SILENT, query_id="silent"))
    await http.until_it_runs("silent")
    async with http.open(f"{ENDLESS} FORMAT Native") as unread:
        await unread.content.read(1)
        seconds = await asyncio.to_thread(http.server.stop)
    with pytest.raises((AssertionError, aiohttp.ClientError)):
        await silent
    assert seconds < 3
    assert http.server.process.returncode == 0


@embedded_only
async def test_a_profile_sets_defaults_and_the_url_wins_over_it(own_endpoint):
    http = own_endpoint("--settings", "read_overflow_mode=break", "--settings", "max_rows_to_read=100000")
    sql = "SELECT count() FROM (SELECT number FROM numbers(1000000)) SETTINGS max_threads = 1"
    assert int(await http.ask(sql)) < 1_000_000
    async with http.open(sql, read_overflow_mode="throw") as response:
        assert response.headers["X-ClickHouse-Exception-Code"] == "158"
    assert await http.ask(sql, max_rows_to_read="0") == "1000000\n"


@embedded_only
async def test_a_slow_client_holds_the_engine_back_and_memory_stays_bounded(http):
    query_id = f"unread-{uuid.uuid4()}"
    process = psutil.Process(http.server.process.pid)
    sql = "SELECT number, sipHash128(number) FROM numbers(60000000) FORMAT Parquet"

    async def stands_still() -> bool:
        progress.append(int(await http.ask(f"SELECT read_rows FROM system.processes WHERE query_id = '{query_id}'")))
        return len(progress) > 5 and progress[-1] == progress[-5]

    progress: list[int] = []
    async with http.open(sql, query_id=query_id, max_threads="1") as response:
        await response.content.read(1)
        before = process.memory_info().rss
        await http.until(stands_still, 10)
        assert progress[-1] < 20_000_000
        received, peak = 1, 0
        while piece := await response.content.readany():
            received += len(piece)
            peak = max(peak, process.memory_info().rss)
    assert received > 1_000_000_000
    assert peak - before < 400 << 20


# writing to an object store


@embedded_only
async def test_a_named_collection_has_its_keys_from_the_environment_and_a_query_that_writes_by_it_can_be_killed(
    own_endpoint, monkeypatch, tmp_path
):
    monkeypatch.setenv("ICEFLEET_LOCAL_S3_ACCESS_KEY", "somebody")
    monkeypatch.setenv("ICEFLEET_LOCAL_S3_SECRET_KEY", "nobody-may-read-this")
    with socket.socket() as store:
        # A store that takes connections and never answers.
        store.bind(("127.0.0.1", 0))
        store.listen()
        http = own_endpoint("--named-collection", f"files=http://127.0.0.1:{store.getsockname()[1]}/bucket/")
        assert await http.ask("SELECT name, collection['secret_access_key'] FROM system.named_collections") == (
            "files\t[HIDDEN]\n"
        )
        written = "INSERT INTO FUNCTION s3(files, filename = 'a.parquet', format = 'Parquet') SELECT sleepEachRow(1), *"
        task = asyncio.ensure_future(http.ask(f"{written} FROM numbers(60)", query_id="writing"))
        await http.until_it_runs("writing")
        task.cancel()
        assert await http.runs("writing")
        await http.ask("KILL QUERY WHERE query_id = 'writing' ASYNC")
    assert not any(b"nobody-may" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())

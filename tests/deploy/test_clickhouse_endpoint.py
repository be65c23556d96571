"""What the ClickHouse endpoint guarantees. With CLICKHOUSE_URL set, the same is asked of that server instead."""

import asyncio
import gzip
import io
import json
import os
import time
import uuid
from pathlib import Path

import aiohttp
import clickhouse_connect
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError

embedded_only = pytest.mark.skipif("CLICKHOUSE_URL" in os.environ, reason="starts and stops the embedded endpoint")

ENDLESS = "SELECT number, toString(number) FROM numbers(100000000000)"
SILENT = "SELECT count() FROM (SELECT number % 1000003 AS k, uniqExact(number) FROM numbers(100000000000) GROUP BY k)"
FINAL = "SELECT max(sipHash64(n.a, m.number)) FROM newest AS n FINAL CROSS JOIN numbers(10000000) AS m"
BREAKS = "SELECT number, toString(number) AS s, throwIf(number = 2000000, 'the cable broke') FROM numbers(5000000)"


async def until(condition, seconds: float) -> float:
    """Poll until the condition holds; the seconds that it took."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if await condition():
            return time.monotonic() - began
        await asyncio.sleep(0.02)
    pytest.fail(f"not so within {seconds} s")


def runs(http, query_id: str):
    async def condition() -> bool:
        return await http.ask(f"SELECT count() FROM system.processes WHERE query_id = '{query_id}'") == "1\n"

    return condition


def is_gone(http, query_id: str):
    async def condition() -> bool:
        return await http.ask(f"SELECT count() FROM system.processes WHERE query_id = '{query_id}'") == "0\n"

    return condition


# 1. streams and formats


async def test_eight_parquet_and_native_streams_run_side_by_side_and_arrive_whole(http):
    ids = [f"{fmt}-{uuid.uuid4()}" for fmt in ("Parquet", "Native") for _ in range(4)]

    async def stream(query_id: str) -> bytes:
        sql = f"SELECT number, toString(number) AS s FROM numbers(2000000) FORMAT {query_id.split('-')[0]}"
        async with http.open(sql, query_id=query_id, max_threads="1") as response:
            first = await response.content.read(1)
            await all_started.wait()
            return first + await response.content.read()

    async def all_run() -> bool:
        listed = ", ".join(f"'{query_id}'" for query_id in ids)
        return await http.ask(f"SELECT count() FROM system.processes WHERE query_id IN ({listed})") == "8\n"

    all_started = asyncio.Event()
    tasks = [asyncio.ensure_future(stream(query_id)) for query_id in ids]
    await until(all_run, 15)
    all_started.set()
    results = await asyncio.gather(*tasks)
    for data in results[:4]:
        assert pq.ParquetFile(io.BytesIO(data)).metadata.num_rows == 2_000_000
    assert len({len(data) for data in results[4:]}) == 1
    assert len(results[4]) > 2_000_000 * 8


@pytest.mark.parametrize("fmt", ["Parquet", "Native", "JSONEachRow"])
async def test_an_empty_result_is_a_whole_result(http, fmt):
    async with http.open(f"SELECT 1 AS x WHERE 0 FORMAT {fmt}") as response:
        data = await response.read()
    assert response.status == 200
    if fmt == "Parquet":
        assert pq.read_table(io.BytesIO(data)).schema.names == ["x"]
    else:
        assert data == b""


@pytest.mark.parametrize(
    ("fmt", "expected"),
    [("TabSeparated", "1\ta\n"), ("CSV", '1,"a"\n'), ("JSONEachRow", '{"x":1,"y":"a"}\n'), ("TSVWithNames", "x\ty\n1\ta\n")],
)
async def test_the_format_comes_from_the_query_the_url_or_a_header(http, fmt, expected):
    sql = "SELECT 1 AS x, 'a' AS y"
    assert await http.ask(f"{sql} FORMAT {fmt}") == expected
    assert await http.ask(f"{sql} FORMAT {fmt} SETTINGS max_threads = 1;") == expected
    assert await http.ask(sql, default_format=fmt) == expected
    async with http.open(sql, default_format=fmt) as response:
        assert response.headers["X-ClickHouse-Format"] == fmt


async def test_a_query_comes_in_the_url_in_the_body_or_in_both(http):
    assert await http.ask("SELECT 1", method="GET") == "1\n"
    assert await http.ask("SELECT 1 -- and no more") == "1\n"
    assert await http.ask("SELECT", data=b"1 + 1") == "2\n"
    assert json.loads(await http.ask("SELECT 'x;y' AS format FORMAT JSON"))["data"] == [{"format": "x;y"}]
    assert (await http.ask("DESCRIBE TABLE system.one")).startswith("dummy\tUInt8")


@pytest.mark.parametrize("coding", ["gzip", "zstd", "lz4", False])
def test_clickhouse_connect_reads_and_writes_in_every_content_coding(clickhouse_server, clickhouse_database, coding):
    with clickhouse_connect.get_client(**clickhouse_server.client_arguments(), compress=coding) as client:
        table = f"coded_{coding}"
        client.command(f"CREATE TABLE {table} (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
        rows = [[i, f"é{i}"] for i in range(10_000)]
        assert client.insert(table, rows, column_names=["a", "b"]).written_rows == 10_000
        assert client.query(f"SELECT * FROM {table} ORDER BY a").result_rows == [tuple(row) for row in rows]
        assert client.query(f"SELECT * FROM {table} LIMIT 0").column_names == ("a", "b")


# 2. INSERT


async def test_insert_takes_data_in_any_format_and_streams_it_in(http):
    await http.ask("CREATE TABLE inserted (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
    table = pa.table({"a": pa.array([1, 2], pa.uint64()), "b": ["x", "y"]})
    parquet = io.BytesIO()
    pq.write_table(table, parquet)
    native = b"".join([b"\x02\x02", b"\x01a\x06UInt64" + (3).to_bytes(8, "little") + (4).to_bytes(8, "little"),
                       b"\x01b\x06String" + b"\x01z\x01w"])  # fmt: skip

    async def lines():
        for start in range(0, 1_000_000, 1000):
            yield "".join(f"{n},row {n}\n" for n in range(start, start + 1000)).encode()

    await http.ask("INSERT INTO inserted FORMAT Parquet", data=parquet.getvalue())
    await http.ask("INSERT INTO inserted FORMAT Native", data=native)
    await http.ask("INSERT INTO inserted (b, a) VALUES ('format', 5), (upper('values'), 2 + 4)")
    await http.ask('INSERT INTO inserted FORMAT JSONEachRow\n{"a":7,"b":"é"}')
    await http.ask("INSERT INTO inserted SELECT number + 8, 's' FROM numbers(2)")
    assert await http.ask("SELECT * FROM inserted ORDER BY a FORMAT CSV") == (
        '1,"x"\n2,"y"\n3,"z"\n4,"w"\n5,"format"\n6,"VALUES"\n7,"é"\n8,"s"\n9,"s"\n'
    )
    async with http.open("INSERT INTO inserted FORMAT CSV", data=lines()) as response:
        summary = json.loads(response.headers["X-ClickHouse-Summary"])
    assert summary["written_rows"] == "1000000"
    assert await http.rows_in("inserted") == 1_000_009


async def test_an_insert_of_bad_data_is_a_bad_request_that_names_the_row_and_writes_nothing(http):
    await http.ask("CREATE TABLE refused (a UInt64) ENGINE = MergeTree ORDER BY a")
    async with http.open("INSERT INTO refused FORMAT CSV", data=b"1\n2\nthree\n") as response:
        assert (response.status, response.headers["X-ClickHouse-Exception-Code"]) == (400, "27")
        assert "at row 2" in await response.text()
    assert await http.rows_in("refused") == 0


async def test_an_insert_whose_client_goes_away_before_its_end_writes_nothing(http):
    await http.ask("CREATE TABLE torn (a UInt64) ENGINE = MergeTree ORDER BY a")
    query_id = f"torn-{uuid.uuid4()}"

    async def lines():
        yield b"1\n2\n"
        await asyncio.sleep(60)

    task = asyncio.ensure_future(http.ask("INSERT INTO torn FORMAT CSV", data=lines(), query_id=query_id))
    await until(runs(http, query_id), 5)
    task.cancel()
    await until(is_gone(http, query_id), 5)
    assert await http.rows_in("torn") == 0


# 3. settings and parameters


async def test_settings_come_in_the_url_and_an_unknown_one_is_refused(http):
    assert await http.ask("SELECT getSetting('max_threads'), getSetting('log_comment')", max_threads="3", log_comment="it's") == "3\tit\\'s\n"
    async with http.open("SELECT 1", no_such_setting="1") as response:
        assert (response.status, response.headers["X-ClickHouse-Exception-Code"]) == (404, "115")
        assert "no_such_setting" in await response.text()


def test_query_parameters_keep_every_character_and_type(clickhouse_server, clickhouse_database):
    values = {
        "s": "it's \"quoted\" \\ back\n\t é 日本 {x:String} ; -- `", "n": 2**64 - 1, "i": -5, "f": 0.1,
        "a": ["a'b", "c\nd", "é"], "e": "", "z": None,
    }  # fmt: skip
    sql = (
        "SELECT {s:String}, {n:UInt64}, {i:Int8}, {f:Float64}, {a:Array(String)}, {e:String}, {z:Nullable(String)}"
    )
    with clickhouse_connect.get_client(**clickhouse_server.client_arguments()) as client:
        assert client.query(sql, parameters=values).result_rows == [tuple(values.values())]


async def test_query_parameters_serve_as_identifiers_and_in_ddl_and_insert(http):
    await http.ask("CREATE TABLE {t:Identifier} (a String) ENGINE = MergeTree ORDER BY a", param_t="by name")
    await http.ask("INSERT INTO {t:Identifier} VALUES ({v:String})", param_t="by name", param_v="a\\'b")
    assert await http.ask("SELECT a FROM {t:Identifier} FORMAT TSVRaw", param_t="by name") == "a'b\n"
    async with http.open("SELECT {missing:String}") as response:
        assert response.headers["X-ClickHouse-Exception-Code"] == "456"


# 4. query ids, progress and KILL QUERY


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
    await until(has_read, 5)
    first = int(seen[-1]["read_rows"])

    async def reads_on() -> bool:
        return await has_read() and int(seen[-1]["read_rows"]) > first

    await until(reads_on, 5)
    assert (seen[-1]["query"], seen[-1]["comment"]) == (SILENT, "a heartbeat's")
    task.cancel()
    await until(is_gone(http, query_id), 3)


async def test_a_second_query_with_the_id_of_a_running_one_is_refused(http):
    query_id = f"twice-{uuid.uuid4()}"
    task = asyncio.ensure_future(http.ask(SILENT, query_id=query_id))
    await until(runs(http, query_id), 5)
    async with http.open("SELECT 1", query_id=query_id) as response:
        assert (response.status, response.headers["X-ClickHouse-Exception-Code"]) == (500, "216")
    task.cancel()
    await until(is_gone(http, query_id), 3)


@pytest.mark.parametrize("mode", ["SYNC", "ASYNC"])
@pytest.mark.parametrize("sql", [SILENT, f"{ENDLESS} FORMAT Parquet", FINAL])
async def test_kill_query_ends_a_query_and_its_client_hears_of_it_within_a_second(http, sql, mode):
    await http.ask("CREATE TABLE IF NOT EXISTS newest (a UInt64, b UInt64) ENGINE = ReplacingMergeTree ORDER BY a")
    await http.ask("INSERT INTO newest SELECT number, 1 FROM numbers(100000)")
    query_id = f"it's-{uuid.uuid4()}".replace("'", "_")

    async def client() -> str:
        async with http.open(sql, query_id=query_id) as response:
            while piece := await response.content.read(65536):
                tail.append(piece)
            return response.headers.get("X-ClickHouse-Exception-Code", "")

    tail: list[bytes] = []
    task = asyncio.ensure_future(client())
    await until(runs(http, query_id), 5)
    began = time.monotonic()
    killed = await http.ask(f"KILL QUERY WHERE query_id = '{query_id}' {mode}")
    assert killed.split("\t")[:2] == [{"SYNC": "finished", "ASYNC": "waiting"}[mode], query_id]
    if mode == "SYNC":
        assert await is_gone(http, query_id)()
    try:
        code = await asyncio.wait_for(task, 5)
    except aiohttp.ClientPayloadError:
        code = ""
    assert time.monotonic() - began < 1
    assert code == "394" or b"Code: 394. DB::Exception: Query was cancelled" in b"".join(tail[-3:])
    await until(is_gone(http, query_id), 1)


async def test_kill_query_reaches_a_query_whose_client_does_not_read(http):
    query_id = f"slow-{uuid.uuid4()}"
    async with http.open(f"{ENDLESS} FORMAT Native", query_id=query_id) as response:
        await response.content.read(1)
        began = time.monotonic()
        await http.ask(f"KILL QUERY WHERE query_id = '{query_id}' ASYNC")
        await until(is_gone(http, query_id), 2)
        assert time.monotonic() - began < 1.5
        with pytest.raises(aiohttp.ClientPayloadError):
            while await response.content.read(1 << 20):
                pass


async def test_kill_query_of_nothing_kills_nothing(http):
    assert await http.ask("KILL QUERY WHERE query_id = 'nobody' SYNC") == ""


# 5. clients that go away


@pytest.mark.parametrize("sql", [SILENT, f"{ENDLESS} FORMAT Parquet"])
async def test_a_select_whose_client_goes_away_ends_within_two_seconds(http, sql):
    query_id = f"left-{uuid.uuid4()}"
    task = asyncio.ensure_future(http.ask(sql, query_id=query_id, cancel_http_readonly_queries_on_client_close="1"))
    await until(runs(http, query_id), 5)
    task.cancel()
    await until(is_gone(http, query_id), 2)


# 6. who may ask


@pytest.mark.parametrize("way", ["basic", "headers", "url"])
async def test_a_wrong_password_is_forbidden_with_code_516(http, way):
    server = http.server
    for user, password in ((server.user, server.password), (server.user, "wrong"), ("nobody", server.password)):
        arguments = {
            "basic": {"headers": {"Authorization": aiohttp.encode_basic_auth(user, password)}},
            "headers": {"headers": {"X-ClickHouse-User": user, "X-ClickHouse-Key": password}},
            "url": {"params": {"user": user, "password": password}},
        }[way]
        async with http.session.post(server.url, data="SELECT 1", **arguments) as response:
            text = await response.text()
        if (user, password) == (server.user, server.password):
            assert (response.status, text) == (200, "1\n")
            continue
        assert (response.status, response.headers["X-ClickHouse-Exception-Code"]) == (403, "516")
        assert text.startswith(f"Code: 516. DB::Exception: {user}: Authentication failed")
        assert "(AUTHENTICATION_FAILED)" in text


async def test_ping_needs_no_password(http):
    async with http.session.get(http.server.url + "ping") as response:
        assert (response.status, await response.text()) == (200, "Ok.\n")

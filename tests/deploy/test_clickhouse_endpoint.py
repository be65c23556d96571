"""What a ClickHouse serves: streams, INSERT, parameters, passwords, summaries. CLICKHOUSE_URL names another to ask."""

import asyncio
import io
import json
import uuid

import aiohttp
import clickhouse_connect
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# streams and formats


async def test_eight_parquet_and_native_streams_run_side_by_side_and_arrive_whole(http):
    ids = [f"{fmt}-{uuid.uuid4()}" for fmt in ("Parquet", "Native") for _ in range(4)]

    async def stream(query_id: str) -> bytes:
        sql = f"SELECT number, toString(number) AS s FROM numbers(2000000) FORMAT {query_id.partition('-')[0]}"
        async with http.open(sql, query_id=query_id, max_threads="1") as response:
            first = await response.content.read(1)
            await all_started.wait()
            return first + await response.content.read()

    async def all_run() -> bool:
        listed = ", ".join(f"'{query_id}'" for query_id in ids)
        return await http.ask(f"SELECT count() FROM system.processes WHERE query_id IN ({listed})") == "8\n"

    all_started = asyncio.Event()
    tasks = [asyncio.ensure_future(stream(query_id)) for query_id in ids]
    await http.until(all_run, 15)
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
    [
        ("TabSeparated", "1\ta\n"),
        ("CSV", '1,"a"\n'),
        ("JSONEachRow", '{"x":1,"y":"a"}\n'),
        ("TSVWithNames", "x\ty\n1\ta\n"),
    ],
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


# INSERT


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
        text = await response.text()
        assert response.status == 400, text
        assert "at row 2" in text or "(at row 3)" in text
    assert await http.rows_in("refused") == 0


async def test_an_insert_whose_client_goes_away_before_its_end_writes_nothing(http):
    await http.ask("CREATE TABLE torn (a UInt64) ENGINE = MergeTree ORDER BY a")
    query_id = f"torn-{uuid.uuid4()}"

    async def lines():
        yield b"1\n2\n"
        await asyncio.sleep(60)

    task = asyncio.ensure_future(http.ask("INSERT INTO torn FORMAT CSV", data=lines(), query_id=query_id))
    await http.until_it_runs(query_id)
    task.cancel()
    await http.until_it_is_gone(query_id, 5)
    assert await http.rows_in("torn") == 0


# settings and parameters


async def test_settings_come_in_the_url_and_an_unknown_one_is_refused(http):
    assert (
        await http.ask(
            "SELECT getSetting('max_threads'), getSetting('log_comment')", max_threads="3", log_comment="it's"
        )
        == "3\tit\\'s\n"
    )
    async with http.open("SELECT 1", no_such_setting="1") as response:
        assert (response.status, response.headers["X-ClickHouse-Exception-Code"]) == (404, "115")
        assert "no_such_setting" in await response.text()


def test_query_parameters_keep_every_character_and_type(clickhouse_server, clickhouse_database):
    values = {
        "s": "it's \"quoted\" \\ back\n\t é 日本 {x:String} ; -- `", "n": 2**64 - 1, "i": -5, "f": 0.1,
        "a": ["a'b", "c\nd", "é"], "e": "", "z": None,
    }  # fmt: skip
    sql = "SELECT {s:String}, {n:UInt64}, {i:Int8}, {f:Float64}, {a:Array(String)}, {e:String}, {z:Nullable(String)}"
    with clickhouse_connect.get_client(**clickhouse_server.client_arguments()) as client:
        assert client.query(sql, parameters=values).result_rows == [tuple(values.values())]


async def test_query_parameters_serve_as_identifiers_and_in_ddl_and_insert(http):
    await http.ask("CREATE TABLE {t:Identifier} (a String) ENGINE = MergeTree ORDER BY a", param_t="by name")
    await http.ask("INSERT INTO {t:Identifier} VALUES ({v:String})", param_t="by name", param_v="a\\'b")
    assert await http.ask("SELECT a FROM {t:Identifier} FORMAT TSVRaw", param_t="by name") == "a'b\n"
    async with http.open("SELECT {missing:String}") as response:
        assert response.headers["X-ClickHouse-Exception-Code"] == "456"


# who may ask


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


# summary


async def test_the_answer_tells_id_format_time_zone_server_and_a_summary_of_the_whole_query(http):
    await http.ask("CREATE TABLE summed (a UInt64) ENGINE = MergeTree ORDER BY a")
    async with http.open("INSERT INTO summed SELECT number FROM numbers(1000)", query_id="first one") as response:
        written = json.loads(response.headers["X-ClickHouse-Summary"])
        assert response.headers["X-ClickHouse-Query-Id"] == "first one"
    assert (written["read_rows"], written["written_rows"]) == ("1000", "1000")
    async with http.open("SELECT a FROM summed WHERE a % 2 = 0 FORMAT JSONEachRow") as response:
        read = json.loads(response.headers["X-ClickHouse-Summary"])
        assert response.headers["X-ClickHouse-Format"] == "JSONEachRow"
        assert response.headers["X-ClickHouse-Timezone"]
        assert response.headers["X-ClickHouse-Server-Display-Name"]
    assert (read["read_rows"], read["read_bytes"], read["result_rows"]) == ("1000", "8000", "500")
    assert int(read["elapsed_ns"]) > 0

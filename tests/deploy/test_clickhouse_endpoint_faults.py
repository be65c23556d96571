"""How a ClickHouse fails, before and after the first byte; Distributed tables and the query log."""

import io
import os
import uuid

import aiohttp
import clickhouse_connect
import pyarrow.parquet as pq
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError

embedded_only = pytest.mark.skipif("CLICKHOUSE_URL" in os.environ, reason="starts and stops the embedded endpoint")

BREAKS = "SELECT number, toString(number) AS s, throwIf(number = 2000000, 'the cable broke') FROM numbers(5000000)"


# exceptions


ENDLESS = "SELECT count() FROM numbers(100000000000)"
FAILING = [
    ("SELEC 1", 400, 62),
    ("SELECT 1; SELECT 2", 400, 62),
    ("SELECT * FROM no_such_table", 404, 60),
    ("SELECT no_such_column", 404, 47),
    ("SELECT 1 FORMAT NoSuchFormat", 404, 73),
    ("SELECT toUInt8('x')", 400, 6),
    ("SELECT throwIf(1)", 500, 395),
    (f"{ENDLESS} SETTINGS max_execution_time = 0.2", 408, 159),
    ("SELECT uniqExact(number) FROM numbers(10000000) SETTINGS max_memory_usage = 10000000", 500, 241),
    ("INSERT INTO no_such_table VALUES (1)", 404, 60),
]


@pytest.mark.parametrize(("sql", "status", "code"), FAILING)
async def test_an_exception_before_the_first_byte_has_its_status_code_and_text(http, sql, status, code):
    async with http.open(sql) as response:
        text = await response.text()
    assert (response.status, response.headers["X-ClickHouse-Exception-Code"]) == (status, str(code)), text
    assert text.startswith(f"Code: {code}. DB::Exception: ")
    assert text.endswith(")\n")
    assert "(version " in text
    assert len(response.headers["X-ClickHouse-Exception-Tag"]) == 16


async def test_an_unknown_database_and_a_writing_get_are_refused(http):
    async with http.open("SELECT 1", database="no_such_database") as response:
        assert (response.status, response.headers["X-ClickHouse-Exception-Code"]) == (404, "81")
    async with http.open("CREATE TABLE written (a UInt8) ENGINE = Memory", method="GET") as response:
        assert response.headers["X-ClickHouse-Exception-Code"] == "164"


async def test_an_exception_after_ten_megabytes_ends_the_body_in_the_tagged_block(http):
    async with http.open(f"{BREAKS} FORMAT TabSeparated", max_threads="1") as response:
        assert response.status == 200
        tag = response.headers["X-ClickHouse-Exception-Tag"].encode()
        data = bytearray()

        async def read() -> None:
            while piece := await response.content.readany():
                data.extend(piece)

        with pytest.raises(aiohttp.ClientPayloadError):
            await read()
    body, _, ending = bytes(data).partition(b"\r\n__exception__\r\n" + tag + b"\r\n")
    assert len(body) > 10_000_000
    message, _, closing = ending.rpartition(b"\n")[0].rpartition(b"\n")[0].rpartition(b"\n")
    assert message.startswith(b"Code: 395. DB::Exception: the cable broke")
    assert closing == b"%d %b\r" % (len(message) + 1, tag)
    assert ending.endswith(tag + b"\r\n__exception__\r\n")


@pytest.mark.parametrize("coding", ["lz4", "zstd", False])
def test_clickhouse_connect_raises_the_engines_message_in_the_middle_of_a_stream(
    clickhouse_server, clickhouse_database, coding
):
    with clickhouse_connect.get_client(**clickhouse_server.client_arguments(), compress=coding) as client:
        read = 0

        def count_rows() -> None:
            nonlocal read
            with client.query_row_block_stream(BREAKS, settings={"max_threads": 1}) as stream:
                for block in stream:
                    read += len(block)

        with pytest.raises(StreamFailureError, match="the cable broke"):
            count_rows()
        assert read > 500_000
        with pytest.raises(DatabaseError, match="the cable broke"):
            client.raw_query(BREAKS, fmt="Parquet")


async def test_clickhouse_connects_async_client_streams_raises_and_inserts(clickhouse_server, clickhouse_database):
    async with await clickhouse_connect.get_async_client(**clickhouse_server.client_arguments()) as client:
        await client.command("CREATE TABLE from_async (a UInt64) ENGINE = MergeTree ORDER BY a")
        assert (await client.insert("from_async", [[n] for n in range(1000)], column_names=["a"])).written_rows == 1000
        stream = await client.raw_stream("SELECT a FROM from_async ORDER BY a", fmt="Parquet")
        async with stream as pieces:
            data = b"".join([piece async for piece in pieces])
        assert pq.read_table(io.BytesIO(data))["a"].to_pylist() == list(range(1000))
        with pytest.raises(DatabaseError, match="the cable broke"):
            await client.query(BREAKS)


# Distributed tables and the query log


async def test_distributed_tables_read_their_local_tables(http):
    cluster = (
        await http.ask(
            "SELECT cluster FROM system.clusters GROUP BY cluster HAVING count() = 1 AND max(is_local) LIMIT 1"
        )
    ).strip()
    await http.ask("CREATE TABLE near (a UInt64, v UInt64) ENGINE = ReplacingMergeTree(v) ORDER BY a")
    await http.ask(f"CREATE TABLE far AS near ENGINE = Distributed('{cluster}', currentDatabase(), near)")
    await http.ask("INSERT INTO near SELECT number, 1 FROM numbers(100)")
    await http.ask("INSERT INTO near SELECT number, 2 FROM numbers(100)")
    assert await http.ask("SELECT count(), min(v) FROM far FINAL") == "100\t2\n"


@embedded_only
async def test_a_cluster_of_two_shards_reads_its_table_twice(http):
    await http.ask("CREATE TABLE shard (a UInt64) ENGINE = MergeTree ORDER BY a")
    await http.ask("INSERT INTO shard VALUES (1)")
    await http.ask("CREATE TABLE shards AS shard ENGINE = Distributed('local_two_shards', currentDatabase(), shard)")
    assert await http.ask("SELECT count() FROM shards") == "2\n"


async def test_the_query_log_knows_every_query_by_its_clients_id(http):
    good, bad = f"good-{uuid.uuid4()}", f"bad-{uuid.uuid4()}"
    sql = "SELECT {n:UInt8}, number FROM numbers(10) FORMAT Null"
    await http.ask(sql, query_id=good, param_n="7", log_comment='{"table":"é"}')
    async with http.open("SELECT throwIf(1)", query_id=bad) as response:
        assert response.status == 500
    await http.ask("SYSTEM FLUSH LOGS")
    columns = "type, query_kind, log_comment, read_rows, exception_code, query LIKE '%OUTFILE%'"
    log = (
        f"SELECT {columns} FROM system.query_log WHERE query_id = '{{}}' ORDER BY event_time_microseconds FORMAT TSVRaw"
    )
    assert await http.ask(log.format(good)) == (
        'QueryStart\tSelect\t{"table":"é"}\t0\t0\t0\nQueryFinish\tSelect\t{"table":"é"}\t10\t0\t0\n'
    )
    assert (
        "ExceptionWhileProcessing\tSelect\t\t" in (failed := await http.ask(log.format(bad)))
        or "ExceptionBeforeStart" in failed
    )
    assert "\t395\t0\n" in failed

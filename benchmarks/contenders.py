"""Ways to bring the same rows into the store: icefleet, the engine alone, and two plainer ones."""

import io
import tempfile
import time
from collections.abc import Callable
from typing import Any

import attestations
import pyarrow.parquet as pq
from bench import Bench
from harness import timed

from activities.contracts.export import ExportReport, ExportRequest
from activities.core.query import Query
from starter.export import start_request
from worker.temporal import connect_temporal


def icefleet(bench: Bench, table: str, **fields: Any) -> Callable[[], float]:
    """The whole job: request, plan, transfer, verification, commit and event."""

    def run() -> float:
        async def export() -> ExportReport:
            environment = bench.settings.environment(fields.get("environment", "local"))
            client = await connect_temporal(environment)
            request = ExportRequest(table=table, network=attestations.NETWORK, force=True, **fields)
            handle = await start_request(client, environment.temporal.task_queue, request)
            return await handle.result()

        started = time.perf_counter()
        ended = bench.wait(export())
        if ended.status != "complete":
            raise RuntimeError(f"{ended.status}: {ended.message} {ended.failures[:1]}")
        return time.perf_counter() - started

    return run


def native(bench: Bench, hour: str) -> Callable[[], float]:
    """(a) The engine alone: INSERT INTO FUNCTION s3 of the same rows, nothing counted, nothing committed."""
    environment = bench.settings.environment("local").storage
    number = iter(range(1_000_000))
    select = bench.literal(hour)

    def run() -> float:
        url = f"{environment.endpoint}/{environment.bucket}/bench/native-{hour}-{next(number)}.parquet"
        keys = f"'{environment.access_key.get_secret_value()}', '{environment.secret_key.get_secret_value()}'"
        pinned = "prefer_column_name_to_alias = 1, output_format_parquet_compression_method = 'zstd', max_threads = 2"
        return timed(
            lambda: bench.sql(f"INSERT INTO FUNCTION s3('{url}', {keys}, 'Parquet') {select} SETTINGS {pinned}")
        )

    return run


def arrow(bench: Bench, hour: str) -> Callable[[], float]:
    """(b) Arrow batches over HTTP, encoded by pyarrow, uploaded at the end."""
    query = bench.query(hour)
    number = iter(range(1_000_000))

    def run() -> float:
        async def carry() -> None:
            client = await bench.clickhouse._open()  # noqa: SLF001 - a peer that is not ours to tidy
            settings = {"prefer_column_name_to_alias": 1, "max_threads": 2, "output_format_arrow_string_as_string": 1}
            sink, writer = io.BytesIO(), None
            stream = await client.query_arrow_stream(query.text, parameters=dict(query.parameters), settings=settings)
            async with stream:
                async for batch in stream:
                    writer = writer or pq.ParquetWriter(sink, batch.schema, compression="zstd")
                    writer.write(batch)
            if writer is not None:
                writer.close()
            await bench.store.create(f"bench/arrow-{hour}-{next(number)}.parquet", sink.getvalue(), "")

        return timed(lambda: bench.wait(carry()))

    return run


def in_memory(bench: Bench, hour: str) -> Callable[[], float]:
    """(c) The whole result in memory, to a file, uploaded, and counted at the source by a query of its own."""
    query = bench.query(hour)
    number = iter(range(1_000_000))

    def run() -> float:
        async def carry() -> None:
            client = await bench.clickhouse._open()  # noqa: SLF001
            settings = {"prefer_column_name_to_alias": 1, "max_threads": 2}
            table = await client.query_arrow(query.text, parameters=dict(query.parameters), settings=settings)
            with tempfile.TemporaryFile() as file:
                pq.write_table(table, file, compression="zstd")
                file.seek(0)
                body = file.read()
            await bench.store.create(f"bench/memory-{hour}-{next(number)}.parquet", body, "")
            where = query.text[query.text.index(" FROM ") : query.text.index(" ORDER BY ")]
            await bench.clickhouse.rows(Query(f"SELECT count() AS rows{where}", dict(query.parameters)))

        return timed(lambda: bench.wait(carry()))

    return run

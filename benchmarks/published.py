"""Small hourly files of the attestations' table as others published them, to be adopted."""

import asyncio
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import attestations
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from activities.clients.clickhouse import ClickHouse
from activities.clients.objectstore import ObjectStore

TABLE = "published"
ROWS = 100
AT_ONCE = 32
BLANK = {
    "meta_client_ip": "CAST(NULL AS Nullable(IPv6))",
    "meta_client_geo_longitude": "CAST(0 AS Nullable(Float64))",
    "meta_client_geo_latitude": "CAST(0 AS Nullable(Float64))",
}
"""What redacted columns hold in the public files; all others of them are empty texts."""


def entry(hourly: dict[str, Any]) -> dict[str, Any]:
    """What tables.yaml says of the table, given the entry of another one."""
    years = {"name": attestations.NETWORK, "start_date": "2022-01-01", "end_date": "2022-12-31"}
    return {**hourly, "name": TABLE, "networks": [years], "profile": "as_published"}


async def publish(clickhouse: ClickHouse, store: ObjectStore, count: int) -> None:
    """An object for each of the first `count` hours of 2022; the source's table stays empty."""
    template = await _template(clickhouse)
    slots = asyncio.Semaphore(AT_ONCE)

    async def put(key: str, body: bytes) -> None:
        async with slots:
            await store.create(key, body, "")

    await asyncio.gather(*(put(key, body) for key, body in _files(template, count)))


async def _template(clickhouse: ClickHouse) -> pa.Table:
    """Rows of one hour, uncast, as ClickHouse's Parquet holds them."""
    blank = ", ".join(f"{BLANK.get(name, repr(''))} AS {name}" for name in attestations.REDACTED)
    selected = ", ".join(f"CAST({made} AS {kind}) AS {name}" for name, (kind, made) in attestations.COLUMNS.items())
    at = f"toDateTime({attestations.FIRST_HOUR} + number)"
    client = await clickhouse._open()  # noqa: SLF001 - the engine's own bytes
    body = await client.raw_query(
        f"SELECT * REPLACE ({blank}) FROM (SELECT {selected} FROM (SELECT number, cityHash64(number) AS h, "
        f"number % {attestations.CLIENTS} AS client, {at} AS at FROM numbers({ROWS})))",
        fmt="Parquet",
    )
    return pq.read_table(io.BytesIO(body))


def _files(template: pa.Table, count: int) -> Iterator[tuple[str, bytes]]:
    prefix = f"xatu/{attestations.NETWORK}/databases/{attestations.DATABASE}/{TABLE}"
    position = template.schema.get_field_index("slot_start_date_time")
    column = template.column(position)
    start = int(datetime(2022, 1, 1, tzinfo=UTC).timestamp())
    for hour in range(count):
        moved = (start + hour * 3600 - attestations.FIRST_HOUR) * 1000
        times = pc.add(column.cast(pa.int64()), moved).cast(column.type)
        out = io.BytesIO()
        pq.write_table(template.set_column(position, template.schema.field(position), times), out)
        when = datetime.fromtimestamp(start + hour * 3600, UTC)
        yield f"{prefix}/{when.year}/{when.month}/{when.day}/{when.hour}.parquet", out.getvalue()

"""What a test holds against each other after a fault: the source's rows, the table's rows, the bucket's objects."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config

from support.fleet import Fleet

Rows = list[tuple[int, str]]


async def make_bulky(fleet: Fleet, days: int = 1, rows: int = 8_000, *, name: str = "bulky") -> str:
    """A daily table of random text: a thousand rows weigh three quarters of a megabyte as Parquet."""
    await fleet.run_sql(
        f"CREATE TABLE {fleet.database}.{name} (updated DateTime, at DateTime, number UInt64, text String, "
        "network LowCardinality(String)) ENGINE = ReplacingMergeTree(updated) ORDER BY (network, at, number)"
    )
    await fleet.run_sql(
        f"INSERT INTO {fleet.database}.{name} SELECT toDateTime('2024-04-01 00:00:00', 'UTC'), "
        f"toDateTime('2024-03-20 00:00:00', 'UTC') - 86400 * intDiv(number, {rows}) + number % 86400, number, "
        f"base64Encode(randomString(750)), '{fleet.network}' FROM numbers({days * rows})"
    )
    fleet.add_table("daily", name, "at", network={"end_date": "2024-03-20"})
    return name


async def source_rows(fleet: Fleet, table: str = "events", text: str = "name") -> Rows:
    """Every row of the source: its number, and a digest of its text."""
    found = await fleet.sql(
        f"SELECT number, lower(hex(MD5(toString({text})))) AS digest FROM {fleet.database}.{table} FINAL ORDER BY number"
    )
    return [(int(row["number"]), str(row["digest"])) for row in found]


def table_rows(fleet: Fleet, table: str = "events", text: str = "name") -> Rows:
    """The same of the Iceberg table, as PyIceberg reads it."""
    read = fleet.table(table).scan(selected_fields=("number", text)).to_arrow()
    pairs = zip(read["number"].to_pylist(), read[text].to_pylist(), strict=True)
    return sorted((int(number), hashlib.md5(value.encode()).hexdigest()) for number, value in pairs)


@contextmanager
def _bucket(fleet: Fleet) -> Iterator[Any]:
    storage = fleet.settings().environment(fleet.name).storage
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{fleet.stack.ports['s3']}",
        aws_access_key_id=storage.access_key.get_secret_value(),
        aws_secret_access_key=storage.secret_key.get_secret_value(),
        region_name=storage.region,
        config=Config(s3={"addressing_style": "path"}),
    )
    try:
        yield client
    finally:
        client.close()


def prefix_of(fleet: Fleet) -> str:
    """What all object keys of this fleet begin with."""
    return f"xatu/{fleet.network}/"


def objects(fleet: Fleet) -> dict[str, tuple[str, str]]:
    """Key → ETag and time of the last change of every object that the fleet's exports made."""
    with _bucket(fleet) as client:
        listed = client.list_objects_v2(Bucket="icefleet", Prefix=prefix_of(fleet)).get("Contents", [])
    return {entry["Key"]: (entry["ETag"], entry["LastModified"].isoformat()) for entry in listed}


def open_uploads(fleet: Fleet) -> list[str]:
    """Keys of the multipart uploads that are neither completed nor aborted."""
    with _bucket(fleet) as client:
        listed = client.list_multipart_uploads(Bucket="icefleet").get("Uploads", [])
    return sorted(entry["Key"] for entry in listed if entry["Key"].startswith(prefix_of(fleet)))

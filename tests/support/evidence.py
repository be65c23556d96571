"""What a test holds against each other after a fault: the source's rows, the table's rows, the bucket's objects."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from temporalio.api.failure.v1 import Failure
from temporalio.service import RPCError

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
        f"SELECT number, lower(hex(MD5(toString({text})))) AS digest FROM {fleet.database}.{table} FINAL "
        "ORDER BY number"
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
    return {key: found for key, found in all_objects(fleet).items() if "/metadata/" not in key}


def public_metadata(fleet: Fleet) -> dict[str, tuple[str, str]]:
    """The same of everything that was published beside them."""
    return {key: found for key, found in all_objects(fleet).items() if "/metadata/" in key}


def all_objects(fleet: Fleet) -> dict[str, tuple[str, str]]:
    """The same of both."""
    with _bucket(fleet) as client:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="icefleet", Prefix=prefix_of(fleet))
        listed = [entry for page in pages for entry in page.get("Contents", [])]
    return {entry["Key"]: (entry["ETag"], entry["LastModified"].isoformat()) for entry in listed}


def open_uploads(fleet: Fleet) -> list[str]:
    """Keys of the multipart uploads that are neither completed nor aborted."""
    with _bucket(fleet) as client:
        listed = client.list_multipart_uploads(Bucket="icefleet").get("Uploads", [])
    return sorted(entry["Key"] for entry in listed if entry["Key"].startswith(prefix_of(fleet)))


async def retried(fleet: Fleet, activity: str, table: str = "events") -> str:
    """Why an activity of the table's loop is being tried again; empty while none is."""
    try:
        described = await fleet.loop(table).describe()
    except RPCError:  # no loop yet
        return ""
    for pending in described.raw_description.pending_activities:
        if pending.activity_type.name == activity and pending.attempt > 1:
            return said(pending.last_failure) or "failed without a word"
    return ""


def said(failure: Failure) -> str:
    """The messages of a failure and of what caused it; the server puts its own before one that is long."""
    messages = [failure.message]
    while failure.HasField("cause"):
        failure = failure.cause
        messages.append(failure.message)
    return "; ".join(messages)


async def make_slow(fleet: Fleet, seconds_per_row: float = 0.02, *, table: str = "slow") -> str:
    """A view of the rows of `events` that takes its time for every row that is read, and counts them at once.

    Made again with 0 seconds it is quick.
    """
    text = f"concat(name, if(sleepEachRow({seconds_per_row}) = 0, '', '?'))" if seconds_per_row else "name"
    # A server sleeps for three seconds a block at most, and looks between two blocks whether it is to stop.
    await fleet.run_sql(
        f"CREATE TABLE IF NOT EXISTS {fleet.database}.{table}_rows ENGINE = MergeTree ORDER BY at "
        f"SETTINGS index_granularity = 10 AS SELECT * FROM {fleet.database}.events"
    )
    await fleet.run_sql(
        f"CREATE OR REPLACE VIEW {fleet.database}.{table} AS SELECT updated, at, number, {text} AS name, network "
        f"FROM {fleet.database}.{table}_rows SETTINGS max_block_size = 10"
    )
    fleet.add_table("daily", table, "at", network={"start_date": "2024-03-18", "end_date": "2024-03-20"})
    return table


async def running_exports(fleet: Fleet) -> list[str]:
    """Ids of the source's running queries that fetch partitions for this fleet."""
    found = await fleet.sql(
        "SELECT query_id FROM system.processes WHERE startsWith(query_id, 'icefleet-') "
        f"AND match(Settings['log_comment'], '^icefleet {fleet.network}[.].* partition .* attempt ')"
    )
    return [str(row["query_id"]) for row in found]

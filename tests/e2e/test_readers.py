"""What comes out of the lake, read by three engines, is what ClickHouse holds: every row of the three demo tables."""

import asyncio
import functools
import json
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import nats
import pytest
import requests
import yaml
from botocore.config import Config

from deploy.local.sample import late_rows
from support.lakereaders import (
    by_clickhouse,
    by_clickhouse_without_catalog,
    by_duckdb,
    by_pyiceberg,
    open_pyiceberg,
)
from support.sourcerows import Rows, assert_same, columns_of, expected_rows

ROOT = Path(__file__).parents[2]
BLOCKS = "beacon_api_eth_v1_events_block"
ATTESTATIONS = "beacon_api_eth_v1_events_attestation"
EXECUTION = "canonical_execution_block"
TABLES = [f"{network}.{table}" for table in (BLOCKS, ATTESTATIONS, EXECUTION) for network in ("mainnet", "holesky")]
READERS = [by_pyiceberg, by_duckdb, by_clickhouse]
COLUMN = {BLOCKS: "slot_start_date_time", ATTESTATIONS: "slot_start_date_time", EXECUTION: "block_number"}


@pytest.fixture(scope="module")
async def expected(sample) -> dict[str, Rows]:
    return {identifier: await expected_rows(sample, identifier) for identifier in TABLES}


@pytest.mark.parametrize("reader", READERS)
async def test_every_row_of_every_demo_table_is_the_sources_own_row(sample, expected, reader):
    assert {report.status for report in sample.reports.values()} == {"complete"}
    read = await asyncio.to_thread(reader, sample.environment, TABLES)
    for identifier, rows in zip(TABLES, read, strict=True):
        assert len(rows) > 4_000
        assert_same(rows, expected[identifier], f"{reader.__name__} {identifier}")


async def test_clickhouse_reads_the_same_from_a_metadata_file_without_a_catalog(sample, expected):
    identifier = f"mainnet.{EXECUTION}"
    location = open_pyiceberg(sample.environment).load_table(identifier).metadata_location
    read = await asyncio.to_thread(by_clickhouse_without_catalog, sample.environment, location)
    assert_same(read, expected[identifier], "icebergS3")


async def test_the_sample_holds_what_is_hard_to_carry(sample, expected):
    columns = {table: list(await columns_of(sample, table)) for table in (BLOCKS, ATTESTATIONS, EXECUTION)}

    def values(table: str, name: str) -> set[Any]:
        position = columns[table].index(name)
        return {row[position] for row in expected[f"mainnet.{table}"]}

    fees = values(EXECUTION, "base_fee_per_gas")
    assert {2**64 - 1, 2**63 + 1, None} <= fees
    assert {None, "", "以太坊矿工", "👩‍🚀👨‍👩‍👧", 'it\'s "quoted" \\ with\ta tab\nand a line'} <= values(
        EXECUTION, "extra_data_string"
    )
    assert {len(bytes.fromhex(block)) for _, block in values(BLOCKS, "block")} == {66}
    assert any(time[1] % 1_000_000 for time in values(BLOCKS, "event_date_time"))
    assert None in values(ATTESTATIONS, "attesting_validator_index")
    raw = await sample.sql(
        f"SELECT uniqExact(meta_client_ip) AS ips, countIf(meta_client_ip IS NULL) AS unknown, "
        f"uniqExact(meta_client_geo_city) AS cities, uniqExact(meta_client_geo_longitude) AS places, "
        f"count() - (SELECT count() FROM default.{BLOCKS} FINAL) AS older FROM default.{BLOCKS}"
    )
    assert raw[0]["ips"] > 1
    assert raw[0]["cities"] > 1
    assert raw[0]["places"] > 1
    assert raw[0]["older"] > 100


async def test_the_types_in_the_lake_are_those_of_the_public_files(sample):
    lake = open_pyiceberg(sample.environment)
    types = {
        table: {field.name: str(field.field_type) for field in lake.load_table(f"mainnet.{table}").schema().fields}
        for table in (BLOCKS, ATTESTATIONS, EXECUTION)
    }
    assert all(not field.required for field in lake.load_table(f"mainnet.{BLOCKS}").schema().fields)
    assert types[EXECUTION] == {
        "updated_date_time": "timestamptz",
        "block_date_time": "timestamptz",
        "block_number": "long",
        "block_hash": "fixed[66]",
        "author": "string",
        "gas_used": "long",
        "gas_limit": "long",
        "extra_data": "string",
        "extra_data_string": "string",
        "base_fee_per_gas": "decimal(20, 0)",
        "meta_network_name": "string",
    }
    wanted = {"event_date_time": "timestamptz", "slot": "long", "block": "fixed[66]", "execution_optimistic": "boolean"}
    wanted |= {"meta_client_ip": "fixed[16]", "meta_client_geo_latitude": "double"}
    assert wanted.items() <= types[BLOCKS].items()
    assert types[ATTESTATIONS]["attesting_validator_index"] == "long"


@functools.cache
def layout() -> dict[str, str]:
    """The templates of the public keys: from the publication itself where it is at hand."""
    published = ROOT.parent / "shared" / "xatu" / "layout_and_redaction.yaml"
    if published.exists():
        return dict(yaml.safe_load(published.read_text())["layout_public"])
    stem = "xatu/{network}/databases/{database}/{table}/"
    return {
        "daily": stem + "{YYYY}/{M}/{D}.parquet",
        "hourly": stem + "{YYYY}/{M}/{D}/{H}.parquet",
        "integer": stem + "{interval}/{chunk_start}.parquet",
    }


@functools.cache
def public_place(identifier: str, value: Any) -> str:
    """The key under which the public looks for the row whose partition column has this value."""
    network, _, table = identifier.partition(".")
    names = {"network": network, "database": "default", "table": table}
    if table == EXECUTION:
        return layout()["integer"].format(**names, interval=1000, chunk_start=value // 1000 * 1000)
    when = datetime.fromtimestamp(value[1] // 1_000_000, UTC)
    template = layout()["daily" if table == BLOCKS else "hourly"]
    return template.format(**names, YYYY=when.year, M=when.month, D=when.day, H=when.hour)


@pytest.mark.parametrize("identifier", TABLES)
async def test_there_is_one_file_per_partition_under_the_key_that_the_public_uses(sample, expected, identifier):
    table = identifier.partition(".")[2]
    position = list(await columns_of(sample, table)).index(COLUMN[table])
    wanted: Counter[str] = Counter()
    for row, times in expected[identifier].items():
        wanted[public_place(identifier, row[position])] += times
    files = open_pyiceberg(sample.environment).load_table(identifier).inspect.files().to_pylist()
    found = {file["file_path"].removeprefix("s3://icefleet/"): file["record_count"] for file in files}
    assert len(found) == len(files)
    assert found == dict(wanted)
    if identifier == f"mainnet.{ATTESTATIONS}":
        hours = {key.rpartition("20/")[2] for key in found if "/2024/3/20/" in key}
        assert {"0.parquet", "9.parquet", "23.parquet"} <= hours
        assert "13.parquet" not in hours, "nobody sent anything in that hour"


async def events_of(sample, identifier: str) -> list[dict[str, Any]]:
    client = await nats.connect(f"nats://127.0.0.1:{sample.stack.ports['nats']}")
    try:
        stream = client.jetstream()
        subject = f"icefleet.local.snapshot.{identifier}"
        count = (await stream.stream_info("ICEFLEET", subjects_filter=subject)).state.subjects or {}
        subscription = await stream.subscribe(subject, ordered_consumer=True)
        return [json.loads((await subscription.next_msg(timeout=5)).data) for _ in range(count.get(subject, 0))]
    finally:
        await client.close()


@pytest.mark.parametrize("identifier", [f"mainnet.{EXECUTION}", f"holesky.{BLOCKS}"])
async def test_what_an_event_names_is_there_byte_for_byte(sample, identifier):
    first = (await events_of(sample, identifier))[0]
    storage = sample.environment.storage
    client = boto3.client(
        "s3",
        endpoint_url=storage.endpoint,
        aws_access_key_id=storage.access_key.get_secret_value(),
        aws_secret_access_key=storage.secret_key.get_secret_value(),
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    assert first["snapshotId"] == sample.reports[identifier].snapshots[0]
    assert int(first["added"]["rows"]) == sum(int(one["rows"]) for one in first["partitions"])
    for one in first["partitions"]:
        body = client.get_object(Bucket="icefleet", Key=one["objectKey"])["Body"].read()
        assert len(body) == int(one["bytes"])
        assert (body[:4], body[-4:]) == (b"PAR1", b"PAR1")
        assert one["publicUrl"] == f"{storage.public_url}/{one['objectKey']}"
        answer = await asyncio.to_thread(requests.get, one["publicUrl"], timeout=10)
        assert (answer.status_code, answer.content) == (200, body)
    client.close()


LATE = [
    (f"mainnet.{BLOCKS}", "2024-03-20", "2024-03-20", 1),
    (f"holesky.{ATTESTATIONS}", "2024-03-20T19", "2024-03-20T19", 1),
    (f"mainnet.{EXECUTION}", "2000", 2000, 1),
]


async def test_late_rows_replace_their_partition_and_the_old_snapshot_keeps_the_old_rows(sample, expected):
    """Last in this file: it changes the sample."""
    tables = [identifier for identifier, *_ in LATE]
    lake = open_pyiceberg(sample.environment)
    before = {identifier: lake.load_table(identifier).current_snapshot() for identifier in tables}
    for identifier, partition, *_ in LATE:
        network, _, table = identifier.partition(".")
        await sample.clickhouse.command(late_rows(table, network, partition).sql)
    reports = await asyncio.gather(*(sample.export(identifier) for identifier in tables))
    assert [(report.status, report.stale, report.exported) for report in reports] == [("complete", 1, 1)] * 3

    wanted = {identifier: await expected_rows(sample, identifier) for identifier in tables}
    assert all(wanted[identifier] != expected[identifier] for identifier in tables)
    for reader in READERS:
        read = await asyncio.to_thread(reader, sample.environment, tables)
        for identifier, rows in zip(tables, read, strict=True):
            assert_same(rows, wanted[identifier], f"{reader.__name__} {identifier}")

    for identifier in tables:
        table = lake.load_table(identifier)
        old = before[identifier]
        files = table.inspect.files().to_pylist()
        assert len(files) == len(table.inspect.files(old.snapshot_id).to_pylist())
        [replaced] = [file["file_path"] for file in files if re.search(r"-[0-9a-f]{8}\.parquet$", file["file_path"])]
        # Nothing of the snapshot before has been touched: its readers still find every row.
        [rows] = await asyncio.to_thread(by_pyiceberg, sample.environment, [identifier], old.snapshot_id)
        assert_same(rows, expected[identifier], f"{identifier} as of {old.snapshot_id}")
        event = (await events_of(sample, identifier))[-1]
        assert event["operation"] == "overwrite"
        assert [one["objectKey"] for one in event["partitions"]] == [replaced.removeprefix("s3://icefleet/")]

    # By id, and by time: a moment after the old snapshot, in a place where the clocks say something else.
    by_id, _, by_time = tables
    moment = datetime.fromtimestamp(before[by_time].timestamp_ms / 1000, UTC) + timedelta(milliseconds=1)
    for identifier, as_of in (
        (by_id, str(before[by_id].snapshot_id)),
        (by_time, f"{moment:%Y-%m-%d %H:%M:%S.%f}"),
    ):
        query = f"SELECT count(*) AS n FROM {identifier}"
        code, output, errors = await sample.command("sql", query, "--as-of", as_of, "--json", TZ="Asia/Tokyo")
        assert (code, json.loads(output or "null")) == (0, [{"n": expected[identifier].total()}]), errors


async def test_rows_that_arrive_in_an_hour_known_to_be_empty_are_found_when_it_is_named(sample):
    identifier = f"mainnet.{ATTESTATIONS}"
    await sample.clickhouse.command(late_rows(ATTESTATIONS, "mainnet", "2024-03-20T13", serial=2).sql)
    report = await sample.export(identifier, from_="2024-03-20T13", to="2024-03-20T13")
    assert (report.status, report.missing, report.exported) == ("complete", 1, 1)
    files = open_pyiceberg(sample.environment).load_table(identifier).inspect.files().to_pylist()
    assert [file["record_count"] for file in files if file["file_path"].endswith("/2024/3/20/13.parquet")] == [
        report.rows
    ]

"""Everything that an environment's exports leave behind, in pieces that can be searched.

Compressed things are there as they are and unpacked: the pages of Parquet files one by one, and their values once more
as another engine reads them; the blocks of Avro files.
"""

import io
import json
import zlib
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from botocore.config import Config

from support.busreader import messages
from support.fleet import Fleet
from support.lakereaders import open_pyiceberg
from support.planted import Piece
from worker.config import Environment

_ZSTD = b"\x28\xb5\x2f\xfd"
_SYNC = 16
"""Length of the mark that ends each block of an Avro file."""


def stored(environment: Environment, network: str) -> Iterator[Piece]:
    """Every object below the tables' prefixes, in the bucket of the data and in that of the catalog."""
    storage = environment.storage
    catalog = open_pyiceberg(environment)
    prefixes = [("icefleet", f"xatu/{network}/")]
    for _, table in catalog.list_tables(network) if catalog.namespace_exists(network) else ():
        loaded = catalog.load_table(f"{network}.{table}")
        bucket, _, prefix = loaded.location().removeprefix("s3://").partition("/")
        prefixes.append((bucket, f"{prefix}/"))
        yield Piece("catalog", table, loaded.metadata.model_dump_json().encode())
    client = boto3.client(
        "s3",
        endpoint_url=storage.endpoint,
        aws_access_key_id=storage.access_key.get_secret_value(),
        aws_secret_access_key=storage.secret_key.get_secret_value(),
        region_name=storage.region,
        config=Config(s3={"addressing_style": "path"}),
    )
    with closing(client):
        for bucket, prefix in prefixes:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for entry in page.get("Contents", []):
                    yield from _object(client, bucket, entry["Key"])


def _object(client: Any, bucket: str, key: str) -> Iterator[Piece]:
    answer = client.get_object(Bucket=bucket, Key=key)
    body = answer["Body"].read()
    said = json.dumps([key, answer["Metadata"], answer["ResponseMetadata"]["HTTPHeaders"]])
    yield Piece("object header", key, said.encode())
    if key.endswith(".parquet"):
        yield Piece("parquet file", key, body)
        yield from parquet_inside(key, body)
    elif key.endswith(".avro"):
        yield Piece("manifest", key, body)
        yield from (Piece("manifest", key, block) for block in avro_blocks(body))
    else:
        yield Piece("metadata file", key, body)


def parquet_inside(key: str, body: bytes) -> Iterator[Piece]:
    """Pages unpacked; the footer's own words; and every value, by column."""
    pages = list(_zstd_frames(body))
    file = pq.ParquetFile(io.BytesIO(body))
    footer = file.metadata
    assert len(pages) >= footer.num_columns * footer.num_row_groups, f"{key}: {len(pages)} pages"
    yield from (Piece("parquet page", key, page) for page in pages)
    said = [repr(footer.metadata), str(footer.schema)]
    for group in range(footer.num_row_groups):
        for position in range(footer.num_columns):
            chunk = footer.row_group(group).column(position)
            if chunk.is_stats_set and chunk.statistics.has_min_max:
                said += [_text(chunk.statistics.min), _text(chunk.statistics.max)]
    yield Piece("parquet statistics", key, "\n".join(said).encode())
    table = file.read()
    for name, column in zip(table.column_names, table.columns, strict=True):
        kept = column.combine_chunks().storage if isinstance(column.type, pa.ExtensionType) else column
        yield Piece("parquet values", f"{key} {name}", "\n".join(map(_text, kept.to_pylist())).encode())


def _text(value: Any) -> str:
    """A value as text; bytes also as what they say."""
    match value:
        case bytes():
            return f"{value.hex()} {value.decode('utf-8', 'replace')} {value.decode('latin-1')}"
        case list():
            return " ".join(map(_text, value))
    return str(value)


def _zstd_frames(body: bytes) -> Iterator[bytes]:
    start = body.find(_ZSTD)
    while start >= 0:
        unpacking = zstandard.ZstdDecompressor().decompressobj()
        try:
            yield unpacking.decompress(body[start:])
            start = body.find(_ZSTD, len(body) - len(unpacking.unused_data))
        except zstandard.ZstdError:  # four bytes that happen to look like a beginning
            start = body.find(_ZSTD, start + 1)


def avro_blocks(body: bytes) -> list[bytes]:
    """The blocks of an Avro file, unpacked."""
    deflated = b"avro.codec\x0edeflate" in body
    assert deflated or b"avro.codec\x08null" in body or b"avro.codec" not in body, "another codec"
    blocks = []
    for block in body.split(body[-_SYNC:])[1:-1]:
        # Two numbers come first, the rows and the bytes of the block, seven bits to a byte.
        rest = block
        for _ in range(2):
            length = next(position for position, byte in enumerate(rest) if byte < 128) + 1
            rest = rest[length:]
        blocks.append(zlib.decompress(rest, -15) if deflated else rest)
    assert blocks, "no block in an Avro file"
    return blocks


async def announced(fleet: Fleet) -> list[Piece]:
    """Every message of the environment on the bus, with subject and headers."""
    return [
        Piece("event", one.subject, one.subject.encode() + one.data + json.dumps(one.headers).encode())
        for one in await messages(fleet.stack.ports["nats"], f"icefleet.{fleet.name}.>")
    ]


async def histories(fleet: Fleet) -> list[Piece]:
    """Every event of every workflow of the environment, and how Temporal describes each workflow."""
    temporal, found = fleet.temporal, []
    queues = ", ".join(f"'{one}'" for one in (fleet.queue, fleet.cdc_queue, fleet.merge_queue, fleet.upkeep_queue))
    async for workflow in temporal.list_workflows(f"TaskQueue IN ({queues})"):
        handle = temporal.get_workflow_handle(workflow.id, run_id=workflow.run_id)
        found += [
            Piece("history", f"{workflow.id} event {event.event_id}", event.SerializeToString())
            async for event in handle.fetch_history_events()
        ]
        described = (await handle.describe()).raw_description
        found.append(Piece("history", f"{workflow.id} description", described.SerializeToString()))
    return found

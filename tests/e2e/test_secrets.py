"""No credential of the stack is to be found in anything that an export leaves behind."""

import asyncio
import json
import re
from collections.abc import Iterator

import boto3
import nats
import pytest
from botocore.config import Config
from nats.js.api import DeliverPolicy

from support.lakereaders import open_pyiceberg


@pytest.fixture
def secrets(stack) -> dict[str, bytes]:
    """Every credential, whole and in its halves."""
    found = {
        name: value
        for name, value in stack.environment.items()
        if name.endswith(("_PASSWORD", "_ACCESS_KEY", "_SECRET_KEY", "_CREDENTIAL"))
    }
    assert len(found) == 5
    parts = {
        f"half {number} of {name}": half
        for name, value in found.items()
        for number, half in enumerate(value.split(":"))
    }
    assert all(len(value) >= 8 for value in parts.values())
    return {name: value.encode() for name, value in (found | parts).items()}


def leaks(secrets: dict[str, bytes], where: str, text: bytes) -> Iterator[str]:
    for name, secret in secrets.items():
        if secret in text:
            at = text.index(secret)
            yield f"{name} in {where}: {text[max(0, at - 60) : at]!r}…"


def bucket(sample):
    storage = sample.environment.storage
    return boto3.client(
        "s3",
        endpoint_url=storage.endpoint,
        aws_access_key_id=storage.access_key.get_secret_value(),
        aws_secret_access_key=storage.secret_key.get_secret_value(),
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )


async def test_no_workflow_history_holds_a_credential(sample, secrets):
    found, seen = [], 0
    async for workflow in sample.temporal.list_workflows("IcefleetEnvironment = 'local'"):
        handle = sample.temporal.get_workflow_handle(workflow.id, run_id=workflow.run_id)
        async for event in handle.fetch_history_events():
            seen += 1
            found += leaks(secrets, f"{workflow.id} event {event.event_id}", event.SerializeToString())
        description = await handle.describe()
        found += leaks(secrets, f"{workflow.id} description", description.raw_description.SerializeToString())
    assert seen > 100
    assert found == []


async def test_no_event_holds_a_credential(sample, secrets):
    client = await nats.connect(f"nats://127.0.0.1:{sample.stack.ports['nats']}")
    try:
        stream = client.jetstream()
        info = await stream.stream_info("ICEFLEET")
        subscription = await stream.subscribe(
            "icefleet.>", ordered_consumer=True, deliver_policy=DeliverPolicy.ALL, stream="ICEFLEET"
        )
        found = []
        for _ in range(info.state.messages):
            message = await subscription.next_msg(timeout=5)
            found += leaks(secrets, message.subject, message.data + json.dumps(message.headers).encode())
        assert info.state.messages >= 6
    finally:
        await client.close()
    assert found == []


async def test_no_table_and_no_object_holds_a_credential(sample, secrets):
    client = bucket(sample)
    found, seen = [], 0
    for name in ("lake", "icefleet"):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
            for entry in page.get("Contents", []):
                seen += 1
                head = client.head_object(Bucket=name, Key=entry["Key"])
                said = json.dumps([entry["Key"], head["Metadata"], head["ResponseMetadata"]["HTTPHeaders"]])
                found += leaks(secrets, f"the metadata of {entry['Key']}", said.encode())
                if entry["Key"].endswith(".parquet"):
                    start = max(0, entry["Size"] - 65_536)
                    tail = client.get_object(Bucket=name, Key=entry["Key"], Range=f"bytes={start}-")["Body"].read()
                    found += leaks(secrets, f"the footer of {entry['Key']}", tail)
                else:
                    body = client.get_object(Bucket=name, Key=entry["Key"])["Body"].read()
                    found += leaks(secrets, entry["Key"], body)
    for identifier in sample.reports:
        table = open_pyiceberg(sample.environment).load_table(identifier)
        found += leaks(secrets, identifier, table.metadata.model_dump_json().encode())
    client.close()
    assert seen > 50
    assert found == []


async def test_no_log_and_no_query_holds_a_credential(sample, secrets):
    await sample.clickhouse.command("SYSTEM FLUSH LOGS")
    queries = await sample.sql(
        "SELECT query, exception, log_comment, toString(Settings) AS settings FROM system.query_log"
    )
    exports = [query for query in queries if query["log_comment"].startswith("icefleet ")]
    assert len(exports) > 10
    found = [leak for query in queries for leak in leaks(secrets, "the query log", "\n".join(query.values()).encode())]
    logs = [sample.log, *(sample.stack.log(part) for part in ("temporal", "nats", "s3", "clickhouse", "postgres"))]
    for log in logs:
        text = await asyncio.to_thread(log.read_bytes)
        assert text
        found += leaks(secrets, log.name, text)
    # The store itself says whom it lets in, by the id that goes with the secret.
    found = [leak for leak in found if not re.match(r".*ACCESS_KEY in s3\.log|half 0 of \w+ in s3\.log", leak)]
    assert found == []

"""What deploy/grants writes out is enough for each role, and no more: where an embedded part enforces it."""

import ast
import asyncio
import json
import re
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aioboto3
import aiohttp
import nats
import psycopg
import pytest
import yaml
from botocore.exceptions import ClientError
from nats.js.api import ConsumerConfig

from activities.clients.buffer import Buffer
from activities.clients.slots import open_slots
from activities.core.faults import PostgresRefused
from activities.core.query import Query
from deploy.local import parts
from deploy.local.environment import S3_ACCESS_KEY, S3_SECRET_KEY
from deploy.local.stack import Stack
from support.fleet import eventually
from support.ownnats import nats_server
from worker.bus import open_bus

ROOT = Path(__file__).parents[2]
GRANTS = ROOT / "deploy" / "grants"
ROLES = ("worker", "command", "subscriber")
ACTIONS = {
    "head_bucket": {"ListBucket"},
    "list_objects_v2": {"ListBucket"},
    "list_multipart_uploads": {"ListBucketMultipartUploads"},
    "list_parts": {"ListMultipartUploadParts"},
    "head_object": {"GetObject"},
    "get_object": {"GetObject"},
    "put_object": {"PutObject"},
    "copy_object": {"GetObject", "PutObject"},
    "create_multipart_upload": {"PutObject"},
    "upload_part": {"PutObject"},
    "upload_part_copy": {"GetObject", "PutObject"},
    "complete_multipart_upload": {"PutObject"},
    "abort_multipart_upload": {"AbortMultipartUpload"},
    "delete_object": {"DeleteObject"},
}
"""What S3 demands for each operation."""


def test_the_guide_shows_the_files_as_they_are():
    guide = (ROOT / "docs" / "guides" / "grants.md").read_text(encoding="utf-8")
    blocks = [block.partition("\n")[2] for block in re.findall(r"```(.*?)```", guide, re.DOTALL)]
    for file in sorted(GRANTS.iterdir()):
        assert file.read_text(encoding="utf-8") in blocks, f"{file.name} is not quoted, or not as it is"


# --- NATS ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def bus_server(fleet, tmp_path, monkeypatch):
    """A server with the documented permissions, of the fleet's environment."""
    for role in ROLES:
        monkeypatch.setenv(f"ICEFLEET_NATS_{role.upper()}_PASSWORD", f"{role}-secret")
    config = (
        (GRANTS / "nats.conf").read_text(encoding="utf-8").replace("icefleet.production.", f"icefleet.{fleet.name}.")
    )
    async with nats_server(tmp_path, config) as port:
        yield port


def login(fleet, port, role):
    """Let the fleet's config name this NATS and role; answers the environment."""
    path = fleet.directory / "environments.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    own = {"user": f"icefleet-{role}", "password_env": f"ICEFLEET_NATS_{role.upper()}_PASSWORD"}
    own["inbox_prefix"] = f"_INBOX_{role}"
    config["environments"][fleet.name]["nats"] = {"url": f"nats://127.0.0.1:{port}", **own}
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return fleet.settings().environment(fleet.name)


@asynccontextmanager
async def person(port, role):
    """A client of that role, and what the server refused it."""
    refused: list[str] = []

    async def heard(said: Exception) -> None:
        refused.append(str(said))

    login = {"user": f"icefleet-{role}", "password": f"{role}-secret", "inbox_prefix": f"_INBOX_{role}"}
    client = await nats.connect(f"nats://127.0.0.1:{port}", error_cb=heard, **login)
    try:
        yield client, refused
    finally:
        await client.close()


async def test_a_worker_announces_an_export_and_a_subscriber_and_a_command_hear_of_it(fleet, bus_server):
    subject = f"icefleet.{fleet.name}.snapshot.{fleet.network}.events"
    await fleet.make_days(days=1)
    login(fleet, bus_server, "worker")
    async with person(bus_server, "subscriber") as (client, refused):
        live = await client.subscribe(f"icefleet.{fleet.name}.snapshot.>")
        async with fleet.worker():
            assert (await fleet.request()).exported == 1
        first = await live.next_msg(timeout=10)
        # Under a name, since only then the filter stands where permissions look at it.
        mine = ConsumerConfig(name="mine", inactive_threshold=60)
        later = await client.jetstream().subscribe(subject, stream="ICEFLEET", config=mine)
        assert [first.subject, (await later.next_msg(timeout=5)).data] == [subject, first.data]
        assert refused == []
    command = open_bus(login(fleet, bus_server, "command"))
    assert (await command.last(subject)).body == first.data
    assert [found async for found, _ in command.latest(f"icefleet.{fleet.name}.snapshot.>")] == [subject]
    await command.close()
    worker = open_bus(login(fleet, bus_server, "worker"))
    following = worker.follow("mirrors", [subject])
    assert set(await anext(following)) == {subject}
    await following.aclose()
    await worker.close()


@pytest.mark.parametrize(
    ("role", "subject"),
    [
        ("worker", "icefleet.elsewhere.snapshot.net.table"),
        ("worker", "$JS.API.STREAM.DELETE.ICEFLEET"),
        ("worker", "$JS.API.STREAM.PURGE.ICEFLEET"),
        ("command", "icefleet.{name}.snapshot.net.table"),
        ("command", "$JS.API.STREAM.UPDATE.ICEFLEET"),
        ("subscriber", "icefleet.{name}.snapshot.net.table"),
        ("subscriber", "$JS.API.CONSUMER.CREATE.ICEFLEET.mine.icefleet.{name}.finding.>"),
        ("subscriber", "$JS.API.STREAM.MSG.GET.ICEFLEET"),
    ],
)
async def test_whatever_else_is_published_is_refused(fleet, bus_server, role, subject):
    async with person(bus_server, role) as (client, refused):
        named = subject.format(name=fleet.name)
        await client.publish(named, b"{}")
        await eventually(lambda: refused, seconds=5)
        assert f'permissions violation for publish to "{named.lower()}"' in refused[0].lower()


@pytest.mark.parametrize("subject", ["icefleet.{name}.finding.>", "_INBOX_worker.>", "_INBOX.>", ">"])
async def test_a_subscriber_hears_neither_of_findings_nor_what_others_are_told(fleet, bus_server, subject):
    async with person(bus_server, "subscriber") as (client, refused):
        await client.subscribe(subject.format(name=fleet.name))
        await eventually(lambda: refused, seconds=5)
        assert "permissions violation for subscription" in refused[0].lower()


# --- S3 -----------------------------------------------------------------------------------------------------------


def test_the_policy_of_a_worker_grants_every_operation_of_the_client_and_no_other():
    used = set()
    for path in (ROOT / "activities" / "clients").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("_s3"):
                used.add(node.attr)
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("get_paginator"):
                used.add(ast.literal_eval(node.args[0]))
    wanted = {f"s3:{action}" for operation in used - {"get_paginator"} for action in ACTIONS[operation]}
    policy = json.loads((GRANTS / "s3-worker.json").read_text(encoding="utf-8"))
    assert {action for statement in policy["Statement"] for action in statement["Action"]} == wanted


def test_readers_and_the_world_may_read_alone():
    for name, actions in (("reader", {"s3:ListBucket", "s3:GetObject"}), ("public", {"s3:GetObject"})):
        policy = json.loads((GRANTS / f"s3-{name}.json").read_text(encoding="utf-8"))
        assert {statement["Action"] for statement in policy["Statement"]} == actions


async def test_seaweedfs_lets_each_role_do_what_is_written_and_refuses_the_rest(tmp_path, monkeypatch):
    text = (GRANTS / "seaweedfs.json").read_text(encoding="utf-8").replace("example-lake", parts.DATA_BUCKET)
    (tmp_path / "identities.json").write_text(text, encoding="utf-8")
    monkeypatch.setattr(parts, "_anonymous_reads", lambda _: tmp_path / "identities.json")
    stack = Stack(tmp_path / "stack", parts=("s3",))
    await asyncio.to_thread(stack.start)
    try:
        await _try_roles(stack.address("s3"), stack.environment)
    finally:
        await asyncio.to_thread(stack.stop)


async def _try_roles(endpoint, environment):
    keys = {role: (f"{role}_ACCESS_KEY", f"{role}_SECRET_KEY") for role in ("WORKER", "READER")}
    keys["ADMIN"] = (environment[S3_ACCESS_KEY], environment[S3_SECRET_KEY])
    bucket, public, private = parts.DATA_BUCKET, "xatu/net/day.parquet", "other/index.puffin"

    @asynccontextmanager
    async def client(role):
        access, secret = keys[role]
        session = aioboto3.Session(aws_access_key_id=access, aws_secret_access_key=secret, region_name="us-east-1")
        async with session.client("s3", endpoint_url=endpoint) as made:
            yield made

    async def refused(call):
        with pytest.raises(ClientError) as caught:
            await call
        assert caught.value.response["Error"]["Code"] == "AccessDenied"

    async with client("WORKER") as worker:
        for key in (public, private):
            await worker.put_object(Bucket=bucket, Key=key, Body=b"here", IfNoneMatch="*")
        await worker.copy_object(Bucket=bucket, Key="other/copy", CopySource={"Bucket": bucket, "Key": public})
        begun = await worker.create_multipart_upload(Bucket=bucket, Key="other/parts")
        await worker.list_multipart_uploads(Bucket=bucket)
        await worker.abort_multipart_upload(Bucket=bucket, Key="other/parts", UploadId=begun["UploadId"])
        assert (await worker.list_objects_v2(Bucket=bucket))["KeyCount"] == 3
        await worker.delete_object(Bucket=bucket, Key="other/copy")
        await refused(worker.list_objects_v2(Bucket=parts.TABLE_BUCKET))
        await refused(worker.create_bucket(Bucket="another"))
    async with client("READER") as reader:
        assert await (await reader.get_object(Bucket=bucket, Key=public))["Body"].read() == b"here"
        await refused(reader.get_object(Bucket=bucket, Key=private))
        await refused(reader.put_object(Bucket=bucket, Key="xatu/mine", Body=b""))
        await refused(reader.delete_object(Bucket=bucket, Key=public))
    async with aiohttp.ClientSession() as anybody:
        answers = [(await anybody.get(f"{endpoint}/{bucket}/{key}")).status for key in (public, private, "")]
        assert (answers[0], {*answers[1:]}) == (200, {403})
        assert (await anybody.put(f"{endpoint}/{bucket}/xatu/mine", data=b"")).status == 403


# --- PostgreSQL, ClickHouse ---------------------------------------------------------------------------------------


@pytest.fixture
async def granted(postgres):
    """The documented roles in a database of the test's own; role → how it logs in."""
    database = postgres.database
    owner = f"{database}_owner"
    text = (GRANTS / "postgres.sql").read_text(encoding="utf-8").replace("shop_owner", owner)
    text = text.replace("DATABASE shop ", f"DATABASE {database} ")
    roles = {role: f"{database}_{role}" for role in ("capture", "buffer")}
    for role, name in roles.items():
        text = text.replace(f"icefleet_{role}", name)
    await postgres.run(
        f"CREATE ROLE {owner}",
        "CREATE TABLE orders (id int PRIMARY KEY)",
        f"ALTER TABLE orders OWNER TO {owner}",
        "CREATE TABLE secrets (id int)",
    )
    await postgres.run(text)
    for name in roles.values():
        await postgres.run(f"ALTER ROLE {name} PASSWORD 'correct horse'")
    yield {role: replace(postgres.settings, user=name, password="correct horse") for role, name in roles.items()}
    slots = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()"
    await postgres.run(slots)
    for name in (*roles.values(), owner):
        await postgres.run(f"DROP OWNED BY {name} CASCADE", f"DROP ROLE {name}")


async def test_the_role_of_a_capture_reads_the_log_of_tables_that_it_was_given(granted, postgres):
    async with open_slots(granted["capture"]) as slots:
        await slots.check_server()
        await slots.create(f"slot_{postgres.database}")
    async with await granted["capture"].connect() as connection:
        await connection.execute("CREATE PUBLICATION mine FOR TABLE orders")
        await connection.execute("ALTER TABLE orders REPLICA IDENTITY FULL")
        await connection.execute("CREATE SCHEMA mine")
        await connection.execute("SELECT * FROM orders")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("SELECT * FROM secrets")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("CREATE PUBLICATION others FOR TABLE secrets")


async def test_the_role_of_a_buffer_makes_its_schema_and_sees_nothing_else(granted, postgres):
    buffer = Buffer(granted["buffer"], "icefleet_cdc")
    await buffer.install()
    async with buffer.locked() as holder:
        assert holder is not None
    async with await granted["buffer"].connect() as connection:
        for table in ("orders", "secrets"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute(f"SELECT * FROM {table}".encode())
    with pytest.raises(PostgresRefused, match="permission denied"):
        async with open_slots(granted["buffer"]) as slots:
            await slots.create("mine")


async def test_clickhouse_understands_every_statement(fleet):
    text = (GRANTS / "clickhouse.sql").read_text(encoding="utf-8")
    lines = [line.removeprefix("-- ") if line.startswith("-- GRANT") else line for line in text.splitlines()]
    statements = [one.strip() for one in "\n".join(lines).split(";") if one.strip()]
    assert len(statements) == 13
    for statement in statements:
        bare = "\n".join(line for line in statement.splitlines() if not line.startswith("--"))
        await fleet.clickhouse.rows(Query("SELECT formatQuery({text:String})", {"text": bare}))

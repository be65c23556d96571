"""A worker that is told to stop takes no more work, and hands over what it cannot end in its grace period."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import aiohttp
import pytest

from activities.contracts.cdc import INGEST_WORKFLOW, ingest_id
from activities.contracts.mirrors import mirror_id
from support.buffers import insert, schema_event
from support.cdcloops import progress_of
from support.evidence import make_bulky, open_uploads, retried, said, source_rows, table_rows
from support.faultproxy import Hold, HttpFaults
from support.fleet import eventually
from support.ingests import opened as ingesting
from support.merges import assert_merged_once, begun
from support.mirrorloops import entry

SECOND_PART = r"[?&]partNumber=2(&|$)"
CLEAN_UP_SECONDS = 8
"""How long a busy machine may take to end a cancelled upload and a process."""
HANDED_OVER = "this worker was told to stop; another one goes on"


async def ended(process, seconds):
    """The exit code of a process that must end so soon, and how long it took."""
    began = time.monotonic()
    code = await asyncio.wait_for(asyncio.to_thread(process.wait), seconds)
    return code, time.monotonic() - began


@pytest.fixture
async def held_upload(fleet):
    """A large export that stops in the middle of its upload; whoever uploads it again is not held."""
    table = await make_bulky(fleet, rows=20_000)
    fleet.set_export(part_size_bytes=5 * 2**20)
    async with HttpFaults(fleet.stack.ports["s3"]) as store:
        fleet.point(s3=store.port)
        yield table, store.on(Hold(), method="PUT", path=SECOND_PART)


async def test_sigterm_in_the_middle_of_an_upload_leaves_none_behind_and_another_worker_does_it_once(
    fleet, held_upload
):
    table, held = held_upload
    with fleet.worker_process("--grace", "1") as process:
        request = await fleet.start(table)
        await eventually(lambda: held.times_struck)
        assert open_uploads(fleet) != []
        process.send_signal(signal.SIGTERM)
        code, took = await ended(process, 1 + CLEAN_UP_SECONDS)
    assert code == 0
    assert took > 0.9, "what runs had no time to end"
    assert open_uploads(fleet) == []
    assert fleet.files(table) == []
    assert await retried(fleet, "export_partitions", table) == HANDED_OVER
    async with fleet.worker():
        report = await asyncio.wait_for(request.result(), 60)
        await fleet.loop_ended(table)
    assert (report.status, report.exported, report.rows) == ("complete", 1, 20_000)
    assert fleet.files(table) == [("2024/3/20.parquet", 20_000)]
    assert table_rows(fleet, table, "text") == await source_rows(fleet, table, "text")
    assert len(await fleet.events(table)) == 1


async def test_a_worker_that_drains_lives_and_is_not_ready_and_a_second_signal_ends_it_at_once(
    fleet, held_upload, unused_tcp_port
):
    table, held = held_upload
    fleet.point(nats=1)  # nothing waits for NATS, nor does a worker's start
    options = ("--grace", "600", "--serve", "control,export", "--serve", "upkeep")
    with fleet.worker_process(*options, "--listen", f":{unused_tcp_port}") as process:
        request = await fleet.start(table)
        await eventually(lambda: held.times_struck)
        assert await asked(unused_tcp_port, "/livez", "/readyz", "/metrix") == [200, 200, 404]
        process.send_signal(signal.SIGTERM)
        await eventually(lambda: draining(unused_tcp_port))
        assert await asked(unused_tcp_port, "/livez") == [200]
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        code, _ = await ended(process, 3)
    assert code == 128 + signal.SIGTERM
    [log] = fleet.directory.glob("worker-*.log")
    said = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["missing"] for line in said if "missing" in line] == ["NATS"]
    await request.cancel()


async def test_a_worker_that_still_starts_ends_at_once_by_a_handler_of_its_own(fleet, unused_tcp_port):
    """The first process of a container, which a worker is, does not hear signals for which it has no handler."""
    waits = asyncio.Event()

    async def say_nothing(reader, _):
        waits.set()
        await reader.read()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", unused_tcp_port):
        fleet.point(temporal=unused_tcp_port)
        with fleet.worker_process("--serve", "control") as process:
            async with asyncio.timeout(30):
                await waits.wait()
            process.send_signal(signal.SIGTERM)
            code, _ = await ended(process, 3)
    assert code == 128 + signal.SIGTERM


async def asked(port, *paths):
    """The status of each answer."""
    async with aiohttp.ClientSession() as session:
        return [(await session.get(f"http://127.0.0.1:{port}{path}")).status for path in paths]


async def draining(port):
    return await asked(port, "/readyz") == [503]


async def test_sigterm_in_the_middle_of_a_merge_leaves_it_to_another_worker_which_makes_it_once(fleet):
    async with begun(fleet) as mirror, HttpFaults(fleet.stack.ports["s3"]) as store:
        name = mirror.config.mirror
        fleet.point(s3=store.port)
        fleet.set_mirrors(entry(name))
        held = store.on(Hold(), method="PUT", path=r"/mirrors/")
        with fleet.worker_process("--grace", "5", "--serve", "merge") as process:
            await eventually(lambda: held.times_struck)
            process.send_signal(signal.SIGTERM)
            code, _ = await ended(process, 5 + CLEAN_UP_SECONDS)
        loop = fleet.temporal.get_workflow_handle(mirror_id(fleet.name, name))
        assert (code, len(mirror.snapshots())) == (0, 1)
        assert await handed_over(loop) == {"merge_mirror": HANDED_OVER}
        fleet.point(s3=fleet.stack.ports["s3"])
        async with fleet.merge_worker():
            await progress_of(loop, state="running", doing="", woken=False, lag_events=0)
        assert_merged_once(mirror)


async def test_sigterm_in_the_middle_of_an_ingest_leaves_it_to_another_worker_which_brings_every_event_once(
    fleet, postgres
):
    async with HttpFaults(fleet.stack.ports["s3"]) as store, ingesting(fleet, postgres) as ingest:
        await ingest.producer.transaction(schema_event(), *(insert(number) for number in range(20)))
        fleet.point(s3=store.port)
        held = store.on(Hold(), method="PUT", path=r"/cdc/")
        loop = await fleet.temporal.start_workflow(
            INGEST_WORKFLOW,
            {"environment": fleet.name, "pipeline": ingest.name},
            id=ingest_id(fleet.name, ingest.name),
            task_queue=fleet.cdc_queue,
        )
        with fleet.worker_process("--grace", "5", "--serve", "cdc") as process:
            await eventually(lambda: held.times_struck)
            process.send_signal(signal.SIGTERM)
            code, _ = await ended(process, 5 + CLEAN_UP_SECONDS)
        assert (code, ingest.snapshots()) == (0, [])
        assert await handed_over(loop) == {"ingest_batch": HANDED_OVER}
        fleet.point(s3=fleet.stack.ports["s3"])
        async with fleet.cdc_worker():
            await eventually(ingest.snapshots)
        assert [number for _, number in ingest.said()] == list(range(20))
        assert len(ingest.snapshots()) == 1


async def handed_over(loop):
    """What a loop waits for, and why it is tried again."""
    described = await loop.describe()
    return {one.activity_type.name: said(one.last_failure) for one in described.raw_description.pending_activities}


async def test_a_worker_that_lacks_what_it_needs_names_all_of_it_at_once_and_does_not_start(fleet):
    fleet.set_cdc(shop={"buffer": {"host": "127.0.0.1", "port": 1, "database": "shop", "user": "nobody"}})
    fleet.point(clickhouse=1, s3=1, catalog=1, nats=1, temporal=1)
    code, _, errors = await fleet.command("worker")
    assert code == 1
    first, *missing = [line for line in errors.splitlines() if not line.startswith("{")]
    assert first == f"error: a worker of {fleet.name} cannot start; what it needs is missing:"
    assert [line.partition("127.0.0.1")[0] for line in missing] == [
        "Temporal ",
        "object store http://",
        "catalog http://",
        "NATS nats://",
        f"ClickHouse {fleet.name}.default (",
        f"buffer of {fleet.name}.shop (",
    ]
    code, _, errors = await fleet.command("worker", "--serve", "exports")
    assert (code, errors) == (2, "error: --serve exports: no such kind of work; did you mean `export`?\n")
    code, _, errors = await fleet.command("worker", "--listen", "nowhere")
    assert (code, errors) == (2, "error: --listen nowhere: expected HOST:PORT or :PORT, such as 0.0.0.0:9090\n")


@pytest.mark.parametrize(
    ("inflight", "says"), [("nothing", "RuntimeError: Activity worker failed"), ("something", "worker leaves behind")]
)
def test_a_process_of_which_one_worker_fails_leaves_within_its_grace_and_not_with_0(stack, inflight, says):
    """The SDK would wait for what is in flight, which nobody cancels then, for ever."""
    run = "from support.failing_worker import run; run()"
    command = [sys.executable, "-c", run, f"127.0.0.1:{stack.ports['temporal']}", inflight]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert says in ended.stdout + ended.stderr

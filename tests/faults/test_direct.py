"""Transfer `direct`: ClickHouse writes the file itself, and nobody can tell from the table."""

import asyncio
import io
import re
import signal

import pyarrow.parquet as pq
import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError, CancelledError

from activities import failpoints
from support.direct import Hands
from support.evidence import make_slow, objects, open_uploads, running_exports, source_rows, table_rows
from support.fleet import eventually
from support.tcpproxy import TcpFaults
from support.typecases import cases
from support.typetables import ROWS, make_table
from worker.orphans import find_orphans
from worker.source_check import check_sources

ATTEMPT = re.compile(r"2024/3/20-direct-[0-9a-f]{32}\.parquet$")
KEYS = "access_key_id = 'somebody', secret_access_key = 'not-the-real-one'"


@pytest.fixture
def direct(fleet):
    """A fleet whose partitions are all large enough to be written by ClickHouse."""
    fleet.set_export(transfer="direct", small_partition_rows=1)
    return fleet


async def writes(fleet):
    """The finished or failed queries by which ClickHouse wrote a file of this fleet."""
    found = await fleet.queries(f"icefleet {fleet.network}.")
    return [query for query in found if query["query"].startswith("INSERT INTO FUNCTION s3(")]


async def make_collection(fleet, url, keys=KEYS):
    """A named collection at the source, named after the fleet's database."""
    await fleet.run_sql(f"CREATE NAMED COLLECTION {fleet.database} AS url = '{url}', {keys}")
    return fleet.database


async def test_a_partition_is_written_by_clickhouse_and_committed_under_the_public_key(direct):
    await direct.make_days(days=2, rows=100)
    async with direct.worker():
        report = await direct.request()
        await direct.loop_ended()
    assert (report.status, report.exported, report.rows) == ("complete", 2, 200)
    assert direct.files() == [("2024/3/19.parquet", 100), ("2024/3/20.parquet", 100)]
    assert table_rows(direct) == await source_rows(direct)
    assert [query["type"] for query in await writes(direct)] == ["QueryFinish", "QueryFinish"]
    # Nothing of the attempts is left, and the partitions are what an export by stream would adopt.
    assert len(objects(direct)) == 2
    assert open_uploads(direct) == []
    async with direct.context() as context:
        stored = [await context.store.head(key) for key in objects(direct)]
    assert all(re.fullmatch(r"[0-9a-f]{32}", one.recipe) for one in stored)


async def test_a_small_partition_passes_through_the_worker_all_the_same(direct):
    direct.set_export(small_partition_rows=100)
    await direct.make_days(days=1, rows=100)
    async with direct.worker():
        assert (await direct.request()).status == "complete"
    assert await writes(direct) == []


@pytest.mark.parametrize("profile", ["portable", "as_published"])
async def test_a_file_of_every_type_holds_the_same_rows_in_the_same_order_as_a_streamed_one(direct, profile):
    await make_table(direct, "every", cases(profile), profile=profile)
    async with direct.context() as context:
        hands = Hands(direct, context, table="every")
        plan = await hands.plan()
        written = [await read(context, one) for one in await hands.export_all(plan)]
    assert len(await writes(direct)) == len(written) == len(plan.todo) == 3
    direct.set_export(transfer="stream")
    async with direct.context() as context:
        hands = Hands(direct, context, table="every", request_id="by stream")
        forced = await hands.plan(force=True)
        streamed = [await read(context, one) for one in await hands.export_all(forced)]
    assert len(await writes(direct)) == 3
    assert written == streamed
    assert sum(len(rows) for _, rows in written) == ROWS


async def read(context, exported):
    """Schema and rows of an object, in its own order."""
    table = pq.read_table(io.BytesIO(await context.store.tail(exported.key, exported.bytes)))
    # As text: a NaN is not equal to itself.
    return str(table.schema), [repr(row) for row in table.to_pylist()]


async def test_after_a_crash_between_writing_and_copying_another_attempt_commits_once_and_no_secret_is_left(direct):
    await direct.make_days(days=1, rows=100)
    with direct.worker_process(failpoint="during-upload") as process:
        request = await direct.start()
        assert await asyncio.wait_for(asyncio.to_thread(process.wait), 30) == -signal.SIGKILL
    [left] = objects(direct)
    assert ATTEMPT.search(left)
    async with direct.worker():
        report = await asyncio.wait_for(request.result(), 30)
        await direct.loop_ended()
    assert (report.status, report.exported, report.rows) == ("complete", 1, 100)
    assert direct.files() == [("2024/3/20.parquet", 100)]
    assert table_rows(direct) == await source_rows(direct)
    assert len(objects(direct)) == 2
    # ClickHouse cannot mark what it writes as ours: the key does.
    settings = direct.settings()
    found = find_orphans(settings, direct.name, settings.exports(direct.name), older_than=0, metadata=False)
    # None would stand for an object of others.
    assert [orphan and orphan.key async for orphan in found] == [left]
    assert await secrets_in(direct, request) == []


async def secrets_in(fleet, request):
    """Where a credential of the store is to be found, of the places that an export writes to."""
    environment = fleet.stack.environment
    secrets = [environment["ICEFLEET_LOCAL_S3_SECRET_KEY"], environment["ICEFLEET_LOCAL_S3_ACCESS_KEY"]]
    await fleet.run_sql("SYSTEM FLUSH LOGS")
    log = await fleet.sql(
        f"SELECT * APPLY toString FROM system.query_log WHERE position(log_comment, '{fleet.network}') > 0"
    )
    places = {"the query log": repr(log), "the files": repr(fleet.files()), "objects": repr(objects(fleet))}
    conf = fleet.stack.directory / "data" / "clickhouse" / "conf"
    for file in [*fleet.directory.glob("*.log"), fleet.stack.log("clickhouse"), *conf.iterdir()]:
        places[str(file)] = file.read_text(errors="replace")
    for handle in (request, fleet.loop()):
        async for event in handle.fetch_history_events():
            places[f"{handle.id} {event.event_id}"] = str(event)
    assert re.search(r"INSERT INTO FUNCTION s3\(`?icefleet", places["the query log"])
    assert len(places) > 20
    return [where for where, text in places.items() if any(secret in text for secret in secrets)]


async def test_an_object_that_appears_under_the_key_while_clickhouse_writes_is_left_as_it_is(direct):
    await direct.make_days(days=1, rows=100)
    async with direct.context() as context:
        hands = Hands(direct, context)
        [planned] = (await hands.plan()).todo
        public = f"xatu/{direct.network}/databases/{direct.database}/events/2024/3/20.parquet"
        taken = []

        async def take():
            taken.append(await context.store.create(public, b"somebody else's", "another recipe"))

        failpoints.arm("during-upload", take)
        exported = await hands.export(planned)
        assert re.search(r"/20-[0-9a-f]{8}\.parquet$", exported.key)
        assert taken == [True, False]
        assert await context.store.tail(public, 100) == b"somebody else's"
        failpoints.disarm()
        # Another attempt finds what the first has made.
        again = await hands.export(planned)
    assert (again.key, again.adopted, exported.adopted) == (exported.key, True, False)
    assert sorted(objects(direct)) == sorted([public, exported.key])
    assert open_uploads(direct) == []


async def test_an_answer_that_is_lost_while_clickhouse_writes_is_found_out_and_nothing_is_written_twice(direct):
    await direct.make_days(days=1, rows=100)
    table = await make_slow(direct)
    async with TcpFaults(direct.stack.ports["clickhouse"]) as proxy:
        direct.point(clickhouse=proxy.port)
        async with direct.worker():
            request = await direct.start(table)
            [query_id] = await eventually(lambda: running_exports(direct))
            assert proxy.cut() > 0
            assert await running_exports(direct) == [query_id]
            shown = repr(await direct.sql("SELECT * APPLY toString FROM system.processes"))
            assert query_id in shown
            assert direct.stack.environment["ICEFLEET_LOCAL_S3_SECRET_KEY"] not in shown
            report = await asyncio.wait_for(request.result(), 30)
    assert (report.status, report.exported, report.rows) == ("complete", 1, 100)
    assert table_rows(direct, table) == await source_rows(direct)
    assert [query["query_id"] for query in await writes(direct)] == [query_id]
    assert len(objects(direct)) == 1


@pytest.mark.parametrize(
    ("seconds", "fault", "words"),
    [(2, "SourceRefused", "raise max_execution_time"), (60, "SourceUnavailable", "Query was cancelled")],
    ids=["by a limit", "by somebody"],
)
async def test_a_failure_whose_answer_is_lost_is_read_in_the_query_log(direct, seconds, fault, words):
    await direct.make_days(days=1, rows=100)
    table = await make_slow(direct)
    direct.set_cluster(max_execution_time=seconds)
    async with TcpFaults(direct.stack.ports["clickhouse"]) as proxy:
        direct.point(clickhouse=proxy.port)
        async with direct.context() as context:
            [planned] = (await Hands(direct, context, table=table).plan()).todo
            exporting = asyncio.ensure_future(Hands(direct, context, table=table).export(planned))
            [query_id] = await eventually(lambda: running_exports(direct))
            proxy.cut()
            if fault == "SourceUnavailable":
                await direct.clickhouse.kill(query_id)
            with pytest.raises(ApplicationError, match=words) as failed:
                await asyncio.wait_for(exporting, 25)  # before looking for it would be given up
    assert failed.value.type == fault
    assert objects(direct) == {}


async def test_cancelling_a_request_ends_the_query_that_writes_and_leaves_nothing(direct):
    await direct.make_days(days=1, rows=2_000)
    table = await make_slow(direct)
    async with direct.worker():
        request = await direct.start(table)
        await eventually(lambda: running_exports(direct))
        await request.cancel()
        with pytest.raises(WorkflowFailureError) as ended:
            await asyncio.wait_for(request.result(), 15)
        assert isinstance(ended.value.cause, CancelledError)
        assert await running_exports(direct) == []
        await direct.loop_ended(table)
    assert (objects(direct), open_uploads(direct), direct.files(table)) == ({}, [], [])
    [query] = await writes(direct)
    assert query["type"] == "ExceptionWhileProcessing"


async def test_text_that_is_not_utf8_is_refused_as_in_a_stream_and_leaves_no_object(direct):
    await direct.make_days(days=1, rows=10)
    await direct.run_sql(
        f"INSERT INTO {direct.database}.events VALUES ('2024-04-01 00:00:00', '2024-03-20 00:00:00', 77, "
        f"unhex('ff'), '{direct.network}')"
    )
    async with direct.context() as context:
        hands = Hands(direct, context)
        [planned] = (await hands.plan()).todo
        with pytest.raises(ApplicationError, match=r"column name in 1 rows \(write `name: binary`\)") as refused:
            await hands.export(planned)
    assert refused.value.type == "UnsupportedType"
    assert (objects(direct), open_uploads(direct)) == ({}, [])


async def test_a_named_collection_that_is_wrong_is_told_before_and_while_exporting_with_the_way_out(direct):
    await direct.make_days(days=1, rows=10)
    store = f"http://127.0.0.1:{direct.stack.ports['s3']}"
    environment = direct.stack.environment
    real = (
        f"access_key_id = '{environment['ICEFLEET_LOCAL_S3_ACCESS_KEY']}', "
        f"secret_access_key = '{environment['ICEFLEET_LOCAL_S3_SECRET_KEY']}'"
    )
    name = direct.database
    kind, said, checked = await told(direct, name)
    assert kind == "SourceRefused"
    assert f"There is no named collection `{name}`" in said
    assert checked.startswith(f"the named collection {name!r} at the source {direct.name}.default is not there, or")
    cases = [
        (f"{store}/icefleet/", KEYS, "StoreRefused", "have keys, rights and url of the named", "cannot be used: "),
        (f"{store}/nowhere/", real, "StoreRefused", "bucket does not exist", "leads to bucket 'nowhere', and the"),
        # Nothing is wrong with it, but that it is another place.
        (f"{store}/icefleet/elsewhere/", real, "BadConfig", "is not in bucket icefleet: have the url of its named", ""),
    ]
    for url, keys, wrong, way_out, before in cases:
        await make_collection(direct, url, keys)
        kind, said, checked = await told(direct, name)
        await direct.run_sql(f"DROP NAMED COLLECTION {name}")
        assert (kind, way_out in said, "docs/guides/transfer.md" in said) == (wrong, True, wrong != ""), said
        assert before in checked
        assert bool(before) == bool(checked)
        assert environment["ICEFLEET_LOCAL_S3_SECRET_KEY"] not in said + checked
    assert await told(direct, "icefleet") == ("", "", "")


async def told(fleet, collection):
    """The fault's name and words of an export by a collection, and what `config check` says of it."""
    fleet.storage["named_collection"] = collection
    fleet.write_config()
    [report] = await check_sources(fleet.settings(), fleet.name)
    checked = "; ".join(str(finding) for finding in report.findings)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        [planned] = (await hands.plan()).todo
        try:
            await hands.export(planned)
        except ApplicationError as failed:
            return failed.type, failed.message, checked
    return "", "", checked

"""The object store refuses a part, goes away, or lacks its bucket: whole objects or none, and no parts left behind."""

import asyncio

import pytest
import yaml
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from activities.core.faults import StoreUnavailable
from support.evidence import make_bulky, objects, open_uploads, retried, source_rows, table_rows
from support.faultproxy import Answer, CutBody, HttpFaults, TcpFaults
from support.fleet import eventually

PART_BYTES = 5 * 2**20
ROWS = 16_000
"""Rows of a day of two parts and a bit."""


def refusal(code: str) -> bytes:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>as the test wishes</Message></Error>'.encode()


def part_of(day: int, number: int) -> str:
    return rf"/{day}\.parquet\?.*partNumber={number}(&|$)"


async def test_a_part_that_the_store_fails_to_take_again_and_again_is_sent_until_it_is_taken(fleet):
    times = 4  # as often as one attempt at the partition sends a part: the next one has to
    fleet.set_export(part_size_bytes=PART_BYTES)
    table = await make_bulky(fleet, days=2, rows=ROWS)
    async with HttpFaults(fleet.stack.ports["s3"]) as store:
        fleet.point(s3=store.port)
        broken = store.on(
            Answer(500, refusal("InternalError"), "application/xml"), method="PUT", path=part_of(20, 2), times=times
        )
        async with fleet.worker():
            report = await fleet.request(table)
    assert broken.times_struck == times
    assert (report.status, report.exported) == ("complete", 2)
    assert table_rows(fleet, table, "text") == await source_rows(fleet, table, "text")
    assert open_uploads(fleet) == []


async def test_a_part_that_is_refused_for_good_fails_its_partition_alone_and_its_upload_is_dropped(fleet):
    fleet.set_export(part_size_bytes=PART_BYTES)
    table = await make_bulky(fleet, days=2, rows=ROWS)
    async with HttpFaults(fleet.stack.ports["s3"]) as store:
        fleet.point(s3=store.port)
        denied = store.on(
            Answer(403, refusal("AccessDenied"), "application/xml"), method="PUT", path=part_of(20, 2), times=None
        )
        async with fleet.worker():
            partial = await fleet.request(table)
            # The proxy shares this loop with the test, which blocks while it looks: nothing may wait for it then.
            await fleet.loop_ended(table)
            assert fleet.files(table) == [("2024/3/19.parquet", ROWS)]
            assert len(objects(fleet)) == 1
            assert open_uploads(fleet) == []
            store.mend()
            mended = await fleet.request(table)
    assert denied.times_struck == 1
    assert (partial.status, partial.exported, partial.failed) == ("partial", 1, 1)
    (failed,) = partial.failures
    assert (failed.partition, failed.cause) == ("2024-03-20", "StoreRefused")
    assert "AccessDenied" in failed.message
    assert "2024/3/20.parquet" in failed.message
    assert (mended.status, mended.exported) == ("complete", 1)
    assert table_rows(fleet, table, "text") == await source_rows(fleet, table, "text")


async def test_an_object_store_that_is_away_for_a_while_is_waited_for(fleet):
    await fleet.make_days(days=3, rows=50)
    async with TcpFaults(fleet.stack.ports["s3"]) as store:
        fleet.point(s3=store.port)
        async with fleet.worker():
            assert (await fleet.request(from_="2024-03-18", to="2024-03-18")).exported == 1
            await store.refuse()
            request = await fleet.start()
            said = await eventually(lambda: retried(fleet, "plan_partitions"))
            await store.mend()
            report = await asyncio.wait_for(request.result(), 40)

            async def announced():
                return len(await fleet.events()) == 2

            await eventually(announced)  # an announcement that failed meanwhile is tried again after a while
    assert "cannot be read or written" in said or "object store" in said
    assert (report.status, report.exported, report.failed) == ("complete", 2, 0)
    assert table_rows(fleet) == await source_rows(fleet)
    assert len(objects(fleet)) == 3


async def test_a_bucket_that_does_not_exist_is_named_with_the_way_out(fleet):
    await fleet.make_days(days=2, rows=50)
    written = fleet.directory / "environments.yaml"
    config = yaml.safe_load(written.read_text())
    config["environments"][fleet.name]["storage"]["bucket"] = "nowhere"
    written.write_text(yaml.safe_dump(config))
    async with fleet.worker():
        request = await fleet.start()
        with pytest.raises(WorkflowFailureError) as refused:
            await asyncio.wait_for(request.result(), 20)
    assert isinstance(refused.value.cause, ApplicationError)
    assert refused.value.cause.type == "StoreRefused"
    assert "there is no bucket 'nowhere'" in str(refused.value.cause)
    assert "create it, or mend storage.bucket in environments.yaml" in str(refused.value.cause)
    assert fleet.files() == []


async def test_an_answer_of_the_store_that_is_cut_in_the_middle_is_called_a_store_that_is_away(fleet):
    async with HttpFaults(fleet.stack.ports["s3"]) as store:
        fleet.point(s3=store.port)
        async with fleet.context() as context:
            assert await context.store.create(f"{fleet.name}/cut", b"x" * 1000, "r")
            store.on(CutBody(100), method="GET", times=None)
            with pytest.raises(StoreUnavailable, match=f"{fleet.name}/cut.*payload is not completed"):
                await context.store.tail(f"{fleet.name}/cut", 1000)


async def test_an_upload_that_cannot_be_dropped_hides_neither_the_cause_nor_what_else_was_exported(fleet):
    fleet.set_export(part_size_bytes=PART_BYTES, parallel_partitions=1, small_partition_rows=ROWS, partition_attempts=1)
    table = await make_bulky(fleet, days=2, rows=ROWS)
    async with HttpFaults(fleet.stack.ports["s3"]) as store:
        fleet.point(s3=store.port)
        denied = Answer(403, refusal("AccessDenied"), "application/xml")
        store.on(denied, method="PUT", path=part_of(19, 2), times=None)
        dropped = store.on(denied, method="DELETE", path=r"/19\.parquet\?.*uploadId", times=None)
        async with fleet.worker():
            report = await fleet.request(table)
    assert dropped.times_struck >= 1
    assert (report.status, report.exported, report.failed) == ("partial", 1, 1)
    assert (report.failures[0].partition, report.failures[0].cause) == ("2024-03-19", "StoreRefused")
    assert "UploadPart" in report.failures[0].message
    assert fleet.files(table) == [("2024/3/20.parquet", ROWS)]

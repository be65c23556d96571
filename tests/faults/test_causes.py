"""The cause of a failure, and who must act, where people look: report, history, current details."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.exceptions import ApplicationError

from activities import errors, failpoints
from activities.contracts.export import PROGRESS_QUERY
from activities.core.faults import (
    BadRequest,
    BusRefused,
    CatalogRefused,
    CatalogUnavailable,
    Fault,
    ObjectRefused,
    StoreRefused,
    StoreUnavailable,
)
from support.evidence import retried
from support.faultproxy import Answer, Hold, HttpFaults
from support.fleet import eventually
from support.ownnats import STREAM, own_nats
from worker.parts import open_store

DENIED = b"<Error><Code>AccessDenied</Code><Message>You may not write here.</Message></Error>"


async def failures_of(fleet, activity: str) -> list[tuple[str, str, Any, bool]]:
    """Type, message, details and whether it was final, of each failed activity that the loop's history holds."""
    scheduled: dict[int, str] = {}
    found = []
    for event in (await fleet.loop().fetch_history()).events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            scheduled[event.event_id] = event.activity_task_scheduled_event_attributes.activity_type.name
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED:
            failed = event.activity_task_failed_event_attributes
            if scheduled[failed.scheduled_event_id] == activity:
                info = failed.failure.application_failure_info
                details = json.loads(info.details.payloads[0].data)
                found.append((info.type, failed.failure.message, details, info.non_retryable))
    return found


async def test_the_cause_of_a_failed_partition_and_who_must_act_are_in_report_history_and_current_details(fleet):
    fleet.set_export(partitions_per_commit=1, parallel_partitions=1)
    await fleet.make_days(days=2, rows=10)
    async with HttpFaults(fleet.stack.ports["s3"]) as store:
        fleet.point(s3=store.port)
        store.on(Answer(403, DENIED, "application/xml"), method="PUT", path=r"/2024/3/20\.parquet", times=None)
        later = Hold()
        store.on(later, method="PUT", path=r"/2024/3/19\.parquet", times=1)
        async with fleet.worker():
            request = await fleet.start()
            await eventually(lambda: store.count("PUT", r"/2024/3/19\.parquet"))
            progress = await fleet.loop().query(PROGRESS_QUERY)
            details = await fleet.loop().query("__temporal_workflow_metadata")
            later.released.set()
            report = await asyncio.wait_for(request.result(), 30)
    assert (report.status, report.exported, report.failed) == ("partial", 1, 1)
    (failed,) = report.failures
    assert (failed.partition, failed.cause, failed.who) == ("2024-03-20", "StoreRefused", "operator")
    assert "You may not write here" in failed.message
    assert progress["requests"][0]["failures"][0]["who"] == "operator"
    assert await failures_of(fleet, "export_partitions") == [
        ("StoreRefused", failed.message, {"who must act": "operator"}, True)
    ]
    line = f"2024-03-20: StoreRefused: {failed.message} (who must act: operator)"
    assert line in str(details)


async def test_what_nobody_foresaw_is_called_a_bug_is_ours_and_is_tried_as_often_as_the_policy_says(fleet):
    fleet.set_export(partition_attempts=2)
    await fleet.make_days(days=1, rows=10)
    tried: list[int] = []

    async def slip() -> None:
        tried.append(1)
        tried.index({"lines": 1}["rows"])

    async with fleet.worker():
        failpoints.arm("before-upload", slip)
        report = await fleet.request()
    (failed,) = report.failures
    assert (failed.cause, failed.who, len(tried)) == ("Bug", "us", 2)
    assert failed.message.startswith("KeyError: 'rows'; please report this")
    history = await fleet.loop().fetch_history()
    (event,) = [one for one in history.events if one.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED]
    failure = event.activity_task_failed_event_attributes.failure
    assert "slip" in failure.cause.stack_trace
    assert failure.cause.application_failure_info.type == "KeyError"


STORE_ANSWERS = [
    (403, "AccessDenied", StoreRefused),
    (400, "ExpiredToken", StoreRefused),
    (403, "RequestTimeTooSkewed", StoreRefused),
    (403, "QuotaExceeded", StoreRefused),
    (507, "XMinioStorageFull", StoreRefused),
    (501, "NotImplemented", StoreRefused),
    (409, "ConditionalRequestConflict", StoreUnavailable),
    (400, "BadDigest", StoreUnavailable),
]


async def test_what_the_store_answers_says_whether_asking_again_can_help(fleet):
    async with HttpFaults(fleet.stack.ports["s3"]) as store:
        fleet.point(s3=store.port)
        async with open_store(fleet.settings().environment(fleet.name)) as bucket:
            for status, code, fault in STORE_ANSWERS:
                body = f"<Error><Code>{code}</Code><Message>words of the store</Message></Error>".encode()
                store.mend()
                store.on(Answer(status, body, "application/xml"), method="PUT", times=None)
                with pytest.raises(fault, match=f"{code}.*words of the store"):
                    await bucket.create("no/such/object", b"body", "recipe")


CATALOG_ANSWERS = {
    401: CatalogRefused,
    403: CatalogRefused,
    404: CatalogRefused,
    422: CatalogRefused,
    501: CatalogRefused,
    429: CatalogUnavailable,
    503: CatalogUnavailable,
}


async def test_what_the_catalog_answers_says_whether_asking_again_can_help(fleet):
    async with HttpFaults(fleet.stack.ports["catalog"]) as catalog:
        fleet.point(catalog=catalog.port)
        async with fleet.context() as context:
            for status, fault in CATALOG_ANSWERS.items():
                error = {"message": f"words of the catalog about {status}", "type": "Answer", "code": status}
                catalog.mend()
                catalog.on(Answer(status, json.dumps({"error": error}).encode()), path=r"/v1/config", times=None)
                with pytest.raises(fault, match=f"words of the catalog about {status}"):
                    await asyncio.to_thread(context.lake.load, f"{fleet.network}.events")


async def test_a_foreign_message_where_events_are_announced_is_named_until_it_is_gone_and_then_they_are(
    fleet, tmp_path, monkeypatch
):
    monkeypatch.setattr(errors, "AGAIN_AFTER", timedelta(seconds=1))
    await fleet.make_days(days=1, rows=10)
    async with own_nats(tmp_path) as server:
        fleet.point(nats=server.port)
        async with fleet.worker() as context:
            subject = f"icefleet.{fleet.name}.snapshot.{fleet.network}.events"
            number = await context.bus.publish(subject, b"hello", {}, message_id=fleet.name, after=0)
            # Nobody waits for what cannot be announced.
            report = await fleet.request()
            said = await eventually(lambda: retried(fleet, "announce_snapshots"))
            await server.jetstream.delete_msg(STREAM, number)
            assert await fleet.loop_ended() == "COMPLETED"
            events = await server.events(fleet)
    assert f"{subject}: the last message on this subject" in said
    assert (report.exported, [event["snapshotId"] for event in events]) == (1, report.snapshots)


async def test_only_what_an_operator_can_mend_of_what_nobody_waits_for_is_tried_again_and_never_another_fault():
    for fault, again in ((BusRefused("no"), True), (BadRequest("no"), False), (ObjectRefused("no"), False)):
        with pytest.raises((ApplicationError, Fault)) as raised, errors.mended_by_people():
            raise fault
        told = raised.value if again else errors.to_application_error(raised.value)
        assert (told.type, told.non_retryable) == (type(fault).__name__, not again)


async def test_a_worker_whose_disk_is_full_says_so_to_whoever_runs_it_and_the_work_is_tried_again():
    class Room:
        @errors.faults_named
        async def work(self):
            await asyncio.to_thread(Path("/dev/full").write_bytes, b"more than there is room for")

    with pytest.raises(ApplicationError, match=r"no room is left on a disk of worker .*No space left") as raised:
        await Room().work()
    told = raised.value
    assert (told.type, told.details, told.non_retryable) == ("DiskFull", ({"who must act": "operator"},), False)

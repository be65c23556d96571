"""How requests end when something goes wrong or somebody changes their mind: nothing is lost, nothing hangs."""

import asyncio
import threading
from typing import Any

import pytest
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError, CancelledError

from activities import failpoints
from activities.context import ExportContext
from activities.contracts.export import ExportReport, Plan, PlanInput
from activities.core.faults import CatalogRefused, CatalogUnavailable, ObjectRefused, StoreRefused, StoreUnavailable
from activities.lake.commit import Commit, commit_files
from activities.plan import plan_page
from support.fleet import Fleet, eventually
from support.gate import Gate, failing_at, gate_at
from workflows.failures import cause_of

PENDING_CANCEL = PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED
PAGES = {"partitions_per_commit": 1, "partitions_per_plan": 1, "parallel_partitions": 1}


async def cancelled(request: WorkflowHandle[Any, Any], seconds: float = 20) -> None:
    """Wait until a request has ended as cancelled."""
    with pytest.raises(WorkflowFailureError) as ended:
        await asyncio.wait_for(request.result(), seconds)
    assert isinstance(ended.value.cause, CancelledError)


async def report_sent(fleet: Fleet, request: WorkflowHandle[Any, Any]) -> ExportReport:
    """The report that the loop signalled to a request."""

    async def found() -> Any:
        async for event in request.fetch_history_events():
            signal = event.workflow_execution_signaled_event_attributes
            if signal.signal_name == "report":
                return (await fleet.temporal.data_converter.decode(signal.input.payloads, [str, ExportReport]))[1]
        return None

    report: ExportReport = await eventually(found)
    return report


async def test_one_partition_that_fails_is_listed_and_stops_no_other(fleet):
    fleet.set_export(partition_attempts=2)
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker():
        async with failing_at("before-upload", lambda: StoreRefused("bucket icefleet: no right to write"), times=1):
            report = await fleet.request()
        again = await fleet.request()
    assert (report.status, report.missing, report.exported, report.failed) == ("partial", 3, 2, 1)
    assert [(failure.cause, failure.message) for failure in report.failures] == [
        ("StoreRefused", "bucket icefleet: no right to write")
    ]
    assert report.message == f"2 partitions with 20 rows committed to {fleet.network}.events, 1 failed"
    assert (again.exported, again.present) == (1, 2)


async def test_a_partition_is_tried_as_often_as_config_says_and_then_given_up(fleet):
    fleet.set_export(partition_attempts=2)
    await fleet.make_days(days=1, rows=10)
    async with fleet.worker(), failing_at("before-upload", lambda: StoreUnavailable("no answer")) as failed:
        report = await fleet.request()
    assert (report.status, report.failed, len(failed)) == ("partial", 1, 2)


async def test_a_commit_that_is_given_up_fails_its_partitions_and_the_next_request_adopts_the_objects(fleet):
    fleet.set_export(commit_attempts=2)
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker():
        async with failing_at("before-commit", lambda: CatalogUnavailable("no answer")) as failed:
            report = await fleet.request()
        assert (report.status, report.exported, report.failed, len(failed)) == ("partial", 0, 2, 2)
        assert [(failure.partition, failure.cause, failure.message) for failure in report.failures] == [
            (f"2024-03-{day}", "CatalogUnavailable", "uploaded, not committed: no answer") for day in (20, 19)
        ]
        again = await fleet.request()
    assert (again.status, again.exported, again.rows) == ("complete", 2, 20)
    assert [name for name, _ in fleet.files()] == ["2024/3/19.parquet", "2024/3/20.parquet"]


async def test_a_plan_that_fails_on_a_later_page_fails_the_request_with_what_was_done(fleet):
    fleet.set_export(**PAGES)
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker():
        async with gate_at("after-commit") as gate:
            request = await fleet.start()
            await gate.reached()
            await fleet.run_sql(f"DROP TABLE {fleet.database}.events SYNC")
            gate.open()
            with pytest.raises(WorkflowFailureError) as failed:
                await asyncio.wait_for(request.result(), 20)
        assert await fleet.loop_ended() == "COMPLETED"
    cause = failed.value.cause
    assert isinstance(cause, ApplicationError)
    assert cause.type == "SourceRefused"
    assert cause.message.startswith("table events: the source ")
    assert (cause.details[0]["exported"], cause.details[0]["rows"]) == (1, 10)
    assert cause.details[1] == {"who must act": cause.details[0]["who"]} == {"who must act": "operator"}


@pytest.mark.parametrize("point", ["before-upload", "after-commit"])
async def test_a_request_that_is_cancelled_ends_soon_and_leaves_the_others_alone(fleet, point):
    fleet.set_export(**PAGES)
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker():
        async with gate_at(point) as gate:
            unwanted = await fleet.start()
            await gate.reached()
            other = await fleet.start(from_="2024-03-18", to="2024-03-18")
            await unwanted.cancel()
            await cancelled(unwanted)
            gate.open()
            report: ExportReport = await asyncio.wait_for(other.result(), 20)
        assert await fleet.loop_ended() == "COMPLETED"
    assert (report.status, report.exported + report.present) == ("complete", 1)
    # What was committed has been announced, and nothing else.
    held = [name.removesuffix(".parquet").replace("/3/", "-03-") for name, _ in fleet.files()]
    events = [partition["partition"] for event in await fleet.events() for partition in event["partitions"]]
    assert sorted(events) == held
    assert len(held) == (2 if point == "after-commit" else 1)


async def test_a_request_that_is_cancelled_while_it_is_planned_does_not_end_the_loop(fleet, monkeypatch):
    await fleet.make_days(days=2, rows=10)
    gate = Gate(let_by=1)

    async def slowly(context: ExportContext, plan: PlanInput) -> Plan:
        await gate.hold()
        return await plan_page(context, plan)

    monkeypatch.setattr("activities.export.plan_page", slowly)
    async with fleet.worker():
        async with gate_at("before-commit") as commits:
            waiting = await fleet.start(from_="2024-03-20")
            await commits.reached()
            unwanted = await fleet.start(priority=0)
            other = await fleet.start(to="2024-03-19")
            commits.open()
            await gate.reached()
            await unwanted.cancel()
            await cancelled(unwanted)
            gate.open()
            reports: list[ExportReport] = await asyncio.gather(waiting.result(), other.result())
        assert await fleet.loop_ended() == "COMPLETED"
    assert [(report.status, report.exported) for report in reports] == [("complete", 1), ("complete", 1)]


class SlowCommits:
    """Commits that stay in their thread until they may go on, so that they land after whatever comes meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._begun, self._go = threading.Event(), threading.Event()
        monkeypatch.setattr("activities.committing.commit_files", self._commit)

    def _commit(self, *args: Any, **options: Any) -> Commit:
        self._begun.set()
        assert self._go.wait(20)
        return commit_files(*args, **options)

    async def begun(self) -> None:
        """Wait for the first one."""
        assert await asyncio.to_thread(self._begun.wait, 20)

    def go(self) -> None:
        """Let them land."""
        self._go.set()


async def test_a_commit_that_lands_although_its_request_is_cancelled_is_counted_and_announced(fleet, monkeypatch):
    await fleet.make_days(days=2, rows=10)
    commits = SlowCommits(monkeypatch)
    async with fleet.worker():
        request = await fleet.start()
        await commits.begun()
        await request.cancel()
        await cancellation_heard(fleet)
        commits.go()
        await cancelled(request)
        report = await report_sent(fleet, request)
        assert await fleet.loop_ended() == "COMPLETED"
    assert len(fleet.files()) == 2
    assert len(await fleet.events()) == 1
    assert (report.status, report.exported, report.rows) == ("complete", 2, 20)


async def test_a_loop_that_is_cancelled_while_a_commit_lands_counts_it_and_begins_no_other_page(fleet, monkeypatch):
    fleet.set_export(**PAGES)
    await fleet.make_days(days=3, rows=10)
    commits = SlowCommits(monkeypatch)
    async with fleet.worker():
        request = await fleet.start()
        await commits.begun()
        await fleet.loop().cancel()
        await cancellation_heard(fleet)
        commits.go()
        assert await fleet.loop_ended() == "CANCELED"
        report: ExportReport = await request.result()
    assert (report.status, report.exported, report.rows) == ("cancelled", 1, 10)
    assert len(fleet.files()) == 1


async def cancellation_heard(fleet: Fleet) -> None:
    """Wait until the worker has heard that the loop's activity is to stop: by two heartbeats, or by its end."""
    beats: set[float] = set()

    async def heard() -> bool:
        pending = [*(await fleet.loop().describe()).raw_description.pending_activities]
        beats.update(one.last_heartbeat_time.ToNanoseconds() for one in pending if one.state == PENDING_CANCEL)
        # The first one seen may have left before the cancellation; its answer brings it.
        return not pending or len(beats) > 2

    await eventually(heard)


async def test_a_loop_that_is_cancelled_tells_everybody_and_is_cancelled(fleet):
    fleet.set_export(**PAGES)
    await fleet.make_days(days=3, rows=10)
    async with fleet.worker(), gate_at("before-upload") as gate:
        requests = [await fleet.start(), await fleet.start(from_="2024-03-18", to="2024-03-18")]
        await gate.reached()

        async def both() -> bool:
            progress = await fleet.loop().query("progress")
            return len(progress["requests"]) + progress["waiting"] == 2

        await eventually(both)
        await fleet.loop().cancel()
        ended = asyncio.create_task(fleet.loop_ended())
        await asyncio.sleep(0)
        gate.open()
        assert await ended == "CANCELED"
        first: ExportReport = await asyncio.wait_for(requests[0].result(), 20)
    assert (first.status, first.message) == ("cancelled", "the export loop was cancelled")


async def test_an_announcement_that_nothing_can_mend_does_not_keep_the_loop_alive(fleet):
    fleet.set_export(**PAGES)
    await fleet.make_days(days=3, rows=10)
    gate = Gate()

    async def hold_and_fail() -> None:
        await gate.hold()
        raise ObjectRefused("a file without bounds")

    async with fleet.worker():
        failpoints.arm("before-announce", hold_and_fail)
        request = await fleet.start()
        await gate.reached()
        report: ExportReport = await request.result()  # more has been committed, and is to be announced, meanwhile
        gate.open()
        assert await fleet.loop_ended() == "COMPLETED"
        assert (report.status, report.exported) == ("complete", 3)
        assert await fleet.events() == []
        failpoints.disarm()
        await fleet.request()
        await fleet.loop_ended()
    assert len(await fleet.events()) == 3


def test_a_cause_is_the_fault_and_its_own_words():
    class Failure:
        cause = ApplicationError("no such warehouse", type=CatalogRefused.__name__)

    assert cause_of(Failure()) == ("CatalogRefused", "no such warehouse", "us")  # type: ignore[arg-type]

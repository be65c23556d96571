"""What people see of the work while it runs: progress, current details, and workflows found by their table."""

import dataclasses
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from activities import failpoints
from activities.contracts.export import (
    PROGRESS_QUERY,
    CommitReport,
    ExportLimits,
    ExportReport,
    ExportRequest,
    Plan,
    PlannedPartition,
    SubmittedRequest,
)
from activities.contracts.inputs import write_input
from activities.core.faults import StoreRefused
from support.backfills import details
from support.fleet import eventually
from support.gate import Gate, gate_at
from workflows.export_requests import LISTED_FAILURES, ActiveRequest
from workflows.policies import AT_ONCE, turn_of

LIMITS = ExportLimits(4, 32, 40, 20, 60, 5, 10, 1, 10_000, 16, 100)


async def test_progress_and_current_details_show_what_is_planned_done_and_in_flight(fleet):
    fleet.set_export(partitions_per_commit=2, parallel_partitions=2)
    await fleet.make_days(days=4, rows=10)
    async with fleet.worker(), gate_at("before-upload", let_by=2) as gate:
        request = await fleet.start(from_="2024-03-17")
        await gate.reached()

        async def second_page() -> Any:
            progress = await fleet.loop().query(PROGRESS_QUERY)
            return progress if len(progress["in_flight"]) == 2 and progress["requests"][0]["exported"] else None

        progress = await eventually(second_page)
        text = await details(fleet.loop())
        door = await details(request)
        gate.open()
        report: ExportReport = await request.result()
    (mine,) = progress["requests"]
    assert progress["table"] == f"{fleet.network}.events"
    assert sorted(progress["in_flight"]) == ["2024-03-17", "2024-03-18"]
    assert mine["id"].startswith(f"{request.id}/")
    assert {name: mine[name] for name in ("planned_next", "expected", "missing", "exported", "rows", "failed")} == {
        "planned_next": 2,
        "expected": 4,
        "missing": 4,
        "exported": 2,
        "rows": 20,
        "failed": 0,
    }
    assert text.splitlines()[0] == f"**{fleet.network}.events**"
    assert f"`{mine['id']}`: 2 of 4 partitions, 0 more uploaded, 20 rows, {mine['bytes']:,} bytes, 0 failed" in text
    assert "in flight: 2024-03-18, 2024-03-17" in text
    assert fleet.loop().id in door
    assert (report.exported, report.rows) == (4, 40)


async def test_a_failure_is_seen_while_the_others_go_on(fleet):
    fleet.set_export(partitions_per_commit=1, parallel_partitions=1)
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker():
        gate, failed = Gate(), []

        async def fail_once_then_hold() -> None:
            if not failed:
                failed.append("before-upload")
                raise StoreRefused("no right to write")
            await gate.hold()

        failpoints.arm("before-upload", fail_once_then_hold)
        request = await fleet.start()
        await gate.reached()
        progress = await fleet.loop().query(PROGRESS_QUERY)
        text = await details(fleet.loop())
        gate.open()
        report: ExportReport = await request.result()
    assert [(failure["partition"], failure["cause"]) for failure in progress["requests"][0]["failures"]] == [
        ("2024-03-20", "StoreRefused")
    ]
    assert "2024-03-20: StoreRefused: no right to write (who must act: operator)" in text
    assert "in flight: 2024-03-19" in text
    assert (report.status, report.exported, report.failed) == ("partial", 1, 1)


async def test_request_and_loop_are_found_by_environment_table_and_network(fleet):
    await fleet.make_days(days=1, rows=10)
    async with fleet.worker():
        request = await fleet.start()
        await request.result()
        await fleet.loop_ended()
    query = f"IcefleetEnvironment = '{fleet.name}' AND IcefleetNetwork = '{fleet.network}' AND IcefleetTable = 'events'"

    async def found() -> Any:
        workflows = {workflow.id async for workflow in fleet.temporal.list_workflows(query)}
        return workflows if len(workflows) > 1 else None

    assert await eventually(found) == {request.id, fleet.loop().id}
    assert [workflow async for workflow in fleet.temporal.list_workflows(f"{query} AND IcefleetTable = 'other'")] == []


labels = st.from_regex(r"2024-0[1-9]-[12]\d", fullmatch=True)
planned = st.builds(PlannedPartition, labels, st.sampled_from(["missing", "stale", "forced"]), st.text(max_size=9))
plans = st.builds(
    Plan,
    identifier=st.just("mainnet.blocks"),
    todo=st.lists(planned, max_size=4),
    cursor=st.just("") | labels,
    limits=st.just(LIMITS),
    expected=st.integers(0, 99),
    shrunk=st.lists(labels, max_size=2),
)
requests = st.builds(
    ExportRequest, table=st.just("blocks"), network=st.just("mainnet"), from_=st.just("") | labels, force=st.booleans()
)


@given(requests, plans | st.none(), st.lists(labels, max_size=3))
def test_a_request_survives_continuing_as_new_whole(asked, plan, failed):
    request = ActiveRequest(SubmittedRequest("id", "who", write_input(asked)), asked)
    if plan is not None:
        request.planned(plan)
        request.empty_ranges = []  # they go with the next commit, and every page ends with one
        request.committed(CommitReport("123", 1, 0, 10, 100))
    for label in failed:
        request.failed(label, "StoreRefused", "no", "operator")
    back = ActiveRequest.load(request.dump())
    assert (back.submitted, back.request, back.todo, back.report) == (
        request.submitted,
        request.request,
        request.todo,
        request.report,
    )
    assert (back.needs_plan, back.finished, back.priority) == (request.needs_plan, request.finished, request.priority)
    if plan is not None:
        assert back.plan == dataclasses.replace(plan, todo=[], empty_ranges=[])


def test_a_report_counts_every_failure_and_lists_the_first_hundred():
    request = ActiveRequest(SubmittedRequest("id", "", {}), ExportRequest("t", "n"))
    for number in range(LISTED_FAILURES + 20):
        request.failed(str(number), "StoreRefused", "no", "operator")
    assert (request.report.failed, len(request.report.failures)) == (120, 100)
    assert request.report.failures[0].partition == "0"


def test_what_is_due_goes_before_a_range_unless_the_request_says_otherwise():
    asked = [
        ExportRequest("t", "n"),
        ExportRequest("t", "n", from_=0),
        ExportRequest("t", "n", to="2024-03-20"),
        ExportRequest("t", "n", priority=7),
    ]
    assert [ActiveRequest(SubmittedRequest("id", "", {}), request).priority for request in asked] == [1, 2, 2, 7]


def test_requests_stand_in_temporals_line_by_their_priority_and_never_before_commits():
    turns = [turn_of(priority).priority_key for priority in (-7, 0, 1, 2, 3, 4, 99)]
    assert turns == [2, 2, 2, 3, 4, 5, 5]
    assert AT_ONCE.priority_key == 1


def test_the_closing_words_of_each_ending():
    def words(**counts):
        request = ActiveRequest(SubmittedRequest("id", "", {}), ExportRequest("t", "n"), report=ExportReport(**counts))
        return request.closing_message("m.t")

    assert words(status="nothing_to_do", present=3, empty=2, open=1) == (
        "nothing to do: m.t holds all 3 of the closed partitions asked for, 2 empty, 1 still open"
    )
    assert words(status="partial", exported=3, rows=30, already_there=1, failed=2) == (
        "3 partitions with 30 rows committed to m.t, 1 were there already, 2 failed"
    )

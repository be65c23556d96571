"""One backfill over many tables and networks, seen from outside."""

import asyncio
import json
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from typer.testing import CliRunner, Result

from activities.contracts.export import LOOP_WORKFLOW
from starter.main import build
from support.backfills import backfill, files_of, make_days_of_networks, progress_when, start_backfill
from support.fleet import Fleet, eventually
from support.gate import gate_at

DAYS = [("2024/3/18.parquet", 10), ("2024/3/19.parquet", 10), ("2024/3/20.parquet", 10)]
RANGE = {"from_": "2024-03-01", "to": "2024-03-20"}


async def delivered(fleet: Fleet, workflow_id: str) -> tuple[int, list[str]]:
    """The runs that a backfill took, and the id of every request that it delivered, in order."""
    ids: list[str] = []
    runs = [run async for run in fleet.temporal.list_workflows(f"WorkflowId = '{workflow_id}'")]
    for run in runs:
        handle = fleet.temporal.get_workflow_handle(run.id, run_id=run.run_id)
        async for event in handle.fetch_history_events():
            scheduled = event.activity_task_scheduled_event_attributes
            if scheduled.activity_type.name == "deliver_request":
                ids.append(json.loads(scheduled.input.payloads[0].data)["id"])
    return len(runs), ids


async def test_a_pattern_fills_every_table_and_network_once_and_whoever_asks_again_hears_that_all_is_there(fleet):
    networks = [fleet.network, f"{fleet.network}b"]
    for table in ("events_a", "events_b"):
        await make_days_of_networks(fleet, table, networks, days=3, rows=10)
    await fleet.make_days("others", days=1, rows=10)
    asked: dict[str, Any] = {"networks": networks, **RANGE}
    async with fleet.worker():
        planned = await backfill(fleet, "events_*", dry_run=True, **asked)
        untouched = [files_of(fleet, network, "events_a") for network in networks]
        first = await backfill(fleet, "events_*", **asked)
        again = await backfill(fleet, "events_*", **asked)
        known = await backfill(fleet, "events_*", dry_run=True, force=True, **asked)
    assert (planned.status, planned.missing, planned.rows, planned.exported) == ("dry_run", 12, 120, 0)
    assert planned.bytes > 0
    assert untouched == [[], []]
    assert (first.status, first.exported, first.rows, first.snapshots) == ("complete", 12, 120, 4)
    assert first.message == "12 partitions with 120 rows committed to 4 tables"
    for network in networks:
        assert files_of(fleet, network, "events_a") == files_of(fleet, network, "events_b") == DAYS
    assert [(lane.status, lane.exported, lane.expected, lane.total) for lane in first.lanes] == [
        ("done", 3, 20, 20)
    ] * 4
    assert (again.status, again.exported, again.present) == ("nothing_to_do", 0, 12)
    # Once there are files, their own bytes say how large a row is.
    assert (known.forced, known.bytes) == (12, pytest.approx(first.bytes, rel=0.01))
    assert {lane.bytes_from for lane in known.lanes} == {"table"}
    assert fleet.table("others") is None


async def test_a_slice_in_flight_keeps_its_id_when_the_backfill_continues_as_new(fleet):
    fleet.set_export(pages_per_run=1)
    for table in ("events_a", "events_b"):
        await fleet.make_days(table, days=3, rows=10)
    async with fleet.worker():
        handle = await start_backfill(fleet, "events_*", partitions_per_request=1)
        report = await asyncio.wait_for(handle.result(), 60)

    async def indexed() -> tuple[int, list[str]]:
        runs, ids = await delivered(fleet, handle.id)
        return (runs, ids) if len(ids) >= 6 else (0, [])

    runs, ids = await eventually(indexed)
    assert (report.status, report.exported, report.snapshots) == ("complete", 6, 6)
    assert runs > 2
    assert len(ids) == len(set(ids)) == 6, "one for each slice, delivered once"
    assert fleet.files("events_a") == fleet.files("events_b") == DAYS


async def test_pause_parallelism_and_skip_are_obeyed_and_seen_and_what_is_no_order_is_refused(fleet):
    for table in ("events_a", "events_b", "events_c"):
        await fleet.make_days(table, days=3, rows=10)
    names = {table: f"{fleet.network}.events_{table}" for table in "abc"}
    async with fleet.worker(), gate_at("before-upload") as gate:
        handle = await start_backfill(fleet, "events_*", max_parallel=1)
        await gate.reached()
        running = await progress_when(handle, tables={"running": 1, "waiting": 2})
        for nonsense in ([], ["two"], [0], [True], [1, 2]):
            await handle.signal("set_parallelism", args=nonsense)
        await handle.signal("skip", {"table": "events_b"})
        await handle.signal("report", "nobody asked")
        await handle.signal("pause")
        paused = await progress_when(handle, tables={"paused": 3}, in_flight={})
        await fleet.loop_ended("events_a")
        await handle.signal("set_parallelism", 2)
        await handle.signal("skip", "*.events_b")
        await progress_when(handle, max_parallel=2, tables={"paused": 2, "skipped": 1})
        await handle.signal("resume")
        resumed = await progress_when(handle, tables={"running": 2, "skipped": 1})
        gate.open()
        report = await asyncio.wait_for(handle.result(), 60)
    assert (running["status"], list(running["in_flight"])) == ("running", [names["a"]])
    assert (paused["status"], paused["max_parallel"], paused["exported"]) == ("paused", 1, 0)
    assert list(resumed["in_flight"]) == [names["a"], names["c"]]
    assert {lane.table: lane.status for lane in report.lanes} == {
        names["a"]: "done",
        names["b"]: "skipped",
        names["c"]: "done",
    }
    assert (report.status, report.exported) == ("complete", 6)
    assert fleet.table("events_b") is None


async def test_a_cancelled_backfill_leaves_no_request_in_the_loops_and_nothing_half_done(fleet):
    for table in ("events_a", "events_b"):
        await fleet.make_days(table, days=3, rows=10)
    async with fleet.worker(), gate_at("before-upload") as gate:
        handle = await start_backfill(fleet, "events_*")
        await progress_when(handle, tables={"running": 2})
        await gate.reached()
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(handle.result(), 30)
        # Each has nothing left to do while the gate is still closed: nobody works for the backfill any more.
        ended = [await fleet.loop_ended(table) for table in ("events_a", "events_b")]
        progress = await handle.query("progress")
        gate.open()
        fresh = await backfill(fleet, "events_*")
    assert (await handle.describe()).status.name == "CANCELED"
    assert ended == ["COMPLETED", "COMPLETED"]
    assert (progress["status"], progress["in_flight"], progress["exported"]) == ("cancelled", {}, 0)
    assert (fresh.status, fresh.exported) == ("complete", 6)


async def test_what_is_due_is_exported_before_the_next_page_of_a_backfill_of_the_same_table(fleet):
    fleet.set_export(partitions_per_commit=1)
    await fleet.make_hours(hours=5, rows=10)
    async with fleet.worker():
        async with gate_at("before-commit") as gate:
            handle = await start_backfill(fleet, "events", oldest_first=True)
            await gate.reached()
            due = await fleet.start()
            await eventually(lambda: waiting(fleet))
            gate.open()
            served = await asyncio.wait_for(due.result(), 60)
        report = await asyncio.wait_for(handle.result(), 60)
    hours = [event["partitions"][0]["partition"][-3:] for event in await fleet.events()]
    assert hours == ["T19", "T23", "T22", "T21", "T20"]
    assert (served.exported, report.exported, report.already_there) == (4, 1, 4)


async def waiting(fleet: Fleet) -> bool:
    """Whether a request waits for the loop's page to end."""
    return bool((await fleet.loop().query("progress"))["waiting"])


async def test_a_table_that_fails_is_named_with_its_cause_and_the_others_go_on(fleet):
    await fleet.make_days(days=2, rows=10)
    fleet.add_table("daily", "absent", "at")
    async with fleet.worker():
        report = await backfill(fleet, "absent", "events")
        with pytest.raises(WorkflowFailureError) as alone:
            await backfill(fleet, "absent")
    assert (report.status, report.exported) == ("partial", 2)
    assert [(lane.status, lane.cause, lane.who) for lane in report.lanes] == [
        ("failed", "SourceRefused", "operator"),
        ("done", "", ""),
    ]
    assert [(one.table, one.partition, one.cause) for one in report.failures] == [
        (f"{fleet.network}.absent", "", "SourceRefused")
    ]
    assert alone.value.cause.type == "SourceRefused"


async def test_everything_that_is_wrong_with_a_backfill_is_named_at_once_and_no_loop_hears_of_it(fleet):
    await fleet.make_days("events_a", days=1, rows=10)
    fleet.add_table("chunked", "events_blocks", "number")
    async with fleet.worker():
        with pytest.raises(WorkflowFailureError) as wrong:
            await backfill(
                fleet,
                "events_*",
                "event_a",
                networks=[fleet.network, "mainet"],
                from_="2024-03-01",
                to="2024-03-20",
                max_parallel=0,
            )
        with pytest.raises(WorkflowFailureError) as mistyped:
            await backfill(fleet, "events_a", networks=[7])
    failure = wrong.value.cause
    assert failure.type == "BadRequest"
    assert failure.message == (
        f"no table has a network 'mainet'; known: `{fleet.network}`; "
        "no table 'event_a' in config; did you mean `events_a` or `events_blocks`?; "
        "field 'max_parallel' must be from 1 to 100; it is 0; "
        "the range does not fit events_blocks (integer partitions): '2024-03-01' is not a value of number: write a "
        "whole number from 0, such as 20000000; name only tables that are cut alike, and start another backfill for "
        "the others"
    )
    assert mistyped.value.cause.message == "field 'networks': element 1 must be a text; it is 7"
    query = f"TaskQueue = '{fleet.queue}' AND WorkflowType = '{LOOP_WORKFLOW}'"
    assert [run.id async for run in fleet.temporal.list_workflows(query)] == []


async def test_dates_choose_the_chunks_of_their_blocks_where_config_names_a_clock(fleet):
    """Three days of ten blocks each, in chunks of four: 0 to 3, 4 to 7, …, of which the last days hold 10 to 29."""
    await fleet.make_days("chain_days", days=3, rows=10)
    await fleet.make_days("chain_blocks", days=3, rows=10)
    events = f"{fleet.database}.chain_blocks"
    await fleet.run_sql(f"TRUNCATE TABLE {events}")
    await fleet.run_sql(
        f"INSERT INTO {events} (at, number, network) SELECT toDateTime('2024-03-18 00:00:00', 'UTC') "
        f"+ intDiv(number, 10) * 86400, number, '{fleet.network}' FROM numbers(30)"
    )
    clock = {"table": "chain_blocks", "column": "at"}
    fleet.add_table("chunked", "chain_blocks", "number", types={"number": "long"}, partition={"clock": clock})
    fleet.tables[-1][1]["partition"] |= {"chunk_size": 4}
    fleet.write_config()
    payload = {
        "environment": fleet.name,
        "tables": ["chain_*"],
        "networks": [fleet.network],
        "from": "2024-03-19",
        "to": "2024-03-20",
    }
    async with fleet.worker():
        handle = await fleet.temporal.start_workflow("Backfill", payload, id=f"b-{fleet.name}", task_queue=fleet.queue)
        report = await asyncio.wait_for(handle.result(), 60)
        nothing = await backfill(fleet, "chain_blocks", from_="2023-01-01", to="2023-12-31")
        since = await backfill(fleet, "chain_blocks", from_="2024-03-20", dry_run=True)
        with pytest.raises(WorkflowFailureError) as mixed:
            await backfill(fleet, "chain_blocks", from_="2024-03-20", to="29")
    assert report["status"] == "complete"
    assert [name for name, _ in files_of(fleet, fleet.network, "chain_days")] == [
        "2024/3/19.parquet",
        "2024/3/20.parquet",
    ]
    # The newest chunk, 28 and 29, is not complete.
    assert [name for name, _ in files_of(fleet, fleet.network, "chain_blocks")] == [
        f"4/{start}.parquet" for start in (12, 16, 20, 24, 8)
    ]
    assert (nothing.status, nothing.lanes[0].message) == ("nothing_to_do", "the source has nothing at these dates")
    assert (since.expected, since.present) == (2, 2)
    assert "'29' is no date, and the other end of the range is one" in mixed.value.cause.message


async def test_a_dry_run_counts_a_table_of_25_000_partitions(fleet):
    await fleet.make_days("blocks", days=1, rows=1)
    await fleet.run_sql(f"TRUNCATE TABLE {fleet.database}.blocks")
    await fleet.run_sql(
        f"INSERT INTO {fleet.database}.blocks (at, number, network) "
        f"SELECT 0, number * 1000, '{fleet.network}' FROM numbers(25001)"
    )
    fleet.add_table("chunked", "blocks", "number", types={"number": "long"}, network={"end_index": 24_999_999})
    async with fleet.worker():
        report = await backfill(fleet, "group:chunked", dry_run=True)
    (lane,) = report.lanes
    assert (report.status, report.missing, report.rows, report.expected) == ("dry_run", 25_000, 25_000, 25_000)
    assert (lane.total, lane.bytes_from, lane.bytes > 0) == (25_000, "source", True)


async def say(fleet: Fleet, *words: str) -> Result:
    """Run `icefleet backfill …` in this process, which has loaded everything that it needs."""
    every = ["backfill", *words]
    return await asyncio.to_thread(CliRunner().invoke, build(every), every, env=fleet.variables())


async def test_the_command_starts_waits_shows_steers_and_refuses(fleet):
    await fleet.make_days(days=2, rows=10)
    async with fleet.worker(), gate_at("before-upload") as gate:
        started = await say(fleet, "start", "events", "--to", "2024-03-20", "--json")
        identity = json.loads(started.stdout)["workflow_id"]
        await gate.reached()
        shown = await say(fleet, "show", identity)
        steered = [await say(fleet, *words) for words in (["pause", identity], ["parallelism", identity, "2"])]
        progress = await progress_when(
            fleet.temporal.get_workflow_handle(identity), tables={"paused": 1}, max_parallel=2
        )
        steered.append(await say(fleet, "resume", identity))
        gate.open()
        code, output, errors = await fleet.command("backfill", "show", identity, "--wait")
        refused = await say(fleet, "start", "evnets", "--wait")
        late = await say(fleet, "skip", identity, "events")
        unknown = await say(fleet, "show", "nothing")

        async def listed() -> list[dict[str, str]]:
            found: list[dict[str, str]] = json.loads((await say(fleet, "list", "--all", "--json")).stdout)
            return [one for one in found if one["id"] == identity and one["status"] == "completed"]

        assert await eventually(listed)
    assert f"{fleet.network}.events  running" in shown.output
    assert [one.exit_code for one in (started, shown, *steered)] == [0] * 5
    assert progress["status"] == "paused"
    assert (code, errors) == (0, "")
    assert "2 partitions with 20 rows committed to 1 table" in output
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "error: BadRequest: no table 'evnets' in config; did you mean `events`?" in refused.output
    assert (late.exit_code, unknown.exit_code) == (2, 2)
    assert f"the backfill {identity} has ended already: completed" in late.output

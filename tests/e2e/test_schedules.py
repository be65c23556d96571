"""Schedules on a real Temporal: made once, changed where they differ, and healing what was missed."""

import asyncio
import json
import uuid
from typing import Any

import pytest
import yaml
from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleSpec,
    WorkflowFailureError,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import ApplicationError, CancelledError
from typer.testing import CliRunner, Result

from activities.contracts.due import DUE_WORKFLOW
from activities.contracts.export import ENVIRONMENT_ATTRIBUTE
from starter.main import build
from support.fleet import Fleet, eventually
from support.gate import gate_at

CRON = "0 0 29 2 *"
"""Far enough away: nothing starts by itself while a test looks."""


def write_schedules(fleet: Fleet, **levels: Any) -> None:
    said = {"defaults": {"cron": CRON, "jitter": "0s"}, **levels}
    (fleet.directory / "schedules.yaml").write_text(yaml.safe_dump({"schedules": said}))


async def command(fleet: Fleet, *words: str) -> Result:
    """`icefleet schedules …` in this process, which has loaded everything already."""
    arguments = ["schedules", *words]
    ours = {name: fleet.variables()[name] for name in ("ICEFLEET_CONFIG_DIR", "ICEFLEET_ENVIRONMENT")}
    return await asyncio.to_thread(CliRunner().invoke, build(arguments), arguments, env=ours)


async def schedules(fleet: Fleet, *words: str, code: int = 0) -> Any:
    """Run a command about schedules that answers JSON."""
    ended = await command(fleet, *words, "--json")
    assert ended.exit_code == code, ended.output
    return json.loads(ended.stdout)


async def test_apply_makes_what_is_new_changes_what_differs_and_removes_only_when_told(fleet):
    for name in ("blocks", "heads", "votes"):
        fleet.add_table("daily", name, "at")
    write_schedules(fleet, tables={"votes": {"paused": True, "note": "not yet"}})
    ids = [f"export/{fleet.name}/{name}" for name in ("blocks", "heads", "votes")]
    asked = await command(fleet, "apply")
    assert (asked.exit_code, asked.stderr) == (2, "error: nobody is there to be asked: say --yes\n")
    assert (await schedules(fleet, "apply", "--yes"))["new"] == ids
    again = await schedules(fleet, "apply", "--yes")
    assert (again["unchanged"], again["new"], again["changed"], again["applied"]) == (ids, [], [], False)

    described = await fleet.temporal.get_schedule_handle(ids[0]).describe()
    assert await described.memo() == {
        "icefleet": fleet.name,
        "table": "blocks",
        "mapping": f"{fleet.name}.default → {fleet.name}",
    }
    assert described.typed_search_attributes[ENVIRONMENT_ATTRIBUTE] == fleet.name
    assert described.schedule.state.note == "as schedules.yaml says"

    await fleet.temporal.get_schedule_handle(ids[1]).pause(note="the source is being moved")
    write_schedules(
        fleet,
        kinds={"daily": {"time_zone": "Europe/Berlin"}},
        tables={"blocks": {"cron": "30 1 * * mon-fri", "max_partitions": 7, "overlap": "buffer_one"}},
    )
    fleet.tables = [entry for entry in fleet.tables if entry[1]["name"] != "heads"]
    fleet.write_config()
    seen = await schedules(fleet, "diff")
    assert seen["gone"] == [ids[1]]
    fields = {one["id"]: one["fields"] for one in seen["changed"]}
    assert fields[ids[0]] == {
        "cron": {"is": CRON, "wanted": "30 1 * * 1-5"},
        "time_zone": {"is": "UTC", "wanted": "Europe/Berlin"},
        "overlap": {"is": "skip", "wanted": "buffer_one"},
        "input": {
            "is": {"table": "blocks", "environment": fleet.name, "networks": [], "max_partitions": 1000},
            "wanted": {"table": "blocks", "environment": fleet.name, "networks": [], "max_partitions": 7},
        },
    }
    assert fields[ids[2]]["paused"] == {"is": True, "wanted": False}, "config paused it, so config resumes it"
    assert (await schedules(fleet, "apply", "--yes"))["gone"] == [ids[1]]
    assert (await fleet.temporal.get_schedule_handle(ids[1]).describe()).schedule.state.paused
    assert (await schedules(fleet, "apply", "--yes", "--prune"))["applied"]
    left = await eventually(lambda: _names(fleet, {ids[0], ids[2]}))
    assert left == {ids[0], ids[2]}


async def _names(fleet: Fleet, wanted: set[str]) -> set[str]:
    found = {one["id"] for one in await schedules(fleet, "list")}
    return found if found == wanted else set()


async def test_a_pause_of_a_person_and_a_schedule_of_somebody_else_are_left_alone(fleet):
    for name in ("blocks", "heads"):
        fleet.add_table("daily", name, "at")
    write_schedules(fleet)
    mine, theirs = (f"export/{fleet.name}/{name}" for name in ("blocks", "heads"))
    foreign = Schedule(
        ScheduleActionStartWorkflow("Other", id="other", task_queue="nobody"),
        ScheduleSpec(cron_expressions=[CRON]),
    )
    attributes = TypedSearchAttributes([SearchAttributePair(ENVIRONMENT_ATTRIBUTE, fleet.name)])
    taken = await fleet.temporal.create_schedule(theirs, foreign, search_attributes=attributes)
    other = await fleet.temporal.create_schedule(f"mine-{fleet.name}", foreign, search_attributes=attributes)
    try:
        refused = await schedules(fleet, "apply", "--yes", "--prune", code=1)
        assert (refused["new"], refused["foreign"], refused["gone"]) == ([mine], [theirs], [])
        await eventually(lambda: _names(fleet, {mine}))
        paused = await command(fleet, "pause", "blocks", "--note", "moving house")
        assert (paused.exit_code, paused.stdout) == (0, f"paused {mine}\n")
        write_schedules(fleet, tables={"blocks": {"cron": "5 4 29 2 *", "note": "early"}})
        changed = await schedules(fleet, "apply", "--yes", "blocks")
        assert [set(one["fields"]) for one in changed["changed"]] == [{"cron"}]
        [seen] = await schedules(fleet, "list")
        assert (seen["cron"], seen["paused"], seen["note"], seen["next_run"]) == (
            "5 4 29 2 *",
            True,
            "moving house",
            None,
        )
        await command(fleet, "resume", "--all")
        state = (await fleet.temporal.get_schedule_handle(mine).describe()).schedule.state
        assert (state.paused, state.note) == (False, "early")
        refused = await command(fleet, "delete", "heads", "--yes")
        assert refused.exit_code == 2
        assert "no schedule of environment" in refused.stderr
        assert (await other.describe()).schedule.action.workflow == "Other"
    finally:
        await asyncio.gather(taken.delete(), other.delete())


async def triggered(fleet: Fleet, outcome: str = "completed", table: str = "events") -> dict[str, Any]:
    """Trigger a table's schedule, and wait for the run; answers what is listed of it."""
    before = await schedules(fleet, "list", table)
    assert (await command(fleet, "trigger", table)).exit_code == 0

    async def ended() -> Any:
        [seen] = await schedules(fleet, "list", table)
        new = seen["last_workflow_id"] != (before[0]["last_workflow_id"] if before else "")
        return seen if new and seen["outcome"] not in {"", "running"} else None

    seen = await eventually(ended, every=0.3)
    assert seen["outcome"] == outcome, seen
    return seen


async def test_a_run_heals_missed_days_of_every_network_and_one_that_fails_stops_no_other(fleet):
    networks = [fleet.network, f"{fleet.network}b"]

    def until(day: str) -> None:
        ranges = [{"name": name, "start_date": "2024-03-18", "end_date": day} for name in networks]
        fleet.add_table("daily", "events", "at", networks=ranges, types={"number": "long"})

    await fleet.make_days(days=3, rows=10)
    await fleet.run_sql(
        f"INSERT INTO {fleet.database}.events SELECT updated, at, number, name, '{networks[1]}' "
        f"FROM {fleet.database}.events"
    )
    write_schedules(fleet)
    until("2024-03-18")
    await schedules(fleet, "apply", "--yes")
    await eventually(lambda: _names(fleet, {f"export/{fleet.name}/events"}))
    async with fleet.worker():
        await triggered(fleet)
    until("2024-03-20")
    async with fleet.worker():
        seen = await triggered(fleet)
        for network in networks:
            assert f"{network}: 2 partitions with 20 rows committed to {network}.events" in seen["message"]
            files = fleet.load(f"{network}.events").inspect.files().to_pylist()
            assert sum(file["record_count"] for file in files) == 30

        await fleet.insert(
            "events", "toDateTime('2024-03-20 05:00:00', 'UTC')", 1, offset=2**63, updated="2024-05-01 00:00:00"
        )
        await fleet.run_sql(
            f"INSERT INTO {fleet.database}.events SELECT toDateTime('2024-05-01 00:00:00', 'UTC'), "
            f"toDateTime('2024-03-20 06:00:00', 'UTC'), 7000, 'late', '{networks[1]}'"
        )
        seen = await triggered(fleet, "failed")
        assert f"{networks[0]}: 0 partitions with 0 rows committed to {networks[0]}.events, 1 failed" in seen["message"]
        assert "(2024-03-20: UnsupportedType: " in seen["message"]
        assert f"{networks[1]}: 1 partitions with 11 rows committed" in seen["message"]


async def test_a_chunked_table_follows_the_head_of_its_chain_by_its_lag_and_no_further(fleet):
    await fleet._make("chunked", "blocks", 1, 3_098, 1, {"lag": 100})
    fleet.add_table("chunked", "blocks", "number", lag=100, types={"number": "long"})
    write_schedules(fleet)
    await schedules(fleet, "apply", "--yes")
    await eventually(lambda: _names(fleet, {f"export/{fleet.name}/blocks"}))

    async def rows_to(first: int, stop: int) -> None:
        await fleet.insert("blocks", "toDateTime('2024-03-20 00:00:00', 'UTC')", stop - first, offset=first)

    async with fleet.worker():
        await triggered(fleet, table="blocks")
        assert fleet.files("blocks") == [("1000/0.parquet", 1000), ("1000/1000.parquet", 1000)]
        await rows_to(3_098, 4_100)
        await triggered(fleet, table="blocks")
        assert fleet.files("blocks") == [(f"1000/{first}.parquet", 1000) for first in (0, 1000, 2000, 3000)]


async def start_due(fleet: Fleet, **fields: Any) -> Any:
    """Start what a schedule starts, as a person would."""
    return await fleet.temporal.start_workflow(
        DUE_WORKFLOW,
        {"environment": fleet.name, "table": "events", **fields},
        id=f"due-{uuid.uuid4()}",
        task_queue=fleet.queue,
    )


async def why(due: Any) -> ApplicationError:
    with pytest.raises(WorkflowFailureError) as failed:
        await asyncio.wait_for(due.result(), 30)
    assert isinstance(failed.value.cause, ApplicationError), failed.value.cause
    return failed.value.cause


async def test_a_run_that_cannot_be_fails_at_once_and_says_why_and_one_that_is_cancelled_withdraws_its_requests(fleet):
    await fleet.make_days(days=1, rows=10)
    fleet.add_table("daily", "absent", "at")
    async with fleet.worker():
        asked = await asyncio.gather(
            start_due(fleet, networks=["nonet"]), start_due(fleet, tables=1), start_due(fleet, table="absent")
        )
        network, field, absent = await asyncio.gather(*(why(one) for one in asked))
        assert (network.type, "has no network 'nonet'" in network.message) == ("BadRequest", True)
        assert (field.type, "unknown field 'tables': did you mean 'table'?" in field.message) == ("BadRequest", True)
        assert (absent.type, absent.message.startswith(f"{fleet.network}: ")) == ("SourceRefused", True)
        report, who = absent.details
        assert report["networks"][0]["who"] == who["who must act"] == "operator"
        async with gate_at("before-upload") as gate:
            due = await start_due(fleet)
            await gate.reached()
            await due.cancel()
            with pytest.raises(WorkflowFailureError) as cancelled:
                await asyncio.wait_for(due.result(), 30)
            gate.open()
        assert isinstance(cancelled.value.cause, CancelledError)
        assert await fleet.loop_ended() == "COMPLETED"
    assert fleet.files() == []

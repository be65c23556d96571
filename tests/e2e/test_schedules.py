"""Schedules on a real Temporal: made once, changed where they differ, and healing what was missed."""

import asyncio
import json
from typing import Any

import yaml
from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleSpec,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from typer.testing import CliRunner, Result

from activities.contracts.export import ENVIRONMENT_ATTRIBUTE
from starter.main import build
from support.fleet import Fleet, eventually

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

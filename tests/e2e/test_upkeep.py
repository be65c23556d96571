"""`icefleet upkeep` and the workflow Upkeep, as people and schedules use them."""

import asyncio
import json

import pytest

from activities.contracts.export import UPKEEP_WORKFLOW, loop_id
from support.leftovers import NOON
from support.purging import purge_service
from support.refusals import asking, refusal
from support.upkeep import start_upkeep

FIELDS = "table, network, environment, take_over, dry_run"


async def replaced(fleet):
    """A day that was exported and replaced, both of them announced."""
    fleet.set_export(keep_snapshots=1, snapshot_age_seconds=0)
    fleet.set_storage(public_url="")  # a public reader would have a day
    await fleet.make_days(days=2, rows=10)


async def test_the_command_says_what_would_be_done_and_does_it(fleet):
    await replaced(fleet)
    words = ("upkeep", "events", "-n", fleet.network)
    async with fleet.worker():
        await fleet.request()
        await fleet.insert("events", NOON, 5, updated="2024-05-01 00:00:00", offset=900)
        await fleet.request()
        await fleet.loop_ended()
        code, said, errors = await fleet.command(*words, "--dry-run")
        start = f"{fleet.network}.events: 1 snapshots would be expired and 1 retained, 0 public objects would be ref"
        assert (code, errors, said[: len(start)]) == (0, "", start)
        assert "1 still named by a retained snapshot" in said
        assert len(fleet.table().snapshots()) == 2
        code, said, errors = await fleet.command(*words, "--json")
        done = json.loads(said)
        assert (code, errors, done["status"], done["expired"], done["refreshed"]) == (0, "", "complete", 1, 1)
        again = await asyncio.wait_for((await start_upkeep(fleet)).result(), 30)
        await fleet.loop_ended()
    # What was overwritten had been drawn a line before, in a snapshot of its own; the one before that one goes now.
    assert (again.status, again.expired, again.retained, again.refreshed, again.fresh) == ("complete", 1, 1, 0, 1)


async def test_what_a_refusal_of_others_says_gets_into_the_history_without_secrets(fleet, monkeypatch):
    token = "open-sesame-4410"
    monkeypatch.setenv("TEST_PURGE_TOKEN", token)
    await replaced(fleet)
    async with fleet.worker():
        await fleet.request()
        await fleet.insert("events", NOON, 5, updated="2024-05-01 00:00:00", offset=900)
        await fleet.request()
        await fleet.loop_ended()
    async with purge_service() as service:
        service.refusals = 99
        fleet.set_storage(
            purge_url=service.url, purge_token_env="TEST_PURGE_TOKEN", public_url="https://data.example.org"
        )
        async with fleet.worker():
            handle = await start_upkeep(fleet)
            report = await asyncio.wait_for(handle.result(), 60)
            await fleet.loop_ended()
    assert (report.status, report.problems) == (
        "partial",
        [f"cache at {service.url} answered 503: busy; not for Bearer ********"],
    )
    histories = [handle, fleet.temporal.get_workflow_handle(loop_id(fleet.name, fleet.network, "events"))]
    kept = [event.SerializeToString() for one in histories async for event in one.fetch_history_events()]
    assert len(kept) > 20
    assert [event for event in kept if token.encode() in event] == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"take_over": "yes"}, "field 'take_over' must be true or false; it is 'yes'"),
        ({"dryrun": True}, "unknown field 'dryrun': did you mean 'dry_run'?"),
        ({"table": "evnets"}, "no table 'evnets' in config; did you mean `events`?"),
    ],
    ids=["a field mistyped", "an unknown field", "an unknown table"],
)
async def test_the_workflow_refuses_what_cannot_be_within_seconds(fleet, fields, message):
    await fleet.make_days(days=1, rows=1)
    async with fleet.worker():
        said = await refusal(fleet, asking(fleet, **fields), workflow=UPKEEP_WORKFLOW)
    assert said == ("BadRequest", message)


async def test_a_table_that_is_not_there_yet_has_nothing_to_be_kept_in_order_and_no_schedule_fails_for_it(fleet):
    await fleet.make_days(days=1, rows=1)
    async with fleet.worker():
        report = await asyncio.wait_for((await start_upkeep(fleet)).result(), 30)
    said = f"{fleet.network}.events: the catalog has no snapshot of it, so there is nothing to be kept in order yet"
    assert (report.status, report.message, report.problems) == ("nothing_to_do", said, [])

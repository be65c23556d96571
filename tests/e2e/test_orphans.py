"""`icefleet orphans` and the workflow DeleteOrphans, as people use them."""

import asyncio
import json
import re

import pytest

from activities.contracts.export import ORPHANS_WORKFLOW
from support.direct import Hands
from support.leftovers import keys, next_second, prefix_of_table, start_deletion
from support.refusals import asking, refusal
from support.upkeep import AT_ONCE, Late, expire

FIELDS = "table, network, older_than, environment, metadata, dry_run"


@pytest.fixture
async def left(fleet):
    """A table of two days, one of which is committed; the other one's object lies there for more than a second."""
    fleet.set_export(orphan_age_seconds=1)
    await fleet.make_days(days=2, rows=10)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        newest, older = (await hands.plan()).todo
        await hands.commit([await hands.export(newest)])
        await hands.export(older)
        for _ in range(2):
            await next_second(context)
    return f"{prefix_of_table(fleet)}2024/3/19.parquet"


async def test_the_command_lists_orphans_and_deletes_those_that_are_old_enough(fleet, left):
    identifier = f"{fleet.network}.events"
    code, said, errors = await fleet.command("orphans", seconds=90)
    assert (code, errors) == (0, "")
    assert re.search(rf"^{re.escape(identifier)} +data object +20\S+ +[\d,]+ +{re.escape(left)}$", said, re.MULTILINE)
    assert re.search(r"^1 orphans, [\d,]+ bytes$", said, re.MULTILINE)
    async with fleet.worker():
        code, said, errors = await fleet.command("orphans", "--delete", "--older-than", "1s", "--json", seconds=90)
        await fleet.loop_ended()
    assert (code, errors) == (0, "")
    [report] = json.loads(said)
    wanted = {"table": identifier, "status": "complete", "deleted": 1, "young": 0, "keys": [f"data object: {left}"]}
    assert wanted.items() <= report.items()
    assert keys(fleet) == {"2024/3/20.parquet"}


async def test_the_workflow_deletes_what_plain_json_asks_for_and_a_dry_run_says_what_would_go(fleet, left):
    async with fleet.worker():
        dry = await asyncio.wait_for((await start_deletion(fleet, dry_run=True)).result(), 30)
        assert keys(fleet) == {"2024/3/19.parquet", "2024/3/20.parquet"}
        done = await asyncio.wait_for((await start_deletion(fleet)).result(), 30)
    assert (dry.status, dry.deleted, dry.keys) == ("dry_run", 1, [f"data object: {left}"])
    assert dry.message.startswith(f"1 orphans of {fleet.network}.events older than 1s would go (")
    assert (done.status, done.deleted, done.bytes) == ("complete", 1, dry.bytes)
    assert keys(fleet) == {"2024/3/20.parquet"}


async def test_what_only_an_expired_snapshot_named_stays_for_its_readers_whoever_asks_for_its_deletion(fleet):
    fleet.set_export(**AT_ONCE)
    await fleet.make_days(days=2, rows=10)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        await hands.run()
        late = Late(fleet, hands)
        replaced = await late.replace()
        reader = fleet.table().scan()
        await late.replace()
        # Until something is appended, the newest snapshot still names what it has replaced.
        await fleet.insert("events", "toDateTime('2024-03-18 12:00:00', 'UTC')", 5, offset=500)
        await hands.run(from_="2024-03-18", to="2024-03-18")
        await hands.announce()
        for _ in range(2):
            await next_second(context)
        assert (await expire(fleet, context)).expired == 3
    before = keys(fleet)
    fleet.set_export(grace_seconds=3600)
    async with fleet.worker():
        dry = await asyncio.wait_for((await start_deletion(fleet, dry_run=True)).result(), 30)
        report = await asyncio.wait_for((await start_deletion(fleet)).result(), 30)
        code, said, errors = await fleet.command("orphans", "--delete", "--older-than", "1s", seconds=90)
        await fleet.loop_ended()
    assert (keys(fleet), reader.to_arrow().num_rows) == (before, 25)
    why = "nothing is deleted for 3"
    assert (dry.status, dry.deleted, f"; {why}" in dry.message) == ("dry_run", 0, True)
    assert (report.status, report.deleted, report.waiting.startswith(why)) == ("partial", 0, True)
    assert (code, errors, f"; {why}" in said) == (3, "", True)
    fleet.set_export(grace_seconds=0)
    async with fleet.worker():
        code, said, _ = await fleet.command("orphans", "--delete", "--older-than", "1s", "--json", seconds=90)
        await fleet.loop_ended()
    [done] = json.loads(said)
    assert (code, done["status"], done["waiting"], before - keys(fleet)) == (0, "complete", "", {replaced})


async def test_the_workflow_refuses_wrong_fields_by_name_within_seconds(fleet):
    await fleet.make_days(days=1, rows=1)
    age = {"older_than": "24h"}
    asked = {
        f"the input must be one JSON object with the fields {FIELDS}; it is 'events'": "events",
        "field 'older_than' is missing; it must be a text": asking(fleet),
        "field 'older_than' must be a text; it is 24": asking(fleet, older_than=24),
        "unknown field 'olderthan': did you mean 'older_than'?": asking(fleet, **age, olderthan="1h"),
        "'tomorrow' is no age: write a whole number and s, m, h or d, such as 24h": asking(
            fleet, older_than="tomorrow"
        ),
        "no table 'evnets' in config; did you mean `events`?": asking(fleet, **age, table="evnets"),
        f"table '{'events'}' has no network 'mainnet'; known: `{fleet.network}`": asking(
            fleet, **age, network="mainnet"
        ),
    }
    async with fleet.worker():
        said = await asyncio.gather(*(refusal(fleet, payload, workflow=ORPHANS_WORKFLOW) for payload in asked.values()))
        young = await refusal(fleet, asking(fleet, older_than="269m"), workflow=ORPHANS_WORKFLOW)
        absent = await refusal(fleet, asking(fleet, **age), workflow=ORPHANS_WORKFLOW)
    assert said == [("BadRequest", message) for message in asked]
    assert young[0] == "BadRequest"
    assert young[1].startswith("older than 269m is too young to go: what an attempt has just uploaded")
    assert "At least 270m" in young[1]
    identifier = f"{fleet.network}.events"
    assert absent == (
        "BadRequest",
        f"table {identifier} is not in the catalog: what it names is not known, nothing goes",
    )

"""`icefleet cdc`: a pipeline is set up, watched, mended and taken down by commands alone."""

import asyncio
import json

import pytest
from typer.testing import CliRunner

from starter.main import build
from support.buffers import Producer, insert, schema_event, update
from support.fleet import eventually
from support.ingests import PIPELINE, pipeline

CHANGELOG = "public_orders_changelog"


@pytest.fixture
def command(fleet, stack, monkeypatch):
    """Run `icefleet cdc …`: exit code and output."""
    monkeypatch.setenv("ICEFLEET_CONFIG_DIR", str(fleet.directory))
    monkeypatch.setenv("ICEFLEET_ENVIRONMENT", fleet.name)

    async def run(*words):
        told = ["cdc", *words]
        said = await asyncio.to_thread(lambda: CliRunner().invoke(build(told), told, env={"COLUMNS": "250"}))
        return said.exit_code, said.output

    return run


async def told(command, *words):
    """What a command prints as JSON."""
    code, output = await command(*words, "--json")
    assert code == 0, output
    return json.loads(output)


async def test_a_pipeline_that_others_fill_is_installed_watched_mended_and_taken_down_by_commands(
    fleet, postgres, command
):
    """Cases 62 and 63: the poisonous event is settled by a person, and a pause holds everything until it ends."""
    fleet.set_cdc(**{PIPELINE: pipeline(fleet, postgres)})
    producer = Producer(postgres)

    async def orders(**wanted):
        async def seen():
            (report,) = await told(command, "status")
            found = report["tables"][0] if report["tables"] else {}
            return report if all(found.get(name) == value for name, value in wanted.items()) else None

        return await eventually(seen)

    async with fleet.cdc_worker():
        installed = await told(command, "install")
        assert (installed["status"], installed["slot"]) == ("installed", "")
        await producer.transaction(schema_event(), insert(1), insert(2, amount="NaN"), update(2))
        report = await orders(written=1, lag_events=0, dead_letters=1, waiting_behind=1)
        code, shown = await command("status")
        assert code == 0

        letters = await told(command, "dead-letters", "--table", "orders")
        code, listed = await command("dead-letters")
        code, refused = await command("drop", "--table", "public.orders", "--reason", " ")
        assert (code, "'reason' is missing" in refused) == (2, True)
        dropped = await told(command, "drop", str(letters[0]["event_id"]), "--reason", "a test row")
        await orders(written=2, dead_letters=0, waiting_behind=0)

        assert await command("pause") == (0, "ingest of shop pauses; go on with: icefleet cdc resume --pipeline shop\n")
        await producer.transaction(insert(3))
        paused = await orders(lag_events=1)
        assert (await command("resume"))[0] == 0
        await orders(written=3, lag_events=0)
        assert (await command("resume", "--table", "public.orders"))[0] == 1
        removed = await told(command, "uninstall", "--drop-buffer")
        (gone,) = await told(command, "status")

    line = report["tables"][0]
    assert (line["table"], line["changelog"]) == ("public.orders", f"{fleet.network}.{CHANGELOG}")
    assert (line["state"], line["source_lsn"], line["written_lsn"]) == ("active", "0/110", "0/110")
    assert report["loops"]["ingest"]["state"] == "running"
    assert "source   none: others fill the buffer" in shown
    assert f"{fleet.network}.{CHANGELOG}" in shown
    assert [(letter["operation"], letter["key"]) for letter in letters] == [
        ("insert", {"id": "2"}),
        ("update", {"id": "2"}),
    ]
    assert "amount" in letters[0]["cause"]
    assert f"waits behind {letters[0]['event_id']}" in listed
    assert (dropped["changed"], dropped["released"]) == (1, 1)
    assert paused["loops"]["ingest"]["state"] == "paused"
    assert removed["status"] == "uninstalled"
    assert gone["loops"]["ingest"]["state"] == "absent"
    assert "PostgresRefused" in gone["problem"]
    rows = fleet.table(CHANGELOG).scan().to_arrow().sort_by("cdc_sequence_number").to_pylist()
    assert [(row["cdc_operation"], row["id"]) for row in rows] == [("insert", 1), ("update", 2), ("insert", 3)]
    assert sum(int(event["changelog"].get("events", 0)) for event in await fleet.events(CHANGELOG)) == 3


async def test_status_says_what_is_away_and_shows_the_rest(fleet, command):
    nowhere = {"host": "127.0.0.1", "port": 1, "database": "d", "user": "u"}
    fleet.set_cdc(shop={"source": nowhere, "buffer": nowhere}, bank={"buffer": nowhere})
    found = await told(command, "status")
    assert [report["pipeline"] for report in found] == ["shop", "bank"]
    assert found[0]["source"]["problem"].startswith("PostgresUnavailable: source of")
    assert found[0]["problem"].startswith("PostgresUnavailable: buffer of")
    assert {loop["state"] for loop in found[0]["loops"].values()} == {"absent"}
    code, output = await command("pause", "--pipeline", "shop")
    assert (code, output) == (1, "capture of shop does not run\ningest of shop does not run\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pause"], "has several pipelines: say --pipeline shop or bank"),
        (["pause", "--pipeline", "shpo"], "no pipeline 'shpo' under `cdc`"),
        (["pause", "--pipeline", "bank", "--only", "capture"], "has no `source` in config"),
        (["resume", "--pipeline", "shop", "--only", "both"], "--only is capture or ingest, not 'both'"),
    ],
)
async def test_a_command_that_cannot_be_says_why_and_ends_with_2(fleet, command, words, said):
    nowhere = {"host": "127.0.0.1", "port": 1, "database": "d", "user": "u"}
    fleet.set_cdc(shop={"source": nowhere, "buffer": nowhere}, bank={"buffer": nowhere})
    code, output = await command(*words)
    assert code == 2
    assert said in output

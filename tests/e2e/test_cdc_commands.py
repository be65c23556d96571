"""`icefleet cdc`: a pipeline is set up, watched, mended and taken down by commands alone."""

import pytest

from starter.common import PARTIAL
from support.commandgroups import commands_of, told
from support.fleet import eventually

CHANGELOG = "public_orders_changelog"
NOWHERE = {"host": "127.0.0.1", "port": 1, "database": "d", "user": "u"}
AWAY = {"shop": {"source": NOWHERE, "buffer": NOWHERE}, "bank": {"buffer": {**NOWHERE, "schema": "bank"}}}


@pytest.fixture
def command(fleet, stack, monkeypatch):
    return commands_of("cdc", fleet, monkeypatch)


def states(report):
    return {name: loop["state"] for name, loop in report["loops"].items()}


async def test_a_pipeline_is_installed_watched_mended_and_taken_down_by_commands_alone(  # noqa: PLR0915 - one life of a pipeline, from its beginning to its end
    fleet, postgres, command
):
    """Cases 62 and 63: the poisonous event is settled by a person, and a pause holds everything until it ends."""
    fleet.set_cdc(shop=postgres.pipeline(namespace=fleet.network))
    await postgres.run(
        "CREATE TABLE orders (id bigint PRIMARY KEY, name text, at timestamptz DEFAULT '2026-03-20 12:00+00')",
        "INSERT INTO orders (id, name) VALUES (1, 'a'), (2, 'b')",
    )

    async def orders(**wanted):
        async def seen():
            (report,) = await told(command, "status", codes=(0, PARTIAL))  # a worker may be slow to answer
            found = report["tables"][0] if report["tables"] else {}
            return report if all(found.get(name) == value for name, value in wanted.items()) else None

        return await eventually(seen, seconds=60)

    with fleet.worker_process():
        installed = await told(command, "install", "--tables", "public.orders")
        await orders(state="active")
        await postgres.transact("INSERT INTO orders VALUES (3, 'c')", "UPDATE orders SET name = 'aa' WHERE id = 1")
        await postgres.transact("DELETE FROM orders WHERE id = 2", "INSERT INTO orders VALUES (4, 'x', 'infinity')")
        await postgres.run("UPDATE orders SET at = '2026-03-20 13:00+00' WHERE id = 4")
        report = await orders(written=3, lag_events=0, dead_letters=1, waiting_behind=1)
        _, shown = await command("status")

        letters = await told(command, "dead-letters", "--table", "orders")
        _, listed = await command("dead-letters")
        code, refused = await command("drop", "--table", "public.orders", "--reason", " ")
        assert (code, "'reason' is missing" in refused) == (2, True)
        dropped = await told(command, "drop", str(letters[0]["event_id"]), "--reason", "a test row")
        await orders(written=4, dead_letters=0, waiting_behind=0)

        code, output = await command("pause", "--only", "ingest")
        assert (code, output) == (0, "ingest of shop pauses; go on with: icefleet cdc resume --pipeline shop\n")
        await postgres.run("INSERT INTO orders VALUES (5, 'e')")
        paused = await orders(lag_events=1)
        assert (await command("resume"))[0] == 0
        await orders(written=5, lag_events=0)
        code, output = await command("resume", "--table", "public.orders")
        assert (code, "public.orders is not stopped" in output) == (1, True)
        removed = await told(command, "uninstall", "--drop-buffer")
        (gone,) = await told(command, "status", codes=(PARTIAL,))

    slot = f"icefleet_{fleet.name}_shop"
    assert (installed["status"], installed["slot"]) == ("installed", slot)
    assert [(table["table"], table["key_columns"]) for table in installed["tables"]] == [("public.orders", ["id"])]
    line = report["tables"][0]
    assert (line["table"], line["changelog"]) == ("public.orders", f"{fleet.network}.{CHANGELOG}")
    assert line["source_lsn"] == line["written_lsn"] != ""
    assert {name: loop["state"] for name, loop in report["loops"].items()} == {
        "capture": "running",
        "ingest": "running",
    }
    assert report["source"]["active"]
    assert f"slot {slot}, read just now" in shown
    assert [(letter["operation"], letter["key"]) for letter in letters] == [
        ("insert", {"id": "4"}),
        ("update", {"id": "4"}),
    ]
    assert "at" in letters[0]["cause"]
    assert f"waits behind {letters[0]['event_id']}" in listed
    assert (dropped["changed"], dropped["released"]) == (1, 1)
    assert states(paused) == {"capture": "running", "ingest": "paused"}
    assert (removed["status"], f"slot {slot}" in removed["removed"]) == ("uninstalled", True)
    assert states(gone) == {"capture": "absent", "ingest": "absent"}
    assert "there is no such slot" in gone["source"]["problem"]
    assert "PostgresRefused" in gone["problem"]
    rows = fleet.table(CHANGELOG).scan().to_arrow().sort_by("cdc_sequence_number").to_pylist()
    assert sorted((row["cdc_operation"], row["id"]) for row in rows[:2]) == [("insert", 1), ("insert", 2)]
    assert [(row["cdc_operation"], row["id"]) for row in rows[2:]] == [
        *(("insert", 3), ("update", 1), ("delete", 2)),
        *(("update", 4), ("insert", 5)),
    ]
    announced = [event["snapshotId"] for event in await fleet.events(CHANGELOG)]
    assert announced == [str(snapshot.snapshot_id) for snapshot in fleet.table(CHANGELOG).snapshots()]


async def test_status_says_what_is_away_and_shows_the_rest(fleet, command):
    fleet.set_cdc(**AWAY)
    found = await told(command, "status", codes=(PARTIAL,))
    assert [report["pipeline"] for report in found] == ["bank", "shop"]
    assert found[1]["source"]["problem"].startswith("PostgresUnavailable: source of")
    assert found[1]["problem"].startswith("PostgresUnavailable: buffer of")
    assert {loop["state"] for loop in found[1]["loops"].values()} == {"absent"}
    code, output = await command("pause", "--pipeline", "shop")
    assert (code, output) == (1, "capture of shop does not run\ningest of shop does not run\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pause"], "has several pipelines: say --pipeline bank or shop"),
        (["pause", "--pipeline", "shpo"], "no pipeline 'shpo' under `cdc`"),
        (["pause", "--pipeline", "bank", "--only", "capture"], "has no `source` in config"),
        (["resume", "--pipeline", "shop", "--only", "both"], "--only is capture or ingest, not 'both'"),
    ],
)
async def test_a_command_that_cannot_be_says_why_and_ends_with_2(fleet, command, words, said):
    fleet.set_cdc(**AWAY)
    code, output = await command(*words)
    assert code == 2
    assert said in output

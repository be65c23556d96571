"""`icefleet mirrors`: mirrors are merged, woken, watched and steered by a worker, events and commands alone."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest
import yaml

from activities.announcing import snapshot_subject
from starter.common import PARTIAL
from support.commandgroups import commands_of, told
from support.fleet import eventually
from support.mirrors import FIELDS, gone, opened, put
from worker.bus import open_bus

CLOCK = Path(__file__).parents[2] / "deploy/k8s/components/merge-by-clock/cronjob.yaml"
[CRON] = yaml.safe_load(CLOCK.read_text())["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]


@pytest.fixture
def command(fleet, stack, monkeypatch):
    return commands_of("mirrors", fleet, monkeypatch)


async def listed(command, mirror, **wanted):
    """What `list` says of a mirror, once its tables and its loop are as wanted."""

    async def seen():
        found = {one["mirror"]: one for one in await told(command, "list", codes=(0, PARTIAL))}[mirror]
        every = {**found["tables"], "state": found["loop"]["state"], "trouble": found["trouble"]}
        return every if all(every[name] == value for name, value in wanted.items()) else None

    return await eventually(seen, seconds=60, every=0.5)  # each look is a whole command


def entry(mirror):
    return {
        "changelog_table": mirror.config.changelog,
        "mirror_table": mirror.config.mirror,
        "primary_keys": list(mirror.config.primary_keys),
    }


async def announced(fleet, mirror):
    """The event that follows a commit of the changelog."""
    bus = open_bus(fleet.settings().environment(fleet.name))
    subject = snapshot_subject(fleet.name, mirror.config.changelog)
    last = await bus.last(subject)
    snapshot = str(mirror.changelog().current_snapshot().snapshot_id)
    await bus.publish(subject, b"{}", {}, message_id=f"{subject}{snapshot}", after=last.sequence if last else 0)
    await bus.close()


async def begun_again(command, mirror):
    """Case 34: somebody makes the changelog anew. Nothing goes on until a person says that it may begin again."""
    mirror.context.lake.catalog.drop_table(mirror.config.changelog)
    mirror.make(FIELDS)
    mirror.written.clear()
    await mirror.write(put(7, name="g"), put(8, name="h"))
    name = mirror.config.mirror
    code, lost = await command("merge", name, "--once")
    assert (code, f"error: WatermarkLost: mirror {name}: its changelog" in lost) == (1, True), lost
    await listed(command, name, state="waiting", rows=5)
    code, began = await command("merge", name, "--bootstrap")
    assert (code, began) == (0, f"bootstrap of {name} is done\n")
    mirror.check()
    await listed(command, name, state="running", trouble="")


async def merges_nothing(command, paused, held):
    """Nobody is told that mirrors merge that will not, whether somebody waits for it or not."""
    code, refused = await command("merge", paused, "--once")
    assert (code, f"{paused} is paused; icefleet mirrors resume has it go on" in refused) == (1, True)
    assert await command("merge", paused) == (
        1,
        f"{paused} does not merge: it is paused; have it go on with: icefleet mirrors resume {paused}\n",
    )
    code, said = await command("merge", "--all")
    assert (code, f"{held} does not merge: it waits: BadConfig: mirror {held}" in said) == (1, True), said


async def announcements(fleet, mirror):
    """The events of the mirror, once its newest snapshot has one."""
    events = await fleet.events(mirror.config.mirror.partition(".")[2])
    head = str(mirror.table().current_snapshot().snapshot_id)
    return events if events and events[-1]["snapshotId"] == head else None


async def test_mirrors_are_merged_woken_watched_and_steered(fleet, command):
    """Cases 61 and 62: a mirror that fails keeps the other from nothing, and a pause holds one until it is resumed."""
    async with opened(fleet) as orders, opened(fleet) as customers:
        name = orders.config.mirror
        fleet.set_mirrors(entry(orders), {**entry(customers), "primary_keys": ["no_such_column"]})
        await orders.write(put(1, name="a"), put(2, name="b"))
        before = await listed(command, name, state="absent")
        with fleet.worker_process():
            first = await listed(command, name, state="running", lag_events=0, rows=2)
            await listed(command, customers.config.mirror, state="waiting")
            _, shown = await command("list")

            # An event is enough, and so is a command, which waits.
            await orders.write(put(3, name="c"), gone(1))
            await announced(fleet, orders)
            await listed(command, name, lag_events=0, rows=2)
            orders.check()
            await orders.write(put(4, name="d"))
            code, merged = await command("merge", name, "--once")
            assert (code, "1 rows upserted" in merged) == (0, True), merged
            orders.check()
            code, failed = await command(*CRON["args"][1:])
            assert (code, "error: BadConfig: mirror" in failed) == (3, True), failed

            assert (await command("pause", name))[0] == 0
            await orders.write(put(5, name="e"))
            await merges_nothing(command, name, customers.config.mirror)
            paused = await listed(command, name, state="paused", lag_events=1)
            assert (await command("resume", name))[0] == 0
            await listed(command, name, state="running", lag_events=0, rows=4)

            reports = await told(command, "compact", name)
            assert reports[name]["status"] == "done"
            orders.check()
            assert (await command("rebuild-index", name))[0] == 0
            await orders.write(put(1, 1, name="too late"), put(6, name="f"))
            assert (await command("merge", name, "--once"))[0] == 0
            orders.check()
            compared = await told(command, "verify", name)
            code, watched = await command("show", name)
            seen = await listed(command, name, lag_events=0)
            events = await eventually(lambda: announcements(fleet, orders))

            await begun_again(command, orders)
        after = await listed(command, name, lag_events=0)
    assert (before["watermark"], before["lag_events"], before["last_merge"]) == ("", 2, "")
    assert first["watermark"]
    assert first["last_merge"]
    assert f"{customers.config.mirror} is waiting: BadConfig: mirror {customers.config.mirror}" in shown
    assert paused["lag_seconds"] > 0
    assert (compared["status"], compared["rows"], compared["index"]) == ("equal", 5, "whole")
    assert (seen["rows"], seen["watermark"]) == (5, events[-1]["mirror"]["changelogSnapshotId"])
    assert (after["rows"], after["watermark"]) == (2, str(orders.changelog().current_snapshot().snapshot_id))
    assert (code, "lag       0 events, none" in watched) == (0, True)
    assert "rows upserted" in watched


async def test_what_cannot_be_is_said_and_nothing_is_started(fleet, command):
    assert await command("list") == (
        0,
        f"environment '{fleet.name}' has no mirror; docs/guides/mirrors.md says how to write one\n",
    )
    pair = {"changelog_table": "shop.changes", "primary_keys": ["id"]}
    fleet.set_mirrors({**pair, "mirror_table": "shop.orders"}, {**pair, "mirror_table": "shop.others"})
    many = await command("merge")
    single = await command("verify")
    none = await command("show", "shop.order")
    both = await command("merge", "shop.orders", "--all")
    every = await command("merge", "--all", "--bootstrap")
    waiting = await listed(command, "shop.orders", state="absent")
    assert [code for code, _ in (many, none, both, every)] == [2, 2, 2, 2]
    assert many[1].endswith("has 2 mirrors: name one, or say --all\n")
    assert single == (2, f"error: environment '{fleet.name}' has 2 mirrors: name one\n")
    assert "no mirror 'shop.order'" in none[1]
    assert "did you mean `shop.orders` or `shop.others`?" in none[1]
    assert waiting["trouble"] == waiting["problem"] == "changelog shop.changes is not in the catalog"


@pytest.mark.parametrize(("part", "says"), [("temporal", "Temporal 127.0.0.1:1 "), ("catalog", "CatalogUnavailable: ")])
async def test_what_could_not_be_asked_is_shown_and_leaves_with_3(fleet, command, part, says):
    fleet.set_mirrors({"changelog_table": "shop.changes", "primary_keys": ["id"], "mirror_table": "shop.orders"})
    await told(command, "list")
    fleet.point(**{part: 1})
    [found] = await told(command, "list", codes=(PARTIAL,))
    code, shown = await command("show")
    assert (found["trouble"].startswith(says), code, says in shown) == (True, PARTIAL, True)


async def test_who_gives_up_waiting_ends_a_verification_and_hears_that_other_work_goes_on(fleet):
    fleet.set_mirrors({"changelog_table": "shop.changes", "primary_keys": ["id"], "mirror_table": "shop.orders"})

    async def started(kind):
        query = f"TaskQueue = '{fleet.merge_queue}' AND WorkflowType = '{kind}'"
        return [found.id async for found in fleet.temporal.list_workflows(query)]

    async def given_up(kind, *words):
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("icefleet")),
            *("mirrors", *words),
            env=fleet.variables(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        [identity] = await eventually(lambda: started(kind))
        process.send_signal(signal.SIGINT)
        output, errors = await asyncio.wait_for(process.communicate(), 20)
        assert (process.returncode, output) == (130, b"")
        assert b"Traceback" not in errors
        return identity, errors.decode()

    verification, withdrawn = await given_up("VerifyMirror", "verify", "shop.orders")
    _, told_so = await given_up("MergeOnce", "merge", "shop.orders", "--once")
    assert "withdrawing the request" in withdrawn
    assert told_so.splitlines()[1] == (
        "not waited for any longer; what was asked goes on: `icefleet mirrors show shop.orders` shows it, and "
        "`icefleet mirrors pause shop.orders` ends it"
    )
    async with fleet.merge_worker():

        async def ended():
            status = (await fleet.temporal.get_workflow_handle(verification).describe()).status
            return status.name if status.name != "RUNNING" else ""

        assert await eventually(ended) == "CANCELED"

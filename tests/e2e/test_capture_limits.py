"""What stops a capture, or holds it up, is said with the way out."""

import asyncio
from dataclasses import replace

import pytest

from activities import failpoints, watching
from activities.capturing import capture_changes
from activities.clients.waits import watch_waits
from activities.contracts.cdc import CaptureInput, UninstallRequest
from activities.core.faults import BadRequest, BusUnavailable, PostgresRefused, PostgresUnavailable, SlotLost
from activities.slotwatching import watch_slot
from activities.uninstalling import uninstall_capture
from support.captures import StreamInMemory, captures
from support.findings import findings_of
from support.fleet import eventually
from support.measured import measured

RETAINED = "icefleet.cdc.retained_wal"


@pytest.fixture
async def shop(postgres):
    made = captures(postgres.settings)
    await made.source_run("CREATE TABLE t (id int PRIMARY KEY, a text)")
    return made


async def test_a_full_buffer_holds_the_capture_up_until_there_is_room(shop):
    await shop.install("t")
    await shop.capture()
    shop.limit(buffer_max_events=5)
    # A transaction is never split: it may exceed the limit, and the next one waits.
    await shop.source_run("INSERT INTO t SELECT generate_series(1, 9)")
    assert (await shop.capture()).events == 9
    held = len(await shop.events())
    await shop.source_run("INSERT INTO t VALUES (11)")
    waits = watch_waits()
    async with shop.capturing() as task, asyncio.timeout(90):
        await eventually(lambda: bool(waits))
        assert waits[0].startswith(f"waits for room in the buffer: it holds {held} events")
        assert waits[0].endswith(f"; {held} of these events stay until their tables are copied")
        assert len(await shop.events()) == held
        assert not task.done()
        await shop.rows("DELETE FROM icefleet_cdc.events RETURNING 1")
        events = await shop.until(bool)
    assert events[-1][5]["id"] == "11"
    shop.limit(buffer_max_events=1)
    await shop.rows("UPDATE icefleet_cdc.tables SET state = 'active', copying_lsn = NULL RETURNING 1")
    await shop.source_run("INSERT INTO t VALUES (12)")
    report = await shop.capture()
    assert (report.events, report.waiting_for[:18], "copied" in report.waiting_for) == (0, "room in the buffer", False)


async def test_a_stopped_table_holds_up_no_other_and_beyond_a_limit_its_events_are_let_go(shop, capsys, monkeypatch):
    """Case 61, in the buffer: tables that are stopped have a room of their own, and the one that holds most leaves."""

    monkeypatch.setattr("activities.watching.WATCH_SECONDS", 0.05)

    async def held():
        found = await shop.rows("SELECT source_table, count(*) FROM icefleet_cdc.events GROUP BY 1 ORDER BY 1")
        return dict(found)

    async def is_held(**wanted):
        async def seen():
            return await held() == wanted

        async with shop.capturing():
            await eventually(seen)

    async def state(table):
        (found,) = await shop.rows(
            "SELECT state, copying_lsn::text, let_go FROM icefleet_cdc.tables WHERE source_table = %s", table
        )
        return found

    await shop.source_run(*(f"CREATE TABLE {name} (id int PRIMARY KEY)" for name in ("u", "v")))
    await shop.install("t", "u", "v")
    await shop.rows(
        "UPDATE icefleet_cdc.tables SET state = 'active', copying_lsn = NULL, copied_lsn = '0/1' RETURNING 1"
    )
    await shop.source_run("INSERT INTO t SELECT generate_series(1, 30)", "INSERT INTO v VALUES (1)")
    await shop.capture(1)
    await shop.rows(
        "UPDATE icefleet_cdc.tables SET state = 'stopped', cause = 'SchemaConflict: no' WHERE source_table <> 'u' "
        "RETURNING 1"
    )
    # One schema event of each table besides.
    assert await held() == {"t": 31, "u": 1, "v": 2}
    shop.limit(buffer_max_events=5, buffer_max_stopped_events=40)
    await shop.source_run("INSERT INTO t VALUES (31)", "INSERT INTO u VALUES (1)")
    assert (await shop.capture(1)).waiting_for == ""
    assert (await held(), await state("t")) == ({"t": 32, "u": 2, "v": 2}, ("stopped", None, False))
    assert shop.bus.said == []
    shop.limit(buffer_max_stopped_events=20)
    await is_held(u=2, v=2)
    assert await state("t") == ("stopped", "0/0", True)
    assert await state("v") == ("stopped", None, False)
    ((cause,),) = await shop.rows("SELECT cause FROM icefleet_cdc.tables WHERE source_table = 't'")
    assert "its events in the buffer were let go" in cause
    assert "more than max_stopped_events, 20," in cause
    assert "`icefleet cdc resume --table public.t` copies it anew" in cause
    assert cause.endswith("It was stopped by: SchemaConflict: no")
    assert capsys.readouterr().out.count("finding: a table's events are let go") == 1
    (found,) = shop.bus.said
    assert (found["kind"], found["partitions"]) == ("let-go", [{"partition": "public.t", "detail": cause}])
    # What comes of it afterwards takes no room either, until it waits for its copy; then all is kept.
    await shop.source_run("INSERT INTO t VALUES (32)", "INSERT INTO u VALUES (2)")
    await is_held(u=3, v=2)
    await shop.rows("UPDATE icefleet_cdc.tables SET state = 'copying' WHERE source_table = 't' RETURNING 1")
    await shop.source_run("INSERT INTO t VALUES (33)")
    async with shop.capturing():
        await eventually(lambda: len(shop.bus.said) == 2)
        await shop.until(lambda events: any(row[0] == "public.t" for row in events))
    assert (await held(), details(shop.bus.said)[1:]) == ({"t": 1, "u": 3, "v": 2}, [[]])


async def test_a_slot_that_holds_back_too_much_is_given_up_and_made_anew_with_copies(shop):
    await shop.install("t")
    await shop.source_run("INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 1000) i")
    shop.limit(max_retained_wal_bytes=100_000)
    report = await shop.capture(30)
    assert "max_retained_wal_bytes is 100000: it was dropped" in report.ended
    assert "icefleet cdc install --again" in report.ended
    assert await shop.rows("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", shop.slot) == []
    assert (await shop.capture()).ended == report.ended
    shop.limit(max_retained_wal_bytes=2**40)
    with pytest.raises(SlotLost, match="install --again"):
        await shop.install("t")
    await shop.rows("UPDATE icefleet_cdc.tables SET state = 'active', copying_lsn = NULL RETURNING 1")
    again = await shop.install(again=True)
    assert [(table.table, table.state) for table in again.tables] == [("public.t", "copying")]
    await shop.source_run("INSERT INTO t VALUES (0)")
    report = await shop.capture()
    assert (report.ended, (await shop.changes())[-1]) == ("", ("insert", None, {"id": "0", "a": None}))


async def test_much_held_back_is_warned_of_once_and_goes_on(shop, capsys):
    await shop.install("t")
    await shop.source_run("INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 1000) i")
    shop.limit(warn_retained_wal_bytes=100_000)
    report = await shop.capture()
    assert (report.events, report.ended) == (1001, "")
    assert report.retained_wal_bytes > 100_000
    assert capsys.readouterr().out.count("finding: a slot holds back much") == 1


def details(events):
    """Of each event: what it says of the slot, or nothing."""
    return [[one["detail"] for one in event.get("partitions", [])] for event in events]


async def test_what_a_slot_holds_back_is_a_finding_once_until_it_has_caught_up_or_was_given_up(
    shop, fleet, monkeypatch
):
    monkeypatch.setattr("activities.watching.WATCH_SECONDS", 0.05)
    monkeypatch.setattr("activities.capturing.FEEDBACK_SECONDS", 0.05)

    async def said():
        return await findings_of(fleet, "shop", "retained-wal", network=shop.config.rules.namespace)

    async def after(count):
        await shop.source_run("SELECT pg_log_standby_snapshot()")
        return len(await said()) >= count

    async with fleet.context() as opened:
        shop.bus, shop.environment = opened.bus, fleet.name
        await shop.install("t")
        shop.limit(warn_retained_wal_bytes=20_000_000)
        async with await shop.source.connect() as held, held.transaction():
            await held.execute("INSERT INTO t VALUES (0)")
            await shop.source_run("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 30000) i")
            for _ in range(2):
                await shop.capture(1)
            (found,) = await said()
        async with shop.capturing():
            await eventually(lambda: after(2))
        assert await shop.capture(0.5)
        shop.limit(max_retained_wal_bytes=1)
        ended = (await shop.capture(30)).ended
        assert (await shop.capture()).ended == ended
        assert details(await said()) == [details([found])[0], [], [ended]]
        shop.limit(max_retained_wal_bytes=2**40)
        await shop.install(again=True)
        async with shop.capturing():
            await eventually(lambda: after(4))
    named = {name: found[name] for name in ("environment", "table", "network", "sourceTable", "kind")}
    namespace = shop.config.rules.namespace
    assert named == {
        "environment": fleet.name,
        "table": f"{namespace}.shop",
        "network": namespace,
        "sourceTable": "shop",
        "kind": "retained-wal",
    }
    assert [one["partition"] for one in found["partitions"]] == [shop.slot]
    assert "holds back more than warn_retained_wal_bytes, 20000000 bytes" in found["partitions"][0]["detail"]
    assert details(await said())[3:] == [[]]


async def test_a_slot_that_nobody_reads_is_warned_of_and_given_up_too(shop):
    asked = CaptureInput(shop.environment, "shop", 0)
    assert not (await shop.install()).slot
    assert (await watch_slot(shop.context, asked)).ended == ""  # nothing is installed
    await shop.install("t")
    await shop.capture()
    assert (await watch_slot(shop.context, asked)).retained_wal_bytes > 0
    assert shop.bus.said == []
    shop.limit(warn_retained_wal_bytes=1)
    for _ in range(2):
        assert (await watch_slot(shop.context, asked)).ended == ""
    shop.limit(warn_retained_wal_bytes=2**40)
    assert (await watch_slot(shop.context, asked)).ended == ""
    # Only a capture says that it has gone, since a slot that was lost holds nothing back either.
    ((much,),) = details(shop.bus.said)
    assert "holds back more than warn_retained_wal_bytes" in much
    # Also where config has come to name another one.
    slot = shop.slot
    shop.name_slot(f"{slot}_renamed")
    with pytest.raises(
        PostgresRefused, match=f"filled from {slot}; set `slot` back, or `icefleet cdc install --again`"
    ):
        await shop.capture()
    shop.limit(max_retained_wal_bytes=1)
    ended = (await watch_slot(shop.context, asked)).ended
    assert f"slot {slot} held back" in ended
    assert "max_retained_wal_bytes is 1: it was dropped" in ended
    assert await shop.rows("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", slot) == []
    assert (await watch_slot(shop.context, asked)).ended == ended
    assert (await shop.capture()).ended == ended
    assert details(shop.bus.said)[1:] == [[ended]]


async def test_a_slot_is_guarded_while_the_buffer_is_away_if_it_is_the_pipelines(shop):
    """Who must be protected is the source, whose log grows as long as nobody can take it."""
    await shop.install("t")
    await shop.capture()
    shop.config = replace(shop.config, buffer=replace(shop.config.buffer, port=1))
    slot = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s"

    async def attempts():
        for attempt in (capture_changes, watch_slot):
            with pytest.raises(PostgresUnavailable):
                await attempt(shop.context, CaptureInput(shop.environment, "shop", 0))

    shop.limit(warn_retained_wal_bytes=1)
    await attempts()
    ((much,),) = details(shop.bus.said)
    assert "holds back more than warn_retained_wal_bytes" in much
    own = shop.config
    shop.config = replace(own, source=replace(own.source, publication="of_nobody", max_retained_wal_bytes=1))
    await attempts()
    assert await shop.rows(slot, shop.slot) == [(1,)]
    shop.config = own
    shop.limit(max_retained_wal_bytes=1)
    await attempts()
    assert await shop.rows(slot, shop.slot) == []
    assert "max_retained_wal_bytes is 1: it was dropped" in details(shop.bus.said)[1][0]
    shop.config = replace(shop.config, buffer=shop.buffer)
    with pytest.raises(SlotLost, match=r"there is no slot .*install --again"):
        await shop.capture()


class BusAway(StreamInMemory):
    """Silent at the first look, refusing at the next ones, back later."""

    def __init__(self):
        super().__init__()
        self.silent, self.refused, self.back = asyncio.Event(), 0, False

    async def last(self, subject):
        if not self.silent.is_set():
            await self.silent.wait()
        if not self.back:
            self.refused += 1
            raise BusUnavailable("away")
        return await super().last(subject)


async def test_without_nats_the_capture_goes_on_and_the_finding_is_said_later(shop, monkeypatch, capsys):
    monkeypatch.setattr("activities.watching.WATCH_SECONDS", 0.05)
    monkeypatch.setattr("activities.slotfindings.LAST_WORD_SECONDS", 0.3)
    shop.bus = BusAway()
    await shop.install("t")
    shop.limit(warn_retained_wal_bytes=1)
    await shop.source_run("INSERT INTO t VALUES (1)")
    async with asyncio.timeout(60):
        assert (await shop.capture()).events == 2  # a turn does not wait for NATS
    async with shop.capturing():
        await shop.source_run("INSERT INTO t VALUES (2)")
        await shop.until(lambda events: events[-1][5].get("id") == "2")
        shop.bus.silent.set()
        await eventually(lambda: shop.bus.refused > 2)
        await shop.source_run("INSERT INTO t VALUES (3)")
        await shop.until(lambda events: events[-1][5].get("id") == "3")
        assert shop.bus.said == []
        shop.bus.back = True
        await eventually(lambda: shop.bus.said)
    assert capsys.readouterr().out.count("could not be published yet") == 1
    shop.bus.back = False
    shop.bus.silent.clear()
    shop.limit(max_retained_wal_bytes=1)
    ended = (await shop.capture(30)).ended
    assert "max_retained_wal_bytes is 1: it was dropped" in ended
    shop.bus.back = True
    shop.bus.silent.set()
    await shop.capture()
    assert details(shop.bus.said)[1:] == [[ended]]


async def test_an_uninstalled_pipeline_leaves_no_finding_and_a_slot_that_holds_nothing_back(shop):
    await shop.install("t")
    shop.limit(warn_retained_wal_bytes=1)
    with measured(watching) as told:
        await shop.capture(1)
        [(about, held)] = told()[RETAINED]
        assert held > 0
        await uninstall_capture(shop.context, UninstallRequest("shop", environment="test"))
        # By which an alert knows that nobody has to look at it any more.
        assert told()[RETAINED] == [(about, 0)]
    assert [len(one) for one in details(shop.bus.said)] == [1, 0]


async def test_what_is_confirmed_is_on_disk_whatever_the_default_of_the_role(shop):
    await shop.install("t")
    await shop.source_run(
        "CREATE TABLE seen (value text)",
        "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$",
        "CREATE TRIGGER see AFTER UPDATE ON icefleet_cdc.pipeline FOR EACH ROW EXECUTE FUNCTION see()",
    )
    seen = []
    for default in ("off", "local"):
        await shop.source_run(f"ALTER DATABASE {shop.source.database} SET synchronous_commit = {default}")
        await shop.source_run(f"INSERT INTO t VALUES ({len(seen)})")
        await shop.capture()
        seen.append({value for (value,) in await shop.rows("DELETE FROM seen RETURNING value")})
    assert seen == [{"on"}, {"local"}]


async def test_a_slot_or_publication_that_others_changed_is_lost_with_the_way_out(shop):
    await shop.install("t")
    await shop.capture()
    await shop.source_run("INSERT INTO t VALUES (1)")
    await shop.rows("SELECT pg_replication_slot_advance(%s, pg_current_wal_lsn())", shop.slot)
    with pytest.raises(SlotLost, match=r"somebody advanced the slot or made it anew, .*install --again"):
        await shop.capture()
    await shop.install(again=True)
    await shop.capture()
    await shop.source_run(f"DROP PUBLICATION {shop.slot}")
    with pytest.raises(SlotLost, match=r"there is no publication .*install --again"):
        await shop.capture()
    await shop.source_run(f"CREATE PUBLICATION {shop.slot} FOR TABLE t")
    with pytest.raises(SlotLost, match=r"somebody made anew the publication .*install --again"):
        await shop.capture()
    await shop.install(again=True)
    await shop.source_run("INSERT INTO t VALUES (2)")
    assert (await shop.capture()).ended == ""
    await shop.rows("SELECT pg_drop_replication_slot(%s)", shop.slot)
    with pytest.raises(SlotLost, match=r"there is no slot .*install --again"):
        await shop.capture()


async def test_a_publication_that_was_made_to_leave_out_changes_is_lost_also_when_it_is_set_back(shop, monkeypatch):
    monkeypatch.setattr("activities.watching.WATCH_SECONDS", 0.05)
    await shop.source_run("CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)")
    await shop.install("t")
    publication = f"ALTER PUBLICATION {shop.slot} SET"
    # Of tables without partitions this leaves out nothing.
    await shop.source_run(f"{publication} (publish_via_partition_root = false)")
    async with shop.capturing():
        await shop.source_run("INSERT INTO t VALUES (1)")
        await shop.until(lambda events: any(row[1] == "insert" for row in events))
    task = asyncio.create_task(shop.capture(60))
    await shop.source_run(f"{publication} (publish = 'insert, update')", "DELETE FROM t")
    with pytest.raises(SlotLost, match=r"leaves out deletes, truncates.*install --again"):
        await task
    await shop.source_run(f"{publication} (publish = 'insert, update, delete, truncate')")
    ended = (await shop.capture()).ended
    assert "leaves out deletes, truncates" in ended
    assert details(shop.bus.said)[-1] == [ended]
    await shop.source_run("CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10)")
    with pytest.raises(SlotLost, match="leaves out deletes, truncates"):
        await shop.install("p")
    await shop.install("p", again=True)
    await shop.source_run("INSERT INTO p VALUES (1)")
    assert ((await shop.capture()).ended, (await shop.changes())[-1][2]) == ("", {"id": "1"})
    await shop.source_run(f"{publication} (publish_via_partition_root = false)")
    with pytest.raises(SlotLost, match="leaves out the names of partitioned tables"):
        await shop.capture()


async def test_a_publication_dropped_while_it_is_read_ends_the_turn(shop, monkeypatch):
    monkeypatch.setattr("activities.watching.WATCH_SECONDS", 0.05)
    await shop.install("t")
    task = asyncio.create_task(shop.capture(60))
    await shop.until(bool)
    await shop.source_run(f"DROP PUBLICATION {shop.slot}")
    with pytest.raises(SlotLost, match="there is no publication"):
        await task


async def test_a_table_taken_out_of_the_publication_is_stopped(shop):
    await shop.install("t")
    await shop.rows("UPDATE icefleet_cdc.tables SET state = 'active', copying_lsn = NULL RETURNING 1")
    await shop.source_run(f"ALTER PUBLICATION {shop.slot} DROP TABLE t")
    await shop.capture(1)
    ((state, cause),) = await shop.rows("SELECT state, cause FROM icefleet_cdc.tables")
    assert state == "stopped"
    assert "no longer in publication" in cause
    assert "icefleet cdc install --tables public.t" in cause


async def test_a_table_that_was_out_of_the_publication_between_two_looks_is_stopped_and_copied_anew(shop):
    """Its changes were not logged meanwhile, and nobody has seen it missing."""
    await shop.source_run(
        *(f"CREATE TABLE {name} (id int PRIMARY KEY)" for name in ("u", "v")),
        "CREATE SCHEMA warehouse",
        "CREATE TABLE warehouse.w (id int PRIMARY KEY)",
        f"CREATE PUBLICATION {shop.slot} FOR TABLE u, TABLES IN SCHEMA warehouse",
    )
    await shop.install("t", "u", "v", "warehouse.w")
    copied = """
        UPDATE icefleet_cdc.tables t SET state = 'active', copying_lsn = NULL, copied_lsn = '0/1', memberships = m.ids
        FROM (
            SELECT c.relname, array_agg(coalesce(r.oid, n.oid)) AS ids FROM pg_class c
            LEFT JOIN pg_publication_rel r ON r.prrelid = c.oid
            LEFT JOIN pg_publication_namespace n ON n.pnnspid = c.relnamespace GROUP BY c.relname
        ) m WHERE m.relname = t.source_table RETURNING memberships[1]
    """
    assert all(member for (member,) in await shop.rows(copied))
    states = "SELECT source_table, state, copying_lsn::text FROM icefleet_cdc.tables ORDER BY 1"
    publication = f"ALTER PUBLICATION {shop.slot}"
    # Another membership that came and went changes nothing, and does not take the place of one that was left: nobody
    # can tell when it came.
    await shop.source_run(f"{publication} ADD TABLES IN SCHEMA public", f"{publication} DROP TABLE u")
    await shop.source_run(f"{publication} ADD TABLE u", f"{publication} DROP TABLES IN SCHEMA public")
    await shop.capture(1)
    assert {row[0]: row[1] for row in await shop.rows(states)} == {
        **dict.fromkeys("tvw", "active"),
        "u": "stopped",
    }
    await shop.source_run(
        f"{publication} DROP TABLE t",
        f"{publication} ADD TABLE t",
        f"{publication} DROP TABLES IN SCHEMA warehouse",
        f"{publication} ADD TABLES IN SCHEMA warehouse",
    )
    await shop.capture(1)
    assert await shop.rows(states) == [
        ("t", "stopped", "0/0"),
        ("u", "stopped", "0/0"),
        ("v", "active", None),
        ("w", "stopped", "0/0"),
    ]
    ((cause,),) = await shop.rows("SELECT cause FROM icefleet_cdc.tables WHERE source_table = 't'")
    assert "taken out of publication" in cause
    assert "icefleet cdc install --tables public.t --again" in cause
    again = await shop.install("t", again=True)
    assert [(table.table, table.state) for table in again.tables] == [("public.t", "copying")]


async def test_nothing_installed_and_nothing_to_capture_are_told(shop):
    with pytest.raises(PostgresRefused, match="make it with `icefleet cdc install`"):
        await shop.capture()
    await shop.install()
    with pytest.raises(PostgresRefused, match="nothing is installed to capture"):
        await shop.capture()
    shop.config = type(shop.config)(**{**vars(shop.config), "source": None})
    with pytest.raises(BadRequest, match="no `source`"):
        await shop.capture()


async def test_a_slot_that_is_given_up_within_a_large_transaction_says_why(shop, monkeypatch):
    """Which is when it holds back most: the session that writes into the buffer is in the middle of a COPY."""
    monkeypatch.setattr("activities.watching.WATCH_SECONDS", 0.05)
    monkeypatch.setattr("activities.capturing.FLUSH_BYTES", 1)
    await shop.install("t")
    await shop.capture()
    shop.limit(max_retained_wal_bytes=5_000_000)
    reached = asyncio.Event()

    async def wait() -> None:
        reached.set()
        await asyncio.Event().wait()

    failpoints.arm("cdc-during-buffer", wait)
    task = asyncio.create_task(shop.capture(60))
    await shop.source_run("INSERT INTO t VALUES (1), (2)")
    async with asyncio.timeout(90):
        await reached.wait()
        await shop.source_run(
            "CREATE TABLE noise (a text)", "INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 10000)"
        )
        ended = (await task).ended
    failpoints.disarm()
    assert "max_retained_wal_bytes is 5000000: it was dropped" in ended
    assert (await shop.capture()).ended == ended
    assert details(shop.bus.said) == [[ended]]
    assert await shop.changes() == []

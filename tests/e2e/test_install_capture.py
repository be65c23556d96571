"""Installing makes what is missing, changes what must be changed, and takes away only what it made."""

import asyncio
from dataclasses import replace

import pytest

from activities import failpoints
from activities.clients.catalogue import source_table
from activities.clients.replication import exported_snapshot, open_log
from activities.clients.waits import watch_waits
from activities.contracts.cdc import UninstallRequest
from activities.core.changelogs import ChangelogRules
from activities.core.faults import BadConfig, BadRequest, LockTaken, PostgresRefused, PostgresUnavailable, SlotLost
from activities.uninstalling import uninstall_capture
from support.captures import ENVIRONMENT, PIPELINE, captures
from support.fleet import eventually
from support.ownpostgres import fresh_database


@pytest.fixture
async def shop(postgres):
    made = captures(postgres.settings)
    await made.source_run("CREATE TABLE t (id int PRIMARY KEY)")
    return made


WAITING = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_create_logical%' AND wait_event_type = 'Lock'"


async def things(shop):
    """What there is of the pipeline at the source."""
    return [
        name
        for (name,) in await shop.rows(
            "SELECT 'slot' FROM pg_replication_slots WHERE slot_name = %s UNION ALL "
            "SELECT 'publication' FROM pg_publication UNION ALL SELECT 'trigger' FROM pg_event_trigger UNION ALL "
            "SELECT 'schema' FROM pg_namespace WHERE nspname LIKE 'icefleet%%' ORDER BY 1",
            shop.slot,
        )
    ]


async def uninstall(shop, **more):
    return await uninstall_capture(shop.context, UninstallRequest(PIPELINE, ENVIRONMENT, **more))


async def test_installing_again_changes_nothing_and_uninstalling_leaves_nothing_but_the_buffer(shop):
    first = await shop.install("t")
    assert (first.slot, first.publication, first.tables[0].state) == (shop.slot, shop.slot, "copying")
    assert "1 of them are copied first" in first.message
    assert f"beyond max_events, {shop.config.buffer_max_events}, or max_bytes," in first.message
    await shop.rows("UPDATE icefleet_cdc.tables SET state = 'active', copying_lsn = NULL RETURNING 1")
    before = await shop.rows("SELECT slot, publication_id, captured_lsn FROM icefleet_cdc.pipeline")
    again = await shop.install("t", "public.t")
    assert ([table.state for table in again.tables], again.message) == (["active"], "1 tables are followed")
    assert await shop.rows("SELECT slot, publication_id, captured_lsn FROM icefleet_cdc.pipeline") == before
    assert await things(shop) == ["publication", "schema", "schema", "slot", "trigger", "trigger"]
    report = await uninstall(shop)
    assert f"slot {shop.slot}" in report.removed
    assert await things(shop) == ["schema"]
    assert (await uninstall(shop)).removed == []
    assert [table.state for table in (await shop.install("t")).tables] == ["copying"]
    await uninstall(shop, drop_buffer=True)
    assert await things(shop) == []


async def test_a_slot_that_is_read_is_not_taken_away(shop, monkeypatch):
    monkeypatch.setattr("activities.clients.slots.DROP_SECONDS", 0.3)
    await shop.install("t")
    async with shop.capturing():
        await shop.until(bool)
        with pytest.raises(LockTaken, match="still read by somebody"):
            await uninstall(shop)
    monkeypatch.setattr("activities.clients.slots.DROP_SECONDS", 10.0)
    assert f"slot {shop.slot}" in (await uninstall(shop)).removed


async def test_what_others_made_is_left_alone(shop):
    await shop.source_run(f"CREATE PUBLICATION {shop.slot} FOR TABLE t")
    await shop.rows("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", shop.slot)
    with pytest.raises(PostgresRefused, match="was not filled from it; give the pipeline another `slot`"):
        await shop.install("t")
    await uninstall(shop)
    await shop.rows("SELECT pg_drop_replication_slot(%s)", shop.slot)  # it is still there
    await shop.install("t")
    await uninstall(shop)
    assert "publication" in await things(shop)


async def test_what_was_uninstalled_is_not_followed_again_with_another_table_of_its_publication(shop):
    await shop.source_run(
        "CREATE TABLE u (id int PRIMARY KEY)",
        f"CREATE PUBLICATION {shop.slot} FOR TABLE t, u WITH (publish = 'insert')",
    )
    await shop.install("t", "u")
    await shop.source_run("INSERT INTO u VALUES (1)")
    await shop.capture()
    await uninstall(shop)
    await shop.source_run("INSERT INTO u VALUES (2)")
    await shop.install("t")
    await shop.source_run("INSERT INTO u VALUES (3)", "INSERT INTO t VALUES (4)")
    await shop.capture()
    # What was captured before is still carried over.
    assert [(row[0], row[5]["id"]) for row in await shop.events() if row[1] != "schema"] == [
        *(("public.u", "1"), ("public.t", "4")),
    ]
    assert [table.state for table in (await shop.install("u")).tables] == ["copying"]


async def test_databases_that_cannot_hold_every_text_are_refused_case_63(stack, postgres):
    """One text that is no UTF-8 would hold up the log of all tables, again and again."""
    async with fresh_database(stack, "SQL_ASCII") as ascii_, fresh_database(stack, "LATIN1") as latin:
        source = captures(ascii_.settings, postgres.settings)
        await source.source_run("CREATE TABLE t (id int PRIMARY KEY)")
        with pytest.raises(PostgresRefused, match=f"{ascii_.database}: this database is encoded in SQL_ASCII, .*UTF8"):
            await source.install("t")
        buffer = captures(postgres.settings, latin.settings)
        with pytest.raises(
            PostgresRefused, match=f"{latin.database}, schema icefleet_cdc: .* encoded in LATIN1, .*UTF8"
        ):
            await buffer.install()
        for one in (source, buffer):
            assert await one.rows("SELECT 1 FROM pg_namespace WHERE nspname LIKE 'icefleet%%'") == []


async def test_tables_that_cannot_be_followed_are_refused_with_the_way_out(shop):
    """Cases 19 and 54."""
    await shop.source_run(
        "CREATE VIEW v AS SELECT * FROM t",
        "CREATE UNLOGGED TABLE u (id int PRIMARY KEY)",
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9)",
        "CREATE TABLE ours (id int PRIMARY KEY, cdc_lsn text)",
        "CREATE TABLE virtual (id int, n int GENERATED ALWAYS AS (id + 1) VIRTUAL)",
        "CREATE SCHEMA public_t",
        'CREATE TABLE public_t."" (id int)'.replace('""', "t"),
    )
    refused = {
        "tt": "no table public.tt; did you mean `public.t`",
        "a.b.c": "no table a.b.c",
        '"x': "names no table",
        "v": "is no table",
        "u": "unlogged",
        "p1": "is a partition; name the partitioned table",
        "virtual": "refuses updates and deletes",
    }
    for name, why in refused.items():
        with pytest.raises(BadRequest, match=why):
            await shop.install("t", name)
    with pytest.raises(BadConfig, match="cdc_lsn has the name of a column that the changelog has for itself"):
        await shop.install("ours")
    shop.limit(rules=ChangelogRules(name="{table}"))
    with pytest.raises(BadConfig, match=r"public\.t and public_t\.t would both have the changelog cdc\.t"):
        await shop.install("t", "public_t.t")
    # Nothing was made for any of them.
    assert await things(shop) == ["schema"]


async def test_a_table_that_cannot_go_on_keeps_no_other_from_being_installed(shop):
    await shop.install("t")
    await shop.source_run("ALTER TABLE t ADD COLUMN cdc_lsn text", "CREATE TABLE other (id int PRIMARY KEY)")
    assert [table.table for table in (await shop.install("other")).tables] == ["public.other"]
    # Where it has to be copied as well it is in the way, before anything is made.
    with pytest.raises(BadConfig, match=r"public\.t: column cdc_lsn"):
        await shop.install(again=True)


async def test_installations_that_meet_leave_each_other_the_slot_that_the_first_one_made(shop):
    """What the first one's tables need is read from it: from a later one nobody would hear what comes in between."""
    await shop.source_run("CREATE TABLE u (id int PRIMARY KEY)")
    reached, released = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        failpoints.disarm()
        reached.set()
        await released.wait()

    failpoints.arm("install-after-slot", wait)
    first = asyncio.create_task(shop.install("t"))
    async with asyncio.timeout(90):
        await reached.wait()
        told = watch_waits()
        second = asyncio.create_task(shop.install("u"))
        waits = (
            "SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
            "WHERE d.datname = current_database() AND locktype = 'advisory' AND NOT granted"
        )
        await eventually(lambda: second.done() or shop.rows(waits))
        assert told == [f"waits for other installations of pipeline {PIPELINE}"]
        released.set()
        await asyncio.gather(first, second)
    await shop.source_run("INSERT INTO t VALUES (1)")
    await shop.capture()
    assert await shop.changes() == [("insert", None, {"id": "1"})]
    states = await shop.rows("SELECT source_table, state FROM icefleet_cdc.tables ORDER BY 1")
    assert states == [("t", "copying"), ("u", "copying")]


async def test_once_a_slot_is_lost_no_table_goes_on_without_a_copy_however_an_installation_ends(shop, monkeypatch):
    """Changes of all tables were lost with it, also of those that nobody came to, or names when it is tried again."""
    monkeypatch.setattr("activities.clients.slots.DROP_SECONDS", 0.3)
    states = "SELECT source_table, state, copying_lsn::text FROM icefleet_cdc.tables ORDER BY 1"
    await shop.source_run("CREATE TABLE u (id int PRIMARY KEY)")
    await shop.install("t", "u")
    active = "UPDATE icefleet_cdc.tables SET state = 'active', copying_lsn = NULL, copied_lsn = '0/1' RETURNING 1"
    await shop.rows(active)
    await shop.source_run(
        f"DROP PUBLICATION {shop.slot}", f"CREATE PUBLICATION {shop.slot} FOR TABLE t WHERE (id > 5), u"
    )
    async with open_log(shop.source) as reader:
        await reader.start(shop.slot, shop.slot, 0)
        with pytest.raises(LockTaken, match="still read by somebody"):
            await shop.install("t", again=True)
    # A copy must not begin before the slot does: what is committed between would be in neither.
    assert await shop.rows(states) == [("t", "stopped", "0/0"), ("u", "stopped", "0/0")]
    with pytest.raises(PostgresRefused, match="leaves out rows or columns"):
        await shop.install("t", again=True)
    assert await shop.rows(states) == [("t", "copying", "0/0"), ("u", "copying", "0/0")]
    await shop.source_run(f"ALTER PUBLICATION {shop.slot} SET TABLE t, u")
    await shop.install("t", again=True)
    assert await shop.rows(states) == [("t", "copying", "0/0"), ("u", "copying", "0/0")]


async def test_what_waits_of_a_log_that_has_ended_does_not_come_after_the_copies(shop):
    await shop.source_run("CREATE TABLE gone (id int PRIMARY KEY)")
    await shop.install("t", "gone")
    await shop.source_run("INSERT INTO t VALUES (1)", "INSERT INTO gone VALUES (1)")
    await shop.capture()
    # As if the server before had been ahead of the one that is there now.
    letter = (
        "INSERT INTO icefleet_cdc.dead_letters (event_id, source_schema, source_table, operation, commit_lsn, ordinal, "
        "committed_at, key_columns, unchanged, received_at, cause) SELECT 0, source_schema, source_table, operation, "
        "commit_lsn, ordinal, committed_at, key_columns, unchanged, received_at, 'no' FROM icefleet_cdc.events "
        "WHERE source_table = 't' LIMIT 1"
    )
    await shop.source_run(
        "UPDATE icefleet_cdc.events SET commit_lsn = commit_lsn + 100000000",
        "UPDATE icefleet_cdc.pipeline SET captured_lsn = captured_lsn + 100000000",
        letter,
    )
    await shop.source_run("DROP TABLE gone")
    with pytest.raises(SlotLost, match="--again"):
        await shop.install("t")
    await shop.install(again=True)
    # Of a table that is gone nothing else will ever come.
    assert {row[0] for row in await shop.events()} == {"public.gone"}
    ((state, reason),) = await shop.rows("SELECT state, reason FROM icefleet_cdc.dead_letters")
    assert (state, "copies it anew" in reason) == ("dropped", True)


async def test_a_buffer_is_never_captured_into_itself(shop):
    await shop.install()
    with pytest.raises(BadRequest, match=r"icefleet_cdc\.events is one of a pipeline's buffer"):
        await shop.install("icefleet_cdc.events")
    assert await things(shop) == ["schema"]


async def test_identities_are_set_as_keys_allow_and_never_made_less(shop):
    await shop.source_run(
        "CREATE TABLE nothing (id int PRIMARY KEY)",
        "ALTER TABLE nothing REPLICA IDENTITY NOTHING",
        "CREATE TABLE whole (id int PRIMARY KEY)",
        "ALTER TABLE whole REPLICA IDENTITY FULL",
        "CREATE TABLE indexed (a int NOT NULL, b int PRIMARY KEY)",
        "CREATE UNIQUE INDEX by_a ON indexed (a)",
        "ALTER TABLE indexed REPLICA IDENTITY USING INDEX by_a",
        "CREATE TABLE late (id int PRIMARY KEY DEFERRABLE)",
        "CREATE TABLE parts (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM (0) TO (9)",
    )
    report = await shop.install("t", "nothing", "whole", "indexed", "late", "parts")
    assert [(table.table[7:], table.identity, table.key_columns) for table in report.tables] == [
        ("t", "default", ["id"]),
        ("nothing", "default", ["id"]),
        ("whole", "full", ["id"]),
        ("indexed", "index", ["a"]),
        ("late", "full", []),
        ("parts", "full", []),
    ]
    found = await shop.rows(
        "SELECT relname, relreplident::text FROM pg_class "
        "WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
    )
    assert dict(found) == {
        "t": "d",
        "nothing": "d",
        "whole": "f",
        "indexed": "i",
        "late": "f",
        "parts": "f",
        "parts1": "f",
    }
    assert [table.identity for table in (await shop.install("t", full_identity=True)).tables] == ["full"]


async def test_writers_of_a_table_are_waited_for_and_not_for_ever(shop, monkeypatch):
    monkeypatch.setattr("activities.clients.publications.LOCK_TIMEOUT", "200ms")
    async with await shop.source.connect() as writer:
        async with writer.transaction():
            await writer.execute("INSERT INTO t VALUES (1)")
            # The slot waits for transactions that run, without end; the table comes after it.
            installing = asyncio.create_task(shop.install("t"))
            await eventually(lambda: shop.rows(WAITING))
            assert not installing.done()
        await installing
        await shop.source_run("CREATE TABLE s (id int PRIMARY KEY)")
        async with writer.transaction():
            await writer.execute("INSERT INTO s VALUES (1)")
            with pytest.raises(PostgresUnavailable, match=r"table public\.s: others have held locks"):
                await shop.install("s")


async def test_a_user_without_rights_to_triggers_gets_relations_and_uninstalls_and_one_without_rights_an_answer(shop):
    role = f"{shop.source.database}_user"
    await shop.source_run(
        f"CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'x'",
        f"GRANT CREATE ON DATABASE {shop.source.database} TO {role}",
        "CREATE TABLE own (id int PRIMARY KEY)",
        f"ALTER TABLE own OWNER TO {role}",
    )
    plain = type(shop.source)(**{**vars(shop.source), "user": role, "password": "x"})
    limited = captures(plain)
    try:
        with pytest.raises(PostgresRefused, match="permission denied for table t"):
            await limited.install("t")
        report = await limited.install("own")
        assert (report.schema_events, [table.state for table in report.tables]) == ("relations", ["copying"])
        await limited.source_run("INSERT INTO own VALUES (1)")
        assert (await limited.capture()).events == 2
        # Somebody with the right does it once, and from then on it is there.
        allowed = captures(shop.source)
        allowed.config = replace(limited.config, source=replace(limited.config.source, database=shop.source))
        assert (await allowed.install("own")).schema_events == "trigger"
        assert (await limited.install("own")).schema_events == "trigger"
        slot, triggers, publication = (await uninstall(limited)).removed
        assert (slot, publication) == (f"slot {limited.slot}", f"publication {limited.slot}")
        assert f'whoever made them must drop them, DROP EVENT TRIGGER "{limited.slot}"' in triggers
        await uninstall(allowed, drop_buffer=True)
        assert await things(shop) == []
    finally:
        await shop.source_run(f"REASSIGN OWNED BY {role} TO CURRENT_USER", f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_a_snapshot_holds_what_was_committed_before_its_position_and_the_log_the_rest(shop):
    """Case 12."""
    await shop.install("t")
    await shop.source_run("INSERT INTO t VALUES (1)")
    async with exported_snapshot(shop.source, f"{shop.slot}_copy", temporary=True) as snapshot:
        await shop.source_run("INSERT INTO t VALUES (2)", "ALTER TABLE t ADD later int")
        async with await shop.source.connect() as reader, reader.transaction():
            await reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await reader.execute(f"SET TRANSACTION SNAPSHOT '{snapshot.name}'")
            copied = await (await reader.execute("SELECT id FROM t")).fetchall()
            table = await source_table(reader, "public", "t")
            path = await (await reader.execute("SHOW search_path")).fetchone()
    assert (copied, [column.name for column in table.columns]) == ([(1,)], ["id"])
    assert path == ('"$user", public',)
    await shop.capture()
    found = await shop.rows(
        "SELECT new_row->>'id', commit_lsn >= %s::pg_lsn FROM icefleet_cdc.events "
        "WHERE operation = 'insert' ORDER BY id",
        f"{snapshot.lsn >> 32:X}/{snapshot.lsn & 0xFFFFFFFF:X}",
    )
    assert found == [("1", False), ("2", True)]
    assert await shop.rows("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", f"{shop.slot}_copy") == []


async def test_without_tables_only_the_buffer_is_made(shop):
    report = await shop.install()
    assert (report.tables, report.slot) == ([], "")
    assert await things(shop) == ["schema"]
    shop.config = type(shop.config)(**{**vars(shop.config), "source": None})
    with pytest.raises(BadRequest, match="no `source`"):
        await shop.install("t")

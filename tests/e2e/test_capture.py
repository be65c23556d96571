"""What a source commits is in the buffer: every event, once, in order, in the form that producers promise."""

import asyncio
import resource

import pytest

from activities.core.changelogs import lsn_number
from support.captures import captures


@pytest.fixture
def shop(postgres):
    return captures(postgres.settings)


async def operations(shop):
    return [change[0] for change in await shop.changes()]


async def test_a_transaction_arrives_whole_with_ordinals_and_its_key_changes_in_two(shop):
    """Cases 10 and 13: places in a transaction; A→B while B→C in one statement."""
    await shop.source_run("CREATE TABLE t (id int PRIMARY KEY, a text)")
    await shop.install("t")
    # 2 lies before 1, so that each key is free when its turn comes: the only order in which this can succeed.
    await shop.transact(
        "INSERT INTO t VALUES (2, 'b'), (1, 'a')",
        "UPDATE t SET id = id + 1",
        "UPDATE t SET a = NULL WHERE id = 3",
        "DELETE FROM t WHERE id = 2",
    )
    report = await shop.capture()
    assert (report.events, report.transactions, report.ended, report.waiting_for) == (9, 2, "", "")
    assert await shop.changes() == [
        ("insert", None, {"id": "2", "a": "b"}),
        ("insert", None, {"id": "1", "a": "a"}),
        ("delete", {"id": "2"}, None),
        ("insert", None, {"id": "3", "a": "b"}),
        ("delete", {"id": "1"}, None),
        ("insert", None, {"id": "2", "a": "a"}),
        ("update", None, {"id": "3", "a": None}),
        ("delete", {"id": "2"}, None),
    ]
    events = await shop.events()
    assert [row[2] for row in events] == [0, *range(8)]
    assert {tuple(row[3]) for row in events} == {("id",)}
    ((lsns, times, apart),) = await shop.rows(
        "SELECT count(DISTINCT commit_lsn), count(DISTINCT committed_at), max(received_at - committed_at) < '1 min' "
        "FROM icefleet_cdc.events"
    )
    assert (lsns, times, apart) == (2, 2, True)


async def test_long_values_that_did_not_change_are_listed_or_filled_as_the_identity_allows(shop):
    """Case 52."""
    await shop.source_run(
        "CREATE TABLE d (id int PRIMARY KEY, n int, long text)",
        "CREATE TABLE f (id int PRIMARY KEY, n int, long text)",
        "ALTER TABLE d ALTER long SET STORAGE EXTERNAL",
        "ALTER TABLE f ALTER long SET STORAGE EXTERNAL",
        "ALTER TABLE f REPLICA IDENTITY FULL",
    )
    installed = await shop.install("d", "f")
    assert [(table.identity, table.key_columns) for table in installed.tables] == [
        ("default", ["id"]),
        ("full", ["id"]),
    ]
    long = "x" * 5000
    for table in "df":
        await shop.transact(
            f"INSERT INTO {table} VALUES (1, 1, repeat('x', 5000))",
            f"UPDATE {table} SET n = 2",
            f"UPDATE {table} SET id = 2",
            f"DELETE FROM {table}",
        )
    await shop.capture()
    found = [row for row in await shop.events() if row[1] != "schema"]
    whole = {"id": "1", "n": "2", "long": long}
    assert [row[4:] for row in found if row[0] == "public.d"] == [
        (None, {"id": "1", "n": "1", "long": long}, []),
        (None, {"id": "1", "n": "2"}, ["long"]),
        ({"id": "1"}, None, []),
        (None, {"id": "2", "n": "2"}, ["long"]),
        ({"id": "2"}, None, []),
    ]
    assert [row[4:] for row in found if row[0] == "public.f"] == [
        (None, {"id": "1", "n": "1", "long": long}, []),
        (None, whole, []),
        (whole, None, []),
        (None, {**whole, "id": "2"}, []),
        ({**whole, "id": "2"}, None, []),
    ]


async def test_truncate_says_each_table_that_it_emptied_and_those_that_hang_on_it(shop):
    """Case 53."""
    await shop.source_run(
        "CREATE TABLE a (id int PRIMARY KEY)",
        "CREATE TABLE b (id int PRIMARY KEY)",
        "CREATE TABLE c (id int PRIMARY KEY, a int REFERENCES a)",
    )
    await shop.install("a", "b", "c")
    await shop.transact("INSERT INTO a VALUES (1)", "TRUNCATE a, b CASCADE", "INSERT INTO a VALUES (2)")
    await shop.capture()
    events = [row[:2] for row in await shop.events() if row[1] != "schema"]
    assert events[0] == ("public.a", "insert")
    assert sorted(events[1:4]) == [("public.a", "truncate"), ("public.b", "truncate"), ("public.c", "truncate")]
    assert events[4:] == [("public.a", "insert")]


async def test_odd_names_and_values_come_through(shop):
    table, key, number = '"Odd""Schema"."T""ä€"', '"Key, {1}"', '"tab\there"'
    await shop.source_run(
        'CREATE SCHEMA "Odd""Schema"',
        f'CREATE TABLE {table} ({key} text, {number} int, "\\ ""q" bytea, PRIMARY KEY ({key}, {number}))',
    )
    report = await shop.install(table)
    assert report.tables[0].table == 'Odd"Schema.T"ä€'
    await shop.source_run(
        f"INSERT INTO {table} VALUES (E'a\\tb\\nc\\\\N\"\\u0001😀', 1, '\\x00ff'), ('', 2, NULL)",
        f"UPDATE {table} SET {number} = 3 WHERE {key} = ''",
    )
    await shop.capture()
    assert await shop.changes() == [
        ("insert", None, {"Key, {1}": 'a\tb\nc\\N"\x01😀', "tab\there": "1", '\\ "q': "\\x00ff"}),
        ("insert", None, {"Key, {1}": "", "tab\there": "2", '\\ "q': None}),
        ("delete", {"Key, {1}": "", "tab\there": "2"}, None),
        ("insert", None, {"Key, {1}": "", "tab\there": "3", '\\ "q': None}),
    ]
    assert {(row[0], tuple(row[3])) for row in await shop.events()} == {('Odd"Schema.T"ä€', ("Key, {1}", "tab\there"))}


async def test_values_are_written_as_postgresql_does_by_default_whatever_the_database_prefers(shop):
    await shop.source_run(
        "ALTER DATABASE " + shop.source.database + " SET DateStyle = 'German'",
        "ALTER DATABASE " + shop.source.database + " SET TimeZone = 'Asia/Tokyo'",
        "ALTER DATABASE " + shop.source.database + " SET bytea_output = 'escape'",
        "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, i interval, f float8, b bytea, a int[])",
    )
    await shop.install("t")
    await shop.source_run("INSERT INTO t VALUES (1, '2026-01-02 03:04:05.6+00', '1 day 2 h', 0.1, '\\x00', '{1,NULL}')")
    await shop.capture()
    assert (await shop.changes())[0][2] == {
        "id": "1",
        "at": "2026-01-02 03:04:05.6+00",
        "i": "1 day 02:00:00",
        "f": "0.1",
        "b": "\\x00",
        "a": "{1,NULL}",
    }


async def test_partitions_keyless_and_generated_columns(shop):
    await shop.source_run(
        "CREATE TABLE p (id int, at date, n int GENERATED ALWAYS AS (id * 2) STORED, PRIMARY KEY (id, at)) "
        "PARTITION BY RANGE (at)",
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
        "CREATE TABLE k (a text)",
        "CREATE TABLE v (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) VIRTUAL)",
    )
    installed = {table.table: table for table in (await shop.install("p", "k", "v")).tables}
    assert (installed["public.k"].identity, installed["public.k"].key_columns) == ("full", [])
    assert "no key" in installed["public.k"].note
    assert "left out" in installed["public.v"].note
    assert "partition that is truncated" in installed["public.p"].note
    await shop.source_run(
        "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
        "INSERT INTO p VALUES (1, '2026-01-05'), (2, '2026-02-05')",
        "UPDATE p SET at = '2026-02-06' WHERE id = 1",
        "INSERT INTO k VALUES ('x'), ('x')",
        "UPDATE k SET a = 'y'",
        "INSERT INTO v VALUES (1)",
    )
    await shop.capture()
    found = [
        (row[0].removeprefix("public."), row[1], row[4], row[5]) for row in await shop.events() if row[1] != "schema"
    ]
    moved = {"id": "1", "at": "2026-02-06", "n": "2"}
    assert found == [
        ("p", "insert", None, {"id": "1", "at": "2026-01-05", "n": "2"}),
        ("p", "insert", None, {"id": "2", "at": "2026-02-05", "n": "4"}),
        # A row that moves to another partition is deleted there and inserted here by PostgreSQL itself.
        ("p", "delete", {"id": "1", "at": "2026-01-05"}, None),
        ("p", "insert", None, moved),
        ("k", "insert", None, {"a": "x"}),
        ("k", "insert", None, {"a": "x"}),
        ("k", "update", {"a": "x"}, {"a": "y"}),
        ("k", "update", {"a": "x"}, {"a": "y"}),
        ("v", "insert", None, {"id": "1"}),
    ]


async def test_a_committed_row_is_in_the_buffer_at_once_and_the_slot_follows(shop):
    await shop.source_run("CREATE TABLE t (id int PRIMARY KEY)")
    await shop.install("t")
    waits = []
    async with shop.capturing():
        async with await shop.source.connect() as writer, await shop.buffer.connect() as reader:
            await reader.execute("LISTEN icefleet_cdc")
            for number in range(6):
                await writer.execute("INSERT INTO t VALUES (%s)", (number,))
                begun = asyncio.get_running_loop().time()
                heard = [note async for note in reader.notifies(timeout=60, stop_after=1)]
                waits.append(asyncio.get_running_loop().time() - begun)
                assert len(heard) == 1
        ((confirmed,),) = await shop.rows("SELECT captured_lsn::text FROM icefleet_cdc.pipeline")
        async with asyncio.timeout(90):
            while True:
                ((slot,),) = await shop.rows(
                    "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s", shop.slot
                )
                if lsn_number(slot) >= lsn_number(confirmed):
                    break
    assert await operations(shop) == ["insert"] * 6
    # The best of six, since the machine may be busy: nothing in the way waits by the clock for longer.
    assert min(waits[1:]) < 0.1


async def test_a_transaction_larger_than_memory_streams_through(shop):
    """Cases 58 and 59."""
    await shop.source_run("CREATE TABLE t (id int PRIMARY KEY, a text)")
    await shop.install("t")
    await shop.source_run("INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1, 1000) i")
    await shop.capture()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await shop.source_run("INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1001, 201000) i")
    report = await shop.capture()
    assert (report.events, report.transactions) == (200_000, 1)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 40 * 1024, f"the process grew by {grown} kB for 60 MB of rows"
    ((count, ordered),) = await shop.rows(
        "SELECT count(*), bool_and(ordinal = (new_row->>'id')::int - 1001) FROM icefleet_cdc.events WHERE id > 1001"
    )
    assert (count, ordered) == (200_000, True)


async def test_what_is_not_installed_is_passed_over_until_it_is(shop, capsys):
    await shop.source_run("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE other (id int PRIMARY KEY)")
    await shop.install("t")
    await shop.source_run(f"ALTER PUBLICATION {shop.slot} ADD TABLE other")
    async with shop.capturing():
        passed = [f"INSERT INTO other VALUES ({number})" for number in (1, 11, 12)]
        await shop.source_run(*passed, "INSERT INTO t VALUES (1)")
        await shop.until(lambda events: any(row[1] == "insert" for row in events))
        # Said of the table, and not of each of its transactions.
        assert capsys.readouterr().out.count("published and not installed are passed over") == 1
        await shop.install("other")
        await shop.source_run("INSERT INTO other VALUES (2)", "INSERT INTO t VALUES (2)")
        events = await shop.until(lambda events: sum(row[1] == "insert" for row in events) >= 3)
    assert [(row[0], row[1], row[5].get("id")) for row in events if row[1] != "schema"] == [
        ("public.t", "insert", "1"),
        ("public.other", "insert", "2"),
        ("public.t", "insert", "2"),
    ]


async def test_an_idle_slot_moves_over_log_of_others_when_the_server_asks_or_time_passes(shop, monkeypatch):
    monkeypatch.setattr("activities.capturing.IDLE_SECONDS", 0.1)
    await shop.source_run("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE noise (a text)")
    await shop.install("t")
    state = (
        "SELECT p.captured_lsn::text, s.confirmed_flush_lsn::text FROM icefleet_cdc.pipeline p, pg_replication_slots s "
        "WHERE s.slot_name = %s"
    )
    ((_, begun),) = await shop.rows(state, shop.slot)
    slot = begun
    async with shop.capturing() as task, asyncio.timeout(90):
        while lsn_number(slot) < lsn_number(begun) + 50_000:
            await shop.source_run("INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 100)")
            ((captured, slot),) = await shop.rows(state, shop.slot)
            # What the slot was told, the buffer knew before: that is how a slot is known that others moved.
            assert lsn_number(slot) <= lsn_number(captured)
            assert not task.done()
    assert [row[1] for row in await shop.events()] == ["schema"]

"""Servers that are set up otherwise, or restarted while they are read and written."""

import asyncio

import pytest

from activities.core.faults import PostgresRefused, PostgresUnavailable, SlotLost
from support.captures import captures
from support.ownserver import own_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with own_server(tmp_path_factory.mktemp("own")) as running:
        yield running


async def test_a_server_that_is_restarted_goes_on_and_one_that_gave_up_the_slot_is_told(server, postgres):
    shop = captures(server.settings, postgres.settings)
    await shop.source_run("CREATE TABLE t (id int PRIMARY KEY)", "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    await shop.install("t")
    task = asyncio.create_task(shop.capture(60))
    await shop.source_run("INSERT INTO t VALUES (1)")
    await shop.until(lambda events: any(row[1] == "insert" for row in events))
    await asyncio.to_thread(server.stop)
    with pytest.raises(PostgresUnavailable, match="own server"):
        await task
    with pytest.raises(PostgresUnavailable):
        await shop.capture()
    server.start()
    await shop.source_run("INSERT INTO t VALUES (2)")
    await shop.capture()
    assert [new["id"] for _, _, new in await shop.changes()] == ["1", "2"]

    await shop.source_run(
        "CREATE TABLE noise (a text)",
        *["INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 20000)", "SELECT pg_switch_wal()"] * 3,
        "CHECKPOINT",
    )
    with pytest.raises(SlotLost, match=rf"has given up slot {shop.slot} .*install --again"):
        await shop.capture()
    await shop.install(again=True)
    await shop.source_run("INSERT INTO t VALUES (3)")
    await shop.capture()
    assert (await shop.changes())[-1][2] == {"id": "3"}


async def test_a_buffer_that_is_restarted_has_every_event_once(server, postgres):
    shop = captures(postgres.settings, server.settings)
    await shop.source_run("CREATE TABLE t (id int PRIMARY KEY)")
    await shop.install("t")
    task = asyncio.create_task(shop.capture(60))
    await shop.source_run("INSERT INTO t VALUES (1)")
    await shop.until(lambda events: any(row[1] == "insert" for row in events))
    await asyncio.to_thread(server.stop)
    await shop.source_run("INSERT INTO t VALUES (2)")
    with pytest.raises(PostgresUnavailable, match="own server"):
        await task
    server.start()
    await shop.capture()
    assert [new["id"] for _, _, new in await shop.changes()] == ["1", "2"]


async def test_a_server_that_took_over_goes_on_unless_it_lacks_what_was_captured_from_the_one_before(server, postgres):
    shop = captures(server.settings, postgres.settings)
    await shop.source_run("CREATE TABLE v (id int PRIMARY KEY)")
    await shop.install("v")
    await shop.source_run("INSERT INTO v VALUES (1)")
    await shop.capture()
    await asyncio.to_thread(server.take_over)
    await shop.source_run("INSERT INTO v VALUES (2)")
    await shop.capture()
    assert [new["id"] for _, _, new in await shop.changes()] == ["1", "2"]

    await asyncio.to_thread(server.take_over)
    await shop.source_run("INSERT INTO v VALUES (3)")
    async with await shop.source.connect() as connection:
        (end,) = await (await connection.execute("SELECT pg_current_wal_lsn()::text")).fetchone()
    await shop.source_run("INSERT INTO v VALUES (4)")
    # As if the server before had written as much, and had it captured, before it was lost.
    await shop.rows("UPDATE icefleet_cdc.pipeline SET captured_lsn = %s::pg_lsn RETURNING 1", end)
    with pytest.raises(SlotLost, match=r"took over at .*, before .* up to which .*install --again"):
        await shop.capture()
    await shop.install(again=True)
    await shop.source_run("INSERT INTO v VALUES (5)")
    await shop.capture()
    assert (await shop.changes())[-1][2] == {"id": "5"}


async def test_a_log_that_says_too_little_is_refused_with_the_way_out(server):
    shop = captures(server.settings)
    # With a slot it would not even start.
    await shop.rows("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    server.stop()
    server.start(wal_level="replica")
    await shop.source_run("CREATE TABLE poor (id int PRIMARY KEY)")
    with pytest.raises(PostgresRefused, match=r"wal_level is 'replica'.*restart that server"):
        await shop.install("poor")

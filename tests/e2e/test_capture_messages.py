"""Whoever may log in to a source may write messages into its log, also under our prefix."""

import json

import pytest

from support.captures import captures


@pytest.fixture
async def shop(postgres):
    return captures(postgres.settings)


async def test_messages_of_strangers_stop_neither_capture_nor_table(shop, capsys):
    await shop.source_run("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE u (id int PRIMARY KEY)")
    await shop.install("t", "u")
    await shop.rows(
        "UPDATE icefleet_cdc.tables SET state = 'active', copying_lsn = NULL, copied_lsn = '0/1' RETURNING 1"
    )
    await shop.capture()
    told = dict(await shop.rows("SELECT source_table, captured FROM icefleet_cdc.tables"))
    false = ({**told["t"], "relid": told["t"]["relid"] + 1000}, {**told["u"], "table": "v"})
    messages = ["hello", "[" * 100_000, *(json.dumps({"slot": shop.slot, **one}) for one in false)]
    stranger = f"{shop.source.database}_stranger"
    await shop.source_run(f"CREATE ROLE {stranger}")
    try:
        for content in messages:
            emit = f"SELECT pg_logical_emit_message(true, 'icefleet.schema', $told${content}$told$)"
            await shop.transact(f"SET LOCAL ROLE {stranger}", emit)
    finally:
        await shop.source_run(f"DROP ROLE {stranger}")
    await shop.source_run("INSERT INTO t VALUES (1)", "INSERT INTO u VALUES (2)")
    await shop.capture()
    assert [row[:2] for row in await shop.events()] == [
        *(("public.t", "schema"), ("public.u", "schema"), ("public.t", "insert"), ("public.u", "insert")),
    ]
    assert await shop.rows("SELECT DISTINCT state FROM icefleet_cdc.tables") == [("active",)]
    assert capsys.readouterr().out.count("a message in the source's log is passed over") == len(messages)

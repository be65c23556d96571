"""First copies: what the copy shows and what the stream brings meet without gap or overlap, and a copy lands once."""

import asyncio
import itertools
import random
from dataclasses import replace

import pytest
from psycopg.types.json import Jsonb

from activities import failpoints
from activities.clients import tablecopy
from activities.clients.capture_room import gone, let_go
from activities.clients.capture_sink import open_sink
from activities.contracts.cdc import InstallRequest, LettersRequest
from activities.core.changelogs import lsn_number, sequence_number
from activities.core.faults import CatalogUnavailable, CommitConflict, LockTaken
from activities.core.pgoutput import Delete, Insert
from activities.installing import install_capture
from activities.lake.rows import ChangelogFiles
from activities.letters import settle
from support.copies import copies, logged
from support.faultproxy import Answer, HttpFaults, Late
from support.fleet import eventually

COMMIT = {"method": "POST", "path": r"/tables/public_orders_changelog(\?|$)"}
FAILURE = RuntimeError("the copy has failed")


@pytest.fixture
async def shop(fleet, postgres):
    async with copies(fleet, postgres) as one:
        yield one


def fail_at(name):
    """Workers that are killed there are in test_ingest_crashes.py."""

    async def fail():
        raise FAILURE

    failpoints.arm(name, fail)


async def change_rows(postgres, stop, changed):
    """A writer: each transaction inserts, changes and deletes rows; every change of a row counts its version up."""
    connection = await postgres.connect()
    numbers, chance = itertools.count(1000), random.Random(7)
    while not stop.is_set():
        async with connection.transaction():
            for _ in range(chance.randint(1, 5)):
                await connection.execute("INSERT INTO orders VALUES (%s, 0, 'new')", (next(numbers),))
            some, few = chance.randint(0, 6), chance.randint(0, 49)
            await connection.execute("UPDATE orders SET version = version + 1 WHERE id %% 7 = %s", (some,))
            await connection.execute("DELETE FROM orders WHERE id %% 50 = %s", (few,))
        changed.append(1)


async def test_copy_and_stream_meet_without_gap_or_overlap_while_rows_are_changed(shop, postgres):
    """Case 12."""
    await postgres.run(
        "INSERT INTO orders SELECT n, 0, 'old' FROM generate_series(1, 300) n",
        "CREATE PUBLICATION p FOR TABLE orders",
        "SELECT pg_create_logical_replication_slot('main', 'pgoutput')",
    )
    stop, changed = asyncio.Event(), []
    writing = asyncio.create_task(change_rows(postgres, stop, changed))
    await eventually(lambda: len(changed) > 3)
    report = await shop.copy()
    seen = len(changed)
    await eventually(lambda: len(changed) > seen + 3)
    stop.set()
    await writing
    lsn = lsn_number(report.copied_lsn)
    held = {row[2]: row[3] for row in await asyncio.to_thread(shop.rows)}
    assert len(held) == report.rows
    changes = await logged(await postgres.connect(), "main", "p")
    assert any(change.commit_lsn < lsn for change in changes)
    assert any(change.commit_lsn >= lsn for change in changes)
    for change in changes:
        if change.commit_lsn < lsn:
            continue
        event = change.event
        if isinstance(event, Delete):
            del held[int(event.old[0])]
        elif isinstance(event, Insert):
            assert int(event.new[0]) not in held
            held[int(event.new[0])] = int(event.new[1])
        else:
            assert held[int(event.new[0])] == int(event.new[1]) - 1
            held[int(event.new[0])] += 1
    assert sorted(held.items()) == sorted(await postgres.rows("SELECT id, version FROM orders"))


async def test_a_copy_is_one_snapshot_of_inserts_in_order_before_everything_that_follows(shop, postgres):
    await postgres.run("INSERT INTO orders VALUES (1, 0, NULL), (2, 0, ''), (3, 5, 'a,\"b\n')")
    report = await shop.copy()
    before, state = lsn_number(report.copied_lsn) - 1, await asyncio.to_thread(shop.changelog)
    assert sorted(await asyncio.to_thread(shop.rows)) == [
        ("insert", sequence_number(before, 1), 1, 0, None),
        ("insert", sequence_number(before, 2), 2, 0, ""),
        ("insert", sequence_number(before, 3), 3, 5, 'a,"b\n'),
    ]
    assert (report.rows, report.failed, report.changelog) == (3, "", shop.identifier)
    assert report.snapshot_id == str(state.snapshot_id)
    assert (state.copied_lsn, state.position, state.source_table) == (before + 1, 0, "public.orders")
    assert await shop.state() == ("active", "", before + 1)
    [key] = await shop.objects()
    assert key.startswith(f"cdc/{shop.fleet.network}/public_orders_changelog/data/date=")
    # Neither slot nor transaction is left at the source.
    assert await postgres.rows("SELECT FROM pg_replication_slots WHERE database = %s", postgres.database) == []
    again = await shop.copy()
    assert (again.snapshot_id, again.copied_lsn, len(await asyncio.to_thread(shop.rows))) == ("", report.copied_lsn, 3)


async def test_an_empty_table_is_copied_too(shop):
    """Case 56: the changelog knows from where on it is followed, though there is no row."""
    report = await shop.copy()
    assert (report.rows, report.failed, await shop.objects()) == (0, "", [])
    assert (await shop.state())[0] == "active"


async def test_a_copy_that_fails_before_the_commit_leaves_nothing_and_the_next_one_copies(shop, postgres):
    await postgres.run("INSERT INTO orders VALUES (1, 0, 'a')")
    fail_at("cdc-before-copy-commit")
    with pytest.raises(RuntimeError, match="failed"):
        await shop.copy()
    assert (await shop.objects(), (await shop.state())[0]) == ([], "copying")
    failpoints.disarm()
    report = await shop.copy()
    assert (report.rows, [row[2] for row in await asyncio.to_thread(shop.rows)]) == (1, [1])


async def test_files_of_a_copy_whose_commit_may_have_been_sent_stay_and_the_next_one_copies_once(shop, postgres):
    """Case 26: between the buffer's mark that it is sent and the commit itself."""
    await postgres.run("INSERT INTO orders VALUES (1, 0, 'a')")
    fail_at("cdc-after-copy-sent")
    with pytest.raises(RuntimeError, match="failed"):
        await shop.copy()
    assert (len(await shop.objects()), (await shop.state())[0]) == (1, "copying")
    failpoints.disarm()
    report = await shop.copy()
    assert (report.rows, [row[2] for row in await asyncio.to_thread(shop.rows)]) == (1, [1])
    assert (await shop.state())[0] == "active"


@pytest.mark.parametrize("when", ["before it looks", "before it commits"])
async def test_a_copy_that_lands_late_is_recognised_by_its_successor_and_not_made_twice(fleet, postgres, when):
    """Case 27: its commit was on its way when its worker was given up."""
    async with HttpFaults(fleet.stack.ports["catalog"]) as catalog:
        fleet.point(catalog=catalog.port)
        async with copies(fleet, postgres) as shop:
            await postgres.run("INSERT INTO orders VALUES (1, 0, 'a')")
            late = catalog.on(Late(), **COMMIT)
            catalog.on(Answer(503, b"{}"), times=None, **COMMIT)
            with pytest.raises(CatalogUnavailable):
                await shop.copy()
            catalog.mend()

            async def land():
                late.fault.released.set()
                await late.landed.wait()

            failpoints.arm("cdc-before-copy-commit", land)
            if when == "before it looks":
                await land()
            else:
                with pytest.raises(CommitConflict):
                    await shop.copy()
            await shop.copy()
            assert [(row[0], row[2]) for row in await asyncio.to_thread(shop.rows)] == [("insert", 1)]
            state = await asyncio.to_thread(shop.changelog)
            assert await shop.state() == ("active", "", state.copied_lsn)


async def test_a_copy_that_ends_after_it_was_asked_for_anew_is_not_taken_for_the_new_one(shop, postgres):
    """A worker that runs on late: what was lost before the new copy was asked for is only in that one."""
    await postgres.run("INSERT INTO orders VALUES (1, 0, 'a')")

    async def asked_anew():
        await shop.buffer.set_copying("public", "orders")

    failpoints.arm("cdc-after-copy-commit", asked_anew)
    with pytest.raises(LockTaken, match="asked for it anew"):
        await shop.copy()
    assert await shop.state() == ("copying", "", None)
    failpoints.disarm()
    await postgres.run("INSERT INTO orders VALUES (2, 0, 'b')")
    assert (await shop.copy()).rows == 2
    assert [(row[0], row[2]) for row in await asyncio.to_thread(shop.rows)] == [
        ("insert", 1),
        ("truncate", None),
        ("insert", 1),
        ("insert", 2),
    ]


async def test_a_copy_that_began_before_a_slot_was_made_anew_does_not_let_its_table_go_on(shop, postgres):
    """What was changed between the two slots is in no log, and only in a copy that begins later."""
    again = InstallRequest("shop", [], shop.fleet.name, again=True)
    await postgres.run("INSERT INTO orders VALUES (1, 0, 'a')")
    await install_capture(shop.context, replace(again, tables=["orders"], again=False))

    async def slot_made_anew():
        failpoints.disarm()
        await postgres.run(
            f"SELECT pg_drop_replication_slot('{shop.pipeline.source.slot}')",
            "INSERT INTO orders VALUES (2, 0, 'between the slots')",
        )
        await install_capture(shop.context, again)

    failpoints.arm("cdc-before-copy-commit", slot_made_anew)
    with pytest.raises(LockTaken, match="asked for it anew"):
        await shop.copy()
    assert (await shop.state(), await shop.objects()) == (("copying", "", None), [])
    await shop.copy()
    assert [(row[0], row[2]) for row in await asyncio.to_thread(shop.rows)] == [("insert", 1), ("insert", 2)]
    await postgres.run(f"SELECT pg_drop_replication_slot('{shop.pipeline.source.slot}')")


async def test_a_long_copy_that_was_asked_for_anew_does_not_go_on_to_its_end(shop, postgres, monkeypatch):
    monkeypatch.setattr("activities.lake.rows.GROUP_BYTES", 1)
    monkeypatch.setattr(ChangelogFiles.__init__, "__defaults__", (1,))
    await postgres.run("INSERT INTO orders SELECT n, 0, repeat('x', 1000) FROM generate_series(1, 10000) n")
    pieces = []

    async def asked_anew():
        pieces.append(1)
        await shop.buffer.set_copying("public", "orders")

    failpoints.arm("cdc-during-copy", asked_anew)
    with pytest.raises(LockTaken, match="asked for it anew"):
        await shop.copy()
    assert (pieces, await shop.objects()) == ([1], [])


async def test_a_copy_commits_nothing_once_another_worker_has_copied_the_table(shop, postgres):
    await postgres.run("INSERT INTO orders VALUES (1, 0, 'a')")

    async def copied_by_another():
        failpoints.disarm()
        await shop.copy()

    failpoints.arm("cdc-before-copy-commit", copied_by_another)
    with pytest.raises(LockTaken, match="another worker has copied it"):
        await shop.copy()
    assert [row[2] for row in await asyncio.to_thread(shop.rows)] == [1]
    assert ((await shop.state())[0], len(await shop.objects())) == ("active", 1)


async def test_a_copy_that_is_asked_for_again_begins_with_a_truncate_and_follows_the_columns_of_today(shop, postgres):
    await postgres.run("INSERT INTO orders VALUES (1, 0, 'a'), (2, 0, 'b')")
    first = await shop.copy()
    await postgres.run(
        "DELETE FROM orders WHERE id = 1",
        "ALTER TABLE orders RENAME note TO remark",
        "ALTER TABLE orders ADD tags text[] DEFAULT '{x,NULL}'",
    )
    await shop.buffer.set_copying("public", "orders")
    second = await shop.copy()
    before = lsn_number(second.copied_lsn) - 1
    assert lsn_number(first.copied_lsn) < before
    assert [(row[0], *row[2:]) for row in await asyncio.to_thread(shop.rows)][2:] == [
        ("truncate", None, None, None, None),
        ("insert", 2, 0, "b", ("x", None)),
    ]
    assert [row[1] for row in await asyncio.to_thread(shop.rows)][2:] == [
        sequence_number(before, 0),
        sequence_number(before, 1),
    ]
    state = await asyncio.to_thread(shop.changelog)
    assert [field.name for field in state.schema.fields[5:]] == ["id", "version", "remark", "tags"]


async def test_a_copy_begins_with_a_truncate_also_where_all_rows_before_were_taken_away_from_the_changelog(
    shop, postgres
):
    """Mirrors and others may have them still."""
    await postgres.run("INSERT INTO orders VALUES (1, 0, 'a'), (2, 0, 'b')")
    await shop.copy()
    await asyncio.to_thread(lambda: shop.fleet.load(shop.identifier).delete("true"))
    await postgres.run("DELETE FROM orders WHERE id = 1")
    await shop.buffer.set_copying("public", "orders")
    await shop.copy()
    assert [(row[0], row[2]) for row in await asyncio.to_thread(shop.rows)] == [("truncate", None), ("insert", 2)]


async def test_a_table_whose_events_were_let_go_is_copied_anew_when_it_is_resumed(shop, postgres):
    await postgres.run("INSERT INTO orders VALUES (1, 0, 'a')")
    await shop.copy()
    await postgres.run("INSERT INTO orders VALUES (2, 0, 'in events that were let go')")
    captured = "UPDATE icefleet_cdc.tables SET captured = %s, state = 'stopped', cause = 'why' RETURNING 1"
    described = {"schema": "public", "table": "orders", "relid": 1, "types": [], "columns": [], "key": []}
    await postgres.rows(captured, Jsonb(described))
    async with open_sink(postgres.settings, "icefleet_cdc") as sink:
        assert await let_go(sink, ("public", "orders"), "let go; ") == "let go; why"
        assert await gone(sink) == {"public.orders": "let go; why"}
        resumed = await settle(
            shop.context, LettersRequest("shop", "resume-table", "orders", environment=shop.fleet.name)
        )
        assert resumed.message == "table public.orders is copied anew, and goes on then"
        assert await let_go(sink, ("public", "orders"), "too late; ") == ""
        assert (await shop.state())[:2] == ("copying", "")
        await shop.copy()
        assert (await gone(sink), (await shop.state())[:2]) == ({}, ("active", ""))
    assert [(row[0], row[2]) for row in await asyncio.to_thread(shop.rows)] == [
        ("insert", 1),
        ("truncate", None),
        ("insert", 1),
        ("insert", 2),
    ]
    assert await postgres.rows("SELECT let_go FROM icefleet_cdc.tables") == [(False,)]


async def test_a_copy_remembers_how_its_table_was_published_at_its_position(shop, postgres):
    """Also when it was taken out and put in again before the copy was sent: changes between are in neither."""
    known = "SELECT memberships FROM icefleet_cdc.tables"
    table = "SELECT oid::bigint FROM pg_publication_rel"
    await postgres.run("CREATE PUBLICATION publication FOR TABLE orders")
    first = await postgres.rows(table)

    async def take_out_and_put_in():
        await postgres.run("ALTER PUBLICATION publication DROP TABLE orders")
        await postgres.run("ALTER PUBLICATION publication ADD TABLE orders, TABLES IN SCHEMA public")

    failpoints.arm("cdc-before-copy-commit", take_out_and_put_in)
    await shop.copy()
    failpoints.disarm()
    assert await postgres.rows(known) == [([first[0][0]],)]
    assert await postgres.rows(table) != first
    await shop.buffer.set_copying("public", "orders")
    await shop.copy()
    schema = await postgres.rows("SELECT oid::bigint FROM pg_publication_namespace")
    assert await postgres.rows(known) == [([*[one for (one,) in await postgres.rows(table)], schema[0][0]],)]
    await postgres.run("DROP PUBLICATION publication", "CREATE PUBLICATION publication FOR ALL TABLES")
    await shop.buffer.set_copying("public", "orders")
    await shop.copy()
    assert await postgres.rows(known) == [
        ([one],) for (one,) in await postgres.rows("SELECT oid::bigint FROM pg_publication")
    ]


async def test_a_value_that_cannot_be_written_stops_the_table_with_its_cause_and_copies_nothing(shop, postgres):
    await postgres.run(
        "ALTER TABLE orders ADD due date, ADD paid timestamptz, ADD tags text[], ADD fine date",
        "INSERT INTO orders SELECT n, 0, 'a', '2024-03-20' FROM generate_series(1, 1000) n",
        "UPDATE orders SET due = 'infinity' WHERE id = 777",
        "UPDATE orders SET paid = '-infinity', tags = '{{a},{b}}' WHERE id = 888",
    )
    report = await shop.copy()
    assert report.failed.startswith("UnsupportedType: source table public.orders: a row cannot be copied: ")
    # All that is wrong is told at once, of each column.
    assert [name for name in ("due", "paid", "tags", "fine", "note") if f"column {name}" in report.failed] == [
        *("due", "paid", "tags"),
    ]
    assert await shop.state() == ("stopped", report.failed, None)
    assert (await shop.objects(), await asyncio.to_thread(shop.rows)) == ([], [])
    # A person who mends the row and resumes the table has it copied, not followed without its rows.
    await postgres.run("UPDATE orders SET due = NULL, paid = NULL, tags = NULL")
    resumed = await settle(shop.context, LettersRequest("shop", "resume-table", "orders", environment=shop.fleet.name))
    assert (resumed.status, await shop.state()) == ("done", ("copying", "", None))
    assert (await shop.copy()).rows == 1000


async def test_a_table_of_which_the_user_may_see_but_some_rows_is_not_copied_in_part(shop, postgres):
    user = f"reader_{postgres.database}"
    await postgres.run(
        f"CREATE ROLE {user} LOGIN REPLICATION PASSWORD 'p'",
        f"GRANT SELECT ON orders TO {user}",
        "INSERT INTO orders VALUES (1, 0, 'a'), (2, 0, 'b')",
        "ALTER TABLE orders ENABLE ROW LEVEL SECURITY",
        f"CREATE POLICY one_row ON orders TO {user} USING (id = 1)",
    )
    try:
        source = replace(shop.pipeline.source, database=replace(postgres.settings, user=user, password="p"))
        shop.context = replace(shop.context, pipelines={shop.pipeline.name: replace(shop.pipeline, source=source)})
        report = await shop.copy()
        assert report.failed.startswith("PostgresRefused: ")
        assert "row-level security" in report.failed
        await postgres.run("CREATE PUBLICATION publication FOR TABLE orders WHERE (id > 1)")
        await shop.buffer.set_copying("public", "orders")
        assert "publication publication leaves out rows or columns of it" in (await shop.copy()).failed
        assert await asyncio.to_thread(shop.rows) == []
    finally:
        await postgres.run("DROP POLICY one_row ON orders", f"DROP OWNED BY {user}", f"DROP ROLE {user}")


async def test_a_table_that_is_gone_stops_alone(shop, postgres):
    await postgres.run("ALTER TABLE orders RENAME TO order_s")
    report = await shop.copy()
    assert report.failed == "BadRequest: the source has no table public.orders; did you mean `public.order_s`?"
    assert (await shop.state())[0] == "stopped"


async def test_a_changelog_of_another_table_or_of_a_later_position_is_left_alone(shop, postgres):
    await postgres.run("INSERT INTO orders VALUES (1, 0, 'a')")
    await shop.copy()
    table = shop.fleet.load(shop.identifier)
    with table.transaction() as change:
        change.set_properties({"icefleet.cdc.copied-lsn": str(2**62)})
    await shop.buffer.set_copying("public", "orders")
    assert "comes after" in (await shop.copy()).failed
    # Also when it is not the copy that is later, but what came by the stream: its rows would win over all new ones.
    with shop.fleet.load(shop.identifier).transaction() as change:
        change.set_properties({"icefleet.cdc.copied-lsn": "1", "icefleet.cdc.last-sequence": sequence_number(2**62, 0)})
    await shop.buffer.set_copying("public", "orders")
    assert "comes after" in (await shop.copy()).failed
    with shop.fleet.load(shop.identifier).transaction() as change:
        change.set_properties({"icefleet.cdc.source-table": "public.others"})
    await shop.buffer.set_copying("public", "orders")
    assert "changelog of public.others" in (await shop.copy()).failed
    assert len(await asyncio.to_thread(shop.rows)) == 1


async def test_a_table_that_was_rewritten_after_the_snapshot_is_not_copied_as_empty(shop, postgres, monkeypatch):
    """To a snapshot of before, PostgreSQL shows a table that was rewritten since as empty."""
    await postgres.run("INSERT INTO orders SELECT n, 0, 'a' FROM generate_series(1, 10) n")
    real, left = tablecopy.relation_id, [1]

    async def rewritten_meanwhile(connection, schema, name):
        if left.pop() if left else None:
            await postgres.run("ALTER TABLE orders ALTER version TYPE bigint")
        return await real(connection, schema, name)

    monkeypatch.setattr(tablecopy, "relation_id", rewritten_meanwhile)
    report = await shop.copy()
    assert (report.rows, left) == (10, [])
    assert {row[2] for row in await asyncio.to_thread(shop.rows)} == set(range(1, 11))

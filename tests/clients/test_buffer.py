"""The buffer: one holder, batches that end where transactions do, and nothing missed below what was read."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import psycopg
import pytest

from activities.clients.buffer import Buffer
from activities.clients.buffer_chores import Chores, look_after
from activities.clients.buffer_claims import claim, mark, schema_events
from activities.clients.buffer_sizes import HELD
from activities.clients.buffer_status import letters, status
from activities.clients.capture_room import held
from activities.clients.capture_sink import open_sink
from activities.core.faults import LockTaken, PostgresRefused, PostgresUnavailable, UnsupportedType
from support.buffers import SCHEMA, Producer, delete, insert, many_rows, schema_event, update
from support.fleet import eventually
from support.ownpostgres import OwnPostgres, fresh_database
from support.tcpproxy import TcpFaults

WIDE = 64 * 2**20


@pytest.fixture(scope="module")
async def shared(stack) -> AsyncIterator[OwnPostgres]:
    async with fresh_database(stack) as own:
        yield own


@pytest.fixture
async def postgres(shared: OwnPostgres) -> OwnPostgres:
    await Buffer(shared.settings, SCHEMA).drop()
    return shared


@pytest.fixture
async def buffer(postgres: OwnPostgres) -> Buffer:
    made = Buffer(postgres.settings, SCHEMA)
    await made.install()
    return made


@pytest.fixture
def producer(buffer: Buffer, postgres: OwnPostgres) -> Producer:
    return Producer(postgres)


async def claimed(buffer: Buffer, events: int = 100, size: int = WIDE, **more) -> list[tuple[str, int, int]]:
    async with buffer.locked() as holder:
        batch = await claim(holder, events, size, **more)
    return [(table.name, table.first_id, table.last_id) for table in batch.tables]


async def test_a_buffer_is_made_once_however_often_and_by_how_many_it_is_installed(postgres):
    buffer = Buffer(postgres.settings, SCHEMA)
    await asyncio.gather(*(buffer.install() for _ in range(3)))
    async with buffer.locked() as holder:
        first = holder.buffer_id
    await buffer.install()
    async with buffer.locked() as holder:
        assert (holder.buffer_id, holder.epoch) == (first, 2)


async def test_without_a_buffer_it_is_said_how_to_make_one(postgres):
    buffer = Buffer(postgres.settings, SCHEMA)
    with pytest.raises(PostgresRefused, match="there is no buffer; make it with `icefleet cdc install`"):
        async with buffer.locked():
            pass
    with pytest.raises(PostgresRefused, match="icefleet cdc install"):
        await buffer.wait_for_events(1)
    for asked in (status, letters):
        with pytest.raises(PostgresRefused, match="there is no buffer; make it with `icefleet cdc install`"):
            await asked(buffer)


async def test_a_buffer_of_another_version_is_left_alone(buffer, postgres):
    await postgres.run(f"UPDATE {SCHEMA}.pipeline SET version = 99")
    with pytest.raises(PostgresRefused, match="version 99"):
        async with buffer.locked():
            pass


async def test_whoever_has_read_up_to_an_id_has_missed_nothing_below_it_though_producers_race(
    buffer, producer, postgres
):
    slow, fast = await postgres.connect(), await postgres.connect()
    async with slow.transaction():
        await producer.write(slow, [insert(1)])
        racing = asyncio.create_task(Producer(postgres, lsn=0x900).write(fast, [insert(2)]))
        await eventually(lambda: waiting_for_lock(postgres))
        # The fast one has no id yet: it waits for its turn before it takes one.
        assert await claimed(buffer) == []
        await producer.write(slow, [insert(3)])
    await racing
    rows = await postgres.rows(f"SELECT id, new_row ->> 'id' FROM {SCHEMA}.events ORDER BY id")
    assert [number for _, number in rows] == ["1", "3", "2"]


async def waiting_for_lock(postgres: OwnPostgres) -> bool:
    return bool(await postgres.rows("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))


async def test_two_workers_cannot_both_hold_the_lock_and_each_holding_has_its_epoch_case_28(buffer):
    async with buffer.locked() as first:
        with pytest.raises(LockTaken, match="another worker holds the lock"):
            async with buffer.locked():
                pass
    async with buffer.locked() as second:
        assert second.epoch == first.epoch + 1


async def test_the_lock_is_free_for_whoever_comes_next_though_the_server_has_not_noticed_that_a_session_ended(
    buffer, monkeypatch
):
    left = []

    async def later(self):
        left.append(self)

    with monkeypatch.context() as patch:
        patch.setattr(psycopg.AsyncConnection, "close", later)
        async with buffer.locked() as first:
            pass
        async with buffer.locked() as second:
            assert second.epoch == first.epoch + 1
    for connection in left:
        await connection.close()


async def test_a_holder_that_is_cut_off_loses_the_lock_and_marks_nothing_any_more_case_27(buffer, producer, postgres):
    await producer.transaction(insert(1), insert(2))
    async with TcpFaults(postgres.settings.port) as wire:
        cut_off = Buffer(replace(postgres.settings, port=wire.port), SCHEMA)
        async with cut_off.locked() as first:
            batch = await claim(first, 100, WIDE)
            wire.cut()
            async with await eventually_locked(buffer) as second:
                assert second.epoch > first.epoch
                with pytest.raises(PostgresUnavailable):
                    await mark(first, batch.tables[0], 2, 0)
    assert await postgres.rows(f"SELECT count(*) FROM {SCHEMA}.events") == [(2,)]


async def eventually_locked(buffer: Buffer):
    async def free() -> bool:
        try:
            async with buffer.locked():
                return True
        except LockTaken:
            return False

    await eventually(free)
    return buffer.locked()


async def test_a_mark_under_an_epoch_that_is_over_changes_nothing(buffer, producer, postgres):
    await producer.transaction(insert(1))
    async with buffer.locked() as holder:
        batch = await claim(holder, 100, WIDE)
        await postgres.run(f"UPDATE {SCHEMA}.pipeline SET epoch = epoch + 1")
        with pytest.raises(LockTaken, match="another worker goes on"):
            await mark(holder, batch.tables[0], 1, 0)
    assert await postgres.rows(f"SELECT count(*) FROM {SCHEMA}.events") == [(1,)]


async def test_a_holder_that_does_nothing_for_a_minute_is_ended_by_the_server(buffer, postgres):
    async with buffer.locked() as holder, holder.transaction() as session:
        names = ("idle_session_timeout", "idle_in_transaction_session_timeout", "tcp_keepalives_idle")
        found = [(await (await session.execute(f"SHOW {name}")).fetchone())[0] for name in names]
    assert found == ["1min", "1min", "10"]
    async with open_sink(postgres.settings, SCHEMA) as sink:
        assert await sink.ask("SHOW idle_in_transaction_session_timeout") == [("1min",)]


async def test_timeouts_of_a_role_or_database_end_nothing_of_ours(buffer, producer, postgres):
    short = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    # The last one holds until a connection has said otherwise.
    defaults = {**dict.fromkeys(short, "1ms"), "transaction_timeout": "1min"}
    await postgres.run(*(f"ALTER DATABASE {postgres.database} SET {name} = '{to}'" for name, to in defaults.items()))
    try:
        await producer.transaction(insert(1))
        async with buffer.locked() as holder:
            assert (await claim(holder, 100, WIDE)).tables[0].events == 1
            assert await holder.ask("SELECT pg_sleep(0.05), 1") == [("", 1)]
        async with open_sink(postgres.settings, SCHEMA) as sink:
            assert await sink.ask("SELECT pg_sleep(0.05), 1") == [("", 1)]
        async with await postgres.settings.connect() as connection:
            found = await connection.execute("SELECT setting FROM pg_settings WHERE name = ANY (%s)", (list(defaults),))
            assert await found.fetchall() == [("0",)] * len(defaults)
    finally:
        await postgres.run(f"ALTER DATABASE {postgres.database} RESET ALL")


async def test_looking_for_room_reads_no_long_values(buffer, producer, postgres):
    noise = random.Random(1).randbytes(2**20).hex()
    await producer.transaction(insert(1, noise))
    async with open_sink(postgres.settings, SCHEMA) as sink:
        looked = await sink.ask("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON)" + HELD)
        plan = looked[0][0][0]["Plan"]
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 100
        found = await held(sink)
    assert (found.events, found.bytes > 2**20) == (1, True)


async def test_other_producers_learn_from_the_buffer_whether_they_should_wait(buffer, producer, postgres):
    role = f"producer_{postgres.database}"

    async def asked():
        """By one who may insert, and nothing else."""
        async with await postgres.settings.connect() as connection:
            await connection.execute(f"SET ROLE {role}")
            return await (await connection.execute(f"SELECT * FROM {SCHEMA}.room()")).fetchone()

    async def limit(events, size):
        async with buffer.connected() as connection:
            await look_after(connection, SCHEMA, Chores(30, events, size))

    await postgres.run(
        f"CREATE ROLE {role}", f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}", f"GRANT INSERT ON {SCHEMA}.events TO {role}"
    )
    try:
        # Nobody ingests yet, so nobody knows of any limit.
        assert await asked() == (False, 0, 0, None, None)
        await limit(3, 2**30)
        await producer.transaction(schema_event(), insert(1))
        assert (await asked())[:2] == (False, 2)
        await producer.transaction(insert(2))
        wait, events, size, *limits = await asked()
        assert (wait, events, limits) == (True, 3, [3, 2**30])
        await limit(4, size)
        assert (await asked())[0]
        await limit(4, size + 1)
        assert not (await asked())[0]
        async with buffer.locked() as holder:
            [table] = (await claim(holder, 100, WIDE)).tables
            await mark(holder, table, 2, 0)
        assert (await asked())[:3] == (False, 0, 0)
    finally:
        await postgres.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_batches_end_where_transactions_do_case_59(buffer, producer):
    for size in (3, 4, 2):
        await producer.transaction(*(insert(number) for number in range(size)))
    # 3 + 4 are more than 6; the last one ends with the buffer.
    assert await claimed(buffer, 6) == [("orders", 1, 3)]
    assert await claimed(buffer, 7) == [("orders", 1, 7)]
    assert await claimed(buffer, 8) == [("orders", 1, 7)]
    assert await claimed(buffer, 9) == [("orders", 1, 9)]


async def test_a_transaction_that_is_larger_than_a_batch_is_cut_in_order_case_59(buffer, producer):
    await producer.transaction(*(insert(number) for number in range(10)))
    await producer.transaction(insert(10))
    seen = []
    for _ in range(3):
        async with buffer.locked() as holder:
            batch = await claim(holder, 4, WIDE)
            seen.append((batch.tables[0].first_id, batch.tables[0].last_id, batch.more))
            await mark(holder, batch.tables[0], batch.tables[0].events, 0)
    assert seen == [(1, 4, True), (5, 8, True), (9, 11, False)]


async def test_a_cut_never_parts_a_row_whose_key_changes_from_what_it_does_not_carry_case_52(buffer, producer):
    moved = replace(insert(9), unchanged=("note",))
    await producer.transaction(insert(1), insert(2), delete(3), moved, insert(4))
    assert await claimed(buffer, 3) == [("orders", 1, 2)]
    assert await claimed(buffer, 4) == [("orders", 1, 4)]
    await producer.own.run(f"DELETE FROM {SCHEMA}.events WHERE id < 3")
    assert await claimed(buffer, 1) == [("orders", 3, 4)]


async def test_batches_are_bounded_by_bytes_as_by_events_and_one_huge_event_is_a_batch(buffer, producer):
    await producer.transaction(insert(1, random.randbytes(2_000).hex()))
    await producer.transaction(insert(2))
    await producer.transaction(insert(3))
    assert await claimed(buffer, 100, 600) == [("orders", 1, 1)]
    await producer.own.run(f"DELETE FROM {SCHEMA}.events WHERE id = 1")
    assert await claimed(buffer, 100, 600) == [("orders", 2, 3)]
    assert await claimed(buffer, 100, 250) == [("orders", 2, 2)]


async def test_a_claim_says_what_is_in_it_per_table(buffer, producer):
    await producer.transaction(schema_event(), insert(1), update(1, table="other"))
    await producer.transaction(delete(1), schema_event(table="other"))
    async with buffer.locked() as holder:
        batch = await claim(holder, 100, WIDE)
        told = [(one.identifier, one.first_id, one.last_id, one.events, one.schema_events) for one in batch.tables]
        assert told == [("public.orders", 1, 4, 3, 1), ("public.other", 3, 5, 2, 1)]
        assert [one.last_lsn for one in batch.tables] == ["0/120", "0/120"]
        assert all(one.bytes > 200 for one in batch.tables)
        events = await schema_events(holder, batch.tables[0], 0)
        assert [(event.id, event.sequence) for event in events] == [(1, f"{0x110:016x}{0:016x}")]
        assert events[0].table.key == ("id",)
        assert await schema_events(holder, batch.tables[0], 1) == []


async def test_tables_that_are_stopped_or_wait_for_their_copy_are_left_out_and_hold_up_nobody(buffer, producer):
    await producer.transaction(*(insert(number, table="halted") for number in range(5)))
    await producer.transaction(insert(1, table="fresh"), insert(1))
    await buffer.set_copying("public", "halted")
    await buffer.set_stopped("public", "halted", "because")
    await buffer.set_copying("public", "fresh")
    async with buffer.locked() as holder:
        batch = await claim(holder, 3, WIDE)
    assert [(table.name, table.first_id, batch.more) for table in batch.tables] == [("orders", 7, False)]
    assert batch.to_copy == ["public.fresh"] == await buffer.to_copy()
    assert await claimed(buffer, without={("public", "orders")}) == []
    await buffer.set_copy_sent("public", "fresh", 0x200)
    await buffer.set_copied("public", "fresh", 0x200)
    async with buffer.locked() as holder:
        batch = await claim(holder, 100, WIDE)
    assert [(table.name, table.copied_lsn) for table in batch.tables] == [("fresh", "0/200"), ("orders", None)]


async def test_a_claim_behind_another_takes_what_that_has_not_and_tables_that_are_ready_since_whole(buffer, producer):
    await producer.transaction(insert(1, table="fresh"), insert(1))
    await producer.transaction(insert(2), insert(1, table="other"))
    await producer.transaction(insert(3), insert(2, table="fresh"), insert(2, table="other"))
    await buffer.set_copying("public", "fresh")
    async with buffer.locked() as holder:
        first = await claim(holder, 3, WIDE)
        assert [(table.name, table.last_id) for table in first.tables] == [("orders", 3), ("other", 4)]
        await buffer.set_copy_sent("public", "fresh", 0x100)
        await buffer.set_copied("public", "fresh", 0x100)
        second = await claim(holder, 100, WIDE, behind=first)
        told = [(table.name, table.first_id, table.last_id, table.events) for table in second.tables]
        assert told == [("fresh", 1, 6, 2), ("orders", 5, 5, 1), ("other", 7, 7, 1)]
        assert (first.more, second.more) == (True, False)


async def test_an_unknown_table_is_followed_from_its_first_event_on(buffer, producer):
    await producer.transaction(insert(1, table='Weird.Näme"s', schema="a b"))
    assert await claimed(buffer) == [('Weird.Näme"s', 1, 1)]
    _, tables = await status(buffer)
    assert [(table.schema, table.name, table.state, table.buffered_events) for table in tables] == [
        ("a b", 'Weird.Näme"s', "active", 1)
    ]


async def test_a_mark_forgets_the_tables_events_up_to_it_and_no_others(buffer, producer, postgres):
    await producer.transaction(insert(1), insert(1, table="other"), insert(2))
    await producer.transaction(insert(3))
    async with buffer.locked() as holder:
        batch = await claim(holder, 3, WIDE)
        await mark(holder, batch.tables[0], 2, 0)
    left = await postgres.rows(f"SELECT id FROM {SCHEMA}.events ORDER BY id")
    assert left == [(2,), (4,)]
    _, tables = await status(buffer)
    orders = tables[0]
    assert (orders.name, orders.processed_id, orders.written, orders.buffered_events) == ("orders", 3, 2, 1)
    assert orders.written_lsn == "0/110"
    assert orders.lag_seconds > 0


async def test_a_thousand_tables_are_found_without_reading_their_events_case_61(buffer, postgres):
    await many_rows(postgres, 20_000, tables=1_000)
    await postgres.run(
        f"INSERT INTO {SCHEMA}.tables (source_schema, source_table, state) VALUES ('public', 't500', 'stopped')"
    )
    async with buffer.locked() as holder:
        batch = await claim(holder, 5_000, WIDE)
    assert len(batch.tables) == 999
    assert sum(table.events for table in batch.tables) == 5_000
    assert "t500" not in {table.name for table in batch.tables}
    assert await buffer.wait_for_events(0)


async def test_waiting_ends_as_soon_as_there_is_something_to_do_and_not_before(buffer, producer, monkeypatch):
    await buffer.set_copying("public", "halted")
    await buffer.set_stopped("public", "halted", "because")
    await producer.transaction(insert(1, table="halted"))
    assert not await buffer.wait_for_events(0.05)
    # What is heard is meant, and not what is looked at by the clock.
    monkeypatch.setattr("activities.clients.buffer.LOOK_SECONDS", 600.0)
    waiting = asyncio.create_task(buffer.wait_for_events(600))
    await producer.transaction(insert(2, table="halted"))
    assert not waiting.done()
    await producer.transaction(insert(1))
    assert await asyncio.wait_for(waiting, 60)


async def test_a_trickle_rests_between_batches_and_what_fills_a_batch_or_comes_alone_does_not(buffer, producer):
    async def rested(full: int) -> bool:
        """Whether it would still be resting after a moment."""
        resting = asyncio.create_task(buffer.rest(60, full))
        done, _ = await asyncio.wait([resting], timeout=0.5)
        resting.cancel()
        return not done

    await producer.transaction(insert(1), insert(2))
    assert not await rested(100)  # the first of all
    async with buffer.locked() as holder:
        batch = await claim(holder, 1, WIDE)
        await mark(holder, batch.tables[0], 1, 0)
    await producer.transaction(insert(3), insert(4))
    assert await rested(100)
    assert not await rested(1)


async def test_a_stream_hands_on_whole_lines_in_pieces_and_its_sessions_are_used_again(buffer, postgres):
    await many_rows(postgres, 50_000)
    query = (
        f"COPY (SELECT id, new_row ->> 'name', E'two\\nlines' FROM {SCHEMA}.events ORDER BY id) TO STDOUT (FORMAT csv)"
    )
    async with buffer.locked() as holder:
        pieces = [piece async for piece in holder.stream(query)]
        sessions = [session.info.backend_pid for session in holder._idle]
        again = [piece async for piece in holder.stream(query)]
        assert [session.info.backend_pid for session in holder._idle] == sessions
    assert pieces == again
    assert len(pieces) > 1 or len(pieces[0]) < 2 * 2**20
    assert all(piece.startswith(b"") and piece.endswith(b'"two\nlines"\n') for piece in pieces)
    assert b"".join(pieces).count(b"two\n") == 50_000


async def drained(holder, query: str) -> None:
    async for _ in holder.stream(query):
        pass


async def test_a_stream_that_fails_in_its_middle_says_so_and_its_session_is_not_used_again(buffer, postgres):
    await many_rows(postgres, 1_000)
    events = f"FROM {SCHEMA}.events ORDER BY id) TO STDOUT (FORMAT csv)"
    async with buffer.locked() as holder:
        with pytest.raises(UnsupportedType, match="an event cannot be written: not this one"):
            await drained(holder, f"COPY (SELECT CASE WHEN id = 900 THEN {SCHEMA}.refuse('not this one') END {events}")
        with pytest.raises(UnsupportedType, match="division by zero"):
            await drained(holder, f"COPY (SELECT 1 / (id - 900) {events}")
        with pytest.raises(PostgresRefused, match="nothing"):
            await drained(holder, f"COPY (SELECT nothing {events}")
        assert holder._idle == []


async def test_a_buffer_that_is_dropped_takes_nothing_of_others_with_it(postgres):
    await postgres.run("CREATE TABLE public.orders (id int)", "INSERT INTO public.orders VALUES (1)")
    # What is called like ours, and is none of ours.
    await postgres.run("CREATE SCHEMA theirs", "CREATE TABLE theirs.events (id int)")
    ours, theirs = Buffer(postgres.settings, "public"), Buffer(postgres.settings, "theirs")
    await ours.install()
    await postgres.run("CREATE VIEW public.waiting AS SELECT count(*) FROM public.events")
    assert await theirs.drop() == []
    assert await ours.drop() == [
        "buffer public",
        "(schema public stays: it is somebody else's, or holds something else)",
    ]
    left = "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    assert await postgres.rows(left + "WHERE n.nspname IN ('public', 'theirs') ORDER BY 1") == [
        ("public.orders",),
        ("theirs.events",),
    ]
    assert await postgres.rows("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace") == []
    assert await ours.drop() == []
    own = Buffer(postgres.settings, SCHEMA)
    await own.install()
    assert await own.drop() == [f"buffer {SCHEMA}"]
    assert await postgres.rows("SELECT 1 FROM pg_namespace WHERE nspname = %s", SCHEMA) == []

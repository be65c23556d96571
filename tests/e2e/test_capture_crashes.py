"""Whatever dies, and whenever: every event is in the buffer once, and in order, and nothing is left unsaid."""

import asyncio

import pytest

from activities import failpoints
from activities.clients.buffer import Buffer
from activities.clients.replication import exported_snapshot
from activities.clients.slots import Slots
from activities.core.faults import Fault, LockTaken, PostgresUnavailable
from support.captures import SCHEMA, captures, victims
from worker.cdc_status import look_at_databases

SLOTS = "SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()"
PUBLICATIONS = "SELECT pubname::text FROM pg_publication"
TRIGGERS = "SELECT evtname::text FROM pg_event_trigger"
STEPS = (
    *("install-after-buffer", "install-after-trigger", "install-after-publication", "install-before-drop"),
    *("install-before-slot", "install-after-slot", "install-after-begin", "install-after-publish"),
    "install-after-table",
)
UNTOUCHED = STEPS[:3]
"""As long as a slot is not made anew, what was installed before goes on."""
DOWN = ("uninstall-after-slot", "uninstall-after-source", "uninstall-after-source:2", "uninstall-before-buffer")
"""Trigger and publication twice: by the name of the slot which fills the buffer, and by that which config has."""
STATE = f"SELECT state FROM {SCHEMA}.tables"


@pytest.fixture
async def bare(postgres):
    made = captures(postgres.settings)
    await made.source_run("CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)")
    return made


@pytest.fixture
async def shop(postgres):
    made = captures(postgres.settings)
    await made.source_run("CREATE TABLE t (id int PRIMARY KEY)")
    await made.install("t")
    await made.capture()
    yield made
    failpoints.disarm()


@pytest.fixture(scope="module")
async def dying():
    async with victims() as them:
        yield them


async def inserted(shop):
    return [int(new["id"]) for _, _, new in await shop.changes()]


async def in_the_end(shop, expected):
    """What is there once everything was captured; the server may take a moment to notice that the dead are gone."""
    async with asyncio.timeout(90):
        while True:
            try:
                await shop.capture()
            except LockTaken:
                await asyncio.sleep(0.05)
            else:
                break
    assert await inserted(shop) == expected


async def test_a_worker_killed_at_any_failpoint_leaves_every_event_once(dying, shop):
    """Cases 21, 22, 23: before the buffer's commit, after it, and before the source is told."""
    for number, failpoint in enumerate(sorted(failpoints.CAPTURE_NAMES)):
        await shop.transact(*(f"INSERT INTO t VALUES ({number * 10 + one})" for one in range(3)))
        await dying.die_at(shop, failpoint)
    await in_the_end(shop, [0, 1, 2, 10, 11, 12, 20, 21, 22, 30, 31, 32])


async def test_a_worker_killed_within_a_large_transaction_leaves_nothing_of_it(dying, shop):
    await shop.source_run("INSERT INTO t SELECT generate_series(1, 30000)")
    # Its lines go to the buffer in pieces of a megabyte.
    await dying.die_at(shop, "cdc-during-buffer:2")
    assert await inserted(shop) == []
    await in_the_end(shop, list(range(1, 30_001)))


async def write_row(shop):
    await shop.source_run("INSERT INTO t DEFAULT VALUES")


async def copy(shop):
    """What a first copy has, and from where on the stream goes on; the table is followed then."""
    async with (
        exported_snapshot(shop.source, f"{shop.slot}_copy", temporary=True) as snapshot,
        await shop.source.connect() as reader,
        reader.transaction(),
    ):
        await reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await reader.execute(f"SET TRANSACTION SNAPSHOT '{snapshot.name}'")
        rows = await (await reader.execute("SELECT id FROM t ORDER BY id")).fetchall()
    buffer = Buffer(shop.buffer, SCHEMA)
    await buffer.set_copy_sent("public", "t", snapshot.lsn)
    await buffer.set_copied("public", "t", snapshot.lsn)
    return [number for (number,) in rows]


async def assert_every_row_comes_once(shop):
    """With the copy or with the stream, also what is written before, between and after them."""
    await write_row(shop)
    came = await copy(shop)
    await write_row(shop)
    await shop.capture()
    came += [
        number
        for (number,) in await shop.rows(
            f"SELECT (new_row->>'id')::int FROM {SCHEMA}.events CROSS JOIN {SCHEMA}.tables "
            "WHERE operation = 'insert' AND commit_lsn >= copied_lsn ORDER BY events.id"
        )
    ]
    assert came == [number for (number,) in await shop.rows("SELECT id FROM t ORDER BY id")]


async def assert_nothing_is_left_unsaid(shop):
    """Whatever keeps the source's log, or stays of a publication, is in `icefleet cdc status`."""
    status, _ = await look_at_databases(shop.config)
    slots, publications = await shop.rows(SLOTS), await shop.rows(PUBLICATIONS)
    for (slot,) in slots:
        assert slot in status.note or (slot == shop.slot and not status.problem)
    if (shop.slot,) in publications and (shop.slot,) not in slots:
        assert f"though there is its publication {shop.slot}" in status.problem
    captured = await shop.rows("SELECT to_regclass(%s)::text", f"{SCHEMA}.pipeline")
    if captured != [(None,)] and (shop.slot,) in slots:
        [(captured_lsn,)] = await shop.rows(f"SELECT captured_lsn FROM {SCHEMA}.pipeline")
        assert ("did not come to an end" in status.note) == (captured_lsn is None)


async def assert_there_is_one_of_each(shop):
    assert await shop.rows(SLOTS) == [(shop.slot,)]
    assert await shop.rows(PUBLICATIONS) == [(shop.slot,)]
    assert sorted(await shop.rows(TRIGGERS)) == [(shop.slot,), (f"{shop.slot}_dropped",)]


async def test_an_installation_killed_at_each_step_is_done_in_the_end_and_no_row_is_missed_or_comes_twice(dying, bare):
    """Cases 12 and 21 to 23: each one meets what those before it have left."""
    assert set(STEPS) == failpoints.INSTALL_NAMES
    for step in STEPS:
        await write_row(bare)
        await dying.install_and_die_at(bare, step, "t")
        await assert_nothing_is_left_unsaid(bare)
    await write_row(bare)
    assert [table.state for table in (await bare.install("t")).tables] == ["copying"]
    await assert_there_is_one_of_each(bare)
    await assert_every_row_comes_once(bare)


async def test_one_that_makes_the_slot_anew_under_another_name_leaves_neither_the_old_one_nor_a_gap(dying, bare):
    """Also when it is killed while it takes away what was there; until its copy comes, the table does not go on."""
    await bare.install("t")
    await copy(bare)
    old = bare.slot
    bare.name_slot(f"{old}_new")
    for step in (*STEPS[:4], "uninstall-after-slot", "uninstall-after-source", *STEPS[4:]):
        await write_row(bare)
        await dying.install_and_die_at(bare, step, "t", again=True)
        await assert_nothing_is_left_unsaid(bare)
        assert (await bare.rows(STATE) == [("active",)]) == (step in UNTOUCHED), step
    await write_row(bare)
    assert [table.state for table in (await bare.install("t")).tables] == ["copying"]
    await assert_there_is_one_of_each(bare)
    await assert_every_row_comes_once(bare)
    bare.name_slot(old)
    assert f"of the slot before this one was removed: slot {old}_new" in (await bare.install("t", again=True)).message
    await assert_there_is_one_of_each(bare)


async def test_taking_a_pipeline_down_ends_with_the_next_try_under_whatever_name_config_has_now(dying, bare):
    assert {step.partition(":")[0] for step in DOWN} == failpoints.UNINSTALL_NAMES
    await bare.install("t")
    installed = bare.slot
    bare.name_slot(f"{installed}_renamed")
    for step in DOWN:
        await dying.uninstall_and_die_at(bare, step, drop_buffer=True)
        await assert_nothing_is_left_unsaid(bare)
    await bare.uninstall(drop_buffer=True)
    for left in (SLOTS, PUBLICATIONS, TRIGGERS, f"SELECT nspname FROM pg_namespace WHERE nspname LIKE '{installed}%%'"):
        assert await bare.rows(left) == []


async def test_captures_that_are_cancelled_at_any_moment_neither_lose_nor_repeat(shop):
    """Case 27."""
    written = 0

    async def write() -> None:
        nonlocal written
        for _ in range(12):
            await shop.source_run(f"INSERT INTO t SELECT generate_series({written + 1}, {written + 500})")
            written += 500

    writing = asyncio.create_task(write())
    for pause in (0.06, 0.09, 0.12, 0.15, 0.2, 0.25):
        try:
            async with shop.capturing():
                await asyncio.sleep(pause)
        except LockTaken:
            pass  # the server has not noticed yet that the one before is gone
    await writing
    await in_the_end(shop, list(range(1, written + 1)))


@pytest.mark.parametrize("victim", ["walsender", "client backend"])
async def test_connections_that_are_cut_are_a_fault_that_passes(shop, victim):
    ended = None
    async with asyncio.timeout(90):
        try:
            async with shop.capturing() as task:
                await shop.source_run("INSERT INTO t VALUES (1)")
                await shop.until(lambda events: any(row[1] == "insert" for row in events))
                await shop.rows(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = %s "
                    "AND datname = current_database() AND pid <> pg_backend_pid()",
                    victim,
                )
                await shop.source_run("INSERT INTO t VALUES (2)")
                await asyncio.wait([task])
        except Fault as fault:
            ended = fault
    assert isinstance(ended, PostgresUnavailable)
    await shop.capture()
    assert await inserted(shop) == [1, 2]


async def test_a_second_capture_is_turned_away(shop):
    """Case 28."""
    async with shop.capturing():
        await shop.source_run("INSERT INTO t VALUES (1)")
        await shop.until(lambda events: any(row[1] == "insert" for row in events))
        with pytest.raises(LockTaken, match=f"another worker reads slot {shop.slot}"):
            await shop.capture()


async def test_a_capture_that_lost_its_slot_without_knowing_writes_nothing_twice(shop):
    """Cases 27 and 28: a zombie that still has events in hand when another has brought them."""
    reached, released = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        failpoints.disarm()
        reached.set()
        await released.wait()

    failpoints.arm("cdc-before-buffer", wait)
    zombie = asyncio.create_task(shop.capture(60))
    await shop.source_run("INSERT INTO t VALUES (1)")
    async with asyncio.timeout(90):
        await reached.wait()
        await shop.rows(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = %s", shop.slot
        )
        await shop.capture()
        released.set()
        with pytest.raises(LockTaken, match="another capture wrote"):
            await zombie
    assert await inserted(shop) == [1]


@pytest.fixture
def moving(shop, monkeypatch):
    """What is done between a look at the buffer's position and one at the slot: another capture moves both on."""
    state, rows = Slots.state, iter(range(100, 200))

    async def moved_on(slots, slot):
        with monkeypatch.context() as undisturbed:
            undisturbed.setattr(Slots, "state", state)
            await shop.source_run(f"INSERT INTO t VALUES ({next(rows)})")
            await shop.capture()
        return await state(slots, slot)

    monkeypatch.setattr(Slots, "state", moved_on)


async def test_a_capture_that_another_one_overtakes_as_it_begins_does_not_take_the_slot_for_lost(shop, moving):
    """As when a worker that Temporal does not hear any more goes on for the rest of its turn."""
    with pytest.raises(LockTaken, match="another capture wrote into the buffer"):
        await shop.capture()


async def test_a_table_is_installed_beside_a_capture_that_moves_on_and_nothing_is_made_anew(shop, moving):
    await shop.source_run("CREATE TABLE u (id int PRIMARY KEY)")
    await shop.rows(f"UPDATE {SCHEMA}.tables SET state = 'active', copying_lsn = NULL RETURNING 1")
    await shop.install("u")
    await shop.install("u", again=True)
    states = await shop.rows(f"SELECT source_table, state FROM {SCHEMA}.tables ORDER BY 1")
    assert states == [("t", "active"), ("u", "copying")]
    assert await inserted(shop) == [100, 101]

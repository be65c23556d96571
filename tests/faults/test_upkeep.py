"""Upkeep: snapshots go that nobody needs, and public keys follow the table once nobody reads what is there."""

import asyncio
from types import SimpleNamespace

import pytest
from temporalio.exceptions import ApplicationError

from activities import failpoints, refreshing, upkeep_metrics
from activities.clients import objectstore
from activities.core.orphans import line_of
from support.direct import COMMIT, Hands
from support.evidence import objects, source_rows, table_rows
from support.faultproxy import CutAfter, CutBefore, HttpFaults, TcpFaults
from support.gate import failing_at, gate_at
from support.leftovers import NOON, delete_before, keys, next_second, prefix_of_table
from support.measured import measured
from support.purging import purge_service
from support.upkeep import AT_ONCE, PUBLIC, Late, expire, put_object, read_object, refresh


@pytest.fixture
async def hands(fleet):
    fleet.set_export(**AT_ONCE)
    await fleet.make_days(days=2, rows=10)
    async with fleet.context() as context:
        yield Hands(fleet, context)


@pytest.fixture
async def late(fleet, hands):
    await hands.run()
    return Late(fleet, hands)


@pytest.fixture
def problems():
    """How many problems of exports have been told so far, by kind of table."""
    with measured(upkeep_metrics) as points:
        yield lambda: {about["kind"]: value for about, value in points().get("icefleet.upkeep.problems", [])}


def snapshots(fleet):
    return [snapshot.snapshot_id for snapshot in fleet.table().snapshots()]


async def test_a_public_key_is_refreshed_once_no_snapshot_tag_or_branch_reads_what_is_there(fleet, hands, late):
    context = hands.context
    first = snapshots(fleet)[0]
    fleet.table().manage_snapshots().create_tag(first, "keep").commit()
    old = read_object(fleet, PUBLIC)
    new = await late.replace()

    kept = await expire(fleet, context)
    waiting = await refresh(fleet, context)
    assert (kept.expired, kept.retained) == (0, 2)
    assert (waiting.waiting, waiting.refreshed, read_object(fleet, PUBLIC) == old) == (1, 0, True)

    fleet.table().manage_snapshots().remove_tag("keep").create_branch(first, "audit").commit()
    assert (await expire(fleet, context)).expired == 0
    fleet.table().manage_snapshots().remove_branch("audit").commit()
    dry = [await expire(fleet, context, dry_run=True), await refresh(fleet, context, dry_run=True)]
    gone = await expire(fleet, context)
    assert (dry[0].expired, dry[1].waiting, gone.expired, gone.retained) == (1, 1, 1, 1)
    would = await refresh(fleet, context, dry_run=True)
    done = await refresh(fleet, context)
    assert (would.refreshed, done.refreshed, done.done) == (1, 1, True)
    assert done.keys == [f"{prefix_of_table(fleet)}{PUBLIC}"]
    assert read_object(fleet, PUBLIC) == read_object(fleet, new) != old
    assert done.bytes == len(read_object(fleet, new))

    before = objects(fleet)
    again = await refresh(fleet, context)
    assert (again.refreshed, again.fresh, objects(fleet) == before) == (0, 1, True)
    newer = await late.replace()
    await expire(fleet, context)
    assert (await refresh(fleet, context)).refreshed == 1
    assert read_object(fleet, PUBLIC) == read_object(fleet, newer)
    assert table_rows(fleet) == await source_rows(fleet)


async def test_a_snapshot_that_was_not_announced_never_expires_nor_does_any_while_nats_is_away(
    fleet, hands, late, problems
):
    await hands.run(from_="2024-03-20", force=True)
    unannounced = await expire(fleet, hands.context)
    await hands.announce()
    async with TcpFaults(fleet.stack.ports["nats"]) as wire:
        fleet.point(nats=wire.port)
        await wire.refuse()
        async with fleet.context() as cut_off:
            await expire(fleet, cut_off, dry_run=True)
            assert problems() == {"export": 0}
            away = await expire(fleet, cut_off)
            assert problems() == {"export": 1}
    assert (unannounced.expired, unannounced.problem) == (0, "")
    assert (away.expired, away.problem[:31]) == (0, "no snapshot expires: NATS nats:")
    assert len(snapshots(fleet)) == 2
    assert (await expire(fleet, hands.context)).expired == 1


async def test_a_snapshot_that_was_the_state_a_moment_ago_stays_for_whoever_reads_it(fleet, hands, late):
    await late.replace()
    fleet.set_export(snapshot_age_seconds=600)
    async with fleet.context() as patient:
        assert (await expire(fleet, patient)).expired == 0
    fleet.set_export(snapshot_age_seconds=0, keep_snapshots=2)
    async with fleet.context() as keeping:
        assert (await expire(fleet, keeping)).expired == 0


@pytest.mark.parametrize("fault", [CutAfter(), CutBefore()], ids=["after it landed", "before it landed"])
async def test_an_expiry_whose_answer_is_lost_is_judged_by_the_head(fleet, hands, late, fault):
    await late.replace()
    [_, head] = snapshots(fleet)
    async with HttpFaults(fleet.stack.ports["catalog"]) as catalog:
        fleet.point(catalog=catalog.port)
        async with fleet.context() as context:
            struck = catalog.on(fault, **COMMIT)
            assert (await expire(fleet, context)).expired == 1
    assert (struck.times_struck, snapshots(fleet)) == (1, [head])


async def test_orphans_go_around_a_public_object_until_its_partition_is_gone(fleet, hands, late):
    context = hands.context
    old = await late.replace()
    await expire(fleet, context)
    await refresh(fleet, context)
    new = await late.replace()
    await append_the_18th(fleet, hands)
    await expire(fleet, context)
    page = await delete_before(fleet, context, await next_second(context))
    assert (page.deleted, page.keys) == (1, [f"data object: {prefix_of_table(fleet)}{old}"])
    assert keys(fleet) == {"2024/3/18.parquet", "2024/3/19.parquet", PUBLIC, new}

    await fleet.run_sql(f"DELETE FROM {fleet.database}.events WHERE toDate(at) = '2024-03-20'")
    plan = await hands.plan(from_="2024-03-20", force=True, allow_shrink=True)
    assert [planned.reason for planned in plan.todo] == ["vanished"]
    await hands.commit([], vanished=plan.todo)
    await hands.announce()
    await expire(fleet, context)
    page = await delete_before(fleet, context, await next_second(context))
    assert page.keys == [f"data object: {prefix_of_table(fleet)}{PUBLIC}"]


async def append_the_18th(fleet, hands):
    """Until something is appended, the newest snapshot still names what it and those before it have deleted."""
    await fleet.insert("events", "toDateTime('2024-03-18 12:00:00', 'UTC')", 5, offset=500)
    await hands.run(from_="2024-03-18", to="2024-03-18")
    await hands.announce()


async def test_a_public_copy_is_never_adopted_as_a_file_of_the_table(fleet, hands, late):
    """The partition goes and comes back with the same rows: a file of its own is made, beside the copy."""
    await late.replace()
    await expire(fleet, hands.context)
    await refresh(fleet, hands.context)
    hands.context.lake.catalog.drop_table(f"{fleet.network}.events")
    await hands.run()
    names = [name for name, _ in fleet.files()]
    assert PUBLIC not in names
    assert table_rows(fleet) == await source_rows(fleet)


async def test_an_object_that_is_about_to_be_overwritten_cannot_become_part_of_the_table_any_more(fleet, hands):
    """A commit of the object at the public key is held up while upkeep puts a copy there, and the partition goes."""
    [planned] = (await hands.plan(from_="2024-03-20")).todo
    zombie = await hands.export(planned)
    await fleet.insert("events", NOON, 5, updated="2024-05-01 00:00:00", offset=1000)
    async with gate_at("before-commit") as gate:
        late = asyncio.create_task(hands.commit([zombie]))
        await gate.reached()
        gate.let_by()
        [planned] = (await hands.plan(from_="2024-03-20")).todo
        await hands.commit([await hands.export(planned)])
        page = await refresh(fleet, hands.context)
        assert (page.refreshed, line_of(fleet.table().properties) > 0) == (1, True)
        [(name, _)] = fleet.files()
        assert read_object(fleet, PUBLIC) == read_object(fleet, name)
        await fleet.run_sql(f"DELETE FROM {fleet.database}.events WHERE toDate(at) = '2024-03-20'")
        plan = await hands.plan(from_="2024-03-20", force=True, allow_shrink=True)
        await hands.commit([], vanished=plan.todo)
        gate.open()
        with pytest.raises(ApplicationError, match="what no snapshot named at"):
            await late
    with pytest.raises(ApplicationError, match="is not the one that was made: another one of"):
        await hands.commit([zombie])
    assert fleet.files() == []


async def test_a_page_whose_time_is_up_says_where_the_next_one_goes_on_and_loses_nothing(fleet, hands, monkeypatch):
    await hands.run()
    await hands.run(from_="2024-03-19", force=True)
    await hands.announce()
    await expire(fleet, hands.context)
    monkeypatch.setattr(refreshing, "KEYS_AT_ONCE", 1)
    copied = []

    async def end_after_one():
        copied.append("one")

    failpoints.arm("after-refresh", end_after_one)
    monkeypatch.setattr(refreshing, "time", SimpleNamespace(time=lambda: 2e6 if copied else 1e6))
    first = await refresh(fleet, hands.context)
    copied.clear()
    rest = await refresh(fleet, hands.context, began=first.began, cursor=first.cursor)
    assert (first.refreshed, first.cursor, first.done) == (1, "2024-03-19", False)
    assert (rest.refreshed, rest.fresh, rest.done) == (1, 0, True)


async def test_what_others_put_at_a_public_key_is_left_alone_unless_it_is_to_be_taken_over(fleet, hands):
    put_object(fleet, PUBLIC, b"theirs")
    await hands.run()
    left = await refresh(fleet, hands.context)
    assert (left.foreign, left.refreshed, read_object(fleet, PUBLIC)) == (1, 0, b"theirs")
    taken = await refresh(fleet, hands.context, take_over=True)
    [name] = [name for name, _ in fleet.files() if name.startswith("2024/3/20")]
    assert (taken.foreign, taken.refreshed) == (0, 1)
    assert read_object(fleet, PUBLIC) == read_object(fleet, name)


async def test_what_is_made_after_an_object_of_the_same_second_was_overwritten_is_committed(fleet, hands):
    put_object(fleet, PUBLIC, b"theirs")
    await hands.run()
    begun = await next_second(hands.context)
    put_object(fleet, PUBLIC, b"theirs, a moment ago")
    assert (await refresh(fleet, hands.context, take_over=True)).refreshed == 1
    await append_the_18th(fleet, hands)
    assert line_of(fleet.table().properties) > begun
    assert table_rows(fleet) == await source_rows(fleet)


async def test_a_large_object_is_copied_in_parts_over_what_is_there(fleet, hands, monkeypatch):
    monkeypatch.setattr(objectstore, "LARGEST_COPY", 5 * 2**20)
    store, where = hands.context.store, prefix_of_table(fleet)
    body = bytes(range(256)) * (11 * 2**12)
    put_object(fleet, "large.parquet", body)
    put_object(fleet, "public.parquet", b"older")
    await store.copy(f"{where}large.parquet", f"{where}public.parquet", "copy of it", len(body))
    assert read_object(fleet, "public.parquet") == body
    stored = await store.head(f"{where}public.parquet")
    assert stored is not None
    assert (stored.recipe, stored.size) == ("copy of it", len(body))


async def test_the_cache_hears_of_every_refreshed_url_also_when_a_worker_died_before_telling_it(
    fleet, hands, late, problems
):
    async with purge_service() as service:
        fleet.set_storage(purge_url=service.url, public_url="https://data.example.org")
        async with fleet.context() as context:
            await late.replace()
            await expire(fleet, context)
            async with failing_at("after-refresh", lambda: asyncio.CancelledError("the worker died"), times=1):
                with pytest.raises(asyncio.CancelledError):
                    await refresh(fleet, context)
            url = f"https://data.example.org/{prefix_of_table(fleet)}{PUBLIC}"
            assert service.told == []
            made_good = await refresh(fleet, context)
            assert (made_good.refreshed, made_good.fresh, made_good.purged) == (0, 1, 1)
            await next_second(context)
            await refresh(fleet, context)
            assert (await refresh(fleet, context)).purged == 0
            told = len(service.told)
            assert {file for files in service.told for file in files} == {url}

            service.refusals = 99
            await late.replace()
            await expire(fleet, context)
            refused = await refresh(fleet, context)
            assert (refused.refreshed, refused.purged) == (1, 0)
            assert refused.problem.startswith(f"cache at {service.url} answered 503")
            assert problems() == {"export": 1}
            await next_second(context)
            assert (await refresh(fleet, context)).purged == 0
            service.refusals = 1
            assert (await refresh(fleet, context)).purged == 1
            assert service.told[told:] == [[url]]

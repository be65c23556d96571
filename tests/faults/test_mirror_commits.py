"""Commits to a mirror whose answer is lost, late or another writer's: each delta lands once or is planned anew."""

import asyncio
from dataclasses import replace

import pytest

from activities.core.faults import CatalogUnavailable, CommitConflict
from activities.lake import rowdelta, sending
from activities.lake.rowdelta import HeadMoved, TableGone
from support.faultproxy import Answer, AnswerInstead, CutAfter, CutBefore, Late
from support.fleet import replace_ports
from support.lakereaders import by_pyiceberg
from support.mirrortables import hand_mirror, rows_of

COMMIT = {"method": "POST", "path": r"/tables/orders$"}


@pytest.fixture
async def catalog(proxies):
    return proxies[0]


@pytest.fixture
async def orders(fleet, proxies, tmp_path):
    """A mirror that holds rows 1 to 3, seen through the proxies, and a delta that deletes row 2 and adds row 4."""
    catalog, s3 = proxies
    async with hand_mirror(fleet, tmp_path) as direct:
        await direct.apply(rows_of([1, 2, 3]))
        [path] = direct.live()
        fleet.point(catalog=catalog.port, s3=s3.port)
        direct.planned = direct.read().table, await direct.delta(rows_of([4]), {path: [1]})
        async with direct.seen_anew() as mirror:
            yield mirror


def commit(orders):
    """Commits in a thread: the proxies live in this one."""
    return asyncio.to_thread(rowdelta.commit, orders.lake, *orders.planned)


def rows(fleet, orders):
    environment = replace_ports(fleet.settings().environment(fleet.name), fleet.stack)
    [found] = by_pyiceberg(environment, [orders.config.mirror])
    return sorted(row[1] for row in found)


@pytest.mark.parametrize("fault", [AnswerInstead(409, b"{}"), AnswerInstead(503, b"{}"), CutAfter()], ids=repr)
async def test_a_commit_whose_answer_is_lost_is_recognised_and_nothing_is_deleted(fleet, proxies, orders, fault):
    """Cases 24, 25 and 26."""
    catalog, s3 = proxies
    rule = catalog.on(fault, **COMMIT)
    done = await commit(orders)
    assert rule.times_struck == 1
    assert done.snapshot_id == fleet.load(orders.config.mirror).current_snapshot().snapshot_id
    assert s3.count("DELETE") == s3.count("POST", r"\?delete") == 0
    assert rows(fleet, orders) == [1, 3, 4]


@pytest.mark.parametrize("fault", [Answer(409, b"{}"), Answer(500, b"{}"), CutBefore()], ids=repr)
async def test_a_commit_that_did_not_land_is_made(fleet, catalog, orders, fault):
    """Cases 24 and 25."""
    catalog.on(fault, **COMMIT)
    await commit(orders)
    assert (catalog.count(**COMMIT), len(fleet.load(orders.config.mirror).snapshots())) == (2, 2)
    assert rows(fleet, orders) == [1, 3, 4]


async def test_a_request_that_is_late_lands_beside_no_other(fleet, proxies, orders):
    """Case 27: the first try is stuck on the way, a second one lands, then the first arrives and is refused."""
    catalog, s3 = proxies
    stuck = catalog.on(Late(), **COMMIT)
    await commit(orders)
    stuck.fault.released.set()
    await stuck.landed.wait()
    assert len(fleet.load(orders.config.mirror).snapshots()) == 2
    assert s3.count("DELETE") == 0
    assert rows(fleet, orders) == [1, 3, 4]


async def test_of_two_workers_with_the_same_delta_one_lands_and_the_other_plans_anew(fleet, proxies, orders):
    """Case 28; its manifests go, since the catalog refused them, and nothing else does."""
    s3 = proxies[1]
    done = await asyncio.gather(commit(orders), commit(orders), return_exceptions=True)
    assert sorted(type(one).__name__ for one in done) == ["Committed", "HeadMoved"]
    assert rows(fleet, orders) == [1, 3, 4]
    gone = [seen.path for seen in s3.seen if seen.method == "DELETE"]
    assert all(path.endswith(".avro") for path in gone)


@pytest.mark.parametrize("fault", [None, Answer(409, b"{}"), Answer(500, b"{}"), CutAfter()], ids=repr)
async def test_manifests_that_were_written_ahead_are_the_first_trys_and_no_others(fleet, proxies, orders, fault):
    """Cases 24, 25 and 26: of a try that was refused they are gone, and one whose answer was lost may have them."""
    catalog, s3 = proxies
    table, delta = orders.planned
    ahead = await asyncio.to_thread(rowdelta.manifest, table, delta)
    orders.planned = table, replace(delta, manifested=ahead)
    if fault:
        catalog.on(fault, **COMMIT)
    before = s3.count("PUT")
    await commit(orders)
    head = fleet.load(orders.config.mirror).current_snapshot()
    has_landed = fault is None or isinstance(fault, CutAfter)
    assert ((head.snapshot_id, head.manifest_list) == (ahead.snapshot_id, ahead.path)) == has_landed
    assert (s3.count("PUT") == before) == has_landed
    assert rows(fleet, orders) == [1, 3, 4]


@pytest.mark.parametrize(("status", "fault"), [(409, CommitConflict), (500, CatalogUnavailable)])
async def test_a_commit_that_never_lands_is_given_up_with_its_cause(fleet, catalog, orders, monkeypatch, status, fault):
    """Cases 33 and 64."""
    monkeypatch.setattr(sending, "TRIES", 3)
    struck = catalog.on(Answer(status, b"{}"), times=None, **COMMIT)
    with pytest.raises(fault, match="orders"):
        await commit(orders)
    assert struck.times_struck == 3
    catalog.mend()
    await commit(orders)
    assert rows(fleet, orders) == [1, 3, 4]


async def test_a_table_that_was_dropped_or_made_anew_gets_nothing(fleet, tmp_path):
    """Case 34."""
    async with hand_mirror(fleet, tmp_path) as orders:
        planned = orders.read().table, await orders.delta(rows_of([4]))
        orders.drop()
        with pytest.raises(TableGone, match="not in the catalog"):
            rowdelta.commit(orders.lake, *planned)
        orders.create()
        with pytest.raises(TableGone, match="made anew"):
            rowdelta.commit(orders.lake, *planned)
        assert fleet.load(orders.config.mirror).snapshots() == []


async def test_what_others_commit_meanwhile_has_the_delta_planned_anew(fleet, orders):
    """Cases 31 and 32: an append of others, a schema change of others."""
    await asyncio.to_thread(fleet.load(orders.config.mirror).append, rows_of([9]))
    with pytest.raises(HeadMoved, match="head"):
        await commit(orders)
    assert rows(fleet, orders) == [1, 2, 3, 9]

"""Commits to a changelog whose answer is lost: each event lands once, and nothing is deleted in doubt."""

import asyncio

import pytest

from activities.core.drift import AddField
from activities.core.faults import CatalogUnavailable, CommitConflict
from activities.core.iceberg_types import parse_iceberg
from activities.lake import sending
from support.changelogs import FIELDS, line, lines, opened
from support.faultproxy import Answer, AnswerInstead, Hold, Late
from support.fleet import replace_ports
from support.lakereaders import by_pyiceberg
from support.lostanswers import LANDED, NOT_LANDED

COMMIT = {"method": "POST", "path": r"/tables/orders_changelog$"}


@pytest.fixture
async def catalog(proxies):
    return proxies[0]


@pytest.fixture
async def s3(proxies):
    return proxies[1]


@pytest.fixture
async def orders(fleet, catalog, s3):
    """A changelog that holds event 1, seen through the proxies."""
    async with opened(fleet) as direct:
        await direct.create()
        await direct.append(1)
    fleet.point(catalog=catalog.port, s3=s3.port)
    async with opened(fleet) as changelog:
        changelog.seen = direct.state()
        changelog.files = await changelog.write(changelog.seen, [lines([2, 3])], 3)
        yield changelog


def commit(orders, **more):
    """Commits events 2 and 3 in a thread: the proxies live in this one."""
    return asyncio.to_thread(orders.commit, orders.seen, 3, **{"files": orders.files, **more})


def rows(fleet, orders):
    environment = replace_ports(fleet.settings().environment(fleet.name), fleet.stack)
    [found] = by_pyiceberg(environment, [orders.identifier])
    return sorted(row[5] for row in found)


@pytest.mark.parametrize("fault", LANDED)
async def test_a_commit_whose_answer_is_lost_is_recognised(fleet, catalog, s3, orders, fault):
    """Cases 24, 25 and 26."""
    rule = catalog.on(fault, **COMMIT)
    done = await commit(orders)
    head = fleet.load(orders.identifier).current_snapshot()
    assert rule.times_struck == 1
    assert (done.landed, done.snapshot_id) == (True, head.snapshot_id)
    assert s3.count("DELETE") == s3.count("POST", r"\?delete") == 0
    assert rows(fleet, orders) == [1, 2, 3]


@pytest.mark.parametrize("fault", NOT_LANDED)
async def test_a_commit_that_did_not_land_is_made(fleet, catalog, orders, fault):
    """Cases 24 and 25."""
    rule = catalog.on(fault, **COMMIT)
    done = await commit(orders)
    assert (rule.times_struck, catalog.count(**COMMIT)) == (1, 2)
    assert (done.landed, len(fleet.load(orders.identifier).snapshots())) == (True, 2)
    assert rows(fleet, orders) == [1, 2, 3]


async def test_schema_position_and_rows_are_one_request_and_land_once_when_its_answer_is_lost(fleet, catalog, orders):
    changes = [AddField("more", parse_iceberg("string"))]
    fields = {**FIELDS, "more": "string"}
    files = await orders.write(
        orders.seen,
        [line(2, "2", "a", "b").encode(), line(3, "3", "a", "b").encode()],
        4,
        changes=changes,
        fields=fields,
    )
    catalog.on(AnswerInstead(503, b"{}"), **COMMIT)
    done = await commit(orders, files=files, changes=changes, columns_text="after")
    state = await asyncio.to_thread(orders.state)
    assert (done.landed, catalog.count(**COMMIT)) == (True, 1)
    assert (state.position, state.columns, [field.name for field in state.schema.fields[5:]]) == (
        3,
        "after",
        list(fields),
    )
    assert rows(fleet, orders) == [1, 2, 3]


async def test_a_request_that_is_late_lands_beside_no_other(fleet, catalog, s3, orders):
    """Case 27: the first try is stuck on the way, a second one lands, then the first arrives and is refused."""
    stuck = catalog.on(Late(), **COMMIT)
    done = await commit(orders)
    stuck.fault.released.set()
    await stuck.landed.wait()
    assert (done.landed, len(fleet.load(orders.identifier).snapshots())) == (True, 2)
    assert s3.count("DELETE") == 0
    assert rows(fleet, orders) == [1, 2, 3]


async def test_a_late_request_cannot_take_back_the_position_of_a_batch_without_rows(fleet, catalog, orders):
    """Case 27: neither batch has a row, so nothing but the head stands between the first request and the table."""
    stuck = catalog.on(Late(), **COMMIT)
    await commit(orders, files=[], columns_text="first")
    state = await asyncio.to_thread(orders.state)
    await asyncio.to_thread(orders.commit, state, 4, columns_text="second")
    stuck.fault.released.set()
    await stuck.landed.wait()
    state = await asyncio.to_thread(orders.state)
    assert (state.position, state.columns) == (4, "second")


async def test_a_late_request_that_lands_first_is_recognised(fleet, catalog, orders):
    stuck, second = catalog.on(Late(), **COMMIT), catalog.on(Hold(), **COMMIT)
    committing = asyncio.create_task(commit(orders))
    await second.struck.wait()
    stuck.fault.released.set()
    await stuck.landed.wait()
    second.fault.released.set()
    done = await committing
    assert (done.landed, done.snapshot_id) == (True, fleet.load(orders.identifier).current_snapshot().snapshot_id)
    assert rows(fleet, orders) == [1, 2, 3]


async def test_a_worker_whose_request_was_overtaken_by_the_same_batch_of_another_does_not_land(fleet, catalog, orders):
    """Case 28."""
    held = catalog.on(Hold(), **COMMIT)
    slow = asyncio.create_task(commit(orders))
    await held.struck.wait()
    fast = await commit(orders)
    held.fault.released.set()
    assert (fast.landed, (await slow).landed) == (True, False)
    assert rows(fleet, orders) == [1, 2, 3]


@pytest.mark.parametrize(("status", "fault"), [(409, CommitConflict), (500, CatalogUnavailable)])
async def test_a_commit_that_never_lands_is_given_up_with_its_cause(fleet, catalog, orders, monkeypatch, status, fault):
    """Cases 33 and 64."""
    monkeypatch.setattr(sending, "TRIES", 3)
    struck = catalog.on(Answer(status, b"{}"), times=None, **COMMIT)
    with pytest.raises(fault, match="orders_changelog"):
        await commit(orders)
    assert struck.times_struck == 3
    catalog.mend()
    assert (await commit(orders)).landed
    assert rows(fleet, orders) == [1, 2, 3]

"""Upkeep and the public metadata: what a reader who has nothing but a URL may be with stays as it was."""

import asyncio

import pytest
from temporalio.exceptions import ApplicationError

from activities import publishing, upkeep_metrics
from support.direct import Hands
from support.evidence import public_metadata
from support.faultproxy import Answer, HttpFaults
from support.gate import gate_at
from support.leftovers import delete_before, next_second
from support.measured import measured
from support.publicreaders import anonymous_duckdb, scan, url_of
from support.upkeep import AT_ONCE, PUBLIC, Late, expire, read_object, refresh


@pytest.fixture
async def hands(fleet):
    """A worker's hands on a table of two days, exported and published."""
    fleet.set_export(**AT_ONCE)
    await fleet.make_days(days=2, rows=10)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        await hands.run()
        await hands.publish()
        yield hands


@pytest.fixture
async def late(fleet, hands):
    return Late(fleet, hands)


async def test_what_is_public_stays_whole_however_late_it_is_and_for_a_day_after_the_next_version(
    fleet, hands, late, monkeypatch
):
    duck, url = anonymous_duckdb(), url_of(fleet)
    states, old = [scan(duck, url)], read_object(fleet, PUBLIC)

    async def keep():
        """Upkeep, and the deletion of what it has left."""
        gone, keys = await expire(fleet, hands.context), await refresh(fleet, hands.context)
        deleted = await delete_before(fleet, hands.context, await next_second(hands.context))
        assert (gone.problem, keys.problem) == ("", "")
        return gone.expired, keys.refreshed, deleted.deleted

    await late.replace()
    async with gate_at("before-public-hint") as gate:
        slow = asyncio.create_task(hands.publish())
        await gate.reached()
        newest = await late.replace()
        assert await keep() == (0, 0, 0)
        assert scan(duck, url) == states[0]
        gate.open()
        first = (await slow).version - 1
    states.append(scan(duck, url))
    assert (await hands.publish()).version == first + 2
    states.append(scan(duck, url))
    assert [len(state) for state in states] == [20, 25, 30]
    assert await keep() == (0, 0, 0)
    assert [scan(duck, f"{url}/metadata/v{first + past}.metadata.json") for past in range(3)] == states
    assert read_object(fleet, PUBLIC) == old

    monkeypatch.setattr(publishing, "KEEP_SECONDS", 0)
    assert await keep() == (2, 1, 0)
    assert read_object(fleet, PUBLIC) == read_object(fleet, newest) != old
    assert scan(duck, url) == states[2]


async def test_nothing_is_touched_while_nobody_knows_what_public_readers_are_with(fleet, hands, late, monkeypatch):
    duck, url = anonymous_duckdb(), url_of(fleet)
    published, old = scan(duck, url), read_object(fleet, PUBLIC)
    await late.replace()
    first, _ = [snapshot.snapshot_id for snapshot in fleet.table().snapshots()]
    # Somebody else lets the snapshot go that is published.
    fleet.table().maintenance.expire_snapshots().by_id(first).commit()
    page = await refresh(fleet, hands.context)
    assert page.problem.startswith(f"no public object is refreshed: public readers may be with snapshot {first}, of")
    assert (page.refreshed, page.done, read_object(fleet, PUBLIC)) == (0, True, old)
    assert scan(duck, url) == published

    [version] = [key for key in public_metadata(fleet) if key.endswith("00001.metadata.json")]
    await hands.context.store.delete(version)
    for ask in (expire, refresh):
        with pytest.raises(ApplicationError, match=r"v1000000001\.metadata\.json, .* so nobody knows what they read"):
            await ask(fleet, hands.context)
    assert read_object(fleet, PUBLIC) == old

    assert (await hands.publish()).published
    monkeypatch.setattr(publishing, "KEEP_SECONDS", 0)
    assert (await refresh(fleet, hands.context)).refreshed == 1
    assert len(scan(duck, url)) == len(published) + 5


async def test_a_public_object_that_the_store_lets_nobody_replace_is_counted_for_an_alert(
    fleet, hands, late, monkeypatch
):
    monkeypatch.setattr(publishing, "KEEP_SECONDS", 0)
    await late.replace()
    await hands.publish()
    await next_second(hands.context)
    assert (await expire(fleet, hands.context)).expired == 1
    denied = b"<Error><Code>AccessDenied</Code><Message>not this one</Message></Error>"
    async with HttpFaults(fleet.stack.ports["s3"]) as store:
        fleet.point(s3=store.port)
        store.on(Answer(403, denied, "application/xml"), method="PUT", path=r"/2024/3/20\.parquet", times=None)
        async with fleet.context() as refused:
            with measured(upkeep_metrics) as told:
                await refresh(fleet, refused, dry_run=True)
                before = told()
                with pytest.raises(ApplicationError, match="not this one"):
                    await refresh(fleet, refused)
                after = told()["icefleet.upkeep.problems"]
    assert (before, after) == ({}, [({"kind": "export"}, 1)])

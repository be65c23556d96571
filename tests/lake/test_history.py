"""What each snapshot changed is read from its own manifests, whatever happened to the table since."""

from dataclasses import replace

import pytest

from activities.core.partitions import label_of
from activities.lake.history import snapshot_facts, snapshots_after
from support.direct import Hands

HOURS = 23


@pytest.fixture
async def hands(fleet):
    await fleet.make_hours(hours=HOURS, rows=3)
    async with fleet.context() as context:
        yield Hands(fleet, context)


async def test_merged_manifests_do_not_blur_which_snapshot_added_which_file(fleet, hands):
    """With twenty manifests PyIceberg merges them: the old entries then lie in the newest snapshot's manifest."""
    plan = await hands.plan(oldest_first=True)
    for file in await hands.export_all(plan):
        await hands.commit([file])
    table, rule = fleet.table(), hands.context.find_table("events", fleet.network).partition
    snapshots = snapshots_after(table, None, 0)
    assert len(snapshots[-1].manifests(table.io)) < HOURS
    facts = [snapshot_facts(table, rule, snapshot) for snapshot in snapshots]
    added = [[label_of(rule, file.index) for file in fact.added] for fact in facts]
    assert added == [[planned.partition] for planned in plan.todo]
    assert [fact.sequence_number for fact in facts] == list(range(1, HOURS + 1))
    assert [fact.parent_id for fact in facts] == [None, *(one.snapshot_id for one in snapshots[:-1])]
    assert {(fact.operation, fact.removed) for fact in facts} == {("append", 0)}


async def test_a_replacement_is_told_from_an_addition_in_the_same_snapshot(fleet, hands):
    plan = await hands.plan()
    await hands.commit(await hands.export_all(replace(plan, todo=plan.todo[1:])))
    forced = Hands(fleet, hands.context, request_id="forced")
    again = await forced.plan(from_="2024-03-20T22", to="2024-03-20T23", force=True)
    assert [(one.partition, one.reason) for one in again.todo] == [
        ("2024-03-20T23", "missing"),
        ("2024-03-20T22", "forced"),
    ]
    await forced.commit(await forced.export_all(again))
    table, rule = fleet.table(), hands.context.find_table("events", fleet.network).partition
    [_, last] = snapshots_after(table, None, 0)
    fact = snapshot_facts(table, rule, last)
    assert [(label_of(rule, file.index), file.rows, file.replaced) for file in fact.added] == [
        ("2024-03-20T22", 3, True),
        ("2024-03-20T23", 3, False),
    ]
    assert (fact.removed, fact.operation) == (1, "overwrite")


async def test_snapshots_are_listed_after_one_that_is_there_one_that_expired_and_the_head(fleet, hands):
    plan = await hands.plan(oldest_first=True)
    for planned in plan.todo[:4]:
        await hands.commit([await hands.export(planned)])
    ids = [snapshot.snapshot_id for snapshot in fleet.table().snapshots()]

    def after(*announced):
        return [one.snapshot_id for one in snapshots_after(fleet.table(), *announced)]

    assert after(None, 0) == ids
    assert after(ids[1], 2) == ids[2:]
    assert after(ids[3], 4) == []
    fleet.table().maintenance.expire_snapshots().by_id(ids[1]).commit()
    assert after(ids[1], 2) == ids[2:]
    # A snapshot that nobody knows, numbered beyond the head: the table was rolled back, and nothing is new.
    assert after(1, 99) == []
    # Unless it was committed later: the catalog came back from a backup, and counts on from there.
    moments = [snapshot.timestamp_ms for snapshot in fleet.table().snapshots()]
    assert after(1, 99, moments[-2]) == ids[-1:]
    assert after(1, 99, moments[-1]) == []
    assert after(ids[3], 99, moments[0]) == []


async def test_a_table_without_a_snapshot_has_no_history(fleet, hands):
    await hands.plan()
    assert snapshots_after(fleet.table(), None, 0) == []

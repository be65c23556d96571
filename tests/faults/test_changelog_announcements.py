"""Events of changelogs: derived from table and stream, with the place of their rows in the source's log."""

from dataclasses import replace

import pytest
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities import announcing_changelogs
from activities.cdc import Cdc
from activities.contracts.cdc import ChangelogsInput
from activities.core.changelogs import sequence_number
from activities.core.faults import BusRefused
from support.buffers import insert, schema_event, update
from support.ingests import PIPELINE, opened

ORDERS, ITEMS = "public_orders_changelog", "public_items_changelog"


async def test_each_snapshot_of_a_changelog_is_announced_once_with_its_place_in_the_log(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        first = await ingest.producer.transaction(schema_event(), insert(1), insert(2))
        await ingest.batch()
        second = await ingest.producer.transaction(update(1))
        await ingest.batch()
        assert await ingest.announce(ORDERS) == 2
        assert await ingest.announce(ORDERS) == 0
        table = ingest.table()
    events = await fleet.events(ORDERS, ingest.namespace)
    assert [event["_id"] for event in events] == [
        f"{table.metadata.table_uuid}-{snapshot.snapshot_id}" for snapshot in table.snapshots()
    ]
    assert [event["changelog"] for event in events] == [
        {
            "pipeline": PIPELINE,
            "sourceTable": "public.orders",
            "firstSequence": sequence_number(first, 1),
            "lastSequence": sequence_number(first, 2),
            "events": "2",
            "position": "3",
        },
        {
            "pipeline": PIPELINE,
            "sourceTable": "public.orders",
            "firstSequence": sequence_number(second, 0),
            "lastSequence": sequence_number(second, 0),
            "events": "1",
            "position": "4",
        },
    ]
    assert [(event["table"], event["network"], event["sourceTable"]) for event in events] == [
        (f"{ingest.namespace}.{ORDERS}", ingest.namespace, "public.orders")
    ] * 2
    assert [(one["partition"], one["rows"]) for event in events for one in event["partitions"]] == [
        ("2026-03-20", "2"),
        ("2026-03-20", "1"),
    ]


async def test_a_subject_with_a_foreign_message_keeps_no_other_changelog_from_being_announced(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        for table in ("items", "orders"):
            await ingest.producer.transaction(schema_event(table=table), insert(1, table=table))
        await ingest.drain()
        subject = f"icefleet.{fleet.name}.snapshot.{ingest.namespace}.{ITEMS}"
        await ingest.context.bus.publish(subject, b"not ours", {}, message_id="x", after=0)
        # Nobody names them: every changelog of the pipeline is looked at.
        with pytest.raises(BusRefused) as refused:
            await ingest.announce()
    assert ITEMS in str(refused.value)
    (event,) = await fleet.events(ORDERS, ingest.namespace)
    assert event["changelog"]["sourceTable"] == "public.orders"


@pytest.mark.parametrize(("tries", "again"), [(0, True), (5, False)])
async def test_what_is_refused_is_tried_again_unless_somebody_waits_for_it(fleet, postgres, tries, again):
    async with opened(fleet, postgres) as ingest:
        await ingest.producer.transaction(schema_event(), insert(1))
        await ingest.drain()
        subject = f"icefleet.{fleet.name}.snapshot.{ingest.namespace}.{ORDERS}"
        await ingest.context.bus.publish(subject, b"not ours", {}, message_id=f"{fleet.name}{tries}", after=0)
        trying = ActivityEnvironment()
        trying.info = replace(trying.info, retry_policy=RetryPolicy(maximum_attempts=tries))
        with pytest.raises(ApplicationError) as refused:
            await trying.run(Cdc(ingest.context).announce_changelogs, ChangelogsInput(fleet.name, PIPELINE, []))
    assert (refused.value.type, refused.value.non_retryable) == ("BusRefused", not again)


async def test_what_is_no_changelog_of_the_pipeline_is_not_announced(fleet, postgres):
    async with opened(fleet, postgres) as ingest:
        await ingest.producer.transaction(schema_event(), insert(1))
        await ingest.batch()
        with ingest.table().transaction() as change:
            change.set_properties({"icefleet.cdc.pipeline": "another"})
        assert await ingest.announce() == 0
        assert await ingest.announce(ORDERS, "absent") == 0
    assert await fleet.events(ORDERS, ingest.namespace) == []


async def test_old_snapshots_expire_once_they_were_announced_and_never_one_with_a_tag(fleet, postgres, monkeypatch):
    monkeypatch.setattr(announcing_changelogs, "EXPIRED_AT_ONCE", 2)
    async with opened(fleet, postgres, keep_snapshots=2, snapshot_age_seconds=0) as ingest:
        await ingest.producer.transaction(schema_event(), insert(1))
        await ingest.batch()
        first = ingest.table().current_snapshot().snapshot_id
        ingest.table().manage_snapshots().create_tag(first, "kept").commit()
        for number in range(2, 6):
            await ingest.producer.transaction(insert(number))
            await ingest.batch()
        every = [snapshot.snapshot_id for snapshot in ingest.table().snapshots()]
        assert await ingest.announce(ORDERS) == 5
        left = [snapshot.snapshot_id for snapshot in ingest.table().snapshots()]
        assert left == [every[0], *every[-2:]]
        # The next batch goes on from there.
        await ingest.producer.transaction(insert(6))
        await ingest.batch()
        assert len(ingest.table().scan().to_arrow()) == 6

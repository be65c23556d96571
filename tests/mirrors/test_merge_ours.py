"""From the buffer of change data capture through ingest into a mirror: what our own changelogs say is understood."""

from dataclasses import replace
from decimal import Decimal

import pytest
from temporalio.testing import ActivityEnvironment

from activities.bootstrapping import bootstrap_mirror
from activities.contracts.mirrors import MergeInput, MirrorInput, VerifyMirrorInput
from activities.core.faults import BadConfig
from activities.core.mirrors import MirrorConfig
from activities.merging import merge_mirror
from activities.verifymirror import verify_mirror
from support.buffers import NARROW, SCHEMA, Event, delete, insert, schema_event, truncate, update
from support.ingests import opened as ingesting
from support.mirrorcontext import mirror_context
from support.mirrors import Mirror


@pytest.fixture
async def shop(fleet, postgres):
    """A pipeline, and the mirror of its table `orders`."""
    async with ingesting(fleet, postgres) as ingest:
        config = MirrorConfig(ingest.identifier(), f"{ingest.namespace}.orders", ("id",), schema="permissive")
        cache = fleet.directory / "cache"
        async with mirror_context(fleet.settings(), fleet.name, fleet.temporal, cache, config) as context:
            yield ingest, Mirror(fleet, context, config)


def moved(old, new, name):
    """A row whose key changes, of which the amount was not logged."""
    return (
        delete(old),
        Event("insert", {"id": new, "name": name}, unchanged=("amount",)),
    )


async def test_captured_changes_arrive_with_values_that_were_not_logged_renames_and_truncates_cases_13_49_52_53(shop):
    ingest, mirror = shop
    await ingest.producer.transaction(schema_event(), *(insert(key, f"n{key}", f"{key}.50") for key in range(1, 6)))
    await ingest.drain()
    await mirror.merge()
    await ingest.producer.transaction(Event("update", {"id": 1, "name": "again"}, unchanged=("amount",)), delete(2))
    await ingest.producer.transaction(*moved(3, 30, "moved"))
    await ingest.drain()
    renamed = [NARROW[0], {**NARROW[1], "name": "title"}, NARROW[2], {"name": "more", "type": "int", "id": 4}]
    await ingest.producer.transaction(schema_event(renamed))
    new = {"id": 4, "title": "titled", "more": 7}
    await ingest.producer.transaction(Event("update", new, unchanged=("amount",)))
    await ingest.drain()
    report = await mirror.merge()
    assert (report.commits, report.upserted, report.deleted) == (1, 3, 2)
    assert mirror.read("id", "title", "amount", "more") == [
        (1, "again", Decimal("1.50"), None),
        (30, "moved", Decimal("3.50"), None),
        (4, "titled", Decimal("4.50"), 7),
        (5, "n5", Decimal("5.50"), None),
    ]
    mirror.check_index()
    rest = {"more": None}
    await ingest.producer.transaction(
        truncate(), Event("insert", {"id": 9, "title": "after", "amount": "9.00", **rest})
    )
    await ingest.producer.transaction(Event("insert", {"id": 10, "title": "later", "amount": None, **rest}))
    await ingest.drain()
    report = await mirror.merge()
    assert (report.upserted, report.deleted) == (2, 4)
    assert mirror.read("id", "title", "amount") == [(10, "later", None), (9, "after", Decimal("9.00"))]
    assert len(mirror.by_all_readers()) == 2
    mirror.check_index()


async def test_a_schema_event_that_comes_again_changes_nothing_case_55(shop):
    ingest, mirror = shop
    await ingest.producer.transaction(schema_event(), insert(1))
    await ingest.drain()
    await mirror.merge()
    await ingest.producer.transaction(schema_event(), update(1))
    await ingest.drain()
    assert (await mirror.merge()).upserted == 1
    assert mirror.read("id", "name") == [(1, "b")]


async def test_a_dead_letter_of_a_key_that_changes_holds_up_no_other_key_of_the_mirror_case_63(shop):
    ingest, mirror = shop
    await ingest.producer.transaction(schema_event(), insert(1, "n1", "1.50"), insert(2, "n2", "2.50"))
    await ingest.drain()
    await mirror.merge()
    await ingest.producer.transaction(update(1, "poison", "123456789012.00"))
    await ingest.producer.transaction(*moved(1, 30, "moved"), update(2, "two", "2.50"))
    await ingest.drain()
    await mirror.merge()
    assert mirror.read("id", "name", "amount") == [(1, "n1", Decimal("1.50")), (2, "two", Decimal("2.50"))]
    mended = "SET new_row = new_row || '{\"amount\": 3}' WHERE behind IS NULL"
    await ingest.own.run(f"UPDATE {SCHEMA}.dead_letters {mended}")
    await ingest.settle("requeue", table="orders")
    await ingest.drain()
    await mirror.merge()
    assert mirror.read("id", "name", "amount") == [(2, "two", Decimal("2.50")), (30, "moved", Decimal("3.00"))]


async def test_a_mirror_by_other_columns_than_the_key_of_the_source_is_refused_also_when_that_changes(fleet, postgres):
    """Of a deleted row the log has its key alone: by any other column it would stay in the mirror."""
    async with ingesting(fleet, postgres) as ingest:
        await ingest.producer.transaction(schema_event(), insert(1))
        await ingest.drain()
        cache, right = fleet.directory / "cache", MirrorConfig(ingest.identifier(), f"{ingest.namespace}.o", ("id",))
        for keys in (("name",), ("id", "name")):
            wrong = replace(right, mirror=f"{ingest.namespace}.wrong", primary_keys=keys)
            async with mirror_context(fleet.settings(), fleet.name, fleet.temporal, cache, wrong) as context:
                with pytest.raises(BadConfig, match=r"told apart by id at the source: .*Name these there.*--bootstrap"):
                    await Mirror(fleet, context, wrong).merge()
            assert fleet.load(wrong.mirror) is None
        async with mirror_context(fleet.settings(), fleet.name, fleet.temporal, cache, right) as context:
            mirror = Mirror(fleet, context, right)
            await mirror.merge()
            assert mirror.read("id") == [(1,)]
            await ingest.producer.transaction(
                schema_event(key=("name",)), Event("delete", old={"name": "a"}, key=("name",))
            )
            await ingest.drain()
            with pytest.raises(BadConfig, match="told apart by name at the source"):
                await mirror.merge()
            assert mirror.read("id") == [(1,)]


async def test_a_key_that_is_renamed_at_the_source_is_the_key_of_its_mirror_under_its_new_name(fleet, postgres):
    async with ingesting(fleet, postgres) as ingest:
        await ingest.producer.transaction(schema_event(), insert(1), insert(2))
        await ingest.drain()
        cache, config = fleet.directory / "cache", MirrorConfig(ingest.identifier(), f"{ingest.namespace}.o", ("id",))
        config = replace(config, schema="permissive")
        async with mirror_context(fleet.settings(), fleet.name, fleet.temporal, cache, config) as context:
            await Mirror(fleet, context, config).merge()
        renamed = [{**NARROW[0], "name": "number"}, *NARROW[1:]]
        gone = Event("delete", old={"number": 1}, key=("number",))
        await ingest.producer.transaction(schema_event(renamed, key=("number",)), gone)
        await ingest.drain()
        config = replace(config, primary_keys=("number",))
        async with mirror_context(fleet.settings(), fleet.name, fleet.temporal, cache, config) as context:
            mirror = Mirror(fleet, context, config)
            await mirror.merge()
            assert mirror.read("number") == [(2,)]


async def refused(mirror, says, **config):
    """Merging, beginning again and verifying are refused as long as config says so, and nothing is changed."""
    right, rows, asked = mirror.config, mirror.rows(), (mirror.fleet.name, mirror.config.mirror)
    mirror.configure(**config)
    for work, request in (
        (merge_mirror, MergeInput(*asked)),
        (bootstrap_mirror, MirrorInput(*asked)),
        (verify_mirror, VerifyMirrorInput(*asked)),
    ):
        with pytest.raises(BadConfig, match=says):
            await ActivityEnvironment().run(work, mirror.context, request)
    mirror.configure(**vars(right))
    assert mirror.rows() == rows


async def test_a_table_that_has_no_key_any_more_has_no_mirror_since_changes_of_keys_would_leave_rows_case_19(shop):
    ingest, mirror = shop
    await ingest.producer.transaction(schema_event(), insert(1))
    await ingest.drain()
    await mirror.merge()
    await ingest.producer.transaction(schema_event(key=()))
    await ingest.drain()
    await refused(mirror, r"has no key, .* \(icefleet cdc install --again\)")


async def test_a_mirror_that_looks_elsewhere_for_values_that_updates_lack_is_refused_since_they_would_be_null_case_52(
    shop,
):
    ingest, mirror = shop
    await ingest.producer.transaction(schema_event(), insert(1, "long"))
    await ingest.drain()
    await mirror.merge()
    await ingest.producer.transaction(Event("update", {"id": 1, "amount": "2.00"}, unchanged=("name",)))
    await ingest.drain()
    await refused(mirror, "unchanged_column is kept .* lists in cdc_unchanged what .* Name it", unchanged_column="kept")
    await mirror.merge()
    assert mirror.read("id", "name", "amount") == [(1, "long", Decimal("2.00"))]

"""A table's schema changes once, whoever changes it, however its answer is lost; nothing of it stays half done."""

import asyncio
import json
from collections import Counter

import pytest
from temporalio.exceptions import ApplicationError

from activities.core.columns import ExportColumn
from activities.core.tables import PartitionRule
from activities.core.types import parse_iceberg
from activities.lake import evolution, sending
from activities.lake.schema import shape_of
from support.direct import COMMIT, Hands
from support.faultproxy import Answer, AnswerInstead, CutAfter, CutBefore, Hold, HttpFaults, Late

LOST = [
    *(pytest.param(AnswerInstead(status, b"{}"), 1, id=f"{status} after it landed") for status in (409, 500, 504)),
    pytest.param(CutAfter(), 1, id="cut after it landed"),
    pytest.param(Answer(409, b"{}"), 2, id="409 before it was forwarded"),
    pytest.param(Answer(503, b"{}"), 2, id="503 before it was forwarded"),
    pytest.param(CutBefore(), 2, id="cut before it was forwarded"),
]


@pytest.fixture
async def catalog(fleet):
    """A table that was exported, whose source has since got wider and gained a column; and a proxy to its catalog."""
    await fleet.make_days(days=1, rows=5)
    async with fleet.context() as context:
        await Hands(fleet, context).run()
    await fleet.run_sql(f"ALTER TABLE {fleet.database}.events ADD COLUMN extra Array(UInt32) DEFAULT [7]")
    async with HttpFaults(fleet.stack.ports["catalog"]) as proxy:
        fleet.point(catalog=proxy.port)
        yield proxy


def assert_evolved_once(fleet, *added: str):
    """The new columns are there once, each field with an id of its own, which the name mapping knows; in one step."""
    table = fleet.table()
    names = [field.name for field in table.schema().fields]
    assert names == ["updated", "at", "number", "name", "network", *added]
    assert len(table.schemas()) == 2
    ids = [*table.schema().field_ids]
    assert len(ids) == len(set(ids))
    assert json.loads(table.properties["schema.name-mapping.default"]) == json.loads(
        table.schema().name_mapping.model_dump_json()
    )
    assert not any(field.required for field in table.schema().fields)
    # The creation, the first commit, and the one evolution.
    assert len(table.metadata.metadata_log) == 2
    assert len(table.snapshots()) == 1


@pytest.mark.parametrize(("fault", "sent"), LOST)
async def test_a_change_whose_answer_is_lost_is_made_exactly_once(fleet, catalog, fault, sent):
    async with fleet.context() as context:
        struck = catalog.on(fault, **COMMIT)
        await Hands(fleet, context).plan()
    assert (struck.times_struck, catalog.count(**COMMIT)) == (1, sent)
    assert_evolved_once(fleet, "extra")


async def test_schema_and_name_mapping_change_in_one_commit(fleet):
    """Whether or not the catalog keeps the mapping in order by itself."""
    await fleet.make_days(days=1, rows=1)
    async with fleet.context() as context:
        await Hands(fleet, context).plan()
    there = [ExportColumn(name, name, kind) for name, kind in shape_of(fleet.table()).types.items()]
    extra = ExportColumn("extra", "extra", parse_iceberg("list<struct<a: int>>"))
    schema, current, properties = evolution.updates_for(
        fleet.table(), PartitionRule("daily", "at"), lambda _: (*there, extra)
    )
    assert (schema.action, current.action, properties.action) == ("add-schema", "set-current-schema", "set-properties")
    [*_, added] = schema.schema_.fields
    assert (added.field_id, added.required, str(added.field_type)) == (6, False, "list<struct<8: a: optional int>>")
    [*_, mapped] = json.loads(properties.updates["schema.name-mapping.default"])
    assert mapped == json.loads(schema.schema_.name_mapping.model_dump_json())[-1]
    assert evolution.updates_for(fleet.table(), PartitionRule("daily", "at"), lambda _: tuple(there)) == []


async def test_two_workers_that_change_a_table_at_once_change_it_once(fleet, catalog):
    async with fleet.context() as one, fleet.context() as other:
        held = catalog.on(Hold(), **COMMIT)
        slow = asyncio.create_task(Hands(fleet, one).plan())
        await asyncio.wait_for(held.struck.wait(), 10)
        await Hands(fleet, other).plan()
        held.fault.released.set()
        await slow
    assert catalog.count(**COMMIT) == 2
    assert_evolved_once(fleet, "extra")


async def test_a_worker_that_knows_less_takes_nothing_back(fleet, catalog):
    """The slow one has seen `extra` alone; meanwhile the source gains `more`, and the quick one adds both."""
    async with fleet.context() as one, fleet.context() as other:
        held = catalog.on(Hold(), **COMMIT)
        slow = asyncio.create_task(Hands(fleet, one).plan())
        await asyncio.wait_for(held.struck.wait(), 10)
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events ADD COLUMN more UInt64 DEFAULT 1")
        await Hands(fleet, other).plan()
        held.fault.released.set()
        await slow
    assert_evolved_once(fleet, "extra", "more")


async def test_a_change_that_lands_late_lands_beside_no_other(fleet, catalog):
    async with fleet.context() as context:
        stuck = catalog.on(Late(), **COMMIT)
        await Hands(fleet, context).plan()
        stuck.fault.released.set()
        await asyncio.wait_for(stuck.landed.wait(), 10)
    assert_evolved_once(fleet, "extra")


async def test_a_widening_that_lands_late_takes_no_later_one_back(fleet, catalog):
    """No field id tells the schemas apart: the late one would make `f` a float again."""
    await fleet.run_sql(f"ALTER TABLE {fleet.database}.events ADD COLUMN i Int32, ADD COLUMN f Float32")
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        await hands.plan()
        stuck = catalog.on(Late(), **COMMIT)
        for column in ("i Int64", "f Float64"):
            await fleet.run_sql(f"ALTER TABLE {fleet.database}.events MODIFY COLUMN {column}")
            await hands.plan()
        stuck.fault.released.set()
        await asyncio.wait_for(stuck.landed.wait(), 10)
    kinds = {field.name: str(field.field_type) for field in fleet.table().schema().fields}
    assert (stuck.times_struck, kinds["i"], kinds["f"]) == (1, "long", "double")
    assert len(fleet.table().schemas()) == 4


async def test_a_commit_of_data_that_meets_a_change_of_the_schema_is_made_for_the_new_one(fleet, catalog):
    """Its manifests were made for the old schema: it is refused, and made again."""
    async with fleet.context() as one, fleet.context() as other:
        hands = Hands(fleet, one)
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events DROP COLUMN extra")
        exported = await hands.export_all(await hands.plan(force=True))
        held = catalog.on(Hold(), **COMMIT)
        slow = asyncio.create_task(hands.commit(exported))
        await asyncio.wait_for(held.struck.wait(), 10)
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events ADD COLUMN extra UInt8 DEFAULT 1")
        await Hands(fleet, other).plan()
        held.fault.released.set()
        assert (await slow).committed == 1
    table = fleet.table()
    assert [snapshot.schema_id for snapshot in table.snapshots()] == [0, table.schema().schema_id]
    assert Counter(table.scan().to_arrow()["extra"].to_pylist()) == {None: 5}


async def test_a_change_that_never_lands_fails_the_plan_and_nothing_is_exported(fleet, catalog, monkeypatch):
    monkeypatch.setattr(sending, "TRIES", 3)
    before = fleet.table().metadata_location
    async with fleet.context() as context:
        for fault, kind, words in (
            (Answer(500, b"{}"), "CatalogUnavailable", "none of 3 changes of its schema landed"),
            (Answer(409, b"{}"), "CommitConflict", "3 changes of its schema in a row lost"),
        ):
            catalog.mend()
            catalog.on(fault, times=None, **COMMIT)
            with pytest.raises(ApplicationError, match=words) as failed:
                await Hands(fleet, context).plan()
            assert (failed.value.type, failed.value.non_retryable) == (kind, False)
    assert fleet.table().metadata_location == before

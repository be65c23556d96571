"""Verifying a mirror: it is equal to the fold of its changelog, or the report says which keys are not."""

import asyncio
from dataclasses import replace

import pyarrow as pa
import pytest
from pyiceberg.types import LongType
from temporalio.testing import ActivityEnvironment

from activities import mirror_index
from activities.contracts.mirrors import MirrorInput, VerifyMirrorInput
from activities.core.faults import BadRequest, WatermarkLost
from activities.lake import mirrorcheck, spilling
from activities.lake.mirrorcompare import compare
from activities.mirror_index import rebuild_index
from activities.verifymirror import verify_mirror
from support.lakereaders import ALWAYS_TRUE
from support.mirrors import gone, opened, put, truncated, update


@pytest.fixture
async def orders(fleet):
    async with opened(fleet) as mirror:
        yield mirror


async def verified(mirror, **more):
    asked = VerifyMirrorInput(mirror.fleet.name, mirror.config.mirror, **more)
    return await ActivityEnvironment().run(verify_mirror, mirror.context, asked)


async def test_a_mirror_is_equal_to_the_fold_of_its_changelog(orders):
    await orders.write(*(put(key, name=f"n{key}") for key in range(200)))
    await orders.write(
        *(update(key, name=f"m{key}") for key in range(0, 200, 3)), *(gone(key) for key in range(50, 60))
    )
    await orders.merge()
    await orders.write(put(7, 3, name="late"), put(55, 4, name="late, and deleted since"))
    await orders.merge()
    report = await verified(orders)
    assert (report.status, report.rows, report.expected, report.ranges) == ("equal", 190, 190, 64)
    assert (report.checksum, report.index, report.examples) == (report.expected_checksum, "whole", [])
    assert report.watermark == str(orders.changelog().current_snapshot().snapshot_id)
    assert report.message == "all 190 rows are what the changelog says"
    await orders.write(put(1000, name="not merged yet"))
    some = [await verified(orders, samples=1, ranges=4, seed=seed) for seed in range(8)]
    assert {one.status for one in some} == {"equal"}
    assert {one.ranges for one in some} == {1}
    assert 0 < min(one.rows for one in some) <= max(one.rows for one in some) < 190


async def test_what_others_did_to_the_rows_of_a_mirror_is_found(orders):
    await orders.write(*(put(key, name=f"n{key}") for key in range(20)), gone(19))
    await orders.merge()
    table = orders.table()
    table.delete("id = 5")
    row = {"cdc_sequence_number": [f"{1:032x}"], "id": [19], "name": ["back again"]}
    table.append(pa.Table.from_pydict(row, table.scan().to_arrow().schema))
    report = await verified(orders)
    deleted, lost = orders.written[-1].sequence, orders.written[5].sequence
    assert (report.status, report.rows, report.expected) == ("different", 19, 19)
    assert sorted(report.examples) == [
        f"id=19: the mirror has it, and {deleted} deleted it",
        f"id=5: the mirror lacks it; {lost} brought it",
    ]
    assert report.checksum != report.expected_checksum
    assert report.message.startswith("2 keys differ: the mirror has 19 rows of 19; have the mirror begin again")
    assert report.index.startswith("unusable: others wrote to the mirror")


async def test_an_index_that_names_other_rows_than_there_are_is_no_equality(orders, monkeypatch):
    await orders.write(*(put(key, name=f"n{key}") for key in range(20)))
    await orders.merge()
    whole, asked = mirror_index.row_entries, MirrorInput(orders.fleet.name, orders.config.mirror)

    def turned(*given):
        for entries in whole(*given):
            yield replace(entries, row=entries.row[::-1].copy())

    with monkeypatch.context() as wrong:
        wrong.setattr(mirror_index, "row_entries", turned)
        await ActivityEnvironment().run(rebuild_index, orders.context, asked)
    report = await verified(orders)
    assert (report.status, report.rows, report.expected) == ("index", 20, 20)
    assert report.index.startswith("id=0: the index has no entry for row 0 of file 1")
    assert f"rebuild-index {orders.config.mirror}" in report.message
    await ActivityEnvironment().run(rebuild_index, orders.context, asked)
    assert ((await verified(orders)).status, (await verified(orders)).index) == ("equal", "whole")


async def test_rows_whose_changes_have_left_the_changelog_are_not_to_be_thrown_away(orders):
    """Retention of a changelog of others."""
    await orders.write(put(1, name="a"), put(2, name="b"), put(3, name="c"))
    await orders.merge()
    orders.changelog().delete(ALWAYS_TRUE)
    deleted = orders.changelog().current_snapshot().snapshot_id
    await orders.write(put(3, 7, name="old"), put(4, name="d"))
    await orders.merge()
    report = await verified(orders)
    assert (report.status, report.rows, report.expected) == ("different", 4, 2)
    assert f"3 of its rows no change brought that the changelog has, and snapshot {deleted} took rows" in report.message
    assert "--bootstrap) would take those rows away" in report.message
    table = orders.changelog()
    table.maintenance.expire_snapshots().by_id(deleted).commit()
    assert (
        "3 of its rows no change brought that the changelog has, and snapshots of it"
        in (await verified(orders)).message
    )


async def test_a_mirror_that_is_in_the_midst_of_a_large_snapshot_is_compared_up_to_there(fleet, monkeypatch):
    """Case 59; and with ranges and runs so small that there are many of them."""
    monkeypatch.setattr("activities.lake.spilling.RUN_BYTES", 1000)
    monkeypatch.setattr("activities.lake.mirrorcheck.RANGE_BYTES", 50)
    async with opened(fleet, batch_rows=30) as orders:
        await orders.write(*(put(key, name=f"n{key}") for key in range(20)), truncated(), put(3, name="new"))
        await orders.merge()
        await orders.write(
            *(put(key, name=f"k{key}") for key in range(60)),
            *(update(key, name=f"m{key}") for key in range(20)),
            update(3, name="last"),
        )
        await orders.merge(pieces=1)
        assert orders.watermark().partial
        report = await verified(orders, ranges=2)
        assert (report.status, report.index, report.message) == ("equal", "whole", report.message)
        assert 0 < report.rows < 60
        await orders.drain()
        assert (await verified(orders, ranges=3)).rows == 60


async def test_a_key_with_more_changes_than_fit_is_folded_as_it_is_read_with_values_that_few_of_them_carry(
    fleet, monkeypatch
):
    monkeypatch.setattr("activities.lake.spilling.RUN_BYTES", 4000)
    monkeypatch.setattr("activities.lake.mirrorcheck.RANGE_BYTES", 8000)
    seen = []

    def watched(changes, *rest):
        seen.append(changes.num_rows)
        return compare(changes, *rest)

    monkeypatch.setattr("activities.lake.mirrorcheck.compare", watched)
    async with opened(fleet, {"id": "long", "name": "string", "long": "string"}) as orders:
        await orders.write(
            *(put(key, name="n", long="x" * 50) for key in range(3)),
            *(put(key % 2, unchanged=["long"], name=f"n{key}") for key in range(600)),
        )
        await orders.write(put(0, 3, name="late", long="late"), gone(2))
        await orders.drain()
        report = await verified(orders, ranges=1)
        assert (report.status, report.rows, report.index) == ("equal", 2, "whole")
        assert sum(seen) < 300
        table = orders.table()
        row = table.scan("id = 1").to_arrow()
        table.delete("id = 1")
        table.append(row.set_column(row.column_names.index("long"), "long", pa.array(["wrong"])))
        report = await verified(orders, ranges=1)
        newest = next(one.sequence for one in reversed(orders.written) if one.values["id"] == 1)
        assert report.examples == [f"id=1: long differ from what {newest} brought"]


async def test_renamed_widened_and_dropped_columns_are_compared_by_what_they_are(fleet):
    """Cases 49 and 50."""
    fields = {"id": "int", "name": "string", "old": "string"}
    async with opened(fleet, fields=fields, schema="permissive") as orders:
        await orders.write(*(put(key, name=f"n{key}", old="o") for key in range(5)))
        await orders.merge()
        with orders.changelog().update_schema() as update_:
            update_.rename_column("name", "title")
            update_.update_column("id", LongType())
            update_.delete_column("old")
        await orders.write(put(7, title="x"), update(2, title="y"))
        assert (await verified(orders)).status == "equal"
        await orders.merge()
        report = await verified(orders)
        assert (report.status, report.rows, report.index) == ("equal", 6, "whole")


async def test_a_disk_without_room_is_told_before_anything_is_read(orders, monkeypatch):
    await orders.write(*(put(key) for key in range(10)))
    await orders.merge()
    monkeypatch.setattr(spilling, "LEAST_FREE", 2**60)
    monkeypatch.setattr(mirrorcheck, "changes_of", None)
    with pytest.raises(BadRequest, match=r"GB more of the worker's disk .* 0\.0 GB to spare .* \(--ranges"):
        await verified(orders)


async def test_what_cannot_be_compared_is_said(orders):
    with pytest.raises(BadRequest, match="is not there yet"):
        await verified(orders)
    await orders.write(put(1, name="a"))
    await orders.merge()
    with pytest.raises(BadRequest, match="5 samples of 4 ranges"):
        await verified(orders, samples=5, ranges=4)
    catalog = orders.context.lake.catalog
    await asyncio.to_thread(catalog.drop_table, orders.config.changelog)
    with pytest.raises(WatermarkLost, match="is not in the catalog any more"):
        await verified(orders)

"""Mirror tables: made from config and changelog, and read for what their head says."""

from dataclasses import replace

import pytest
from pyiceberg.types import LongType

from activities.core.faults import BadConfig, MirrorForeign
from activities.core.mirrors import INDEX, TAG, IndexPointer
from activities.lake import mirror
from activities.lake.mirrormade import check_made, merged_columns
from support.mirrortables import hand_mirror, rows_of, watermark

POINTER = IndexPointer("index/1.puffin", 10, "ff")


@pytest.fixture
async def orders(fleet, tmp_path):
    async with hand_mirror(fleet, tmp_path) as made:
        yield made


def snapshots(orders):
    return orders.fleet.load(orders.config.mirror)


async def test_a_mirror_has_the_changelogs_columns_without_those_of_the_change(fleet, tmp_path):
    fields = {"id": "int", "at": "timestamptz", "name": "string", "parts": "list<struct<a: decimal(9, 2)>>"}
    cut = (("id", "bucket[4]"), ("at", "day"), ("name", "truncate[2]"))
    async with hand_mirror(fleet, tmp_path, fields, primary_keys=("id", "at"), partition=cut) as made:
        found = made.read()
        assert [str(field) for field in found.table.schema().fields] == [
            "1: cdc_sequence_number: optional string",
            "2: id: optional int",
            "3: at: optional timestamptz",
            "4: name: optional string",
            "5: parts: optional list<struct<7: a: optional decimal(9, 2)>>",
        ]
        assert [(one.name, str(one.transform)) for one in found.table.spec().fields] == [
            ("id_bucket", "bucket[4]"),
            ("at_day", "day"),
            ("name_trunc", "truncate[2]"),
        ]
        assert (found.watermark, found.index, found.head, found.foreign_since) == (None, None, None, False)
        check_made(made.config, found.table, made.lake.load(made.config.changelog).schema())


async def test_all_that_is_wrong_with_a_config_is_said_at_once(orders):
    wrong = replace(
        orders.config,
        mirror=f"{orders.fleet.network}.others",
        primary_keys=("id", "none"),
        operation_column="op",
        metadata_columns=("id",),
        partition=(("what", "day"),),
    )
    with pytest.raises(BadConfig) as told:
        mirror.create(orders.lake, wrong, orders.lake.load(orders.config.changelog))
    for part in ("column 'none'", "column 'op'", "column 'what'", "'id' is needed"):
        assert part in str(told.value)
    for partition, part in (((("id", "weekly"),), "'weekly'"), ((("name", "day"),), "day cannot be made of string")):
        with pytest.raises(BadConfig, match=part):
            mirror.create(
                orders.lake,
                replace(orders.config, mirror=wrong.mirror, partition=partition),
                orders.lake.load(orders.config.changelog),
            )
    with pytest.raises(BadConfig, match="there must be one at least"):
        merged_columns(replace(orders.config, primary_keys=()), orders.lake.load(orders.config.changelog).schema())


async def test_the_head_says_watermark_and_index(orders):
    await orders.apply(rows_of([1]), summary={INDEX: POINTER.dump()})
    found = orders.read()
    assert (found.watermark, found.index) == (watermark(), POINTER)
    assert (found.said_by, found.foreign_since) == (found.head, False)


async def test_what_others_did_since_is_seen_and_their_rows_are_rows(orders):
    """Case 31: an append and a delete by rewriting, of another engine."""
    last = await orders.apply(rows_of([1, 2, 3]), summary={INDEX: POINTER.dump()})
    theirs = snapshots(orders)
    theirs.append(rows_of([9]))
    theirs.delete("id = 2")
    found = orders.read()
    assert (found.said_by, found.foreign_since, found.watermark) == (last, True, watermark())
    assert [row[1] for row in orders.rows()] == [1, 3, 9]
    [path] = [path for path, file in orders.live().items() if file.rows == 2]
    await orders.apply(rows_of([4]), {path: [0]})
    assert [row[1] for row in orders.rows()] == [3, 4, 9]
    assert orders.read().foreign_since is False


async def test_a_mirror_that_was_rolled_back_is_refused(orders):
    """Case 34."""
    first = await orders.apply(rows_of([1]))
    second = await orders.apply(rows_of([2]))
    snapshots(orders).manage_snapshots().rollback_to_snapshot(first).commit()
    with pytest.raises(MirrorForeign, match=f"rolled back: its history lacks snapshot {second}"):
        orders.read()
    snapshots(orders).append(rows_of([9]))
    with pytest.raises(MirrorForeign, match="rolled back"):
        orders.read()


async def test_a_tag_that_somebody_took_away_is_set_again_by_the_next_merge(orders):
    last = await orders.apply(rows_of([1]))
    snapshots(orders).manage_snapshots().remove_tag(TAG).commit()
    assert orders.read().said_by == last
    last = await orders.apply(rows_of([2]))
    assert snapshots(orders).metadata.refs[TAG].snapshot_id == last


async def test_tables_of_others_are_no_mirrors(orders):
    with pytest.raises(MirrorForeign, match="no mirror of ours"):
        mirror.read(orders.lake, replace(orders.config, mirror=orders.config.changelog))
    with pytest.raises(BadConfig, match=r"is that of .*orders_changelog, and mirrors.yaml makes it from"):
        mirror.read(orders.lake, replace(orders.config, changelog="a.b"))
    assert mirror.read(orders.lake, replace(orders.config, mirror=f"{orders.fleet.network}.none")) is None
    other = replace(orders.config, primary_keys=("name",))
    with pytest.raises(BadConfig, match="made with another key"):
        check_made(other, orders.read().table, orders.lake.load(orders.config.changelog).schema())
    snapshots(orders).append(rows_of([9]))
    with pytest.raises(MirrorForeign, match="none of them nor a tag"):
        orders.read()


async def test_a_table_of_another_format_is_refused(orders):
    other = replace(orders.config, mirror=f"{orders.fleet.network}.old")
    orders.lake.catalog.create_table(other.mirror, orders.read().table.schema(), properties={"format-version": "1"})
    with pytest.raises(MirrorForeign, match="format version 1"):
        mirror.read(orders.lake, other)


async def test_columns_that_others_took_away_or_made_required_are_noticed(orders):
    said = {"icefleet.mirror.watermark": watermark(columns=orders.read().columns).dump()}
    await orders.apply(rows_of([1]), summary=said)
    with snapshots(orders).update_schema() as update:
        update.rename_column("name", "label")
    with pytest.raises(MirrorForeign, match="lacks name, which merges brought"):
        orders.read()
    with snapshots(orders).update_schema(allow_incompatible_changes=True) as update:
        update.rename_column("label", "name")
        update.add_column("must", LongType(), required=True)
    with pytest.raises(MirrorForeign, match="made must required"):
        orders.read()

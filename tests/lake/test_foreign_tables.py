"""Tables that others have made: their types win, and what ours could not serve is refused before any work."""

import asyncio
import json
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import DayTransform, HourTransform, IdentityTransform
from pyiceberg.types import IntegerType, ListType, LongType, NestedField, StringType, TimestamptzType
from temporalio.exceptions import ApplicationError

from activities.core.faults import SchemaConflict
from activities.core.partitions import Span
from activities.core.tables import PartitionRule
from activities.lake.holdings import held_files
from support.direct import Hands
from support.evidence import objects
from support.fleet import replace_ports
from support.lakereaders import by_clickhouse, by_duckdb, by_pyiceberg
from worker.lake import open_lake

MAPPING = "schema.name-mapping.default"
AT, NUMBER = 2, 4


def field(number, name, kind, *, required=False):
    return NestedField(number, name, kind, required=required)


def fields(**others):
    """Another order than the source's, and another type than we would choose for `number`."""
    found = {
        "network": field(1, "network", StringType()),
        "at": field(AT, "at", TimestamptzType()),
        "name": field(3, "name", StringType()),
        "number": field(NUMBER, "number", LongType()),
        "updated": field(5, "updated", TimestamptzType()),
    }
    return [*{**found, **others}.values()]


def by(transform, source=AT):
    return PartitionField(source, 1000, transform, "cut")


def make(fleet, *, schema=None, spec=None, properties=None):
    """The Iceberg table, made by a stranger before we ever export to it."""
    catalog = open_lake(replace_ports(fleet.settings().environment(fleet.name), fleet.stack)).catalog
    catalog.create_namespace(fleet.network)
    return catalog.create_table(
        f"{fleet.network}.events",
        schema=Schema(*(schema or fields())),
        partition_spec=spec if spec is not None else PartitionSpec(by(DayTransform())),
        properties=properties or {},
    )


async def refused(fleet, *words):
    """Planning is refused with these words, and neither an object nor a snapshot is made."""
    async with fleet.context() as context:
        with pytest.raises(ApplicationError) as failed:
            await Hands(fleet, context).plan()
    assert (failed.value.type, failed.value.non_retryable) == ("SchemaConflict", True)
    assert [word for word in words if word not in failed.value.message] == [], failed.value.message
    assert objects(fleet) == {}
    return failed.value.message


async def test_types_order_and_ids_of_a_strangers_table_win(fleet):
    await fleet.make_days(days=1, rows=5)
    stranger = [
        *fields(name=field(3, "name", StringType(), required=True), number=field(NUMBER, "number", StringType())),
        field(17, "theirs", ListType(18, IntegerType(), element_required=False)),
    ]
    before = make(fleet, schema=stranger, properties={"owner": "somebody", "commit.retry.num-retries": "7"})
    async with fleet.context() as context:
        assert (await Hands(fleet, context).run()).committed == 1
    table = fleet.table()
    assert table.schema() == before.schema()
    assert before.properties.items() <= table.properties.items()
    assert json.loads(table.properties[MAPPING]) == json.loads(table.schema().name_mapping.model_dump_json())
    environment = replace_ports(fleet.settings().environment(fleet.name), fleet.stack)
    for reader in (by_pyiceberg, by_duckdb, by_clickhouse):
        [rows] = await asyncio.to_thread(reader, environment, [f"{fleet.network}.events"])
        shown = sorted((row[0], row[2], row[3], row[5] or None) for row in rows)
        assert shown == [(fleet.network, f"n{n}", str(n), None) for n in range(5)], reader.__name__


async def test_a_strangers_int_is_widened_when_the_source_needs_a_long(fleet):
    await fleet.make_days(days=1, rows=5, types={"number": "long"})
    before = make(fleet, schema=fields(number=field(NUMBER, "number", IntegerType())))
    async with fleet.context() as context:
        await Hands(fleet, context).run()
    table = fleet.table()
    [number] = [one for one in table.schema().fields if one.name == "number"]
    assert (number.field_id, number.field_type) == (before.schema().find_field("number").field_id, LongType())
    assert sorted(table.scan().to_arrow()["number"].to_pylist()) == list(range(5))


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        (PartitionSpec(), "says not partitioned"),
        (PartitionSpec(by(HourTransform())), "says hour(at)"),
        (PartitionSpec(by(DayTransform(), source=5)), "says day(updated)"),
        (
            PartitionSpec(by(DayTransform()), PartitionField(3, 1001, IdentityTransform(), "n")),
            "says day(at), identity(name)",
        ),
    ],
)
async def test_another_partition_spec_is_refused_before_anything_is_exported(fleet, spec, found):
    await fleet.make_days(days=1, rows=1, types={"number": "long"})
    make(fleet, spec=spec)
    await refused(fleet, f"{fleet.network}.events is cut by day(at) in tables.yaml", found)


async def test_files_of_an_older_partition_spec_are_refused_although_the_newest_fits(fleet):
    await fleet.make_days(days=1, rows=1, types={"number": "long"})
    table = make(fleet, spec=PartitionSpec())
    moment = datetime(2024, 3, 19, tzinfo=UTC)
    row = {"network": "x", "at": moment, "name": "n", "number": 1, "updated": moment}
    table.append(pa.Table.from_pylist([row], schema=table.schema().as_arrow()))
    with table.update_spec() as update:
        update.add_field("at", DayTransform(), "cut")
    await refused(fleet, "partition spec 0 says not partitioned")


async def test_chunks_of_another_width_than_the_table_has_are_refused(fleet):
    await fleet.run_sql(
        f"CREATE TABLE {fleet.database}.events (updated DateTime, block UInt32, network String) "
        "ENGINE = ReplacingMergeTree(updated) ORDER BY (network, block)"
    )
    await fleet.run_sql(
        f"INSERT INTO {fleet.database}.events SELECT now(), number, '{fleet.network}' FROM numbers(1001)"
    )
    fleet.add_table("chunked", "events", "block", partition={"coarse_chunks": 2})
    async with fleet.context() as context:
        await Hands(fleet, context).plan()
    fleet.add_table("chunked", "events", "block", partition={"coarse_chunks": 4})
    await refused(fleet, "is cut by truncate[4000](block) in tables.yaml", "says truncate[2000](block)")


@pytest.mark.parametrize(("chunk_size", "coarse_chunks"), [(500, 4), (2000, 1)])
async def test_chunks_of_another_size_are_refused_although_as_many_values_share_an_iceberg_partition(
    fleet, chunk_size, coarse_chunks
):
    """The spec alone does not tell: smaller chunks would be exported beside the file that holds them already, of larger
    ones only the first rows would be there."""
    await fleet.run_sql(
        f"CREATE TABLE {fleet.database}.events (updated DateTime, block UInt32, network String) "
        "ENGINE = ReplacingMergeTree(updated) ORDER BY (network, block)"
    )
    await fleet.run_sql(
        f"INSERT INTO {fleet.database}.events SELECT now(), number, '{fleet.network}' FROM numbers(2000)"
    )
    fleet.add_table("chunked", "events", "block", partition={"coarse_chunks": 2})
    async with fleet.context() as context:
        assert (await Hands(fleet, context).run()).committed == 2
    cut = {"chunk_size": chunk_size, "coarse_chunks": coarse_chunks}
    fleet.add_table("chunked", "events", "block", partition=cut)
    said = rf"\.events holds 1000 values of block in each file .* says chunk_size: {chunk_size}; write 1000"
    async with fleet.context() as context:
        with pytest.raises(ApplicationError, match=said) as failed:
            await Hands(fleet, context).plan()
    assert failed.value.type == "SchemaConflict"
    rule = PartitionRule("integer", "block", chunk_size, coarse_chunks)
    with pytest.raises(SchemaConflict, match=said):
        held_files(fleet.table(), rule, "updated", Span(0, 10))
    assert fleet.files() == [("1000/0.parquet", 1000), ("1000/1000.parquet", 1000)]


async def test_a_strangers_file_of_several_chunks_is_refused_and_its_chunks_are_not_exported_beside_it(fleet):
    await fleet.make_days(days=1, rows=2000)

    def cut(chunk_size, coarse_chunks):
        partition = {"chunk_size": chunk_size, "coarse_chunks": coarse_chunks}
        fleet.add_table("chunked", "events", "number", partition=partition, types={"number": "long"})

    cut(2000, 1)
    async with fleet.context() as context:
        await Hands(fleet, context).run()
    with fleet.table().transaction() as change:
        change.remove_properties("icefleet.chunk-size")  # as somebody else would have made it
    cut(1000, 2)
    async with fleet.context() as context:
        with pytest.raises(ApplicationError, match="holds number from 0 to 1999, which is more than one chunk of 1000"):
            await Hands(fleet, context).plan()
    assert "icefleet.chunk-size" not in fleet.table().properties
    assert fleet.files() == [("2000/0.parquet", 2000)]


async def test_another_format_version_is_refused(fleet):
    await fleet.make_days(days=1, rows=1, types={"number": "long"})
    make(fleet, properties={"format-version": "1"})
    await refused(fleet, "has format version 1, and 2 is what we write")


async def test_a_table_without_bounds_for_its_partition_column_is_refused(fleet):
    await fleet.make_days(days=1, rows=1, types={"number": "long"})
    make(fleet, properties={"write.metadata.metrics.default": "counts"})
    await refused(fleet, "keeps no bounds of its partition column at", "write.metadata.metrics.default")


async def test_required_columns_are_served_only_by_a_source_that_cannot_be_null(fleet):
    await fleet.make_days(days=1, rows=1, types={"number": "long"})
    make(fleet, schema=[*fields(), field(6, "theirs", ListType(7, LongType(), element_required=True))])
    words = "column theirs is required in the Iceberg table, and"
    await refused(fleet, f"{words} the source has no such column; make it optional")
    await fleet.run_sql(f"ALTER TABLE {fleet.database}.events ADD COLUMN theirs Array(Nullable(Int64))")
    await refused(fleet, f"{words} Array(Nullable(Int64)) at the source, which may be NULL")
    await fleet.run_sql(f"ALTER TABLE {fleet.database}.events MODIFY COLUMN theirs Array(Int64)")
    async with fleet.context() as context:
        assert (await Hands(fleet, context).run()).committed == 1
    assert fleet.table().scan().to_arrow()["theirs"].to_pylist() == [[]]


async def test_a_column_that_an_iceberg_client_renames_is_read_on_under_both_names_until_the_source_follows(fleet):
    await fleet.make_days(days=1, rows=1)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        await hands.run()
        with fleet.table().update_schema(allow_incompatible_changes=True) as update:
            update.rename_column("name", "label")
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.events RENAME COLUMN name TO label")
        await fleet.run_sql(
            f"INSERT INTO {fleet.database}.events (updated, at, number, label, network) "
            f"VALUES ('2024-04-01', '2024-03-19', 9, 'later', '{fleet.network}')"
        )
        await hands.run(from_="2024-03-19", to="2024-03-19")
    assert sorted(fleet.table().scan().to_arrow()["label"].to_pylist()) == ["later", "n0"]


@pytest.mark.parametrize("change", ["rename", "drop"])
async def test_a_column_that_was_renamed_or_dropped_in_iceberg_does_not_take_its_old_values_along(fleet, change):
    """Files of ours hold it by its name: under a new column of that name its values would come back."""
    await fleet.make_days(days=1, rows=1)
    async with fleet.context() as context:
        await Hands(fleet, context).run()
        with fleet.table().update_schema(allow_incompatible_changes=True) as update:
            update.rename_column("name", "label") if change == "rename" else update.delete_column("name")
        before = fleet.table().metadata_location
        now = "renamed to label" if change == "rename" else "dropped"
        with pytest.raises(ApplicationError, match=f"column name was {now} in the Iceberg table") as failed:
            await Hands(fleet, context).plan()
    assert failed.value.type == "SchemaConflict"
    assert fleet.table().metadata_location == before


async def test_a_spec_that_a_stranger_changes_between_plan_and_commit_keeps_the_files_out(fleet):
    await fleet.make_days(days=1, rows=1)
    async with fleet.context() as context:
        hands = Hands(fleet, context)
        exported = await hands.export_all(await hands.plan())
        with fleet.table().update_spec() as update:
            update.add_field("network", IdentityTransform(), "n")
        with pytest.raises(ApplicationError, match=r"its partition spec \d says day\(at\), identity\(network\)"):
            await hands.commit(exported)
    assert fleet.table().snapshots() == []

"""Truncates take rows that are older than they are, whatever manifests can say of sequence numbers."""

import pytest

from activities.lake.changelog import PIPELINE
from support.mirrors import Row, opened, put, truncated

METRICS = "write.metadata.metrics.column."
FIELDS = {"id": "long", "name": "string"}


@pytest.fixture
async def ours(fleet):
    """A mirror of a changelog as our ingest makes it, in which all sequence numbers are 32 hex digits."""
    async with opened(fleet, FIELDS, schema="permissive") as mirror:
        set_properties(mirror.changelog(), {PIPELINE: "shop"})
        yield mirror


def set_properties(table, properties):
    with table.transaction() as changing:
        changing.set_properties(properties)


def rename_sequence(mirror):
    """What the changelog calls `cdc_sequence_number` is `seq` now, in config as well."""
    with mirror.changelog().update_schema() as changing:
        changing.rename_column("cdc_sequence_number", "seq")
    mirror.configure(sequence_column="seq")


def bounds(mirror, column):
    return {one["readable_metrics"][column]["upper_bound"] for one in mirror.table().inspect.data_files().to_pylist()}


@pytest.mark.parametrize(
    ("written", "old", "newer", "between"),
    [
        ("decimal", "9", "100", "50"),
        ("hex", "9", "100", "50"),
        ("hex", "a" * 32, "F" * 32, "c" * 32),
        ("hex", "9" * 32, "0" * 4 + "b" * 32, "a" * 32),
    ],
)
async def test_a_late_truncate_leaves_newer_rows_whose_texts_sort_before_older_ones_case_53(
    fleet, written, old, newer, between
):
    async with opened(fleet, sequence_format=written) as orders:

        def row(operation, key, number, **values):
            return Row(operation, {"id": key, "cdc_sequence_number": number, **values}, 1)

        await orders.write(row("insert", 1, old, name="old"), row("insert", 2, newer, name="newer"))
        await orders.merge()
        await orders.write(row("truncate", None, between))
        assert (await orders.merge()).deleted == 1
        assert orders.read("id", "name") == [(2, "newer")]
        orders.check_index()


async def test_a_truncate_reads_no_file_of_which_the_manifest_says_that_all_is_older_case_53(ours):
    await ours.write(*(put(key, name="old") for key in range(5)))
    await ours.merge()
    [data] = await ours.objects("data/")
    await ours.context.store.delete(data)
    await ours.write(truncated())
    assert (await ours.merge()).deleted == 5
    assert ours.rows() == []


async def test_bounds_of_a_renamed_sequence_column_stay_whole_from_the_commit_on_that_renames_it_cases_49_53(ours):
    await ours.write(put(1, 0x100, name="old"))
    await ours.merge()
    rename_sequence(ours)
    newer = f"{0x900:016x}{7:016x}"
    await ours.write(Row("insert", {"id": 2, "name": "newer", "seq": newer}))
    before = len(ours.snapshots())
    await ours.merge()
    assert len(ours.snapshots()) == before + 1
    said = {name: how for name, how in ours.table().properties.items() if name.startswith(METRICS)}
    assert said == {f"{METRICS}seq": "full"}
    assert bounds(ours, "seq") == {f"{0x100:016x}{0:016x}", newer}
    await ours.write(Row("truncate", {"seq": f"{0x800:016x}{0:016x}"}))
    assert (await ours.merge()).deleted == 1
    assert ours.read("id", "name", "seq") == [(2, "newer", newer)]


async def test_a_bound_that_a_writer_has_cut_is_not_taken_for_a_small_number_case_53(ours):
    await ours.write(put(1, 0x100, name="old"))
    await ours.merge()
    set_properties(ours.table(), {f"{METRICS}cdc_sequence_number": "truncate(16)"})
    await ours.write(put(2, 0x900, name="newer"))
    await ours.merge()
    assert {len(bound) for bound in bounds(ours, "cdc_sequence_number")} == {16, 32}
    await ours.write(truncated(0x800))
    assert (await ours.merge()).deleted == 1
    assert ours.read("id", "name") == [(2, "newer")]

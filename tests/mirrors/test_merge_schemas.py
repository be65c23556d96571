"""A mirror's columns follow those of its changelog in the merge's own commit, or the mirror says why they do not."""

from decimal import Decimal

import pytest
from pyiceberg.types import DecimalType, DoubleType, IntegerType, LongType, StringType

from activities.core.faults import BadConfig, SchemaConflict
from support.mirrors import Row, gone, opened, put, update


@pytest.fixture
async def orders(fleet):
    async with opened(fleet, {"id": "int", "name": "string", "amount": "float"}, schema="permissive") as mirror:
        yield mirror


def types(mirror):
    return {field.name: str(field.field_type) for field in mirror.table().schema().fields}


def change(mirror):
    return mirror.changelog().update_schema()


async def test_columns_that_are_added_renamed_and_widened_between_changes_of_one_batch_are_followed_cases_18_49(orders):
    await orders.write(put(1, name="a", amount=1.5), put(2, name="b", amount=2.5))
    await orders.merge()
    await orders.write(update(1, name="c", amount=3.5))
    with change(orders) as changing:
        changing.rename_column("name", "title")
        changing.update_column("id", LongType())
        changing.update_column("amount", DoubleType())
        changing.add_column("more", StringType())
    orders.written = [
        Row(
            row.operation,
            {"title" if name == "name" else name: value for name, value in row.values.items()},
            row.number,
        )
        for row in orders.written
    ]
    await orders.write(put(2**40, title="d", amount=0.1, more="x"), update(2, title="e", amount=2.5, more="y"))
    report = await orders.merge()
    assert (report.commits, report.upserted) == (1, 3)
    assert types(orders) == {
        "cdc_sequence_number": "string",
        "id": "long",
        "title": "string",
        "amount": "double",
        "more": "string",
    }
    orders.check()
    # Case 18: keys of before are found under the wider type.
    await orders.write(gone(1), update(2, title="f"))
    assert ((await orders.merge()).deleted, len(orders.rows())) == (1, 2)
    orders.check()
    orders.check_index()
    assert len(orders.by_all_readers()) == 2


async def test_a_value_that_an_update_does_not_carry_is_found_under_the_columns_later_name_case_49(orders):
    await orders.write(put(1, name="long", amount=1.0))
    await orders.merge()
    await orders.write(put(1, unchanged=["name"], amount=2.0))
    with change(orders) as changing:
        changing.rename_column("name", "title")
    with change(orders) as changing:
        changing.add_column("name", StringType())
    await orders.write(put(1, unchanged=["title"], amount=3.0, name="new"))
    await orders.merge()
    assert orders.read("id", "title", "name", "amount") == [(1, "long", "new", 3.0)]


async def test_a_column_that_is_dropped_stays_and_another_of_its_name_does_not_get_its_values_case_50(orders):
    await orders.write(put(1, name="a", amount=1.0), put(2, name="b", amount=1.0))
    await orders.merge()
    with change(orders) as changing:
        changing.delete_column("name")
    await orders.write(put(3, amount=1.0))
    await orders.merge()
    assert orders.read("id", "name") == [(1, "a"), (2, "b"), (3, None)]
    with change(orders) as changing:
        changing.add_column("name", LongType())
    await orders.write(put(4, amount=1.0, name=7), update(2, amount=2.0, name=8))
    await orders.merge()
    old = f"name_until_{int(orders.written[2].sequence[:16], 16):x}"
    assert orders.read("id", old, "name") == [(1, "a", None), (2, None, 8), (3, None, None), (4, None, 7)]
    assert len(orders.by_all_readers()) == 4


async def test_a_strict_mirror_stops_at_a_change_of_columns_and_goes_on_once_somebody_has_looked(orders):
    orders.configure(schema="strict")
    await orders.write(put(1, name="a", amount=1.0))
    await orders.merge()
    with change(orders) as changing:
        changing.add_column("more", StringType())
    await orders.write(put(2, name="b", more="x"))
    with pytest.raises(SchemaConflict, match=r"more \(string\) is new.*schema: permissive"):
        await orders.merge()
    assert orders.read("id") == [(1,)]
    orders.configure(schema="permissive")
    await orders.merge()
    orders.configure(schema="strict")
    await orders.write(put(3, more="y"))
    await orders.merge()
    orders.check()


async def test_a_column_that_is_another_type_now_stops_that_mirror_alone_case_51(fleet, orders):
    await orders.write(put(1, name="a"))
    await orders.merge()
    with change(orders) as changing:
        changing.delete_column("id")
    with change(orders) as changing:
        changing.add_column("id", StringType())
    await orders.write(put("2", name="b"))
    with pytest.raises((SchemaConflict, BadConfig), match="id"):
        await orders.merge()
    async with opened(fleet) as other:
        await other.write(put(1, name="a"))
        await other.merge()
        other.check()


async def test_decimals_and_composite_keys_keep_their_hashes_when_they_are_widened_case_18(fleet):
    fields = {"country": "string", "code": "decimal(9, 2)", "small": "int", "name": "string"}
    keys = ("country", "code", "small")
    async with opened(fleet, fields, schema="permissive", primary_keys=keys) as mirror:

        def row(country, code, small, **values):
            return Row("insert", {"country": country, "code": Decimal(code), "small": small, **values})

        await mirror.write(row("at", "1.50", 7, name="a"), row("at", "-1.50", 7, name="b"))
        await mirror.merge()
        with mirror.changelog().update_schema() as changing:
            changing.update_column("code", DecimalType(20, 2))
            changing.update_column("small", LongType())
        await mirror.write(row("at", "1.50", 7, name="c"), row("at", "12345678901.50", 2**40, name="d"))
        assert (await mirror.merge()).upserted == 2
        mirror.check()
        mirror.check_index()
        assert [row[-1] for row in mirror.by_all_readers()].count("a") == 0


async def test_metadata_columns_may_change_as_they_like_also_for_a_strict_mirror(orders):
    orders.configure(schema="strict")
    await orders.write(put(1, name="a"))
    await orders.merge()
    with change(orders) as changing:
        changing.delete_column("cdc_lsn")
        changing.add_column("cdc_origin", IntegerType())
    orders.configure(metadata_columns=(*orders.config.metadata_columns, "cdc_origin"))
    await orders.write(put(2, name="b"))
    await orders.merge()
    orders.check()

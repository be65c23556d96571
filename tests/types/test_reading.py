"""Every type of the policy, in both profiles, with its hardest values: three readers find what the source holds."""

import asyncio

import pytest

from support.lakereaders import by_clickhouse, by_duckdb, by_pyiceberg
from support.typecases import cases
from support.typetables import source_values

PROFILES = ("portable", "as_published")


@pytest.mark.parametrize("profile", PROFILES)
async def test_every_type_becomes_the_iceberg_type_of_the_policy(lake, profile):
    found = {field.name: str(field.field_type) for field in lake.table(profile).schema().fields}
    from activities.lake.schema import column_types
    types = {name: str(kind) for name, kind in column_types(lake.table(profile)).items()}
    assert {case.name: types[case.name] for case in cases(profile)} == {case.name: case.form(profile)[0] for case in cases(profile)}


@pytest.mark.parametrize("reader", [by_pyiceberg, by_duckdb, by_clickhouse])
@pytest.mark.parametrize("profile", PROFILES)
async def test_every_value_is_read_as_the_source_holds_it(lake, profile, reader):
    columns = cases(profile)
    expected = await source_values(lake, profile, columns, profile)
    environment = lake.settings().environment(lake.name)
    [rows] = await asyncio.to_thread(reader, environment, [f"{lake.network}.{profile}"])
    names = [field.name for field in lake.table(profile).schema().fields]
    by_line = sorted(rows, key=lambda row: row[names.index("line")])
    found = {name: [row[position] for row in by_line] for position, name in enumerate(names)}
    wrong = {name: [(f, w) for f, w in zip(found[name], values) if f != w] for name, values in expected.items() if found[name] != values}
    for name, w in wrong.items(): print(name, len(w), str(w[:2])[:300])
    assert not wrong, list(wrong)

"""Every row of every real table, in both profiles, as three engines that are not ours read it."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from support.lakereaders import by_clickhouse, by_duckdb, by_pyiceberg
from support.sourcerows import assert_same
from support.xatulake import PROFILES, SEED, XatuLake, expected_rows
from support.xatuschemas import ROWS, read_schemas

READERS = (by_pyiceberg, by_duckdb, by_clickhouse)
SCHEMAS = read_schemas()
pytestmark = [
    pytest.mark.skipif(not SCHEMAS, reason="the list of the real schemas is not at hand"),
    pytest.mark.timeout(300),
]
Read = Mapping[tuple[str, str], Mapping[str, list[tuple[Any, ...]]]]


@pytest.fixture(scope="module")
async def read(xatu: Mapping[str, XatuLake]) -> Read:
    """(profile, table) → reader → rows. Every engine reads all tables in one go."""
    wanted = [(profile, table) for profile in PROFILES for table in SCHEMAS]
    identifiers = [xatu[profile].identifier(table) for profile, table in wanted]
    environment = xatu["portable"].environment
    answers = await asyncio.gather(*(asyncio.to_thread(reader, environment, identifiers) for reader in READERS))
    return {
        key: {reader.__name__: rows[number] for reader, rows in zip(READERS, answers, strict=True)}
        for number, key in enumerate(wanted)
    }


def test_there_are_21_schemas_and_they_hold_every_type_of_the_real_tables():
    kinds = {kind for schema in SCHEMAS.values() for kind in schema.columns.values()}
    assert (len(SCHEMAS), len(kinds)) == (21, 26)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("table", SCHEMAS)
async def test_every_row_comes_back_equal(xatu, read, table, profile):
    lake, schema = xatu[profile], SCHEMAS[table]
    report = lake.reports[table]
    wanted = await expected_rows(lake, schema)
    print(f"seed {SEED}, {wanted.total()} rows")  # noqa: T201 - by which a failure can be had again
    assert (report.status, report.exported, report.rows) == ("complete", 2, wanted.total()), report
    assert wanted.total() > ROWS * 0.9
    for reader, rows in read[profile, table].items():
        assert_same(rows, wanted, f"{reader} {table} {profile}, seed {SEED}")

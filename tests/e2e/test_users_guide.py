"""Every block of the users' guide, typed as it stands, with the stack's addresses and credentials."""

import re
import sys
from pathlib import Path

import pytest

from support.astyped import block_of, by_clickhouse, filled, ran
from support.lakereaders import open_pyiceberg
from support.publicreaders import anonymous_duckdb

GUIDE = Path(__file__).parents[2] / "docs" / "users.md"


@pytest.fixture
def typed(sample):
    """The one block of a language that holds a mark, with the stack's own addresses and credentials in it."""
    return lambda language, mark: filled(block_of(GUIDE, language, mark), sample.stack, sample.environment)


@pytest.fixture
def held(sample) -> tuple[int, int, int]:
    """Rows of the table that the guide reads, and its smallest and greatest block: as committed, chunk by chunk."""
    table = open_pyiceberg(sample.environment).load_table("mainnet.canonical_execution_block")
    numbers = table.scan(selected_fields=("block_number",)).to_arrow()["block_number"].to_pylist()
    return len(numbers), min(numbers), max(numbers)


async def test_a_url_is_all_that_duckdb_needs(sample, typed, held):
    query = typed("sql", "iceberg_scan")
    with anonymous_duckdb() as duck:
        assert duck.execute(query).fetchall() == [(held[0], held[2])]


async def test_duckdb_reads_through_the_catalog(sample, typed, held):
    with anonymous_duckdb() as duck:
        answer: list[tuple] = []
        for statement in typed("sql", "ATTACH").split(";\n"):
            if statement.strip():
                answer = duck.execute(statement).fetchall()
    assert answer == [(held[1], held[2], held[0])]


async def test_pyiceberg_reads_through_the_catalog(sample, typed, held):
    said = await ran(sys.executable, "-c", typed("python", "load_catalog"))
    assert 0 < int(said) <= held[0]


async def test_clickhouse_reads_through_the_catalog(sample, typed, held):
    said = await by_clickhouse(typed("sql", "DataLakeCatalog"))
    assert said.split()[-1] == str(held[0])


async def test_a_subscriber_hears_of_every_snapshot(sample, typed, held):
    said = await ran(sys.executable, "-c", typed("python", "pull_subscribe"))
    assert "mainnet.canonical_execution_block" in said
    assert re.search(
        r"canonical_execution_block \d+ \d+ xatu/mainnet/databases/default/canonical_execution_block/", said
    )

"""Every block of the users' guide, typed as it stands, with the stack's addresses and credentials."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.lakereaders import open_pyiceberg, split_credential
from support.publicreaders import anonymous_duckdb

ROOT = Path(__file__).parents[2]
CLICKHOUSE = """
import chdb, sys
connection = chdb.connect(":memory:")
for statement in sys.argv[1].split(";\\n"):
    print(connection.query(statement).bytes().decode())
"""
GUIDE = (ROOT / "docs" / "users.md").read_text()


def blocks(language: str, mark: str) -> str:
    """The one block of a language that holds `mark`."""
    [found] = [body for body in re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL) if mark in body]
    return str(found)


@pytest.fixture
def typed(sample):
    """A block with the stack's own addresses and credentials in it."""
    key, secret = split_credential(sample.environment)
    ports = {"8333": "s3", "8181": "catalog", "4222": "nats"}

    def fill(text: str) -> str:
        for port, part in ports.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{sample.stack.ports[part]}")
        for quote in "'\"":
            text = text.replace(f"{quote}key{quote}", f"{quote}{key}{quote}").replace(
                f"{quote}secret{quote}", f"{quote}{secret}{quote}"
            )
            text = text.replace(f"{quote}key:secret{quote}", f"{quote}{key}:{secret}{quote}")
        return text

    return fill


@pytest.fixture
def held(sample) -> tuple[int, int, int]:
    """Rows of the table that the guide reads, and its smallest and greatest block: as committed, chunk by chunk."""
    table = open_pyiceberg(sample.environment).load_table("mainnet.canonical_execution_block")
    numbers = table.scan(selected_fields=("block_number",)).to_arrow()["block_number"].to_pylist()
    return len(numbers), min(numbers), max(numbers)


async def test_a_url_is_all_that_duckdb_needs(sample, typed, held):
    query = typed(blocks("sql", "iceberg_scan"))
    with anonymous_duckdb() as duck:
        assert duck.execute(query).fetchall() == [(held[0], held[2])]


async def test_duckdb_reads_through_the_catalog(sample, typed, held):
    with anonymous_duckdb() as duck:
        answer: list[tuple] = []
        for statement in typed(blocks("sql", "ATTACH")).split(";\n"):
            if statement.strip():
                answer = duck.execute(statement).fetchall()
    assert answer == [(held[1], held[2], held[0])]


def ran(program: str, text: str, *arguments: str) -> str:
    done = subprocess.run([program, *arguments, text], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_pyiceberg_reads_through_the_catalog(sample, typed, held):
    said = await asyncio.to_thread(ran, sys.executable, typed(blocks("python", "load_catalog")), "-c")
    assert 0 < int(said) <= held[0]


async def test_clickhouse_reads_through_the_catalog(sample, typed, held):
    text = typed(blocks("sql", "DataLakeCatalog")).strip().removesuffix(";")
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", CLICKHOUSE, text],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == str(held[0])


async def test_a_subscriber_hears_of_every_snapshot(sample, typed, held):
    said = await asyncio.to_thread(ran, sys.executable, typed(blocks("python", "pull_subscribe")), "-c")
    assert "mainnet.canonical_execution_block" in said
    assert re.search(
        r"canonical_execution_block \d+ \d+ xatu/mainnet/databases/default/canonical_execution_block/", said
    )

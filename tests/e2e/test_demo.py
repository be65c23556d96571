"""`icefleet demo` as a newcomer runs it: from nothing to equal counts, then nothing left to do, then nothing left."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

import duckdb
import psutil
import pytest

from support.fleet import eventually
from support.publicreaders import anonymous_duckdb

ROOT = Path(__file__).parents[2]
ICEFLEET = str(Path(sys.executable).with_name("icefleet"))
TABLES = [
    f"{network}.{table}"
    for table in ("beacon_api_eth_v1_events_block", "beacon_api_eth_v1_events_attestation", "canonical_execution_block")
    for network in ("mainnet", "holesky")
]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    return tmp_path


async def run(home: Path, *words: str, seconds: float = 240) -> tuple[int, str, str]:
    """A command in a directory of its own, with nothing in the environment that points elsewhere."""
    process = await asyncio.create_subprocess_exec(
        ICEFLEET,
        *words,
        cwd=home,
        env={name: value for name, value in os.environ.items() if not name.startswith("ICEFLEET_")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), seconds)
    return process.returncode or 0, output.decode(), errors.decode()


def own_processes(home: Path) -> list[str]:
    """Everything that runs for this directory: it is named in the command, or is where the process stands."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        named = [*(process.info["cmdline"] or []), process.info["cwd"] or ""]
        if process.pid != os.getpid() and any(str(home) in word for word in named):
            found.append(f"{process.pid} {' '.join(named)}")
    return found


def asked_by_url(query: str) -> int:
    """What a DuckDB without any credential answers; 0 while nothing is published."""
    with contextlib.suppress(duckdb.IOException, duckdb.HTTPException):
        return int(anonymous_duckdb().execute(query).fetchall()[0][0])
    return 0


def counts(said: str) -> dict[str, tuple[int, int]]:
    """What the demo's table says of each Iceberg table: rows by DuckDB, rows by ClickHouse."""
    rows = re.findall(r"^(\S+\.\S+) +\d+ +\S+ +([\d,]+) +([\d,]+)  equal$", said, re.MULTILINE)
    return {name: (int(lake.replace(",", "")), int(source.replace(",", ""))) for name, lake, source in rows}


def changed(said: str) -> list[tuple[str, int]]:
    """What the demo shows of the changelog: operations and ids, in order."""
    found = re.findall(r"^[0-9a-f]{32} +(insert|update|delete) +(\d+) ", said, re.MULTILINE)
    return [(operation, int(number)) for operation, number in found]


def mirrored(said: str) -> list[tuple[int, str, str, str]]:
    """What the demo shows of the mirror: id, customer, amount and status of rows that are PostgreSQL's own."""
    found = re.findall(r"^ *(\d+) +(\S+) +(\S+) +(\S+) +equal +\2 +\3 +\4 *$", said, re.MULTILINE)
    return [(int(number), customer, amount, status) for number, customer, amount, status in found]


@pytest.mark.timeout(600)
async def test_the_demo_runs_from_nothing_again_and_leaves_nothing_running(home):
    try:
        code, said, errors = await run(home, "demo")
        assert code == 0, said + errors
        assert "Traceback" not in said + errors
        first = counts(said)
        assert set(first) == set(TABLES)
        assert all(lake == source > 4_000 for lake, source in first.values())
        for table in TABLES:
            assert re.search(rf"^event \S+  {re.escape(table)}  append #1  ", said, re.MULTILINE), (
                f"no event of {table}"
            )
        assert "0/0 partitions" not in said
        assert re.search(r"^client +blocks", said, re.MULTILINE), "an answer of DuckDB's"
        assert changed(said) == [("insert", 1), ("insert", 2), ("update", 1), ("delete", 2)]
        assert re.search(r"^event \S+  cdc\.public_orders_changelog  append #\d+  ", said, re.MULTILINE)
        assert mirrored(said) == [(1, "Ada", "130.00", "shipped"), (3, "Edsger", "12.50", "new")]
        assert re.search(r"^event \S+  shop\.orders  (append|overwrite) #\d+  ", said, re.MULTILINE)
        assert re.search(
            r"^shop\.orders +cdc\.public_orders_changelog +running +\d+ +20\S+ +2 +0 +none$", said, re.MULTILINE
        )
        addresses = dict(re.findall(r"^(Temporal UI|Iceberg catalog) +(http://127\.0\.0\.1:\d+)", said, re.MULTILINE))
        assert set(addresses) == {"Temporal UI", "Iceberg catalog"}
        assert "icefleet local down" in said
        [by_url] = re.findall(r"^In any DuckDB +(SELECT .*\))  \(", said, re.MULTILINE)
        (rows, _) = first["mainnet.canonical_execution_block"]
        assert await eventually(lambda: asked_by_url(by_url)) == rows

        code, said, errors = await run(home, "demo")
        assert code == 0, said + errors
        assert counts(said) == first
        assert "Nothing was left to do" in said
        assert changed(said) == [("insert", 4), ("insert", 5), ("update", 4), ("delete", 5)]
        assert [row[:2] for row in mirrored(said)] == [(1, "Ada"), (3, "Edsger"), (4, "Ada"), (6, "Edsger")]
        assert said.count("nothing to do: ") == len(TABLES)
        assert "event " not in said.partition("The exports")[2].partition("The result")[0].replace("events", "")

        code, said, _ = await run(home, "local", "status", "--json")
        assert (code, json.loads(said)["ready"]) == (0, True)
        assert own_processes(home)
    finally:
        code, said, errors = await run(home, "local", "down")
    assert code == 0, said + errors
    assert own_processes(home) == []
    assert (home / ".local" / "data").is_dir()

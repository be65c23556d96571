"""How long a reader takes for a whole table: every row, every column, by DuckDB and by ClickHouse.

Each engine reads in a process of its own that has the catalog attached, and every table in turn.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import psutil
from harness import median

from starter.duck import Duck
from worker.config import Environment, load_settings

SUMS = "count(*), sum(balance), max(account), min(status), max(updated)"
ENGINES = ("duckdb", "clickhouse")
RUNS = 3


@dataclass(frozen=True)
class Read:
    """How a table was read: medians."""

    seconds: float
    cpu: float
    """Seconds of CPU, which others on this machine do little to."""
    found: tuple[Any, ...]


def read_seconds(environment: str, engine: str, tables: Sequence[str]) -> dict[str, Read]:
    """Table → what reading it takes, and what was read."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_read, environment, engine, list(tables)).result()


def _read(name: str, engine: str, tables: Sequence[str]) -> dict[str, Read]:
    environment = load_settings().environment(name)
    ask = {"duckdb": _duckdb, "clickhouse": _clickhouse}[engine](environment)
    found = {table: ask(table) for table in tables}  # also what is read once, such as footers
    took: dict[str, list[tuple[float, float]]] = {table: [] for table in tables}
    for _ in range(RUNS):
        for table in tables:
            started, used = time.perf_counter(), _cpu()
            found[table] = ask(table)
            took[table].append((time.perf_counter() - started, _cpu() - used))
    return {
        table: Read(median([wall for wall, _ in turns]), median([cpu for _, cpu in turns]), found[table])
        for table, turns in took.items()
    }


def _cpu() -> float:
    used = psutil.Process(os.getpid()).cpu_times()
    return used.user + used.system


def _duckdb(environment: Environment) -> Callable[[str], tuple[Any, ...]]:
    duck = Duck(environment)

    def ask(table: str) -> tuple[Any, ...]:
        [row] = duck.query(f"SELECT {SUMS} FROM lake.{table}")[1]
        return int(row[0]), int(row[1])

    return ask


def _clickhouse(environment: Environment) -> Callable[[str], tuple[Any, ...]]:
    import chdb  # noqa: PLC0415 - an engine of 500 MB, in this process only

    storage, catalog = environment.storage, environment.catalog
    if catalog.credential is None:
        raise RuntimeError("the catalog of this environment takes no credential, and ClickHouse wants one")
    credential = catalog.credential.get_secret_value()
    engine = chdb.connect(":memory:")
    engine.query("SET allow_experimental_database_iceberg = 1")
    engine.query(
        f"CREATE DATABASE lake ENGINE = DataLakeCatalog('{catalog.uri}/v1', '{storage.access_key.get_secret_value()}', "
        f"'{storage.secret_key.get_secret_value()}') SETTINGS catalog_type = 'rest', "
        f"warehouse = '{catalog.warehouse}', catalog_credential = '{credential}', "
        f"oauth_server_uri = '{catalog.oauth2_server_uri}', storage_endpoint = '{storage.endpoint}'"
    )

    def ask(table: str) -> tuple[Any, ...]:
        line = str(engine.query(f"SELECT {SUMS} FROM lake.`{table}`", "TSV")).strip().split("\t")
        return int(line[0]), int(line[1])

    return ask

"""Readers that have nothing but a URL: no credential, no catalog, no endpoint."""

from importlib import metadata
from typing import Any

import duckdb
import requests

from support.fleet import Fleet
from support.leftovers import prefix_of_table


def url_of(fleet: Fleet, table: str = "events") -> str:
    """The public URL of a table."""
    return f"http://127.0.0.1:{fleet.stack.ports['s3']}/icefleet/{prefix_of_table(fleet, table).rstrip('/')}"


def anonymous_duckdb() -> duckdb.DuckDBPyConnection:
    """A DuckDB that knows no secret."""
    duck = duckdb.connect()
    for name in ("avro", "httpfs", "iceberg"):
        [found] = [
            file for file in metadata.files(f"duckdb-extension-{name}") or [] if file.suffix == ".duckdb_extension"
        ]
        duck.execute(f"INSTALL '{found.locate()}'; LOAD {name}")
    return duck


def scan(duck: duckdb.DuckDBPyConnection, url: str, what: str = "number, name") -> list[tuple[Any, ...]]:
    """What `iceberg_scan` of a URL finds, in order."""
    return duck.execute(f"SELECT {what} FROM iceberg_scan('{url}') ORDER BY ALL").fetchall()


def got(url: str) -> bytes:
    """What anybody gets."""
    answer = requests.get(url, timeout=10)
    answer.raise_for_status()
    return answer.content

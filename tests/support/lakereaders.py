"""A table of the lake as three engines that are not ours read it: PyIceberg, DuckDB and ClickHouse.

Each answers plain Python rows that can be held against each other: times as ("time", microseconds since the epoch), or
("local", …) if they have no zone, decimals and integers as int, floats as ("float", repr), booleans as ("bool", value),
bytes as ("bytes", hex), UUIDs as text, dates as they are, lists as tuples, maps as ("map", sorted pairs), structs as
("struct", pairs of name and value).
ClickHouse runs in a process of its own, since one process has room for one engine (`clickhousereader.py`).
"""

import json
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from importlib import metadata
from itertools import zip_longest
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pyarrow as pa
from pyiceberg.catalog import load_catalog
from pyiceberg.expressions import AlwaysTrue

from worker.config import Environment

Rows = list[tuple[Any, ...]]
ALWAYS_TRUE = AlwaysTrue()
TIMES = {
    pa.timestamp("us", "UTC"): "time",
    pa.timestamp("us"): "local",
    # To ClickHouse a time without a zone is one in its session's.
    pa.timestamp("us", "Etc/UTC"): "local",
}
PATIENCE = 60
"""Seconds that ClickHouse may take to answer."""
_DUCKDB_TURN = threading.Lock()
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def split_credential(environment: Environment) -> tuple[str, str]:
    """Key and secret of the catalog."""
    assert environment.catalog.credential is not None
    key, _, secret = environment.catalog.credential.get_secret_value().partition(":")
    return key, secret


def open_pyiceberg(environment: Environment) -> Any:
    """The catalog as a stranger's PyIceberg opens it, by what the README says."""
    storage = environment.storage
    return load_catalog(
        "lake",
        type="rest",
        uri=environment.catalog.uri,
        warehouse=environment.catalog.warehouse,
        credential=":".join(split_credential(environment)),
        **{
            "oauth2-server-uri": environment.catalog.oauth2_server_uri,
            "s3.endpoint": storage.endpoint,
            "s3.region": storage.region,
            "s3.access-key-id": storage.access_key.get_secret_value(),
            "s3.secret-access-key": storage.secret_key.get_secret_value(),
        },
    )


def by_pyiceberg(
    environment: Environment, tables: Sequence[str], snapshot: int | None = None, *, where: Sequence[str] = ()
) -> list[Rows]:
    """Every row of each `<network>.<table>`; `where` holds a condition for each, which all three engines understand."""
    lake = open_pyiceberg(environment)
    return [
        plain(lake.load_table(table).scan(condition or ALWAYS_TRUE, snapshot_id=snapshot).to_arrow())
        for table, condition in zip_longest(tables, where)
    ]


def by_duckdb(environment: Environment, tables: Sequence[str], *, where: Sequence[str] = ()) -> list[Rows]:
    """Every row of each `<network>.<table>`, through the REST catalog; `where` as above."""
    queries = [f"FROM lake.{table} WHERE {condition or 'true'}" for table, condition in zip_longest(tables, where)]
    return ask_duckdb(environment, queries)


def ask_duckdb(environment: Environment, queries: Sequence[str]) -> list[Rows]:
    """The rows of each query; tables are called `lake.<network>.<table>`. What several of them read is fetched once."""
    key, secret = split_credential(environment)
    storage, catalog = environment.storage, environment.catalog
    with _DUCKDB_TURN, _duckdb().cursor() as duck:
        duck.execute(
            f"CREATE OR REPLACE SECRET store (TYPE s3, KEY_ID '{storage.access_key.get_secret_value()}', "
            f"SECRET '{storage.secret_key.get_secret_value()}', ENDPOINT '{storage.endpoint.partition('//')[2]}', "
            "URL_STYLE 'path', USE_SSL false)"
        )
        duck.execute(
            f"CREATE OR REPLACE SECRET ice (TYPE iceberg, CLIENT_ID '{key}', CLIENT_SECRET '{secret}', "
            f"OAUTH2_SERVER_URI '{catalog.oauth2_server_uri}')"
        )
        duck.execute(f"ATTACH '{catalog.warehouse}' AS lake (TYPE iceberg, ENDPOINT '{catalog.uri}', SECRET ice)")
        duck.execute(f"SET enable_external_file_cache = {len(queries) > 1}")
        try:
            return [plain(duck.execute(query).to_arrow_table()) for query in queries]
        finally:
            duck.execute("SET enable_external_file_cache = false; DETACH lake")


@cache
def _duckdb() -> duckdb.DuckDBPyConnection:
    # One for the life of the process: loading the extensions costs more than most questions.
    duck = duckdb.connect()
    for name in ("avro", "httpfs", "iceberg"):
        [found] = [
            file for file in metadata.files(f"duckdb-extension-{name}") or [] if file.suffix == ".duckdb_extension"
        ]
        duck.execute(f"INSTALL '{found.locate()}'; LOAD {name}")
    duck.execute("SET GLOBAL TimeZone = 'UTC'; SET enable_external_file_cache = false")
    return duck


def by_clickhouse(environment: Environment, tables: Sequence[str], *, where: Sequence[str] = ()) -> list[Rows]:
    """Every row of each `<network>.<table>`, through ClickHouse's own REST catalog client; `where` as above."""
    return ask_clickhouse(
        environment,
        [f"SELECT * FROM lake.`{table}` WHERE {one or 'true'}" for table, one in zip_longest(tables, where)],
    )


def ask_clickhouse(environment: Environment, queries: Sequence[str]) -> list[Rows]:
    """The rows of each query; tables are called ``lake.`<network>.<table>` ``."""
    key, secret = split_credential(environment)
    catalog, storage = environment.catalog, environment.storage
    database = (
        f"CREATE DATABASE lake ENGINE = DataLakeCatalog('{catalog.uri}/v1', '{storage.access_key.get_secret_value()}', "
        f"'{storage.secret_key.get_secret_value()}') SETTINGS catalog_type = 'rest', "
        f"warehouse = '{catalog.warehouse}', catalog_credential = '{key}:{secret}', "
        f"oauth_server_uri = '{catalog.oauth2_server_uri}', storage_endpoint = '{storage.endpoint}'"
    )
    # A time without a zone comes in that of the session, whose other name tells it from times that have one.
    settings = "SET allow_experimental_database_iceberg = 1, session_timezone = 'Etc/UTC'"
    return _ask_clickhouse([settings, database], queries)


def by_clickhouse_without_catalog(environment: Environment, metadata_file: str) -> Rows:
    """Every row of a table by its metadata file alone (`s3://bucket/…/metadata/….metadata.json`)."""
    storage = environment.storage
    place, _, name = metadata_file.removeprefix("s3://").rpartition("/metadata/")
    source = (
        f"icebergS3('{storage.endpoint}/{place}/', '{storage.access_key.get_secret_value()}', "
        f"'{storage.secret_key.get_secret_value()}', SETTINGS iceberg_metadata_file_path = 'metadata/{name}')"
    )
    [rows] = _ask_clickhouse([], [f"SELECT * FROM {source}"])
    return rows


def _ask_clickhouse(setup: Sequence[str], queries: Sequence[str]) -> list[Rows]:
    with tempfile.TemporaryDirectory() as directory:
        _CLICKHOUSE.ask({"directory": directory, "setup": setup, "queries": queries})
        answers = []
        for number in range(len(queries)):
            with pa.memory_map(str(Path(directory, f"{number}.arrow"))) as file:
                answers.append(plain(pa.ipc.open_file(file).read_all()))
        return answers


class _ClickHouse:
    """The child, started by the first question; it ends with its standard input, thus with this process."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None
        self._turn = threading.Lock()

    def ask(self, question: dict[str, Any]) -> None:
        """Wait at most a minute for the answers; raises what the engine says."""
        with self._turn:
            if self._child is None or self._child.poll() is not None:
                command = [sys.executable, str(Path(__file__).with_name("clickhousereader.py"))]
                self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            said = self._say(self._child, json.dumps(question))
        if said:
            raise RuntimeError(f"ClickHouse: {said}")

    def _say(self, child: "subprocess.Popen[str]", question: str) -> str:
        assert child.stdin is not None
        assert child.stdout is not None
        print(question, file=child.stdin, flush=True)
        waiting = select.poll()  # `select` knows no descriptors from 1024 on
        waiting.register(child.stdout, select.POLLIN)
        if not waiting.poll(1000 * PATIENCE):
            child.kill()
            raise TimeoutError(f"ClickHouse did not answer within {PATIENCE} s: {question}")
        line = child.stdout.readline()
        assert line, f"ClickHouse died: {question}"
        return str(json.loads(line))


_CLICKHOUSE = _ClickHouse()


def plain(table: pa.Table) -> Rows:
    """Rows of an Arrow table as plain values."""
    return list(zip(*(_values(column) for column in table.columns), strict=True))


def _values(column: pa.ChunkedArray) -> Iterable[Any]:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _values(column.cast(kind.value_type))
    if pa.types.is_timestamp(kind):
        assert kind in TIMES, f"a time in {kind}"
        return [None if one is None else (TIMES[kind], one) for one in column.cast(pa.int64()).to_pylist()]
    values = column.to_pylist()
    if pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return values
    return [nested_value(kind, one) for one in values]


def nested_value(kind: pa.DataType, value: Any) -> Any:
    """One value of an Arrow type, with whatever is inside it."""
    if value is None:
        return None
    if pa.types.is_map(kind):
        pairs = ((nested_value(kind.key_type, key), nested_value(kind.item_type, item)) for key, item in value)
        return ("map", tuple(sorted(pairs, key=repr)))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return tuple(nested_value(kind.value_type, item) for item in value)
    if pa.types.is_struct(kind):
        return ("struct", tuple((field.name, nested_value(field.type, value[field.name])) for field in kind))
    if pa.types.is_timestamp(kind):
        assert kind in TIMES, f"a time in {kind}"
        since = EPOCH if kind.tz else EPOCH.replace(tzinfo=None)
        return (TIMES[kind], (value - since) // timedelta(microseconds=1))
    return plain_value(value)


def plain_value(value: Any) -> Any:
    """One value that is neither a time nor text nor an integer."""
    if isinstance(value, UUID):
        return str(value)
    match value:
        case bool():
            return ("bool", value)
        case float():
            return ("float", repr(value))
        case bytes():
            return ("bytes", value.hex())
        case Decimal():
            is_whole = value == value.to_integral_value()
            return int(value) if is_whole else ("decimal", f"{value:f}".rstrip("0"))
    return value

"""DuckDB with the environment's catalog attached: how the demo and `icefleet sql` read."""

import re
from importlib import metadata
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import duckdb

from activities.core.faults import BadRequest
from worker.config import Environment
from worker.lake import current_keys

EXTENSIONS = ("avro", "httpfs", "iceberg")
"""In the order in which they are loaded: iceberg needs avro."""


class Duck:
    """A DuckDB in memory. Tables are `lake.<network>.<table>`, and after `name_tables` also `<network>.<table>`."""

    def __init__(self, environment: Environment) -> None:
        self._duck = duckdb.connect()
        # Times are UTC everywhere; DuckDB would read and show them in this machine's zone.
        self._duck.execute("SET TimeZone = 'UTC'")
        for name in EXTENSIONS:
            self._load(name)
        if authorities := environment.storage.tls.files().ca_file:
            self._duck.execute(f"SET ca_cert_file = {_text(authorities)}")
        self._attach(environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._duck.close()

    def query(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Column names and rows; a statement without a result has neither.

        Raises:
            duckdb.Error: as DuckDB words it.
        """
        answer = self._duck.execute(sql)
        if not answer.description:
            return [], []
        return [column[0] for column in answer.description], answer.fetchall()

    def name_tables(self, identifiers: list[str], as_of: str = "") -> None:
        """Let `<network>.<table>` stand for each table, as it is now or was then (a snapshot id or a UTC time).

        Raises:
            BadRequest: a table had no snapshot then, or has it no more.
        """
        for identifier in identifiers:
            network, _, table = identifier.partition(".")
            own = f"{_name(network)}.{_name(table)}"
            when = f" AT (VERSION => {self._snapshot(own, as_of)})" if as_of else ""
            self._duck.execute(f"CREATE SCHEMA IF NOT EXISTS {_name(network)}")
            self._duck.execute(f"CREATE VIEW {own} AS FROM lake.{own}{when}")

    def _snapshot(self, table: str, as_of: str) -> int:
        """The snapshot that was the table's newest then. DuckDB itself finds no rows where it finds no snapshot."""
        known = f"FROM iceberg_snapshots(lake.{table})"
        if as_of.isdigit():
            _, found = self.query(f"SELECT snapshot_id {known} WHERE snapshot_id = {int(as_of)}")
        else:
            then = f"CAST({_text(as_of)} AS TIMESTAMPTZ)"
            try:
                _, found = self.query(
                    f"SELECT arg_max(snapshot_id, sequence_number) {known} "
                    f"WHERE timestamp_ms AT TIME ZONE 'UTC' <= {then} HAVING count(*) > 0"
                )
            except duckdb.ConversionException as wrong:
                raise BadRequest(f"{as_of!r} is neither a snapshot id nor a time: 2024-03-20 12:00:00") from wrong
        if not found:
            _, oldest = self.query(f"SELECT CAST(min(timestamp_ms) AS VARCHAR) {known}")
            raise BadRequest(
                f"table {table.replace(chr(34), '')} has no snapshot {as_of}; its oldest is of {oldest[0][0]} UTC"
            )
        return int(found[0][0])

    def _load(self, name: str) -> None:
        package = f"duckdb-extension-{name}"
        files = metadata.files(package) or []
        found = [file for file in files if file.name == f"{name}.duckdb_extension"]
        path = Path(str(metadata.distribution(package).locate_file(str(found[0]))))
        self._duck.execute(f"INSTALL {_text(str(path))}")
        self._duck.execute(f"LOAD {name}")

    def _attach(self, environment: Environment) -> None:
        storage, catalog = environment.storage, environment.catalog
        where = urlsplit(storage.endpoint)
        access_key, secret_key, token = current_keys(storage)
        self._duck.execute(
            f"CREATE SECRET store (TYPE s3, KEY_ID {_text(access_key)}, SECRET {_text(secret_key)}, "
            f"{f'SESSION_TOKEN {_text(token)}, ' if token else ''}REGION {_text(storage.region)}, "
            f"ENDPOINT {_text(where.netloc)}, USE_SSL {str(where.scheme == 'https').lower()}, URL_STYLE 'path')"
        )
        login = ""
        if catalog.credential:
            key, _, secret = catalog.credential.get_secret_value().partition(":")
            login = f", CLIENT_ID {_text(key)}, CLIENT_SECRET {_text(secret)}"
            if catalog.oauth2_server_uri:
                login += f", OAUTH2_SERVER_URI {_text(catalog.oauth2_server_uri)}"
            if scope := catalog.properties.get("scope"):
                login += f", OAUTH2_SCOPE {_text(scope)}"
        elif catalog.token:
            login = f", TOKEN {_text(catalog.token.get_secret_value())}"
        self._duck.execute(f"CREATE SECRET catalog (TYPE iceberg{login})")
        self._duck.execute(
            f"ATTACH {_text(catalog.warehouse)} AS lake (TYPE iceberg, ENDPOINT {_text(catalog.uri)}, SECRET catalog)"
        )


def mentioned(sql: str, identifiers: list[str]) -> list[str]:
    """Those of the tables that a query names, quoted or not."""
    words = sql.replace('"', "")
    return [name for name in identifiers if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", words, re.IGNORECASE)]


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _name(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'

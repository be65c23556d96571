"""DuckDB with the environment's catalog attached: how the demo and `icefleet sql` read."""

import re
from importlib import metadata
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import duckdb

from worker.config import Environment

EXTENSIONS = ("avro", "httpfs", "iceberg")
"""In the order in which they are loaded: iceberg needs avro."""


class Duck:
    """A DuckDB in memory. Tables are `lake.<network>.<table>`, and after `name_tables` also `<network>.<table>`."""

    def __init__(self, environment: Environment) -> None:
        self._duck = duckdb.connect()
        for name in EXTENSIONS:
            self._load(name)
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
        """Let `<network>.<table>` stand for each table, as it is now or was then (a snapshot id or a UTC time)."""
        for identifier in identifiers:
            network, _, table = identifier.partition(".")
            when = f" AT ({_moment(as_of)})" if as_of else ""
            self._duck.execute(f"CREATE SCHEMA IF NOT EXISTS {_name(network)}")
            self._duck.execute(
                f"CREATE VIEW {_name(network)}.{_name(table)} AS FROM lake.{_name(network)}.{_name(table)}{when}"
            )

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
        self._duck.execute(
            f"CREATE SECRET store (TYPE s3, KEY_ID {_text(storage.access_key.get_secret_value())}, "
            f"SECRET {_text(storage.secret_key.get_secret_value())}, REGION {_text(storage.region)}, "
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
    words = re.sub(r'"', "", sql)
    return [identifier for identifier in identifiers if identifier in words]


def _moment(as_of: str) -> str:
    return f"VERSION => {int(as_of)}" if as_of.isdigit() else f"TIMESTAMP => TIMESTAMP {_text(as_of)}"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _name(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'

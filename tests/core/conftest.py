"""The real engine, in this process, with a cluster of two shards that are two databases of it."""

import io
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import chdb
import pyarrow.parquet as pq
import pytest

from activities.core.settings import PINNED_SETTINGS

_CONFIG = """<clickhouse>
  <tcp_port>{port}</tcp_port><listen_host>127.0.0.1</listen_host>
  <remote_servers><two>
    <shard><replica><host>127.0.0.1</host><port>{port}</port><default_database>one</default_database></replica></shard>
    <shard><replica><host>127.0.0.1</host><port>{port}</port><default_database>two</default_database></replica></shard>
  </two></remote_servers>
</clickhouse>"""


class Engine:
    """Queries with the pinned settings, unless others are given."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._anchor = chdb.connect(address)
        self._connection = chdb.connect(address)

    def run(self, text: str, parameters: Mapping[str, Any] | None = None, form: str = "TSV", **settings: Any) -> bytes:
        with_settings = f"{text} SETTINGS {_clause({**PINNED_SETTINGS, **settings})}" if _reads(text) else text
        try:
            return self._connection.query(with_settings, form, params=dict(parameters or {})).bytes()
        except chdb.ChdbError:
            # What a failed query had written would stand before the next result of the same connection.
            self._connection.close()
            self._connection = chdb.connect(self._address)
            raise

    def close(self) -> None:
        self._connection.close()
        self._anchor.close()

    def text(self, text: str, parameters: Mapping[str, Any] | None = None, **settings: Any) -> str:
        return self.run(text, parameters, **settings).decode().strip()

    def rows(self, text: str, parameters: Mapping[str, Any] | None = None, **settings: Any) -> list[dict[str, Any]]:
        return self.table(text, parameters, **settings).to_pylist()

    def table(self, text: str, parameters: Mapping[str, Any] | None = None, **settings: Any) -> Any:
        return pq.read_table(io.BytesIO(self.run(text, parameters, "Parquet", **settings)))


def _reads(text: str) -> bool:
    return re.match(r"\s*(SELECT|EXPLAIN)", text) is not None


def _clause(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} = {value}" if isinstance(value, int) else f"{name} = '{value}'" for name, value in settings.items()
    )


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    directory: Path = tmp_path_factory.mktemp("engine")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (directory / "config.xml").write_text(_CONFIG.format(port=port))
    engine = Engine(f"{directory / 'data'}?config-file={directory / 'config.xml'}")
    yield engine
    engine.close()

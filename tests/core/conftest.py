"""The real engine, in this process, with a cluster of one shard for Distributed tables."""

import io
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing
from typing import Any

import chdb
import psycopg
import pyarrow.parquet as pq
import pytest

from activities.core.settings import PINNED_SETTINGS
from deploy.local.stack import Stack
from support.eventbuffer import EventBuffer, rolled_back
from support.ownpostgres import fresh_database

# A replica at the engine's own port is the engine itself, and is asked without a connection: nothing listens there.
_CONFIG = """<clickhouse>
  <tcp_port>9000</tcp_port><listen_host>127.0.0.1</listen_host>
  <remote_servers><here><shard><replica><host>127.0.0.1</host><port>9000</port></replica></shard></here></remote_servers>
</clickhouse>"""


class Engine:
    """Runs statements; what reads, reads with the pinned settings unless others are given."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._anchor = chdb.connect(address)

    def run(
        self,
        text: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        form: str = "TSV",
        profile: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> bytes:
        """The answer as bytes; `profile` is set for the session first, as a user's profile would be."""
        if re.match(r"\s*(SELECT|EXPLAIN)", text):
            text = f"{text} SETTINGS {_clause({**PINNED_SETTINGS, **settings})}"
        # A connection for each statement: what a failed one had written would stand before the next one's result.
        with closing(chdb.connect(self._address)) as connection:
            if profile:
                connection.query(f"SET {_clause(profile)}")
            return connection.query(text, form, params=dict(parameters or {})).bytes()

    def text(self, text: str, parameters: Mapping[str, Any] | None = None, **settings: Any) -> str:
        return self.run(text, parameters, **settings).decode().strip()

    def rows(self, text: str, parameters: Mapping[str, Any] | None = None, **settings: Any) -> list[dict[str, Any]]:
        return self.table(text, parameters, **settings).to_pylist()

    def table(self, text: str, parameters: Mapping[str, Any] | None = None, **settings: Any) -> Any:
        return pq.read_table(io.BytesIO(self.run(text, parameters, form="Parquet", **settings)))

    def close(self) -> None:
        self._anchor.close()


def _clause(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} = {value}" if isinstance(value, int) else f"{name} = '{value}'" for name, value in settings.items()
    )


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    directory = tmp_path_factory.mktemp("engine")
    (directory / "config.xml").write_text(_CONFIG)
    engine = Engine(f"{directory / 'data'}?config-file={directory / 'config.xml'}")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
async def events_database(stack: Stack) -> AsyncIterator[dict[str, Any]]:
    """How to reach a database of the module's own."""
    async with fresh_database(stack) as own:
        yield own.settings.parameters()


@pytest.fixture(scope="module")
def shared_buffer(events_database: dict[str, Any]) -> Iterator[EventBuffer]:
    with psycopg.connect(**events_database, autocommit=True) as connection:
        yield EventBuffer(connection)


@pytest.fixture
def buffer(shared_buffer: EventBuffer) -> Iterator[EventBuffer]:
    """A buffer of PostgreSQL's, empty again after the test."""
    with rolled_back(shared_buffer):
        yield shared_buffer

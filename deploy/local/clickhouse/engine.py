"""The ClickHouse engine in this process, its configuration, and one connection to it per request.

How a query carries the id that its client chose: the embedded engine gives every query an id of its own and offers no
way to choose another. The setting `chdb_client_name`, free text without effect on queries that stay in this process,
carries the client's id instead; it is visible beside the query in system.processes and system.query_log, and two views
(`system.http_processes`, `system.http_query_log`) put it where clients expect it.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from xml.sax.saxutils import escape

import chdb
from chdb.state.sqlitelike import Connection

from deploy.local.clickhouse.faults import EngineError

T = TypeVar("T")
MARKER = "chdb_client_name"
ACCESS_KEY, SECRET_KEY = "ICEFLEET_LOCAL_S3_ACCESS_KEY", "ICEFLEET_LOCAL_S3_SECRET_KEY"
"""Variables that hold the keys of the object store that named collections lead to."""

_CONFIG = """<clickhouse>
    <tcp_port>{tcp_port}</tcp_port>
    <users_config>{users}</users_config>
    <query_log>
        <database>system</database>
        <table>query_log</table>
        <flush_interval_milliseconds>1000</flush_interval_milliseconds>
    </query_log>
    <named_collections>{collections}</named_collections>
    <remote_servers>
        <local><shard><replica><host>127.0.0.1</host><port>{tcp_port}</port></replica></shard></local>
        <local_two_shards>
            <shard><replica><host>127.0.0.1</host><port>{tcp_port}</port></replica></shard>
            <shard><replica><host>127.0.0.1</host><port>{tcp_port}</port></replica></shard>
        </local_two_shards>
    </remote_servers>
</clickhouse>
"""
# The engine reads the keys from its environment: they stand in no file, and in no log.
_COLLECTION = """<{name}>
        <url>{url}</url>
        <access_key_id from_env="{access_key}"/>
        <secret_access_key from_env="{secret_key}"/>
    </{name}>"""
_USERS = """<clickhouse>
    <profiles><default>{profile}</default></profiles>
    <users>
        <default>
            <password></password>
            <networks><ip>::/0</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
            <access_management>1</access_management>
            <named_collection_control>1</named_collection_control>
        </default>
    </users>
    <quotas><default></default></quotas>
</clickhouse>
"""
_VIEW = """CREATE OR REPLACE VIEW system.http_{table} AS SELECT * REPLACE (
    if(t.Settings['{marker}'] != '' AND t.is_initial_query, t.Settings['{marker}'], t.query_id) AS query_id,
    if(t.Settings['{marker}'] != '', t.Settings['{marker}'], t.initial_query_id) AS initial_query_id,
    replaceRegexpAll(replaceRegexpOne(t.query, '\\\\sINTO OUTFILE \\'/dev/fd/[0-9]+\\' APPEND ?', ''),
        'system\\\\.http_(processes|query_log)', 'system.\\\\1') AS query,
    mapFilter((k, v) -> k != '{marker}', t.Settings) AS Settings
) FROM system.{table} AS t"""
_KILL = """KILL QUERY WHERE query_id IN (
    SELECT query_id FROM system.processes WHERE Settings['{marker}'] IN ({wanted})
) ASYNC"""
# The engine never listens: the port only tells it that the clusters' replicas are itself.
_TCP_PORT = 9000


@dataclass
class Progress:
    """What a query has read and written so far, as the engine last told."""

    read_rows: int = 0
    read_bytes: int = 0
    total_rows_to_read: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    result_bytes: int = 0
    elapsed_ns: int = 0

    def told(self, values: Mapping[str, int]) -> None:
        """Take what the engine reports in the middle of a query."""
        self.read_rows = values["read_rows"]
        self.read_bytes = values["read_bytes"]
        self.total_rows_to_read = values["total_rows_to_read"]
        self.written_rows = values["written_rows"]
        self.written_bytes = values["written_bytes"]
        self.elapsed_ns = values["elapsed_ns"]


@dataclass(frozen=True)
class QuerySetup:
    """What a request asks of its connection: settings, typed query parameters, database, and the query's id."""

    query_id: str
    settings: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    database: str = ""


def quote(value: str) -> str:
    """A SQL string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quote_name(name: str) -> str:
    """A SQL identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


class EngineConnection:
    """One connection, used by one thread of its own; the event loop hands it work and never waits in the engine."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="clickhouse-query")
        self._connection: Connection | None = None
        self.progress = Progress()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """The result of `work`, done in the connection's thread.

        Raises:
            EngineError: the engine's exception.
        """
        return await asyncio.wrap_future(self.submit(work))

    def submit(self, work: Callable[[Connection], T]) -> "Future[T]":
        """Queue `work` for the connection's thread, behind what it is doing."""
        return self._thread.submit(self._work, work)

    def _work(self, work: Callable[[Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = _connect(self._target)
                self._connection.set_progress_callback(self.progress.told)
            return work(self._connection)
        except (RuntimeError, chdb.ChdbError) as error:
            raise EngineError.of(error) from error

    async def prepare(self, setup: QuerySetup) -> None:
        """Apply a request's settings, parameters and database.

        Raises:
            EngineError: an unknown setting (115), a bad value, an unknown database (81).
        """
        if setup.database and setup.database != "default":
            await self.query(f"USE {quote_name(setup.database)}".encode())
        # A server takes no bare expression for a statement; the embedded engine does unless told otherwise.
        values = {"implicit_select": "0", "log_queries": "1", **setup.settings, MARKER: setup.query_id}
        values |= {f"param_{name}": value for name, value in setup.params.items()}
        for name in values:
            if not name.isidentifier():
                raise EngineError(115, f"Unknown setting '{name}'. (UNKNOWN_SETTING)")
        statement = "SET " + ", ".join(f"{name} = {quote(value)}" for name, value in values.items())
        await self.run(lambda connection: connection.query(statement))

    async def query(self, statement: bytes, output_format: str = "TabSeparated") -> bytes:
        """The whole result of a statement; `progress` holds its figures afterwards.

        Raises:
            EngineError: the engine's exception.
        """
        return await self.run(lambda connection: self.query_here(connection, statement, output_format))

    def query_here(self, connection: Connection, statement: bytes, output_format: str) -> bytes:
        """Run a statement in the calling thread, which must be the connection's own."""
        # chDB takes bytes for SQL as well, which spares statements with binary data a detour through text.
        sql: Any = statement
        result = connection.query(sql, output_format)
        progress = self.progress
        progress.elapsed_ns = int(result.elapsed() * 1e9)
        progress.result_rows = result.rows_read()
        progress.result_bytes = result.bytes_read()
        progress.read_rows = max(result.storage_rows_read(), progress.read_rows)
        progress.read_bytes = max(result.storage_bytes_read(), progress.read_bytes)
        progress.written_rows = max(result.rows_written(), progress.written_rows)
        progress.written_bytes = max(result.bytes_written(), progress.written_bytes)
        data: bytes = result.bytes()
        return data

    def close(self) -> "Future[None]":
        """Close the connection once its thread has nothing left to do; returns at once, with the promise of it."""
        closed = self._thread.submit(self._close)
        self._thread.shutdown(wait=False)
        return closed

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Engine:
    """The engine over one data directory, alive as long as the process.

    Args:
        data: directory of the tables; made when missing.
        profile: settings of every query unless it says otherwise, as a user's profile has them.
        highest: the highest values that a query may give to settings.
        collections: named collections for `s3()`, name → url; their keys are in ACCESS_KEY and SECRET_KEY.
    """

    def __init__(
        self,
        data: Path,
        profile: Mapping[str, str],
        highest: Mapping[str, str] = MappingProxyType({}),
        collections: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        store, conf = data / "store", data / "conf"
        for directory in (store, conf):
            directory.mkdir(parents=True, exist_ok=True)
        constraints = _as_xml({name: f"<max>{escape(value)}</max>" for name, value in highest.items()})
        values = _as_xml({name: escape(value) for name, value in profile.items()})
        users = _USERS.format(profile=f"{values}<constraints>{constraints}</constraints>")
        (conf / "users.xml").write_text(users)
        known = "".join(
            _COLLECTION.format(name=name, url=escape(url), access_key=ACCESS_KEY, secret_key=SECRET_KEY)
            for name, url in collections.items()
        )
        config = _CONFIG.format(tcp_port=_TCP_PORT, users=escape(str(conf / "users.xml")), collections=known)
        (conf / "config.xml").write_text(config)
        # log_queries is off until a request's settings are in place, so that only clients' queries are logged.
        self._target = f"{store.resolve()}?config-file={(conf / 'config.xml').resolve()}&log_queries=0"
        # The first connection keeps the engine alive; the last one to close would end it.
        self._anchor = _connect(self._target)
        self.version = self._ask("SELECT version()")
        self.timezone = self._ask("SELECT timezone()")
        self._ask("SET log_queries = 1")
        self._ask("SELECT 1")
        self._ask("SET log_queries = 0")
        self._ask("SYSTEM FLUSH LOGS")
        for table in ("processes", "query_log"):
            self._ask(_VIEW.format(table=table, marker=MARKER))

    def _ask(self, statement: str) -> str:
        text: str = self._anchor.query(statement, "TabSeparatedRaw").bytes().decode().strip()
        return text

    def connect(self) -> EngineConnection:
        """A connection for one request."""
        return EngineConnection(self._target)

    async def kill(self, query_ids: list[str]) -> None:
        """Ask the engine to stop the queries that run under these ids; returns without waiting for them."""
        if not query_ids:
            return
        wanted = ", ".join(quote(query_id) for query_id in query_ids)
        connection = self.connect()
        try:
            await connection.query(_KILL.format(marker=MARKER, wanted=wanted).encode())
        finally:
            connection.close()

    def flush(self) -> None:
        """Write what the query log still holds in memory."""
        self._ask("SYSTEM FLUSH LOGS")


def _connect(target: str) -> Connection:
    connection: Connection = chdb.connect(target)  # type: ignore[no-untyped-call] # chDB leaves it untyped
    return connection


def _as_xml(elements: Mapping[str, str]) -> str:
    for name in elements:
        if not name.isidentifier():
            raise ValueError(f"{name}: not the name of a setting")
    return "".join(f"<{name}>{content}</{name}>" for name, content in elements.items())

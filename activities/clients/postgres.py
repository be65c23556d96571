"""Connections to PostgreSQL, and names for what goes wrong with them."""

import contextlib
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, LiteralString, Self

import psycopg
from psycopg import errors

from activities import spans
from activities.core.credentials import NO_TLS, Secret, Tls, is_tls_trouble, reveal, tls_advice
from activities.core.faults import Fault, PostgresRefused, PostgresUnavailable

MAY_PASS = ("08", "40", "53", "57", "58", "XX")
"""Classes of SQLSTATE after which trying again can help: connections, roll-backs, resources, shut-downs, the system."""
CONNECT_SECONDS = 10
WRITTEN = {
    "TimeZone": "UTC",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}
"""How values are written as text."""
UNBOUNDED = {"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0"}
"""What a role or a database may have other defaults of: these would end a batch in the same place again and again."""
WATCHED: LiteralString = """
    set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),
    set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '30000', false),
    set_config('idle_in_transaction_session_timeout', '60000', false)
"""
"""What a session that holds a lock selects: the server then ends it soon after its worker is gone or frozen."""
BOUNDS_TRANSACTIONS = 170_000
"""The version of PostgreSQL from which on there is `transaction_timeout`."""


@dataclass(frozen=True)
class PostgresSettings:
    """How to reach one database. `name` is what messages call it, such as `buffer local.shop`."""

    name: str
    host: str
    port: int
    database: str
    user: str
    password: Secret
    sslmode: str = "prefer"
    tls: Tls = NO_TLS

    def parameters(self) -> dict[str, Any]:
        """What psycopg's `connect` takes; dates and floats are written in one way, whatever the server's defaults."""
        return {
            "host": self.host,
            "port": self.port,
            "dbname": self.database,
            "user": self.user,
            "password": reveal(self.password) or None,
            **self._tls(),
            "connect_timeout": CONNECT_SECONDS,
            "application_name": "icefleet",
            "client_encoding": "utf8",
            "options": " ".join(f"-c {name}={value}" for name, value in (WRITTEN | UNBOUNDED).items()),
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,
        }

    def _tls(self) -> dict[str, str]:
        """What libpq is told of certificates; its own default looks for them in a home directory."""
        authorities = self.tls.ca_file or ("system" if self.sslmode == "verify-full" else "")
        files = {"sslrootcert": authorities, "sslcert": self.tls.cert_file, "sslkey": self.tls.key_file}
        return {"sslmode": self.sslmode, **{name: file for name, file in files.items() if file}}

    @property
    def where(self) -> str:
        """What messages call the database."""
        return f"{self.name} ({self.host}:{self.port})"

    async def connect(self, **more: Any) -> psycopg.AsyncConnection[Any]:
        """An open connection in autocommit mode, without bounds of time; `more` goes to psycopg.

        Raises:
            PostgresRefused: login, rights or database are wrong.
            PostgresUnavailable: nobody answers.
        """
        with faults_of(self.where):
            connection = await psycopg.AsyncConnection.connect(
                **self.parameters(), autocommit=True, **{"cursor_factory": TracedCursor, **more}
            )
            async with AsyncExitStack() as unless_ready:
                unless_ready.push_async_callback(connection.close)
                if connection.info.server_version >= BOUNDS_TRANSACTIONS:
                    # As an option it would keep older servers from answering at all.
                    await connection.execute("SET transaction_timeout = 0")
                unless_ready.pop_all()
            return connection

    async def check(self) -> None:
        """See that the database can be reached; raises as `connect` does."""
        await (await self.connect()).close()


class TracedCursor(psycopg.AsyncCursor[Any]):
    """Statements are spans of the activity that runs them; what they say and are about stays out."""

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        """As psycopg does it."""
        with spans.request("postgresql execute", **{"db.system.name": "postgresql"}):
            return await super().execute(query, params, **options)

    async def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
        """As psycopg does it."""
        with spans.request("postgresql executemany", **{"db.system.name": "postgresql"}):
            await super().executemany(query, params_seq, **options)


def check_encoding(connection: psycopg.AsyncConnection[Any], name: str) -> None:
    """Make sure that a database's texts are what it says they are, and that it can hold every one.

    Raises:
        PostgresRefused: it has another encoding than UTF-8: one text that has no place in it would hold up everything.
    """
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise PostgresRefused(
            f"{name}: this database is encoded in {encoding}, whose texts are not always UTF-8 or cannot hold all of "
            "it; use one that was made with `CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8'` (pg_dump and "
            "pg_restore bring over what this one holds)"
        )


@contextlib.contextmanager
def faults_of(name: str) -> Iterator[None]:
    """Turn what psycopg raises inside into faults that name the database; what is a fault already passes."""
    try:
        yield
    except psycopg.Error as failed:
        raise fault_of(name, failed) from failed


def fault_of(name: str, failed: psycopg.Error) -> Fault:
    """What to say of psycopg's error, with the database named."""
    if not failed.sqlstate and is_tls_trouble(failed):
        return PostgresRefused(f"{name}: no connection by TLS: {text_of(failed)}; {tls_advice('that database')}")
    if may_pass(failed):
        return PostgresUnavailable(f"{name}: {text_of(failed)}; look at that PostgreSQL server")
    return PostgresRefused(f"{name}: {text_of(failed)}; mend `cdc` in environments.yaml, or the rights of its user")


def may_pass(failed: psycopg.Error) -> bool:
    """Whether trying again can help."""
    state = failed.sqlstate or ""
    if state:
        return state[:2] in MAY_PASS
    # Without a state it never came to the server, or the server left; libpq says a wrong password in words alone.
    refused = isinstance(failed, errors.OperationalError) and "authentication failed" in str(failed)
    return isinstance(failed, psycopg.OperationalError | psycopg.InterfaceError) and not refused


def text_of(failed: psycopg.Error) -> str:
    """The server's message on one line, without the statement, which may hold rows."""
    message = failed.diag.message_primary or str(failed).strip().splitlines()[0]
    return f"{message} ({failed.sqlstate})" if failed.sqlstate else message

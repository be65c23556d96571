"""A PostgreSQL database of one test's own on the shared stack, gone at its end with all that hangs on it."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import sql

from activities.clients.postgres import PostgresSettings
from deploy.local.environment import POSTGRES_PASSWORD
from deploy.local.stack import Stack


class OwnPostgres:
    """One fresh, empty database; the user is a superuser. `settings` say how icefleet reaches it."""

    def __init__(self, settings: PostgresSettings) -> None:
        self.settings = settings
        self._open: list[psycopg.AsyncConnection[Any]] = []

    @property
    def database(self) -> str:
        """What it is called."""
        return self.settings.database

    def config(self, **more: Any) -> dict[str, Any]:
        """The database as `source` or `buffer` of a pipeline in `environments.yaml`; `more` are its further keys."""
        return {
            "host": self.settings.host,
            "port": self.settings.port,
            "database": self.database,
            "user": self.settings.user,
            "password_env": POSTGRES_PASSWORD,
            **more,
        }

    def pipeline(self, **more: Any) -> dict[str, Any]:
        """A pipeline with both its source and its buffer here; a slot of its own comes from the fleet's name."""
        return {"source": self.config(), "buffer": self.config(), "commit_interval_ms": 0, **more}

    async def connect(self) -> psycopg.AsyncConnection[Any]:
        """One more connection in autocommit mode, closed at the end of the test."""
        opened = await self.settings.connect()
        self._open.append(opened)
        return opened

    async def run(self, *statements: str) -> None:
        """Each statement in a transaction of its own."""
        async with await self.settings.connect() as connection:
            for statement in statements:
                await connection.execute(statement.encode())

    async def transact(self, *statements: str) -> None:
        """All statements in one transaction."""
        async with await self.settings.connect() as connection, connection.transaction():
            for statement in statements:
                await connection.execute(statement.encode())

    async def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a query answers; `values` stand for its `%s`."""
        async with await self.settings.connect() as connection:
            asked = await connection.execute(query.encode(), values or None)
            return await asked.fetchall()

    async def close(self) -> None:
        """Close what `connect` opened."""
        for opened in self._open:
            await opened.close()


def server(stack: Stack) -> PostgresSettings:
    """The stack's server, at the database that is always there."""
    return PostgresSettings(
        name="the local PostgreSQL",
        host="127.0.0.1",
        port=stack.ports["postgres"],
        database="icefleet",
        user="icefleet",
        password=stack.environment[POSTGRES_PASSWORD],
    )


@asynccontextmanager
async def fresh_database(stack: Stack, encoding: str = "UTF8") -> AsyncIterator[OwnPostgres]:
    """A database for as long as the block lasts. At its end whoever uses it is thrown out, replication slots too."""
    name = f"own{uuid.uuid4().hex[:10]}"
    at = server(stack)
    own = PostgresSettings(f"database {name}", at.host, at.port, name, at.user, at.password)
    other = "" if encoding == "UTF8" else " ENCODING {} TEMPLATE template0 LOCALE_PROVIDER libc LOCALE 'C'"
    await _tell(at, sql.SQL("CREATE DATABASE {}" + other).format(sql.Identifier(name), sql.Literal(encoding)))
    opened = OwnPostgres(own)
    try:
        yield opened
    finally:
        await opened.close()
        await _drop(at, name)


async def _drop(at: PostgresSettings, name: str) -> None:
    slots = sql.SQL("SELECT slot_name FROM pg_replication_slots WHERE database = {}").format(name)
    async with await at.connect() as connection:
        # No newcomer, so that nobody takes up a slot again between the end of its reader and its own.
        await connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        for (slot,) in await (await connection.execute(slots)).fetchall():
            await connection.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
        await connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


async def _tell(at: PostgresSettings, statement: sql.Composed) -> None:
    async with await at.connect() as connection:
        await connection.execute(statement)

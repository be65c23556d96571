"""People who write: each with a connection of their own, transactions of a few steps, and all on the same tables."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import psycopg

from cdcrandom.evolving import evolve
from cdcrandom.statements import Hand
from cdcrandom.tables import TABLES, Table
from support.ownpostgres import OwnPostgres

REST_SECONDS = (0.05, 0.4)
LOCK_MILLISECONDS = 1500
Step = Callable[[Hand, Table], Awaitable[None]]

STEPS: dict[str, tuple[float, Step]] = {
    "insert": (24, lambda hand, table: hand.insert(table, hand.rng.randint(1, 4))),
    "update": (24, lambda hand, table: hand.update(table, hand.rng.randint(1, 5))),
    "update of nothing": (3, lambda hand, table: hand.touch(table, hand.rng.randint(1, 5))),
    "update of every row": (0.5, lambda hand, table: hand.update(table, None)),
    "delete": (9, lambda hand, table: hand.delete(table, hand.rng.randint(1, 3))),
    "key change": (7, lambda hand, table: hand.change_key(table)),
    "A to B while B to C": (5, lambda hand, table: hand.shift_keys(table)),
    "keys swapped": (3, lambda hand, table: hand.swap_keys(table)),
    "upsert": (7, lambda hand, table: hand.upsert(table, hand.rng.randint(1, 3))),
    "delete, then the same key": (4, lambda hand, table: hand.replace(table)),
    "insert, then delete": (3, lambda hand, table: hand.come_and_go(table)),
    "truncate": (1, lambda hand, table: hand.truncate(table)),
    "more than a batch": (0.3, lambda hand, table: hand.churn(table)),
    "schema change": (6, evolve),
}
"""What a step may be → how often it is, and how it is done."""
NEEDS_KEY = frozenset(
    {"key change", "A to B while B to C", "keys swapped", "upsert", "delete, then the same key", "insert, then delete"}
)


@dataclass
class Writing:
    """What all writers share: what they may do just now, and what they have done."""

    source: OwnPostgres
    tables: Sequence[Table] = TABLES
    poison: int = 0
    """How many more rows may be written that no Iceberg table can hold."""
    favourites: tuple[str, ...] = ()
    """Tables that are written to more than others just now."""
    churn: int = 0
    """Events by which a transaction is larger than a batch."""
    committed: Counter[str] = field(default_factory=Counter)
    """Step → how many were committed."""
    transactions: int = 0
    rolled_back: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Why PostgreSQL refused a transaction: deadlocks, keys that were there, connections that were cut."""


async def fill(writing: Writing, rng: Random) -> None:
    """The rows that tables have at first."""
    async with await writing.source.settings.connect() as connection, connection.transaction():
        hand = Hand(connection, rng, writing)
        for table in writing.tables:
            await hand.insert(table, table.rows)


class Writer:
    """One of them."""

    def __init__(self, writing: Writing, rng: Random) -> None:
        self._writing = writing
        self._rng = rng
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def write(self) -> None:
        """One transaction after the other, until cancelled."""
        try:
            while True:
                await self._try()
                await asyncio.sleep(self._rng.uniform(*REST_SECONDS))
        finally:
            await self._hang_up()

    async def write_some(self, transactions: int) -> None:
        """So many tries of a transaction, without a rest."""
        try:
            for _ in range(transactions):
                await self._try()
        finally:
            await self._hang_up()

    async def _try(self) -> None:
        """A transaction, or what came in between: the server is killed, and others are in the way."""
        try:
            if self._connection is None:
                self._connection = await psycopg.AsyncConnection.connect(
                    **self._writing.source.settings.parameters() | {"application_name": "writer"},
                    autocommit=True,
                    prepare_threshold=None,  # columns change under a statement
                )
                await self._connection.execute(f"SET lock_timeout = {LOCK_MILLISECONDS}")
            await self._transact(self._connection)
        except psycopg.Rollback:  # the connection was gone before that
            await self._hang_up()
        except psycopg.Error as refused:
            self._writing.refused[type(refused).__name__] += 1
            if isinstance(refused, psycopg.OperationalError) and (refused.sqlstate or "57")[:2] in ("57", "08"):
                await self._hang_up()
                await asyncio.sleep(0.2)

    async def _hang_up(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _transact(self, connection: psycopg.AsyncConnection[Any]) -> None:
        done: Counter[str] = Counter()
        withdrawn = self._rng.random() < 0.07
        async with connection.transaction():
            for _ in range(self._rng.choice((1, 1, 2, 3, 5))):
                await self._step(connection, done)
            if withdrawn:
                self._writing.rolled_back += 1
                raise psycopg.Rollback
        if not withdrawn:
            self._writing.transactions += 1
            self._writing.committed.update(done)

    async def _step(self, connection: psycopg.AsyncConnection[Any], done: Counter[str]) -> None:
        """A step, now and then behind a savepoint, to which it may be rolled back."""
        hand = Hand(connection, self._rng, self._writing)
        table, name, step = self._choose()
        chance = self._rng.random()
        if chance < 0.6:
            await step(hand, table)
            done[name] += 1
            return
        try:
            async with connection.transaction():
                await step(hand, table)
                if chance < 0.7:
                    done["rolled back to a savepoint"] += 1
                    raise psycopg.Rollback
                done[name] += 1
        except psycopg.errors.IntegrityError:
            done["refused behind a savepoint"] += 1

    def _choose(self) -> tuple[Table, str, Step]:
        tables = self._writing.tables
        favoured = [table for table in tables if table.identifier in self._writing.favourites]
        table = self._rng.choice(favoured if favoured and self._rng.random() < 0.4 else tables)
        names = [
            name
            for name in STEPS
            if (table.key or name not in NEEDS_KEY) and (table.evolves or name != "schema change")
        ]
        [name] = self._rng.choices(names, [STEPS[name][0] for name in names])
        return table, name, STEPS[name][1]

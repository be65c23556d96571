"""The statements that writers make, for whatever columns a table has just now."""

import json
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg

from cdcrandom.oracle import Column, sql_name
from cdcrandom.tables import Table, quoted
from cdcrandom.values import POISON, key_for, value_for

if TYPE_CHECKING:
    from cdcrandom.writers import Writing

MANY = 10
"""So many rows are never to be refused because of one of them."""


class Hand:
    """Writes within one transaction of one connection."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], rng: Random, writing: "Writing") -> None:
        self.rng = rng
        self._connection = connection
        self._writing = writing

    async def run(self, statement: str, *values: str | None) -> list[tuple[Any, ...]]:
        """What a statement answers, if anything."""
        done = await self._connection.execute(statement.encode(), values or None)
        return await done.fetchall() if done.description else []

    async def columns(self, table: Table) -> list[Column]:
        """The table's columns, which stay so until the transaction ends."""
        await self.run(f"LOCK TABLE {sql_name(table)} IN ROW EXCLUSIVE MODE")
        literal = sql_name(table).replace("'", "''")
        [(text,)] = await self.run(f"SELECT oracle.shape('{literal}'::regclass)::text")
        return [Column(*column) for column in json.loads(text)]

    # --- rows ---------------------------------------------------------------------------------------------------

    async def insert(self, table: Table, rows: int, *, key: Sequence[str] = (), conflict: str = "") -> None:
        """Insert a few rows, unless there are many; what has the key of another one is left out, or `conflict` says."""
        [(count,)] = await self.run(f"SELECT count(*) FROM {sql_name(table)}")
        if count >= table.most:
            return
        columns = await self.columns(table)
        for _ in range(rows):
            values = self._row(table, columns, key)
            names = ", ".join(quoted(column.name) for column in columns)
            places = ", ".join(f"%s::{column.type}" for column in columns)
            otherwise = conflict or ("ON CONFLICT DO NOTHING" if rows > MANY or self.rng.random() < 0.9 else "")
            await self.run(f"INSERT INTO {sql_name(table)} ({names}) VALUES ({places}) {otherwise}", *values)

    async def upsert(self, table: Table, rows: int) -> None:
        """Insert rows, or update those that there are."""
        columns = [column for column in await self.columns(table) if column.name not in table.key]
        if not columns:
            return
        sets = ", ".join(f"{quoted(one.name)} = EXCLUDED.{quoted(one.name)}" for one in columns)
        key = ", ".join(quoted(name) for name in table.key)
        await self.insert(table, rows, conflict=f"ON CONFLICT ({key}) DO UPDATE SET {sets}")

    async def update(self, table: Table, rows: int | None) -> None:
        """Give some columns of some rows (None: of all) new values; the others stay, large ones too."""
        columns = [column for column in await self.columns(table) if column.name not in table.key]
        if not columns:
            return
        chosen = self.rng.sample(columns, self.rng.randint(1, min(3, len(columns))))
        if rows is None:  # a large value for every row would be too much of a good thing
            chosen = [column for column in chosen if not column.name.startswith("big_")] or columns[:1]
        if rows is None:
            values = [value_for(self.rng, column.name, column.type) for column in chosen]
        else:
            values = [self._value(table, column) for column in chosen]
        sets = ", ".join(f"{quoted(column.name)} = %s::{column.type}" for column in chosen)
        where = "" if rows is None else f" WHERE {_some(table, rows)}"
        await self.run(f"UPDATE {sql_name(table)} SET {sets}{where}", *values)

    async def touch(self, table: Table, rows: int) -> None:
        """An update that changes nothing."""
        [column, *_] = await self.columns(table)
        name = quoted(column.name)
        await self.run(f"UPDATE {sql_name(table)} SET {name} = {name} WHERE {_some(table, rows)}")

    async def delete(self, table: Table, rows: int) -> None:
        """Delete a few rows."""
        await self.run(f"DELETE FROM {sql_name(table)} WHERE {_some(table, rows)}")

    async def come_and_go(self, table: Table) -> None:
        """Insert a row, change it, and delete it again."""
        columns = await self.columns(table)
        key = self._key(table, columns)
        await self.insert(table, 1, key=key)
        await self.update(table, 1)
        await self.run(f"DELETE FROM {sql_name(table)} WHERE {self._is(table, columns)}", *key)

    async def replace(self, table: Table) -> None:
        """Delete a row, and insert another one of the same key."""
        for key in await self._keys(table, 1):
            columns = await self.columns(table)
            await self.run(f"DELETE FROM {sql_name(table)} WHERE {self._is(table, columns)}", *key)
            await self.insert(table, 1, key=key)

    async def truncate(self, table: Table) -> None:
        """Empty a table, or two at once, and fill it again a little."""
        other = [self.rng.choice(self._writing.tables)] if self.rng.random() < 0.3 else []
        names = sorted({sql_name(one) for one in (table, *other)})
        await self.run(f"TRUNCATE {', '.join(names)}")
        if self.rng.random() < 0.8:
            await self.insert(table, self.rng.randint(1, 5))

    async def churn(self, table: Table) -> None:
        """More events than a batch may have."""
        [(count,)] = await self.run(f"SELECT count(*) FROM {sql_name(table)}")
        for _ in range(min(40, -(-self._writing.churn // max(1, count)))):
            await self.update(table, None)

    # --- keys ---------------------------------------------------------------------------------------------------

    async def change_key(self, table: Table) -> None:
        """Give a row another key, now and then with other values."""
        columns = await self.columns(table)
        for key in await self._keys(table, 1):
            await self._rename(table, columns, key, self._key(table, columns))

    async def shift_keys(self, table: Table) -> None:
        """B becomes C, and A becomes B."""
        columns = await self.columns(table)
        match await self._keys(table, 2):
            case [a, b]:
                await self._rename(table, columns, b, self._key(table, columns))
                await self._rename(table, columns, a, b)

    async def swap_keys(self, table: Table) -> None:
        """A becomes B, and B becomes A."""
        columns = await self.columns(table)
        match await self._keys(table, 2):
            case [a, b]:
                free = self._key(table, columns)
                await self._rename(table, columns, a, free)
                await self._rename(table, columns, b, a)
                await self._rename(table, columns, free, b)

    async def _rename(self, table: Table, columns: Sequence[Column], old: Sequence[str], new: Sequence[str]) -> None:
        kinds = {column.name: column.type for column in columns}
        sets = [f"{quoted(name)} = %s::{kinds[name]}" for name in table.key]
        others = [column for column in columns if column.name not in table.key]
        values: list[str | None] = list(new)
        if others and self.rng.random() < 0.4:
            one = self.rng.choice(others)
            sets.append(f"{quoted(one.name)} = %s::{one.type}")
            values.append(self._value(table, one))
        where = self._is(table, columns)
        await self.run(f"UPDATE {sql_name(table)} SET {', '.join(sets)} WHERE {where}", *values, *old)

    async def _keys(self, table: Table, rows: int) -> list[list[str]]:
        names = ", ".join(f"{quoted(name)}::text" for name in table.key)
        return [
            list(key) for key in await self.run(f"SELECT {names} FROM {sql_name(table)} WHERE {_some(table, rows)}")
        ]

    def _is(self, table: Table, columns: Sequence[Column]) -> str:
        kinds = {column.name: column.type for column in columns}
        return " AND ".join(f"{quoted(name)} = %s::{kinds[name]}" for name in table.key)

    def _key(self, table: Table, columns: Sequence[Column]) -> list[str]:
        kinds = {column.name: column.type for column in columns}
        return [key_for(self.rng, kinds[name]) for name in table.key]

    # --- values -------------------------------------------------------------------------------------------------

    def _row(self, table: Table, columns: Sequence[Column], key: Sequence[str]) -> list[str | None]:
        given = dict(zip(table.key, key or self._key(table, columns), strict=True))
        return [given[one.name] if one.name in given else self._value(table, one) for one in columns]

    def _value(self, table: Table, column: Column) -> str | None:
        if table.poisoned and column.name == "due" and self._writing.poison > 0 and self.rng.random() < 0.1:
            self._writing.poison -= 1
            return POISON
        return value_for(self.rng, column.name, column.type)


def _some(table: Table, rows: int) -> str:
    """A condition that a few rows meet which nobody else is at."""
    chosen = f"SELECT ctid FROM {sql_name(table)} ORDER BY random() LIMIT {rows} FOR UPDATE SKIP LOCKED"
    return f"ctid = ANY (ARRAY({chosen}))"

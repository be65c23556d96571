"""Every type of the policy, in both profiles, with its hardest values: three readers find what the source holds."""

import asyncio
from typing import Any

import pytest
from duckdb import ConversionException, InvalidInputException

from activities.lake.schema import shape_of
from support.fleet import Fleet
from support.lakereaders import ask_clickhouse, ask_duckdb, by_pyiceberg
from support.typecases import cases
from support.typeoverrides import OVERRIDDEN
from support.typetables import source_values

TABLES = {"portable": cases("portable"), "as_published": cases("as_published"), "overridden": OVERRIDDEN}


def pyiceberg(fleet: Fleet, table: str) -> list[tuple[Any, ...]]:
    [rows] = by_pyiceberg(fleet.settings().environment(fleet.name), [f"{fleet.network}.{table}"])
    return rows


def duckdb(fleet: Fleet, table: str) -> list[tuple[Any, ...]]:
    """Without columns of bytes that are no text: see below."""
    beyond = beyond_duckdb(fleet, table)
    asked = ", ".join("NULL" if name in beyond else f'"{name}"' for name in kinds_of(fleet, table))
    query = f"SELECT {asked} FROM lake.{fleet.network}.{table}"
    [rows] = ask_duckdb(fleet.settings().environment(fleet.name), [query])
    return rows


def beyond_duckdb(fleet: Fleet, table: str) -> set[str]:
    """Binary columns that hold more than plain ASCII."""
    return {name for name, kind in kinds_of(fleet, table).items() if kind == "binary"} - {"raw_ascii"}


def clickhouse(fleet: Fleet, table: str) -> list[tuple[Any, ...]]:
    """Its strings may be bytes, which Arrow's may not: those of binary columns travel in hexadecimal."""
    kinds = kinds_of(fleet, table)
    asked = ", ".join(f"lower(hex({name})) AS {name}" if kind == "binary" else name for name, kind in kinds.items())
    [rows] = ask_clickhouse(
        fleet.settings().environment(fleet.name), [f"SELECT {asked} FROM lake.`{fleet.network}.{table}`"]
    )
    return [
        tuple(
            ("bytes", value) if kind == "binary" and value is not None else value
            for kind, value in zip(kinds.values(), row, strict=True)
        )
        for row in rows
    ]


def kinds_of(fleet: Fleet, table: str) -> dict[str, str]:
    """Column → Iceberg type."""
    return {name: str(kind) for name, kind in shape_of(fleet.table(table)).types.items()}


@pytest.mark.parametrize("table", TABLES)
async def test_every_type_becomes_the_iceberg_type_of_the_policy(lake, table):
    assert kinds_of(lake, table) == {
        "at": "timestamptz",
        "network": "string",
        "line": "int",
        **{column.name: column.form(table)[0] for column in TABLES[table]},
    }
    assert not any(field.required for field in lake.table(table).schema().fields)


@pytest.mark.parametrize("reader", [pyiceberg, duckdb, clickhouse])
@pytest.mark.parametrize("table", TABLES)
async def test_every_value_is_read_as_the_source_holds_it(lake, table, reader):
    expected = await source_values(lake, table, TABLES[table], table)
    if reader is duckdb:
        beyond = beyond_duckdb(lake, table)
        expected = {name: values for name, values in expected.items() if name not in beyond}
    rows = await asyncio.to_thread(reader, lake, table)
    names = [field.name for field in lake.table(table).schema().fields]
    rows.sort(key=lambda row: row[names.index("line")])
    found = {name: [row[position] for row in rows] for position, name in enumerate(names)}
    wrong = {
        name: [
            f"{one!r:.200} is not {wanted!r:.200}"
            for one, wanted in zip(found[name], values, strict=True)
            if one != wanted
        ]
        for name, values in expected.items()
        if found[name] != values
    }
    assert not wrong


async def test_duckdb_says_so_when_it_cannot_read_bytes_that_are_no_text(lake):
    """ClickHouse writes every String as a Parquet text, and DuckDB takes it at its word: an error, no other value."""
    query = f"SELECT raw FROM lake.{lake.network}.overridden"
    with pytest.raises((InvalidInputException, ConversionException), match=r"Invalid string encoding|Invalid byte"):
        await asyncio.to_thread(ask_duckdb, lake.settings().environment(lake.name), [query])

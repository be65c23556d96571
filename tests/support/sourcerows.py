"""The rows that must come out of the lake, worked out from what ClickHouse answers in JSON: no code of ours decides."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import requests

# What the public sees in place of what identifies a contributor, whatever the row held, NULL included.
REDACTED = {
    "meta_client_ip": ("bytes", bytes(16).hex()),
    "meta_client_geo_longitude": ("float", "0.0"),
    "meta_client_geo_latitude": ("float", "0.0"),
    "meta_client_geo_city": "",
    "meta_client_geo_country": "",
    "meta_client_geo_country_code": "",
    "meta_client_geo_continent_code": "",
}
EXECUTION = "canonical_execution_block"


class Rows(Counter[tuple[Any, ...]]):
    """Rows, and how often there is each; said in a few words, since a failing test prints what it was given."""

    def __repr__(self) -> str:
        return f"<{self.total()} rows>"


def decoder(kind: str) -> tuple[str, Callable[[Any], Any]]:
    """How a column of this ClickHouse type is asked for in JSON, and what its value must be in the lake."""
    bare = re.sub(r"^(Nullable|LowCardinality)\((.*)\)$", r"\2", kind)
    if bare == "DateTime":
        return "toUnixTimestamp({})", lambda value: ("time", value * 1_000_000)
    if bare == "DateTime64(3)":
        return "toUnixTimestamp64Milli({})", lambda value: ("time", int(value) * 1000)
    if bare in {"UInt32", "UInt64"}:
        return "toString({})", int
    if bare == "Bool":
        return "{}", lambda value: ("bool", value)
    if bare == "FixedString(66)":
        return "{}", lambda value: ("bytes", value.encode().hex())
    assert bare in {"String", "Float64", "IPv6"}, kind
    return "{}", lambda value: value


async def columns_of(sample, table: str) -> dict[str, str]:
    found = await sample.sql(
        f"SELECT name, type FROM system.columns WHERE database = 'default' AND table = '{table}' ORDER BY position"
    )
    return {row["name"]: row["type"] for row in found}


async def expected_rows(sample, identifier: str) -> Rows:
    """The source's own rows, older versions collapsed, of every closed partition, as they must be in the lake."""
    network, _, table = identifier.partition(".")
    columns = await columns_of(sample, table)
    decoders = {name: decoder(kind) for name, kind in columns.items()}
    asked = ", ".join(question.format(name) for name, (question, _) in decoders.items())
    closed = "block_number < 5000" if table == EXECUTION else "1"
    sql = f"SELECT {asked} FROM default.{table} FINAL WHERE meta_network_name = '{network}' AND {closed}"

    def ask() -> str:
        # Past our own client, in a format that has nothing to do with Parquet.
        login = {
            "X-ClickHouse-User": "icefleet",
            "X-ClickHouse-Key": sample.stack.environment["ICEFLEET_LOCAL_CLICKHOUSE_PASSWORD"],
        }
        answer = requests.post(
            f"http://127.0.0.1:{sample.stack.ports['clickhouse']}/",
            data=f"{sql} FORMAT JSONCompactEachRow".encode(),
            headers=login,
            timeout=60,
        )
        answer.raise_for_status()
        answer.encoding = "utf-8"
        return answer.text

    answer = await asyncio.to_thread(ask)
    order = [(name, decode) for name, (_, decode) in decoders.items()]
    return Rows(
        tuple(
            REDACTED[name] if name in REDACTED else (None if value is None else decode(value))
            for (name, decode), value in zip(order, json.loads(line), strict=True)
        )
        for line in answer.split("\n")
        if line
    )


def assert_same(read: Iterable[tuple[Any, ...]], wanted: Rows, what: str) -> None:
    """Every row as often as it should be; a few of those that are not, if there are any."""
    found = Rows(read)
    if found != wanted:
        lost, extra = wanted - found, found - wanted
        raise AssertionError(
            f"{what}: {lost.total()} rows lost, {extra.total()} too many;\n"
            f"lost {list(lost)[:2]}\nextra {list(extra)[:2]}"
        )

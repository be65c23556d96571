"""Tables of many types at the source: made, filled, and asked in a format that has nothing to do with Parquet."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import requests

from activities.core.sqltext import quote_identifier
from support.fleet import Fleet
from support.typecases import Case
from support.typevalues import of

ROWS = 9
DAYS = 3
"""One file for each day."""
_MAKING = {
    "allow_suspicious_low_cardinality_types": 1,
    "allow_experimental_nullable_tuple_type": 1,
    "flatten_nested": 0,
}
_ASKING = {
    # Numbers as they are, for a reader that takes them as text: NaN and infinities alone must be quoted.
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_quote_decimals": 0,
    "output_format_json_quote_denormals": 1,
    "output_format_json_named_tuples_as_objects": 1,
    "date_time_output_format": "iso",
}


async def ask(fleet: Fleet, text: str, **settings: Any) -> str:
    """Past our own client."""
    login = {
        "X-ClickHouse-User": "icefleet",
        "X-ClickHouse-Key": fleet.stack.environment["ICEFLEET_LOCAL_CLICKHOUSE_PASSWORD"],
    }

    def post() -> str:
        address = f"http://127.0.0.1:{fleet.stack.ports['clickhouse']}/"
        answer = requests.post(address, params=settings, data=text.encode(), headers=login, timeout=60)
        assert answer.ok, answer.text[:2000]
        answer.encoding = "utf-8"
        return answer.text

    return await asyncio.to_thread(post)


async def make_table(fleet: Fleet, name: str, columns: Sequence[Case], **config: Any) -> None:
    """A table with these columns and `ROWS` rows over `DAYS` days; a column of fewer values repeats them."""
    shape = ", ".join(f"{quote_identifier(column.name)} {column.kind}" for column in columns)
    await ask(
        fleet,
        f"CREATE TABLE {fleet.database}.{name} (at DateTime, network String, line UInt8, {shape}) "
        "ENGINE = MergeTree ORDER BY line",
        **_MAKING,
    )
    for row in range(ROWS):
        at = f"toDateTime('2024-03-{18 + row * DAYS // ROWS} 00:00:00', 'UTC') + {row}"
        cells = ", ".join(f"CAST({column.values[row % len(column.values)]} AS {column.kind})" for column in columns)
        await ask(
            fleet, f"INSERT INTO {fleet.database}.{name} SELECT {at}, '{fleet.network}', {row}, {cells}", **_MAKING
        )
    fleet.add_table(
        "daily",
        name,
        "at",
        network={"end_date": "2024-03-20"},
        allowed_columns=[column.name for column in columns if "IPv" in column.kind],
        types={column.name: column.override for column in columns if column.override},
        **config,
    )


async def source_values(fleet: Fleet, name: str, columns: Sequence[Case], profile: str) -> dict[str, list[Any]]:
    """Column → what its value must be in the lake, for each row, by what the source answers."""
    asked = ", ".join(column.question.format(quote_identifier(column.name)) for column in columns)
    answer = await ask(
        fleet, f"SELECT {asked} FROM {fleet.database}.{name} ORDER BY line FORMAT JSONCompactEachRow", **_ASKING
    )
    rows = [json.loads(line, parse_int=str, parse_float=str) for line in answer.split("\n") if line]
    assert len(rows) == ROWS
    decoders = [of(column.form(profile)[1]) for column in columns]
    return {
        column.name: [decode(row[position]) for row in rows]
        for position, (column, decode) in enumerate(zip(columns, decoders, strict=True))
    }

"""Files of other ages and hands beside one that is exported today: three readers read every row, filtered or not."""

import asyncio
import functools
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
import requests

from support.fleet import Fleet
from support.lakereaders import by_clickhouse, by_duckdb, by_pyiceberg
from support.published import adopt, parquet, publish

READERS = (by_pyiceberg, by_duckdb, by_clickhouse)
COLUMNS = {
    "updated": "DateTime",
    "at": "DateTime",
    "network": "LowCardinality(String)",
    "line": "UInt8",
    "small": "UInt16",
    "number": "UInt32",
    "wide": "UInt64",
    "signed": "Nullable(Int64)",
    "real": "Float64",
    "price": "Decimal(20, 4)",
    "day": "Date",
    "fine": "DateTime64(3)",
    "hash": "FixedString(6)",
    "raw": "FixedString(16)",
    "key": "UUID",
    "words": "String",
    "flag": "Bool",
    "list": "Array(UInt32)",
    "labels": "Map(String, String)",
    "pair": "Tuple(a UInt16, b String)",
    "added": "Nullable(String)",
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAIVE = {"updated": pa.timestamp("us"), "at": pa.timestamp("us"), "fine": pa.timestamp("ms")}
TIMES = {"updated": pa.timestamp("ms", "UTC"), "at": pa.timestamp("ms", "UTC"), "fine": pa.timestamp("ms", "UTC")}
TYPES = {
    "line": pa.uint8(),
    "small": pa.uint16(),
    "number": pa.uint32(),
    "wide": pa.uint64(),
    "signed": pa.int64(),
    "real": pa.float64(),
    "price": pa.decimal128(20, 4),
    "day": pa.date32(),
    "hash": pa.binary(6),
    "raw": pa.binary(16),
    "key": pa.uuid(),
    "flag": pa.bool_(),
    "list": pa.list_(pa.field("element", pa.uint32())),
    "labels": pa.map_(pa.string(), pa.string()),
    "pair": pa.struct([("a", pa.uint16()), ("b", pa.string())]),
}
NARROW = {
    "line": pa.int8(),
    "small": pa.uint8(),
    "number": pa.int16(),
    "wide": pa.uint32(),
    "signed": pa.int32(),
    "real": pa.float32(),
    "price": pa.decimal128(9, 4),
    "list": pa.list_(pa.field("item", pa.int32())),
    "pair": pa.struct([("a", pa.int8())]),
}
"""What Iceberg widens, and what it calls otherwise."""
GONE = "legacy"


def row(day: int, line: int, network: str) -> dict[str, Any]:
    """One row of the 2024-03-`day`; every column has a value that only it has."""
    at = datetime(2024, 3, day, 12, line, tzinfo=UTC)
    number = day * 4 + line
    return {
        "updated": at + timedelta(days=1),
        "at": at,
        "network": network,
        "line": number,
        "small": number + 1,
        "number": number + 2,
        "wide": number + 3,
        "signed": None if line else -number,
        "real": number + 0.5,
        "price": Decimal(number) + Decimal("0.0001"),
        "day": date(2024, 3, day),
        "fine": at + timedelta(milliseconds=7),
        "hash": f"0x{number:04d}".encode(),
        "raw": bytes([number]) * 16,
        "key": bytes([number]) * 16,
        "words": f"wörter {number}",
        "flag": bool(line),
        "list": [number, 3] if line else [],
        "labels": [("ä", str(number))],
        "pair": {"a": number, "b": f"b{number}"},
        "added": f"new {number}",
    }


def rows(day: int, network: str) -> list[dict[str, Any]]:
    return [row(day, line, network) for line in range(2)]


def table(day: int, network: str, types: dict[str, pa.DataType], *, without: tuple[str, ...] = ()) -> pa.Table:
    columns = {}
    for name in COLUMNS:
        if name in without:
            continue
        kind = types.get(name) or TYPES.get(name, pa.string())
        values = [one[name] for one in rows(day, network)]
        if pa.types.is_timestamp(kind) and kind.tz is None:
            values = [value.replace(tzinfo=None) for value in values]
        columns[name] = pa.array(values, kind)
    return pa.table(columns)


def plain(one: dict[str, Any], lacks: tuple[str, ...]) -> tuple[Any, ...]:
    """A row as the readers of `support.lakereaders` answer it."""
    cells: dict[str, Any] = {
        **one,
        **{name: ("time", (one[name] - EPOCH) // timedelta(microseconds=1)) for name in ("updated", "at", "fine")},
        "real": ("float", repr(one["real"])),
        "price": ("decimal", f"{one['price']:f}"),
        "hash": ("bytes", one["hash"].hex()),
        "raw": ("bytes", one["raw"].hex()),
        "key": str(UUID(bytes=one["key"])),
        "flag": ("bool", one["flag"]),
        "list": tuple(one["list"]),
        "labels": ("map", tuple(one["labels"])),
        "pair": ("struct", (("a", one["pair"]["a"]), ("b", None if "pair.b" in lacks else one["pair"]["b"]))),
    }
    return tuple(None if name in lacks else cells[name] for name in COLUMNS)


LACKS: dict[int, tuple[str, ...]] = {
    16: ("added",),
    17: ("added", "pair.b"),
    18: (),
    19: (),
    20: (),
}
"""Day → what its file has not."""


@pytest.fixture(scope="module")
async def lake(stack, tmp_path_factory):
    """Five days: of the engine's older encoder, of narrow types, without time zones, without statistics, of today."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICEFLEET_LOCAL_DIR", str(stack.directory))
        async with Fleet(stack, tmp_path_factory.mktemp("adopted")) as fleet:
            await fill(fleet)
            network = fleet.network
            narrow = table(17, network, {**TIMES, **NARROW}, without=("added",))
            narrow = narrow.append_column(GONE, pa.array([1, 2], pa.uint32()))
            files = {
                "2024/3/16.parquet": await written_by_the_source(fleet, 16),
                "2024/3/17.parquet": parquet(narrow, use_compliant_nested_type=False, compression="snappy"),
                "2024/3/18.parquet": parquet(table(18, network, NAIVE), version="1.0", use_dictionary=False),
                "2024/3/19.parquet": parquet(table(19, network, TIMES), write_statistics=["number", "wide"]),
            }
            publish(fleet, files)
            async with fleet.worker():
                adopted = await adopt(fleet, extra_columns=[GONE])
                exported = await fleet.request()
            yield fleet, adopted, exported


async def fill(fleet: Fleet) -> None:
    shape = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    await fleet.run_sql(
        f"CREATE TABLE {fleet.database}.events ({shape}) ENGINE = ReplacingMergeTree(updated) ORDER BY (at, line)"
    )
    lines = [
        "SELECT " + ", ".join(f"CAST({literal(one[name], kind)} AS {kind}) AS {name}" for name, kind in COLUMNS.items())
        for day in LACKS
        for one in rows(day, fleet.network)
    ]
    await fleet.run_sql(f"INSERT INTO {fleet.database}.events {' UNION ALL '.join(lines)}")
    fleet.add_table(
        "daily", "events", "at", profile="as_published", network={"start_date": "2024-03-16", "end_date": "2024-03-20"}
    )


def literal(value: Any, kind: str) -> str:
    text = f"'{value}'"
    match value:
        case None:
            text = "NULL"
        case datetime():
            text = f"CAST('{value:%Y-%m-%d %H:%M:%S.%f}' AS DateTime64(6, 'UTC'))"
        case bytes():
            text = f"CAST('{UUID(bytes=value)}' AS UUID)" if kind == "UUID" else f"unhex('{value.hex()}')"
        case dict():
            text = f"({value['a']}, '{value['b']}')"
        case [(str(), _), *_]:
            text = f"map({', '.join(repr(part) for pair in value for part in pair)})"
        case bool() | list():
            text = str(value).lower()
    return text


async def written_by_the_source(fleet: Fleet, day: int) -> bytes:
    """As ClickHouse wrote a day years ago: by its encoder of that time, before the newest column came."""
    names = ", ".join(name for name in COLUMNS if name != "added")
    login = {
        "X-ClickHouse-User": "icefleet",
        "X-ClickHouse-Key": fleet.stack.environment["ICEFLEET_LOCAL_CLICKHOUSE_PASSWORD"],
    }
    asked = (
        f"SELECT {names} FROM {fleet.database}.events WHERE toDate(at, 'UTC') = '2024-03-{day}' ORDER BY line "
        "SETTINGS output_format_parquet_use_custom_encoder = 0, output_format_parquet_version = '2.4', "
        "output_format_parquet_compression_method = 'lz4' FORMAT Parquet"
    )
    address = f"http://127.0.0.1:{fleet.stack.ports['clickhouse']}/"
    answer = await asyncio.to_thread(functools.partial(requests.post, address, data=asked, headers=login, timeout=60))
    assert answer.ok, answer.text[:1000]
    return answer.content


def test_all_are_adopted_and_what_they_lack_is_said(lake):
    _, adopted, exported = lake
    assert (adopted.status, adopted.adopted, adopted.rows) == ("complete", 4, 8), adopted
    assert adopted.lacking == {"added": 2, GONE: 3}
    assert (exported.status, exported.exported, exported.present) == ("complete", 1, 4), exported


CONDITIONS = {
    "line": "line = {}",
    "small": "small = {}",
    "number": "number = {}",
    "wide": "(wide >= {0} and wide <= {0})",
    "real": "real = {}",
    "price": "price = {}",
    "words": "words = '{}'",
    "fine": "fine = '{:%Y-%m-%dT%H:%M:%S.007+00:00}'",
    "day": "day = '{}'",
}


@pytest.mark.parametrize("reader", READERS)
async def test_every_row_of_every_file_is_read_and_no_filter_loses_one(lake, reader):
    fleet, _, _ = lake
    # ClickHouse takes no such text for a time.
    names = [name for name in CONDITIONS if (reader, name) != (by_clickhouse, "fine")]
    wanted = {day * 4 + 1: row(day, 1, fleet.network) for day in LACKS}
    where = ["", *(" or ".join(CONDITIONS[name].format(one[name]) for one in wanted.values()) for name in names)]
    environment = fleet.settings().environment(fleet.name)
    asking = functools.partial(reader, environment, [f"{fleet.network}.events"] * len(where), where=where)
    everything, *filtered = await asyncio.to_thread(asking)
    expected = [
        (*plain(one, lacks), index if day == 17 else None)
        for day, lacks in LACKS.items()
        for index, one in enumerate(rows(day, fleet.network), 1)
    ]
    assert sorted(everything, key=repr) == sorted(expected, key=repr)
    found = {name: {one[3] for one in lines} & wanted.keys() for name, lines in zip(names, filtered, strict=True)}
    assert found == dict.fromkeys(names, wanted.keys())

"""The 21 real Xatu tables: their schemas, what the repository's config decides of them, and random rows for them."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from support.fleet import Fleet
from support.planted import bare_kind, planted
from worker.config import load_settings

ROOT = Path(__file__).parents[2]
SOURCE = ROOT.parent / "shared" / "xatu" / "tables.yaml"
ROWS = 240
# By partition kind: where two neighbouring partitions begin, and how wide both are together.
DAYS = ("2024-03-19 00:00:00", 2 * 86_400)
HOURS = ("2024-03-20 04:00:00", 2 * 3_600)
_ROW = "`the number of the row`"
_UNICODE = "ñ以太坊👩‍🚀"


@dataclass(frozen=True)
class Schema:
    """A table of the source, and what config says of it."""

    name: str
    columns: Mapping[str, str]
    """Name → ClickHouse type, in order."""
    partition_by: str
    order_by: Sequence[str]
    sharding_key: str
    kind: str
    """daily, hourly or chunked."""
    partition_column: str
    config: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the table in tables.yaml."""

    @property
    def network_column(self) -> str:
        """The column that holds the network's name."""
        return str(self.config["network_column"])

    @property
    def redacted(self) -> tuple[str, ...]:
        """Columns that config redacts."""
        return tuple(self.config["redacted_columns"])

    @property
    def chunk(self) -> int:
        """Values per file of a chunked table."""
        return int(self.config["partition"]["chunk_size"])


@functools.cache
def read_schemas() -> dict[str, Schema]:
    """Every table of the list; none where it is not at hand."""
    if not SOURCE.exists():
        return {}
    shipped = load_settings(ROOT / "config").tables
    found = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))["tables"]
    return {table["name"]: _schema(table, shipped.get(table["name"])) for table in found}


def _schema(table: dict[str, Any], entry: Any) -> Schema:
    shape = {key: table[key] for key in ("name", "columns", "partition_by", "order_by", "sharding_key")}
    if entry is None:
        return Schema(**shape, **_UNSHIPPED[table["name"]])
    partition = entry.partition.model_dump(exclude_none=True)
    config = entry.model_dump(include={"network_column", "redacted_columns", "allowed_columns", "sharding_follows"})
    return Schema(
        **shape,
        kind="chunked" if partition["type"] == "integer" else partition["type"],
        partition_column=partition["column"],
        config={**_listed(config), "types": dict(entry.types), "lag": entry.lag, "partition": partition},
    )


def _listed(config: dict[str, Any]) -> dict[str, Any]:
    """The same with lists for tuples."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}


# Two of the tables are not published, so no config is shipped for them.
_UNSHIPPED: Mapping[str, dict[str, Any]] = {
    "block_native_mempool_transaction": {
        "kind": "daily",
        "partition_column": "detecttime",
        "config": {"network_column": "network", "redacted_columns": []},
    },
    "ethseer_validator_entity": {
        "kind": "chunked",
        "partition_column": "index",
        "config": {
            "network_column": "meta_network_name",
            "redacted_columns": [],
            "partition": {"chunk_size": 50, "coarse_chunks": 500},
            "types": {"index": "long"},
        },
    },
}


def add_to_config(fleet: Fleet, schema: Schema, profile: str, **more: Any) -> None:
    """Put a table into the fleet's config as the repository's own has it, but for networks and profile."""
    day = DAYS[0][:10] if schema.kind == "daily" else HOURS[0][:10]
    network = {"start_index": 0} if schema.kind == "chunked" else {"start_date": day, "end_date": "2024-03-20"}
    config = {**schema.config, "profile": profile, "network": network, **more}
    fleet.add_table(schema.kind, schema.name, schema.partition_column, **config)


async def create(fleet: Fleet, schema: Schema) -> None:
    """Make the table, Distributed over a local one as in production; a plain engine stands for the replicated one."""
    columns = ", ".join(f"`{name}` {kind}" for name, kind in schema.columns.items())
    order = ", ".join(name if "(" in name else f"`{name}`" for name in schema.order_by)
    await fleet.run_sql(
        f"CREATE TABLE {fleet.database}.{schema.name}_local ({columns}) ENGINE = ReplacingMergeTree(updated_date_time) "
        f"PARTITION BY {schema.partition_by} ORDER BY ({order}) SETTINGS allow_nullable_key = 1"
    )
    await fleet.run_sql(
        f"CREATE TABLE {fleet.database}.{schema.name} AS {fleet.database}.{schema.name}_local ENGINE = "
        f"Distributed('local', '{fleet.database}', '{schema.name}_local', {schema.sharding_key})"
    )


async def fill(fleet: Fleet, schema: Schema, profile: str, seed: int, *, rows: int = ROWS) -> None:
    """Fill the table with the engine's own random data, and a quarter of the rows in an older version as well.

    The engine makes values of every type; where it would not, some rows get what is hard to carry: NULL, the least
    and the largest value, empty and non-ASCII text, padded FixedStrings. Redacted columns get planted values.
    """
    structure = ", ".join(f"`{name}` {kind}" for name, kind in schema.columns.items()).replace("'", "\\'")
    values = ", ".join(
        f"{_value(fleet, schema, profile, name, position)} AS `{name}`" for position, name in enumerate(schema.columns)
    )
    local = f"{fleet.database}.{schema.name}_local"
    await fleet.run_sql(
        f"INSERT INTO {local} SELECT {values} FROM (SELECT *, rowNumberInAllBlocks() AS {_ROW} FROM "
        f"generateRandom('{structure}', {seed}, 16, 4) LIMIT {rows}) "
        "SETTINGS max_threads = 1, prefer_column_name_to_alias = 1"
    )
    await fleet.run_sql(
        f"INSERT INTO {local} SELECT * REPLACE (toDateTime(intDiv(toUInt32(updated_date_time), 2)) AS "
        f"updated_date_time) FROM {local} LIMIT {rows // 4}"
    )


def _value(fleet: Fleet, schema: Schema, profile: str, name: str, position: int) -> str:
    kind = schema.columns[name]
    if name == schema.network_column:
        return f"'{fleet.network}'"
    if name == schema.partition_column:
        return _partition_value(schema)
    if name in schema.redacted:
        return planted(name, kind, _ROW)
    if name == "updated_date_time":
        return f"`{name}`"
    value = f"if({_ROW} % 8 = 7, NULL, `{name}`)" if kind.startswith("Nullable") else f"`{name}`"
    edges, value = _edges(bare_kind(kind), value, profile)
    # Columns take turns, so that each row is at the edge in some of them.
    cases = "".join(f"({_ROW} + {position}) % 8 = {turn}, {edge}, " for turn, edge in enumerate(edges))
    return f"CAST({f'multiIf({cases}{value})' if cases else value} AS {kind})"


def _partition_value(schema: Schema) -> str:
    """Values all over two partitions, the very first and the very last among them."""
    kind = schema.columns[schema.partition_column]
    start, width = (0, 2 * schema.chunk) if schema.kind == "chunked" else (DAYS if schema.kind == "daily" else HOURS)
    ticks = int(width) * (1000 if kind == "DateTime64(3)" else 1)
    offset = f"multiIf({_ROW} = 0, 0, {_ROW} = 1, {ticks - 1}, cityHash64({_ROW}) % {ticks})"
    match kind:
        case "DateTime":
            return f"toDateTime('{start}', 'UTC') + {offset}"
        case "DateTime64(3)":
            return f"fromUnixTimestamp64Milli(toUnixTimestamp(toDateTime('{start}', 'UTC')) * 1000 + {offset})"
    return f"CAST({offset} AS {kind})"


def _edges(bare: str, value: str, profile: str) -> tuple[list[str], str]:
    """The least and the largest values of a type, or what else is hard to carry; and how to take a random one."""
    if bare == "String":
        return ["''", f"concat('{_UNICODE}', {value})", f"concat({value}, '\\t\"\\\\\\n')"], value
    if bare.startswith("FixedString"):
        # The engine's are random bytes; those of the source are text, and one that is too short is padded.
        return ["''", "'ñ'"], f"substring(concat('0x', hex({value})), 1, {bare[12:-1]})"
    if bare == "UInt64" and profile == "as_published":
        return ["0", f"{2**63 - 1}"], f"bitAnd({value}, {2**63 - 1})"
    if bare.startswith("UInt"):
        return [f"to{bare}(0)", f"bitNot(to{bare}(0))"], value
    known = {
        "Int64": [f"toInt64({-(2**63)})", f"toInt64({2**63 - 1})"],
        "DateTime": ["toDateTime(0)", f"toDateTime({2**32 - 1})"],
        "DateTime64(3)": [f"toDateTime64('{edge}', 3, 'UTC')" for edge in ("1900-01-01", "2299-12-31 23:59:59.999")],
        "Array(String)": ["CAST([] AS Array(String))", f"arrayConcat(['', '{_UNICODE}'], {value})"],
        "Array(UInt32)": ["CAST([] AS Array(UInt32))", f"arrayConcat([toUInt32(0), {2**32 - 1}], {value})"],
    }
    return known.get(bare, []), value

"""The 21 real tables in the lake, in one profile, exported by a worker process that logs everything.

Beside them lies `people`, a table of ours with the types that may identify somebody and that Xatu does not use.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import requests

from activities.contracts.export import ExportReport
from deploy.local.stack import Stack
from support.fleet import Fleet
from support.planted import bare_kind
from support.sourcerows import Rows
from support.xatuschemas import HOURS, ROOT, Schema, add_to_config, create, fill
from worker.config import Environment

PROFILES = ("portable", "as_published")
SEED = int(os.environ.get("SEED", "20240320"))
_WORKER = """
import asyncio, sys
from pathlib import Path
from worker.config import load_settings
from worker.main import run_worker
from worker.telemetry import set_up_telemetry
set_up_telemetry(sys.argv[1], service="icefleet-worker", variables={"LOG_LEVEL": "DEBUG"})
asyncio.run(run_worker(load_settings(Path(sys.argv[2])), sys.argv[1]))
"""


@dataclass(frozen=True)
class XatuLake:
    """One profile's tables, exported."""

    profile: str
    fleet: Fleet
    environment: Environment
    """With its credentials, and every part at its own port."""
    schemas: Mapping[str, Schema]
    reports: Mapping[str, ExportReport]
    """By table."""
    log: Path
    """Of the worker, at DEBUG."""

    def identifier(self, table: str) -> str:
        """The table's name in the lake."""
        return f"{self.fleet.network}.{table}"


@asynccontextmanager
async def exported(
    stack: Stack, directory: Path, profile: str, schemas: Iterable[Schema], *, allowed: bool = False
) -> AsyncIterator[XatuLake]:
    """Make, fill and export tables; `allowed` publishes what config would redact."""
    schemas = {schema.name: schema for schema in schemas}
    async with Fleet(stack, directory / "config", export={"partition_attempts": 2, "heartbeat_seconds": 20}) as fleet:
        for schema in schemas.values():
            decisions = _all_allowed(schema) if allowed else {}
            add_to_config(fleet, schema, profile, **decisions)
        async with _worker(fleet, directory / "worker.log"):
            for schema in schemas.values():
                await create(fleet, schema)
                await fill(fleet, schema, profile, SEED)
            found = await asyncio.gather(*(_export(fleet, name) for name in schemas))
        environment = fleet.settings().environment(fleet.name)
        reports = dict(zip(schemas, found, strict=True))
        yield XatuLake(profile, fleet, environment, schemas, reports, directory / "worker.log")


def _all_allowed(schema: Schema) -> dict[str, Any]:
    allowed = [*schema.config.get("allowed_columns", ()), *schema.redacted]
    return {"redacted_columns": [], "allowed_columns": allowed}


async def _export(fleet: Fleet, table: str) -> ExportReport:
    """Export whatever is due of a table, and let its loop announce it."""
    report = await fleet.request(table, seconds=200)
    # Its own end, and not `loop_ended`: to ask again and again for so many tables would keep Temporal busy.
    await fleet.loop(table).result()
    return report


@asynccontextmanager
async def _worker(fleet: Fleet, log: Path) -> AsyncIterator[None]:
    """A worker process that says all it can; leashed, so that a test run that is killed leaves none behind."""
    leash = [sys.executable, "-I", "-S", str(ROOT / "deploy" / "local" / "leash.py"), str(os.getpid())]
    command = [*leash, sys.executable, "-c", _WORKER, fleet.name, str(fleet.directory)]
    with log.open("wb") as output:
        worker = await asyncio.create_subprocess_exec(*command, env=fleet.variables(), stdout=output, stderr=output)
    try:
        yield
    finally:
        worker.terminate()
        await asyncio.wait_for(worker.wait(), 30)


# --- what must come out ---------------------------------------------------------------------------------------


async def expected_rows(lake: XatuLake, schema: Schema) -> Rows:
    """The source's own rows, older versions collapsed, as the profile must show them: from JSON, by no code of ours."""
    forms = {name: _form(kind, lake.profile) for name, kind in schema.columns.items()}
    asked = ", ".join(question.format(f"`{name}`") for name, (question, _) in forms.items())
    sql = f"SELECT {asked} FROM {lake.fleet.database}.{schema.name} FINAL FORMAT JSONCompactEachRow"
    decoders = [
        _always(blank_of(name, schema.columns[name], lake.profile)) if name in schema.redacted else decode
        for name, (_, decode) in forms.items()
    ]
    answer = await asyncio.to_thread(_ask, lake.fleet.stack, sql)
    return Rows(
        tuple(decode(value) for decode, value in zip(decoders, json.loads(line), strict=True))
        for line in answer.split("\n")
        if line
    )


def _ask(stack: Stack, sql: str) -> str:
    login = {
        "X-ClickHouse-User": "icefleet",
        "X-ClickHouse-Key": stack.environment["ICEFLEET_LOCAL_CLICKHOUSE_PASSWORD"],
    }
    answer = requests.post(
        f"http://127.0.0.1:{stack.ports['clickhouse']}/", data=sql.encode(), headers=login, timeout=60
    )
    assert answer.ok, answer.text
    return answer.content.decode()


def blank_of(name: str, kind: str, profile: str) -> Any:
    """What the lake shows in place of a redacted value of the real tables, NULL included."""
    match bare_kind(kind):
        case "IPv6":
            return "::" if profile == "portable" else ("bytes", "00" * 16)
        case "Float64":
            return ("float", "0.0")
        case "String" if "_geo_" in name:
            return ""
    raise AssertionError(f"nobody has said how {name} {kind} is redacted")


def _always(value: Any) -> Callable[[Any], Any]:
    return lambda _: value


def _form(kind: str, profile: str) -> tuple[str, Callable[[Any], Any]]:
    """How a column is asked for in JSON, and what its value must be in the lake; NULL stays NULL."""
    question, decode = _bare_form(bare_kind(kind), profile)
    return question, lambda value: None if value is None else decode(value)


def _bare_form(bare: str, profile: str) -> tuple[str, Callable[[Any], Any]]:
    portable = profile == "portable"
    if bare in {"UInt128", "UInt256"}:
        width = int(bare[4:]) // 8
        return "toString({})", (
            str if portable else lambda value: ("bytes", int(value).to_bytes(width, "little").hex())
        )
    if bare.startswith("FixedString"):
        # As text, what pads a value that is too short is no part of it.
        return "hex({})", (
            (lambda value: bytes.fromhex(value).rstrip(b"\0").decode())
            if portable
            else (lambda value: ("bytes", value.lower()))
        )
    if bare == "IPv6":
        return "{}", (str if portable else lambda value: ("bytes", IPv6Address(value).packed.hex()))
    if bare.startswith(("UInt", "Int")):
        return "toString({})", int
    forms: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "DateTime": ("toUnixTimestamp({})", lambda value: ("time", value * 1_000_000)),
        "DateTime64(3)": ("toUnixTimestamp64Milli({})", lambda value: ("time", int(value) * 1000)),
        "Bool": ("{}", lambda value: ("bool", value)),
        "Float64": ("{}", lambda value: ("float", repr(value))),
        "String": ("{}", str),
        "Array(String)": ("{}", tuple),
        "Array(UInt32)": ("{}", tuple),
    }
    return forms[bare]


# --- a table of ours ------------------------------------------------------------------------------------------

SENSITIVE_COLUMNS = {
    "ip": "IPv6",
    "client_ip": "Nullable(IPv4)",
    "contact_ip": "LowCardinality(Nullable(String))",
    "numeric_ip": "UInt32",
    "padded_ip": "FixedString(40)",
    "where_from": "Nullable(IPv6)",
    "latitude": "Float32",
    "longitude": "Nullable(Decimal(18, 10))",
    "node_longitude": "LowCardinality(String)",
    "geo_city": "FixedString(40)",
    "geo_country": "Nullable(String)",
    "geo_country_code": "LowCardinality(Nullable(String))",
    "geo_continent_code": "String",
    "peer_id": "String",
    "peer_id_number": "Nullable(Int64)",
    "client_id": "UUID",
    "client_id_number": "UInt128",
}
"""Every way in which somebody may be recognised, in types that Xatu's tables do not use for it."""


def people(name: str = "people") -> Schema:
    """A table of people: three of the columns that identify them are in its sorting key."""
    return Schema(
        name=name,
        columns={
            "updated_date_time": "DateTime",
            "slot_start_date_time": "DateTime",
            **SENSITIVE_COLUMNS,
            "note": "String",
            "meta_network_name": "LowCardinality(String)",
        },
        partition_by="toYYYYMM(slot_start_date_time)",
        order_by=("meta_network_name", "slot_start_date_time", "ip", "lower(peer_id)", "client_ip"),
        sharding_key="cityHash64(slot_start_date_time)",
        kind="hourly",
        partition_column="slot_start_date_time",
        config={"network_column": "meta_network_name", "redacted_columns": list(SENSITIVE_COLUMNS)},
    )


PARTITIONS = {"daily": ["2024-03-19", "2024-03-20"], "hourly": [f"{HOURS[0][:10]}T04", f"{HOURS[0][:10]}T05"]}
"""Labels of the two partitions that have rows."""

"""What would lose a value is refused, with table, column and way out, and nothing of it is in the lake."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pytest

from activities.contracts.export import ExportReport
from support.fleet import Fleet
from support.refusals import asking, refusal
from support.typetables import ask


@dataclass(frozen=True)
class Misfit:
    """A column with a value that its Iceberg type cannot hold, and what the report says of it."""

    kind: str
    value: str
    says: str
    override: str = ""
    profile: str = "portable"
    rows: int = 1
    """Rows of its partition that fit."""


PROFILES = ("portable", "as_published")
GIVE_ANOTHER = "column c holds a value that does not fit"
FINER = "column c has digits below a microsecond, which {} cannot hold; under `types` in tables.yaml, say "
NANOSECOND = "'2024-03-20 00:00:00.000000001'"
MISFITS = {
    "unsigned": Misfit(
        "UInt64",
        str(2**63),
        "column c holds 9223372036854775808, and a long ends at 2^63-1; write `types: {c: decimal(20, 0)}`",
        profile="as_published",
    ),
    "unsigned_maybe": Misfit(
        "Nullable(UInt64)", str(2**64 - 1), "column c holds 18446744073709551615", profile="as_published"
    ),
    "unsigned_as_long": Misfit("UInt64", str(2**63), GIVE_ANOTHER, "long"),
    "unsigned_maybe_as_long": Misfit("Nullable(UInt64)", str(2**63), GIVE_ANOTHER, "long"),
    "unsigned_counted_as_long": Misfit("LowCardinality(Nullable(UInt64))", str(2**63), GIVE_ANOTHER, "long"),
    "unsigned_list_as_long": Misfit("Array(UInt64)", f"[1, {2**63}]", GIVE_ANOTHER, "list<long>"),
    "unsigned_late": Misfit("UInt64", str(2**63), GIVE_ANOTHER, "long", rows=300_000),
    "wide": Misfit("Int256", f"'{10**38}'", GIVE_ANOTHER, "decimal(38, 0)"),
    "wide_below": Misfit("Int256", f"'-{10**38}'", GIVE_ANOTHER, "decimal(38, 0)"),
    "wide_maybe": Misfit("Nullable(UInt256)", f"'{10**38}'", GIVE_ANOTHER, "decimal(38, 0)"),
    "wide_128": Misfit("Nullable(UInt128)", f"'{2**128 - 1}'", GIVE_ANOTHER, "decimal(38, 0)"),
    "fine": Misfit(
        "DateTime64(9)",
        NANOSECOND,
        FINER.format("timestamptz") + "long to carry nanoseconds, or timestamptz to drop them",
    ),
    "fine_published": Misfit("DateTime64(9, 'UTC')", NANOSECOND, FINER.format("timestamptz"), profile="as_published"),
    "fine_old": Misfit(
        "Nullable(DateTime64(9, 'UTC'))", "'1969-12-31 23:59:59.999999999'", FINER.format("timestamptz")
    ),
    "fine_7": Misfit("DateTime64(7, 'UTC')", "'2299-12-31 23:59:59.9999999'", FINER.format("timestamptz")),
    "fine_list": Misfit(
        "Array(Array(Nullable(DateTime64(9))))",
        f"[[NULL], [NULL, {NANOSECOND}]]",
        FINER.format("list<list<timestamptz>>") + "list<list<timestamptz>> to drop them",
    ),
    "fine_map": Misfit(
        "Map(String, DateTime64(9))", f"map('a', {NANOSECOND})", FINER.format("map<string, timestamptz>")
    ),
    "fine_key": Misfit(
        "Map(DateTime64(9), String)", f"map({NANOSECOND}, 'a')", FINER.format("map<timestamptz, string>")
    ),
    "fine_field": Misfit(
        "Nullable(Tuple(a Float64, b DateTime64(9)))",
        f"(nan, {NANOSECOND})",
        FINER.format("struct<a: double, b: timestamptz>"),
    ),
    "fine_nested": Misfit(
        "Nested(a String, b DateTime64(9))",
        f"[('', {NANOSECOND})]",
        FINER.format("list<struct<a: string, b: timestamptz>>"),
    ),
}
NO_WAY = "has no lossless way into Iceberg: leave the column out of the source's table, or convert it there"
NO_POLICY = {
    "aggregate": ("AggregateFunction(sum, UInt64)", NO_WAY),
    "aggregates": ("Array(AggregateFunction(uniq, String))", NO_WAY),
    "brain": ("BFloat16", NO_WAY),
    "brains": ("Tuple(a String, b BFloat16)", NO_WAY),
    "vectors": ("QBit(Float32, 4)", NO_WAY),
}
_MAKING = {
    "allow_suspicious_low_cardinality_types": 1,
    "allow_experimental_nullable_tuple_type": 1,
    "allow_experimental_bfloat16_type": 1,
    "allow_experimental_qbit_type": 1,
    "flatten_nested": 0,
}


FIRST = date(2024, 3, 1)
GOOD = "2024-03-20"


@pytest.fixture(scope="module")
async def refusing(stack, tmp_path_factory) -> AsyncIterator[tuple[Fleet, dict[str, ExportReport]]]:
    """A table for each profile, a column and a day for each misfit, one good day; and the reports of their exports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICEFLEET_LOCAL_DIR", str(stack.directory))
        async with Fleet(stack, tmp_path_factory.mktemp("types")) as fleet:
            for profile in PROFILES:
                mine = misfits_of(profile)
                types = {name: misfit.override for name, misfit in mine.items() if misfit.override}
                await make(fleet, profile, {name: one.kind for name, one in mine.items()}, profile=profile, types=types)
                table = f"{fleet.database}.{profile}"
                await ask(fleet, f"INSERT INTO {table} (at, network) VALUES ('{GOOD} 00:00:00', '{fleet.network}')")
                for day, (name, misfit) in enumerate(mine.items()):
                    at = FIRST + timedelta(day)
                    insert = f"INSERT INTO {table} (at, network, {name}) SELECT '{at}', '{fleet.network}',"
                    fitting = f"{insert} defaultValueOfTypeName('{misfit.kind}') FROM numbers({misfit.rows})"
                    await ask(fleet, fitting.replace("'UTC'", "\\'UTC\\'"), **_MAKING)
                    await ask(fleet, f"{insert} CAST({misfit.value} AS {misfit.kind})", **_MAKING)
            for name, (kind, _) in NO_POLICY.items():
                await make(fleet, name, {"c": kind})
            async with fleet.worker():
                reports = await asyncio.gather(*(fleet.request(profile) for profile in PROFILES))
                yield fleet, dict(zip(PROFILES, reports, strict=True))


def misfits_of(profile: str) -> dict[str, Misfit]:
    return {name: misfit for name, misfit in MISFITS.items() if misfit.profile == profile}


async def make(fleet: Fleet, name: str, columns: dict[str, str], **config: Any) -> None:
    shape = ", ".join(
        f"{column} {kind}" for column, kind in {"at": "DateTime('UTC')", "network": "String", **columns}.items()
    )
    await ask(fleet, f"CREATE TABLE {fleet.database}.{name} ({shape}) ENGINE = MergeTree ORDER BY at", **_MAKING)
    fleet.add_table("daily", name, "at", network={"end_date": GOOD}, **config)


@pytest.mark.parametrize("name", MISFITS)
async def test_a_value_that_does_not_fit_stops_its_partition_with_table_column_and_way_out(refusing, name):
    fleet, reports = refusing
    misfit = MISFITS[name]
    day = str(FIRST + timedelta(list(misfits_of(misfit.profile)).index(name)))
    [failure] = [failure for failure in reports[misfit.profile].failures if failure.partition == day]
    assert failure.cause == "UnsupportedType"
    assert failure.message.startswith(f"{fleet.network}.{misfit.profile} partition {day}: ")
    assert misfit.says.replace("column c ", f"column {name} ").replace("{c: ", f"{{{name}: ") in failure.message
    assert name in failure.message


@pytest.mark.parametrize("profile", PROFILES)
async def test_the_other_partitions_arrive(refusing, profile):
    fleet, reports = refusing
    assert (reports[profile].status, reports[profile].exported) == ("partial", 1)
    assert reports[profile].failed == len(misfits_of(profile))
    assert fleet.files(profile) == [("2024/3/20.parquet", 1)]


@pytest.mark.parametrize("name", NO_POLICY)
async def test_a_type_without_a_policy_stops_its_table_with_column_and_way_out(refusing, name):
    fleet, _ = refusing
    cause, message = await refusal(fleet, asking(fleet, table=name), seconds=30)
    assert cause == "UnsupportedType"
    assert message.startswith(f"{name}: column c: ")
    assert message.endswith(NO_POLICY[name][1])
    assert fleet.table(name) is None

"""What would lose a value is refused, with table, column and way out, and nothing of it is in the lake."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from activities.contracts.export import ExportReport
from support.fleet import Fleet
from support.refusals import asking, refusal
from support.typetables import ask


@dataclass(frozen=True)
class Misfit:
    """A column `c` with a value that its Iceberg type cannot hold, and what the report says of it."""

    kind: str
    value: str
    says: str
    override: str = ""
    profile: str = "portable"
    rows: int = 1
    """Rows before it that fit: the first one on the day before, the others on its own day."""


GIVE_ANOTHER = "a value does not fit the Iceberg type of its column; give the column another one under `types`"
FINER = "column c has digits below a microsecond, which {} cannot hold; under `types` in tables.yaml, say "
NANOSECOND = "'2024-03-20 00:00:00.000000001'"
MISFITS = {
    "unsigned": Misfit(
        "UInt64",
        str(2**63),
        "column c holds 9223372036854775808, and a long ends at 2^63-1; write `types: {c: decimal(20, 0)}`",
        profile="as_published",
    ),
    "unsigned_maybe": Misfit("Nullable(UInt64)", str(2**64 - 1), "column c holds 18446744073709551615", profile="as_published"),
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
        "DateTime64(9)", NANOSECOND, FINER.format("timestamptz") + "long to carry nanoseconds, or timestamptz to drop them"
    ),
    "fine_published": Misfit("DateTime64(9, 'UTC')", NANOSECOND, FINER.format("timestamptz"), profile="as_published"),
    "fine_old": Misfit("Nullable(DateTime64(9, 'UTC'))", "'1969-12-31 23:59:59.999999999'", FINER.format("timestamptz")),
    "fine_7": Misfit("DateTime64(7, 'UTC')", "'2299-12-31 23:59:59.9999999'", FINER.format("timestamptz")),
    "fine_list": Misfit(
        "Array(Array(Nullable(DateTime64(9))))",
        f"[[NULL], [NULL, {NANOSECOND}]]",
        FINER.format("list<list<timestamptz>>") + "list<list<timestamptz>> to drop them",
    ),
    "fine_map": Misfit("Map(String, DateTime64(9))", f"map('a', {NANOSECOND})", FINER.format("map<string, timestamptz>")),
    "fine_key": Misfit("Map(DateTime64(9), String)", f"map({NANOSECOND}, 'a')", FINER.format("map<timestamptz, string>")),
    "fine_field": Misfit(
        "Nullable(Tuple(a Float64, b DateTime64(9)))",
        f"(nan, {NANOSECOND})",
        FINER.format("struct<a: double, b: timestamptz>"),
    ),
    "fine_nested": Misfit(
        "Nested(a String, b DateTime64(9))", f"[('', {NANOSECOND})]", FINER.format("list<struct<a: string, b: timestamptz>>")
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


@pytest.fixture(scope="module")
async def refusing(stack, tmp_path_factory) -> AsyncIterator[tuple[Fleet, dict[str, ExportReport]]]:
    """A table for every misfit, with one good day before, and the report of its export."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ICEFLEET_LOCAL_DIR", str(stack.directory))
        async with Fleet(stack, tmp_path_factory.mktemp("types")) as fleet:
            for name, misfit in MISFITS.items():
                await make(fleet, name, misfit.kind, profile=misfit.profile, types={"c": misfit.override} if misfit.override else {})
                await ask(
                    fleet,
                    f"INSERT INTO {fleet.database}.{name} (at, network) SELECT if(number > 0, toDateTime('2024-03-20', 'UTC'), "
                    f"toDateTime('2024-03-19', 'UTC')), '{fleet.network}' FROM numbers({misfit.rows})",
                )
                await ask(
                    fleet,
                    f"INSERT INTO {fleet.database}.{name} SELECT toDateTime('2024-03-20 01:00:00', 'UTC'), "
                    f"'{fleet.network}', CAST({misfit.value} AS {misfit.kind})",
                    **_MAKING,
                )
            for name, (kind, _) in NO_POLICY.items():
                await make(fleet, name, kind)
            async with fleet.worker():
                reports = await asyncio.gather(*(fleet.request(name) for name in MISFITS))
                yield fleet, dict(zip(MISFITS, reports, strict=True))


async def make(fleet: Fleet, name: str, kind: str, **config: Any) -> None:
    shape = f"at DateTime, network String, c {kind}"
    await ask(fleet, f"CREATE TABLE {fleet.database}.{name} ({shape}) ENGINE = MergeTree ORDER BY tuple()", **_MAKING)
    fleet.add_table("daily", name, "at", network={"end_date": "2024-03-20"}, **config)


@pytest.mark.parametrize("name", MISFITS)
async def test_a_value_that_does_not_fit_stops_its_partition_with_table_column_and_way_out(refusing, name):
    fleet, reports = refusing
    report = reports[name]
    assert (report.status, report.exported, report.failed) == ("partial", 1, 1), report
    [failure] = report.failures
    assert (failure.partition, failure.cause) == ("2024-03-20", "UnsupportedType")
    assert failure.message.startswith(f"{fleet.network}.{name} partition 2024-03-20: "), failure.message
    assert MISFITS[name].says in failure.message
    assert fleet.files(name) == [("2024/3/19.parquet", 1)]


@pytest.mark.parametrize("name", NO_POLICY)
async def test_a_type_without_a_policy_stops_its_table_with_column_and_way_out(refusing, name):
    fleet, _ = refusing
    kind, says = NO_POLICY[name]
    cause, message = await refusal(fleet, asking(fleet, table=name), seconds=30)
    assert cause == "UnsupportedType"
    assert message.startswith(f"{name}: column c: ")
    assert message.endswith(says)
    assert fleet.table(name) is None

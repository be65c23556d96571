"""A source held against config: what is named, and that everything is named at once."""

from dataclasses import replace

import pytest

from activities.core.columns import SourceColumn
from activities.core.source_check import SourceTable, check_source
from activities.core.tables import NetworkRange, PartitionRule, TableConfig

CONFIG = TableConfig(
    name="events",
    database="db",
    source="here.default",
    partition=PartitionRule("daily", "at"),
    networks=(NetworkRange("net", "2024-03-20"),),
    network_column="network",
    redacted_columns=("ip",),
    profile="as_published",
)
COLUMNS = {"updated": "DateTime", "at": "DateTime", "number": "UInt64", "ip": "IPv6", "network": "String"}


def source(
    columns: dict[str, str] | None = None,
    *,
    local: dict[str, str] | None = None,
    sharding: str = "cityHash64(at, network)",
    engine: str = "ReplacingMergeTree",
    version: str = "updated",
    sorting: str = "network, at, number",
) -> dict[tuple[str, str], SourceTable]:
    """A Distributed table `events` over `events_local` in another database."""

    def listed(types: dict[str, str]) -> tuple[SourceColumn, ...]:
        return tuple(SourceColumn(name, kind) for name, kind in types.items())

    columns = columns or COLUMNS
    full = f"Distributed('cluster', 'behind', 'events_local', {sharding})"
    rows = f"{engine}({version}) ORDER BY ({sorting})"
    return {
        ("db", "events"): SourceTable("db", "events", "Distributed", full, "", listed(columns)),
        ("behind", "events_local"): SourceTable(
            "behind", "events_local", engine, rows, sorting, listed(local or columns)
        ),
    }


def found(tables: dict[tuple[str, str], SourceTable], config: TableConfig = CONFIG) -> list[str]:
    return [str(finding) for finding in check_source([config], tables)]


def test_a_source_as_config_says_has_nothing_to_report():
    assert found(source()) == []


DECIDE = "and nobody decided; name it under redacted_columns (or in a set that the table redacts), or under"
PARTED = "puts versions of one row on different shards, where FINAL cannot collapse them"
ABSENT = (
    "the source here.default has no table db.events that this user may see; {}mend name or database in tables.yaml, "
    "grant the user its rights, or say `enabled: false`"
)
CASES = {
    "a table that is missing": ({}, CONFIG, {"events": ABSENT.format("")}),
    "a table under another name": (
        {("db", "event"): source()["db", "events"]},
        CONFIG,
        {"events": ABSENT.format("is it `event`? ")},
    ),
    "columns that config names and the source lacks": (
        source(),
        replace(
            CONFIG,
            network_column="networks",
            redacted_columns=("ip", "city"),
            allowed_columns=("peer_id",),
            types={"fee": "long"},
            sharding_follows={"slot": "at"},
        ),
        {
            "events networks": (
                "the network column does not exist at the source; is it `network`? correct the name in config"
            ),
            "events city": "the redacted column does not exist at the source; correct the name in config",
            "events peer_id": "the allowed column does not exist at the source; correct the name in config",
            "events fee": "the column with a type of its own does not exist at the source; correct the name in config",
            "events slot": (
                "sharding_follows names it, and it does not exist at the source; correct the name in config"
            ),
        },
    ),
    "columns that nobody decided": (
        source({**COLUMNS, "peer_id": "String", "where": "Array(IPv4)"}),
        CONFIG,
        {
            f"events {name}": f"it may say who or where somebody is ({kind}), {DECIDE} allowed_columns"
            for name, kind in {"peer_id": "String", "where": "Array(IPv4)"}.items()
        },
    ),
    "a redaction whose type has no blank": (
        source({**COLUMNS, "ip": "Map(String, IPv6)"}),
        CONFIG,
        {
            "events ip": (
                "there is no blank value of type Map(String, IPv6); allow the column, or convert it at the source"
            )
        },
    ),
    "types without a policy": (
        source({**COLUMNS, "state": "AggregateFunction(sum, UInt64)", "odd": "Array("}),
        replace(CONFIG, types={"number": "int"}),
        {
            "events number": "UInt64 cannot be carried as int; possible: long, decimal(20, 0), string",
            "events state": (
                "AggregateFunction(sum, UInt64) has no lossless way into Iceberg; "
                "leave the column out of the source's table, or convert it there"
            ),
            "events odd": (
                "'Array(' is no ClickHouse type that can be read; "
                "convert the column at the source, or choose another type for it under types"
            ),
        },
    ),
    "a partition column that days cannot cut": (
        source({**COLUMNS, "at": "UInt64"}),
        CONFIG,
        {
            "events at": (
                "partition column at is UInt64, but partitions that are daily need Date, Date32, DateTime or "
                "DateTime64; correct it in config or at the source"
            )
        },
    ),
    "chunks of what is no whole number in Iceberg": (
        source(),
        replace(CONFIG, partition=PartitionRule("integer", "number", 1000, 100), profile="portable"),
        {
            "events number": (
                "partition column number would be decimal(20, 0) in Iceberg, and integer partitions need int or long; "
                "write `types: {number: long}` for the table in tables.yaml"
            )
        },
    ),
    "a version that cannot tell": (
        source(version="ip"),
        CONFIG,
        {
            "events ip": (
                "version column ip is IPv6; an integer of at most 64 bits, Date or DateTime can say which row is newer"
            )
        },
    ),
    "rows sharded by chance": (
        source(sharding="rand()"),
        CONFIG,
        {"events": f"rows are sharded by rand(), and rand() {PARTED}; shard by columns of the sorting key"},
    ),
    "rows sharded by a column that no key holds": (
        source(sharding="cityHash64(updated)"),
        replace(CONFIG, sharding_follows={"updated": "ip"}),
        {
            "events": (
                "rows are sharded by cityHash64(updated), but updated is not in the sorting key (network, at, number), "
                "so versions of one row may lie on different shards, where FINAL cannot collapse them; shard by "
                "columns of the sorting key, or name the column of it that decides the other one under sharding_follows"
            )
        },
    ),
    "a column that only the Distributed table has": (
        source({**COLUMNS, "extra": "String"}, local=COLUMNS),
        CONFIG,
        {
            "events extra": (
                "behind.events_local, where the rows are, has no such column: no query can read it; "
                "add it there, or drop it from the Distributed table"
            )
        },
    ),
    "a Distributed table over one that only passes queries on": (
        source(engine="Merge", version="'behind', 'events_.*'", sorting=""),
        CONFIG,
        {
            "events": (
                "its rows lie behind an engine Merge, which does not say whether they collapse, so duplicates might "
                "stay; name the table that holds them, or a view that reads it, with FINAL if it needs that"
            )
        },
    ),
    "a Distributed table over nothing": (
        {("db", "events"): source()["db", "events"]},
        CONFIG,
        {
            "events": (
                "it looks into behind.events_local, which this user cannot see; "
                "make that table, or grant the user its rights"
            )
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_named_with_table_column_and_way_out(case):
    tables, config, expected = CASES[case]
    assert found(tables, config) == [f"{where}: {said}" for where, said in expected.items()]


def test_chance_does_no_harm_where_rows_never_collapse():
    assert found(source(sharding="rand()", engine="MergeTree", version="")) == []


def test_a_sharding_column_that_another_one_decides_is_right():
    config = replace(CONFIG, sharding_follows={"updated": "at"})
    assert found(source(sharding="cityHash64(updated)"), config) == []


def test_every_problem_of_every_table_is_named_at_once():
    broken = source({**COLUMNS, "peer_id": "String", "at": "UInt8"}, sharding="rand()")
    configs = [replace(CONFIG, redacted_columns=("ip", "city")), replace(CONFIG, name="others")]
    findings = check_source(configs, broken)
    assert [(finding.table, finding.column) for finding in findings] == [
        ("events", "city"),
        ("events", "peer_id"),
        ("events", ""),
        ("events", "at"),
        ("others", ""),
    ]

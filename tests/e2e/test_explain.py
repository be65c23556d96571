"""The real export query through a Distributed table: the primary key prunes, FINAL collapses, and nothing is sorted."""

import re
from dataclasses import dataclass

import pytest

from activities.core.columns import export_columns
from activities.core.partitions import index_of
from activities.core.query import Query, export_query
from activities.source import read_facts

ROWS = 100_000
GRANULARITY = 64


@dataclass(frozen=True)
class Cut:
    """One way to cut a table, and a partition that holds about one row in `share`."""

    group: str
    kind: str
    value: str
    """SQL of the partition column, of `number`."""
    partition: str
    share: int
    more: tuple[tuple[str, object], ...] = ()


CUTS = {
    "daily": Cut("daily", "DateTime", "toDateTime('2024-03-20', 'UTC') - number * 20", "2024-03-10", 23),
    "hourly": Cut("hourly", "DateTime64(3)", "toDateTime64('2024-03-20', 3, 'UTC') - number * 2", "2024-03-19T05", 55),
    "integer": Cut("chunked", "UInt64", "number", "42000", 100, (("types", {"cut": "long"}),)),
}


async def make(fleet, cut: Cut) -> Query:
    """A table in two months and two networks, its Distributed face, and the query that exports one partition."""
    [found] = await fleet.sql(
        "SELECT cluster FROM system.clusters GROUP BY cluster HAVING count() = 1 AND min(is_local) = 1 LIMIT 1"
    )
    month = "intDiv(cut, 50000)" if cut.group == "chunked" else "toYYYYMM(cut)"
    local = f"{fleet.database}.big_local"
    await fleet.run_sql(
        f"CREATE TABLE {local} (updated DateTime, cut {cut.kind}, name String, big UInt64, "
        f"network LowCardinality(String)) ENGINE = ReplacingMergeTree(updated) PARTITION BY (network, {month}) "
        f"ORDER BY (network, cut, name) SETTINGS index_granularity = {GRANULARITY}"
    )
    await fleet.run_sql(
        f"CREATE TABLE {fleet.database}.big AS {local} ENGINE = "
        f"Distributed('{found['cluster']}', '{fleet.database}', 'big_local', cityHash64(network, cut))"
    )
    for network, version in ((fleet.network, 1), (fleet.network, 2), ("another", 1)):
        await fleet.run_sql(
            f"INSERT INTO {local} SELECT toDateTime('2024-04-0{version} 00:00:00', 'UTC'), {cut.value}, 'n', number, "
            f"'{network}' FROM numbers({ROWS})"
        )
    fleet.add_table(cut.group, "big", "cut", **dict(cut.more))
    config = fleet.settings().table(fleet.name, "big", fleet.network)
    facts = await read_facts(fleet.clickhouse, config)
    columns = export_columns(config, facts.columns)
    return export_query(config, facts, columns, fleet.network, index_of(config.partition, cut.partition))


async def explain(fleet, query: Query, settings: str = "") -> str:
    """The plan as text; the client pins the same settings that an export has."""
    asked = Query(f"EXPLAIN indexes = 1, actions = 1 {query.text} {settings}", query.parameters)
    return "\n".join(str(line) for row in await fleet.clickhouse.rows(asked) for line in row.values())


def granules(plan: str) -> tuple[int, int]:
    """Granules that are read after the primary key has pruned, and all there are before any index."""
    keyed = re.search(r"PrimaryKey.*?Granules: (\d+)/\d+", plan, re.DOTALL)
    every = re.search(r"Granules: \d+/(\d+)", plan)
    assert keyed, plan
    assert every, plan
    return int(keyed[1]), int(every[1])


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
async def test_an_export_reads_only_its_partitions_granules_in_the_keys_order_with_final(fleet, cut):
    query = await make(fleet, cut)
    # The casts stand under the columns' own names: what would hide the key from WHERE if nobody took care.
    assert re.search(r"(CAST|cast|accurateCast)\(`cut`[^`]*AS `cut`", query.text)
    plan = await explain(fleet, query)
    read, every = granules(plan)
    # Two networks, of one of which there are two versions.
    assert every > 3 * ROWS / GRANULARITY * 0.9
    assert read <= 2 * ROWS / GRANULARITY / cut.share * 1.5
    assert re.search(r"ReadFromMergeTree \(\S*big_local\)", plan), "it is looked through to the local table"
    assert re.search(r"FINAL: (1|true)", plan)
    assert "Read type: InOrder" in plan
    assert re.search(r"Prefix sort description: cut ASC, network ASC, name ASC", plan), "nothing is left to sort"


async def test_the_pinned_setting_keeps_the_key_where_a_cast_would_hide_it(fleet):
    """The control: what these tests look at does change when the setting is gone, if keys cannot follow the cast."""
    query = await make(fleet, CUTS["integer"])
    text = query.text.replace("accurateCast(`cut`, 'Int64')", "CAST(`cut` AS Decimal(20, 0))")
    assert text != query.text
    cast = Query(text, query.parameters)
    kept, every = granules(await explain(fleet, cast))
    hidden, _ = granules(await explain(fleet, cast, "SETTINGS prefer_column_name_to_alias = 0"))
    assert kept <= 2 * ROWS / GRANULARITY / 100 * 1.5
    assert hidden > every / 2


async def test_an_export_reads_about_as_many_rows_as_it_writes(fleet):
    await make(fleet, CUTS["daily"])
    async with fleet.worker():
        report = await fleet.request("big", from_="2024-03-10", to="2024-03-10")
    assert (report.status, report.rows) == ("complete", 4320)
    [export] = [
        one
        for one in await fleet.queries(f"icefleet {fleet.network}.big partition 2024-03-10")
        if "ORDER BY" in one["query"]
    ]
    # Both versions, and the granules at both ends of the day and of each part.
    assert 2 * 4320 <= export["read_rows"] < 2 * 4320 + 4 * GRANULARITY * 2

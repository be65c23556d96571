import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from activities.core.columns import SourceColumn, export_columns
from activities.core.engines import newest_may_go
from activities.core.faults import BadConfig
from activities.core.partitions import Ranges, index_of, span_of
from activities.core.query import (
    SourceFacts,
    check_version_column,
    content_query,
    counts_query,
    export_query,
    head_query,
    refused_text_query,
    survey_query,
    together_query,
    versions_query,
)
from activities.core.tables import PartitionRule, TableConfig

COLUMNS = (
    SourceColumn("updated", "DateTime"),
    SourceColumn("at", "DateTime"),
    SourceColumn("name", "String"),
    SourceColumn("number", "UInt64"),
    SourceColumn("version", "UInt8"),
    SourceColumn("net", "LowCardinality(String)"),
)
FACTS = SourceFacts(COLUMNS, final=True, sorting_key=("net", "at", "name"), version_column="updated")
CONFIG = TableConfig("events", "default", "local.default", PartitionRule("daily", "at"), (), network_column="net")
DAY = index_of(CONFIG.partition, "2024-03-20")
WIDTH = 400_000
SECONDS = 6
"""Of time between two rows, so that the whole table spans almost four weeks and a day is about 14,400 rows."""


@pytest.fixture(scope="module")
def filled(engine):
    columns = ", ".join(f"`{column.name}` {column.type}" for column in COLUMNS)
    rows = (
        f"toDateTime('2024-03-01 00:00:00', 'UTC') + number * {SECONDS} AS at, toString(number) AS name, "
        "number, 7 AS version, if(number % 2, 'mainnet', 'holesky') AS net"
    )
    engine.run(
        f"CREATE TABLE default.events_local ({columns}) ENGINE = ReplacingMergeTree(updated) "
        "PARTITION BY (net, toYYYYMM(at)) ORDER BY (net, at, name)"
    )
    engine.run(f"INSERT INTO events_local SELECT toDateTime(1e9), {rows} FROM numbers({WIDTH})")
    # Half of the keys again, newer, and now with other numbers.
    newer = rows.replace("number, 7", "number + 1000000, 8")
    engine.run(f"INSERT INTO events_local SELECT toDateTime(2e9), {newer} FROM numbers({WIDTH}) WHERE number % 8 >= 4")
    engine.run("CREATE TABLE events AS events_local ENGINE = Distributed('here', 'default', 'events_local', rand())")
    return engine


def one(index):
    return Ranges.from_indices([index])


def local(config=CONFIG):
    return replace(config, name="events_local")


def export(config=CONFIG, facts=FACTS, index=DAY):
    return export_query(config, facts, export_columns(config, facts.columns), "mainnet", index)


def granules(plan):
    """Granules that the primary key leaves, and those it was asked about."""
    read, among = re.search(r"PrimaryKey.*?Granules: (\d+)/(\d+)", plan, re.DOTALL).groups()
    return int(read), int(among)


def test_the_text_of_an_export_is_stable():
    query = export()
    assert query.text == (
        "SELECT CAST(`updated` AS DateTime64(6, 'UTC')) AS `updated`, "
        "if(throwIf(NOT (isValidUTF8(`name`) AND isValidUTF8(`net`)), "
        "'icefleet: text that is not UTF-8') = 0, CAST(`at` AS DateTime64(6, 'UTC')), "
        "CAST(`at` AS DateTime64(6, 'UTC'))) AS `at`, "
        "`name` AS `name`, CAST(`number` AS Decimal(20, 0)) AS `number`, `version` AS `version`, `net` AS `net` "
        "FROM `default`.`events` FINAL "
        "WHERE `net` = {network:String} AND `at` >= {low:DateTime('UTC')} AND `at` < {high:DateTime('UTC')} "
        "ORDER BY `at`, net, name"
    )
    assert query.parameters == {"network": "mainnet", "low": "2024-03-20 00:00:00", "high": "2024-03-21 00:00:00"}


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("config", [CONFIG, local()], ids=["distributed", "local"])
def test_an_export_reads_only_the_granules_of_its_partition(filled, config, final):
    query = export(config, replace(FACTS, final=final))
    read, among = granules(filled.text(f"EXPLAIN indexes = 1, distributed = 1 {query.text}", query.parameters))
    assert read <= 4
    assert among >= 12


def test_the_pinned_alias_rule_is_what_keeps_casts_out_of_the_filter(filled):
    query = export(local())
    explain = f"EXPLAIN indexes = 1 {query.text}"
    read, among = granules(filled.text(explain, query.parameters))
    assert read < among
    # Hidden behind the expression of the same name, the column prunes nothing.
    read, among = granules(filled.text(explain, query.parameters, prefer_column_name_to_alias=0))
    assert read == among


@pytest.mark.parametrize("final", [False, True])
def test_an_export_reads_in_the_order_of_the_sorting_key(filled, final):
    query = export(local(), replace(FACTS, final=final))
    pipeline = filled.text(f"EXPLAIN PIPELINE {query.text}", query.parameters)
    assert "InOrder" in pipeline
    assert "PartialSortingTransform" not in pipeline


@pytest.mark.parametrize("config", [CONFIG, local()], ids=["distributed", "local"])
def test_an_export_holds_the_newest_rows_of_its_partition_in_order(filled, config):
    query = export(config)
    rows = filled.rows(query.text, query.parameters)
    first = 19 * 86_400 // SECONDS
    numbers = [number for number in range(first, first + 86_400 // SECONDS) if number % 2]
    assert [row["name"] for row in rows] == [str(number) for number in numbers]
    assert [int(row["number"]) for row in rows] == [
        number + 1_000_000 if number % 8 >= 4 else number for number in numbers
    ]
    assert {row["net"] for row in rows} == {"mainnet"}
    assert rows[0]["at"] == datetime(2024, 3, 20, 0, 0, 6, tzinfo=UTC)


@pytest.mark.parametrize("config", [CONFIG, local()], ids=["distributed", "local"])
def test_partitions_that_are_read_together_have_the_rows_and_the_order_that_each_has_alone(filled, config):
    apart = [DAY - 5, DAY - 4, DAY]
    columns = export_columns(config, FACTS.columns)
    query = together_query(config, FACTS, columns, "mainnet", Ranges.from_indices(apart))
    rows = filled.rows(query.text, query.parameters)
    expected = [
        {**row, "partition": index}
        for index in apart
        for row in filled.rows(export(config, index=index).text, export(config, index=index).parameters)
    ]
    assert rows == expected


def test_the_index_of_what_is_read_together_has_a_name_that_no_column_has():
    facts = replace(FACTS, columns=(*COLUMNS, SourceColumn("partition", "String"), SourceColumn("partition_", "Int8")))
    columns = export_columns(CONFIG, facts.columns)
    assert (
        together_query(CONFIG, facts, columns, "mainnet", one(DAY))
        .text.partition(" FROM ")[0]
        .endswith("AS `partition_`, toInt64(intDiv(toUnixTimestamp(`at`), 86400)) AS `partition__`")
    )


def test_what_is_read_to_be_checked_are_the_rows_of_the_export_without_its_order(filled):
    columns = [column for column in export_columns(CONFIG, FACTS.columns) if column.name in {"number", "name"}]
    query = content_query(CONFIG, FACTS, columns, "mainnet", DAY)
    assert "ORDER BY" not in query.text
    exported = filled.rows(export().text, export().parameters)
    rows = filled.rows(query.text, query.parameters)
    assert set(rows[0]) == {"number", "name"}
    assert sorted(row["number"] for row in rows) == sorted(row["number"] for row in exported)


def test_a_count_is_of_collapsed_rows_and_knows_the_newest_version(filled):
    query = counts_query(CONFIG, FACTS, "mainnet", one(DAY))
    newest = 2_000_000_000_000_000
    assert filled.rows(query.text, query.parameters) == [{"partition": DAY, "rows": 7200, "version": newest}]
    raw = counts_query(CONFIG, replace(FACTS, final=False, version_column=""), "mainnet", one(DAY))
    assert filled.rows(raw.text, raw.parameters) == [{"partition": DAY, "rows": 10_800, "version": None}]


def test_partitions_that_lie_apart_are_counted_in_one_query(filled):
    apart = Ranges.from_indices([DAY - 5, DAY - 4, DAY])
    query = counts_query(CONFIG, FACTS, "mainnet", apart)
    found = filled.rows(query.text, query.parameters)
    assert {(row["partition"], row["rows"]) for row in found} == {(index, 7200) for index in apart}
    query = versions_query(CONFIG, replace(FACTS, version_column=""), "mainnet", apart)
    found = filled.rows(query.text, query.parameters)
    assert {(row["partition"], row["version"]) for row in found} == {(index, 7200) for index in apart}


def test_a_partition_without_rows_is_not_among_the_counts(filled):
    query = counts_query(CONFIG, FACTS, "mainnet", one(DAY + 1000))
    assert filled.rows(query.text, query.parameters) == []


def test_a_version_is_the_newest_or_the_count_of_collapsed_rows(filled):
    def version(facts):
        query = versions_query(CONFIG, facts, "mainnet", one(DAY))
        return filled.rows(query.text, query.parameters)

    assert version(FACTS) == [{"partition": DAY, "version": 2_000_000_000_000_000}]
    assert version(replace(FACTS, version_column="")) == [{"partition": DAY, "version": 7200}]
    assert version(replace(FACTS, version_column="", final=False)) == [{"partition": DAY, "version": 10_800}]
    assert version(replace(FACTS, version_column="version")) == [{"partition": DAY, "version": 8}]


@pytest.mark.parametrize(
    ("engine_full", "key", "rows"),
    [
        ("ReplacingMergeTree(updated, gone)", ("net", "at", "name"), [("a", 1, 0, 1, 20), ("a", 2, 1, 1, 20)]),
        ("VersionedCollapsingMergeTree(sign, updated)", ("net", "at"), [("a", 2, 0, 1, 20), ("a", 2, 0, -1, 20)]),
        ("ReplacingMergeTree(updated)", ("net", "name"), [("a", 2, 0, 1, 20), ("a", 3, 0, 1, 21)]),
    ],
    ids=["deleted", "cancelled", "moved"],
)
def test_a_newest_version_that_final_takes_away_is_none_to_plans_and_exports_alike(engine, engine_full, key, rows):
    """Else a partition would be older than its source for ever, and seem to move whenever it is exported."""
    table = re.sub(r"\W", "_", f"gone_{engine_full}")
    kinds = {"name": "String", "updated": "UInt32", "gone": "UInt8", "sign": "Int8", "at": "DateTime('UTC')"}
    columns = tuple(SourceColumn(*one) for one in {**kinds, "net": "String"}.items())
    listed = ", ".join(f"{column.name} {column.type}" for column in columns)
    engine.run(f"CREATE TABLE {table} ({listed}) ENGINE = {engine_full} ORDER BY ({', '.join(key)})")
    engine.run(f"SYSTEM STOP MERGES {table}")
    for name, updated, gone, sign, day in [*rows, ("b", 1, 0, 1, 20)]:
        moment = f"2024-03-{day} 12:00:00"
        engine.run(f"INSERT INTO {table} VALUES ('{name}', {updated}, {gone}, {sign}, '{moment}', 'mainnet')")
    may_go = newest_may_go(engine_full.partition("(")[0], engine_full, key, "at")
    facts = SourceFacts(columns, final=True, sorting_key=key, version_column="updated", newest_may_go=may_go)
    config = replace(CONFIG, name=table)
    span = span_of(CONFIG.partition, "2024-03-20", "2024-03-20")
    asked = (
        versions_query(config, facts, "mainnet", one(DAY)),
        counts_query(config, facts, "mainnet", one(DAY)),
        survey_query(config, facts, "mainnet", span, 1, newest_first=True),
    )
    assert [engine.rows(query.text, query.parameters)[0]["version"] for query in asked] == [1, 1, 1]


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_survey_finds_every_partition_with_rows_in_one_query(filled, newest_first):
    span = span_of(CONFIG.partition, "2024-03-18", "2030-01-01")
    query = survey_query(CONFIG, FACTS, "mainnet", span, 2, newest_first=newest_first)
    found = filled.rows(query.text, query.parameters)
    last = index_of(CONFIG.partition, "2024-03-28")
    assert [row["partition"] for row in found] == ([last, last - 1] if newest_first else [DAY - 2, DAY - 1])
    assert found[1]["rows"] == 10_800
    assert found[1]["version"] == 2_000_000_000_000_000


def test_the_head_is_the_newest_value_or_nothing(filled):
    newest = int(datetime(2024, 3, 1, tzinfo=UTC).timestamp()) + (WIDTH - 1) * SECONDS
    query = head_query(CONFIG, FACTS, "mainnet")
    assert filled.rows(query.text, query.parameters) == [{"head": newest}]
    query = head_query(CONFIG, FACTS, "nowhere")
    assert filled.rows(query.text, query.parameters) == [{"head": None}]


@pytest.mark.parametrize(
    ("kind", "rule", "label", "below", "first", "last", "above"),
    [
        ("Date", "daily", "2024-03-20", "2024-03-19", "2024-03-20", "2024-03-20", "2024-03-21"),
        ("Date32", "daily", "2024-03-20", "2024-03-19", "2024-03-20", "2024-03-20", "2024-03-21"),
        (
            "DateTime('Asia/Tokyo')",
            "daily",
            "2024-03-20",
            "2024-03-20 08:59:59",
            "2024-03-20 09:00:00",
            "2024-03-21 08:59:59",
            "2024-03-21 09:00:00",
        ),
        (
            "DateTime64(3, 'UTC')",
            "hourly",
            "2024-03-20T05",
            "2024-03-20 04:59:59.999",
            "2024-03-20 05:00:00.000",
            "2024-03-20 05:59:59.999",
            "2024-03-20 06:00:00.000",
        ),
        (
            "DateTime64(9, 'UTC')",
            "hourly",
            "2024-03-20T05",
            "2024-03-20 04:59:59.999999999",
            "2024-03-20 05:00:00",
            "2024-03-20 05:59:59.999999999",
            "2024-03-20 06:00:00",
        ),
        (
            "Nullable(DateTime)",
            "hourly",
            "1970-01-01T01",
            *(f"1970-01-01 0{at}" for at in ("0:59:59", "1:00:00", "1:59:59", "2:00:00")),
        ),
        ("Int32", "integer", "1000", "999", "1000", "1999", "2000"),
        ("UInt64", "integer", str(2**63 - 808), "1", str(2**63 - 808), str(2**63), str(2**63 + 500)),
        ("UInt8", "integer", "0", "0", "0", "255", "255"),
    ],
)
def test_bounds_are_half_open_for_every_kind_of_column(engine, kind, rule, label, below, first, last, above):
    table = re.sub(r"\W", "_", f"bounds_{kind}")
    engine.run(f"CREATE TABLE {table} (at {kind}, net String) ENGINE = MergeTree ORDER BY net")
    values = ", ".join(f"('{value}', 'mainnet')" for value in dict.fromkeys((below, first, last, above)))
    engine.run(f"INSERT INTO {table} VALUES {values}")
    partition = PartitionRule(rule, "at", chunk_size=1000 if rule == "integer" else 0)
    config = replace(CONFIG, name=table, partition=partition)
    facts = SourceFacts((SourceColumn("at", kind), SourceColumn("net", "String")), final=False, sorting_key=("net",))
    index = index_of(partition, label)
    expected = len({first, last})
    query = counts_query(config, facts, "mainnet", one(index))
    assert engine.rows(query.text, query.parameters)[0]["rows"] == expected
    query = survey_query(config, facts, "mainnet", span_of(partition, label, label), 10, newest_first=True)
    found = engine.rows(query.text, query.parameters)
    assert [(row["partition"], row["rows"]) for row in found] == [(index, expected)]
    query = head_query(config, facts, "mainnet")
    assert engine.rows(query.text, query.parameters)[0]["head"] is not None


@pytest.mark.parametrize(("kind", "value", "micros"), [
    ("Date", "2024-03-20", 1_710_892_800_000_000),
    ("Date32", "1960-03-20", -308_793_600_000_000),
    ("DateTime('Asia/Tokyo')", "2024-03-20 09:00:01", 1_710_892_801_000_000),
    ("DateTime64(3, 'UTC')", "2024-03-20 00:00:01.234", 1_710_892_801_234_000),
    ("DateTime64(9, 'UTC')", "2024-03-20 00:00:01.234567891", 1_710_892_801_234_567),
    ("UInt64", str(2**64 - 1), 2**64 - 1),
    ("Int64", "-5", -5),
])  # fmt: skip
def test_a_version_equals_the_upper_bound_of_the_exported_column(engine, kind, value, micros):
    table = re.sub(r"\W", "_", f"version_{kind}")
    engine.run(f"CREATE TABLE {table} (at Date, net String, v {kind}) ENGINE = MergeTree ORDER BY net")
    engine.run(f"INSERT INTO {table} VALUES ('2024-03-20', 'mainnet', '{value}')")
    # Said in config, since digits below a microsecond are dropped for nobody who did not ask.
    config = replace(CONFIG, name=table, types={"v": "timestamptz"} if kind.startswith("DateTime64(9") else {})
    columns = (SourceColumn("at", "Date"), SourceColumn("net", "String"), SourceColumn("v", kind))
    facts = SourceFacts(columns, final=False, sorting_key=("net",), version_column="v")
    query = versions_query(config, facts, "mainnet", one(DAY))
    assert engine.rows(query.text, query.parameters) == [{"partition": DAY, "version": micros}]
    query = export(config, facts)
    exported = engine.rows(query.text, query.parameters)[0]["v"]
    if isinstance(exported, datetime):
        since = exported - datetime(1970, 1, 1, tzinfo=UTC)
        assert (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds == micros
    elif not kind.startswith("Date"):
        assert exported == micros


def test_text_that_is_not_utf8_is_counted_by_column(engine):
    engine.run("CREATE TABLE texts (at DateTime, net String, a Nullable(String), b LowCardinality(String), n Int8) "
               "ENGINE = MergeTree ORDER BY net")  # fmt: skip
    rows = "('2024-03-20 00:00:00', 'mainnet', unhex('ff'), 'añ', 1), ('2024-03-20 00:00:00', 'mainnet', NULL, 'b', 1)"
    engine.run(f"INSERT INTO texts VALUES {rows}")
    kinds = {"at": "DateTime", "net": "String", "a": "Nullable(String)", "b": "LowCardinality(String)", "n": "Int8"}
    facts = SourceFacts(tuple(SourceColumn(*item) for item in kinds.items()), final=False, sorting_key=("net",))
    config = replace(CONFIG, name="texts")
    query = refused_text_query(config, facts, export_columns(config, facts.columns), "mainnet", DAY)
    assert engine.rows(query.text, query.parameters) == [{"net": 0, "a": 1, "b": 0}]


def test_odd_names_are_quoted_and_read(engine):
    odd = "sel`ect \\ 'x' -- {y:String}"
    escaped = odd.replace("\\", "\\" * 2).replace("`", "``")
    columns_text = f"at DateTime, net String, `{escaped}` Int8"
    engine.run(f"CREATE TABLE `odd``tab le` ({columns_text}) ENGINE = MergeTree ORDER BY net")
    engine.run("INSERT INTO `odd``tab le` VALUES ('2024-03-20 00:00:00', 'main''net; DROP', 5)")
    config = replace(CONFIG, name="odd`tab le")
    columns = (SourceColumn("at", "DateTime"), SourceColumn("net", "String"), SourceColumn(odd, "Int8"))
    facts = SourceFacts(columns, final=False, sorting_key=("net",))
    query = export_query(config, facts, export_columns(config, columns), "main'net; DROP", DAY)
    assert engine.rows(query.text, query.parameters)[0][odd] == 5


@pytest.mark.parametrize(
    ("kind", "rule", "complaint"),
    [
        ("String", "daily", "partition column at is String, but partitions that are daily need Date"),
        ("Date", "hourly", "need DateTime or DateTime64"),
        ("DateTime", "integer", "need an integer of at most 64 bits"),
        ("UInt256", "integer", "need an integer of at most 64 bits"),
    ],
)
def test_a_column_that_its_rule_cannot_cut_is_refused(kind, rule, complaint):
    config = replace(CONFIG, partition=PartitionRule(rule, "at", chunk_size=10))
    facts = SourceFacts((SourceColumn("at", kind), SourceColumn("net", "String")), final=False, sorting_key=())
    with pytest.raises(BadConfig, match=f"^events: .*{complaint}"):
        counts_query(config, facts, "mainnet", one(1))


@pytest.mark.parametrize(
    ("config", "facts", "complaint"),
    [
        (replace(CONFIG, partition=PartitionRule("daily", "gone")), FACTS, "partition column gone does not exist"),
        (replace(CONFIG, network_column="gone"), FACTS, "network column gone does not exist"),
        (CONFIG, replace(FACTS, version_column="gone"), "version column gone does not exist"),
        (CONFIG, replace(FACTS, version_column="name"), "version column name is String"),
    ],
)
def test_a_query_over_a_missing_column_is_refused(config, facts, complaint):
    with pytest.raises(BadConfig, match=f"^events: {complaint}"):
        counts_query(config, facts, "mainnet", one(DAY))


@pytest.mark.parametrize("kind", ["string", "double", "fixed[8]", "decimal(20, 2)"])
def test_a_version_column_whose_bounds_cannot_be_compared_is_refused(kind):
    with pytest.raises(BadConfig, match=rf"^events: updated is the version column.*makes it {re.escape(kind)}"):
        check_version_column(replace(CONFIG, types={"updated": kind}), FACTS)
    check_version_column(replace(CONFIG, types={"updated": "timestamptz"}), FACTS)

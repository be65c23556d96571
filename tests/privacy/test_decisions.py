"""Nothing goes out undecided, and what is redacted plays no part that would say it."""

import logging
import time
from dataclasses import replace

import pytest

from activities import export_metrics
from activities.core.columns import SourceColumn, export_columns
from activities.core.faults import BadConfig, PrivacyUndecided
from activities.core.query import SourceFacts, check_columns
from activities.core.source_check import SourceTable, check_source
from activities.core.tables import PartitionRule, TableConfig
from support.measured import measured
from support.planted import MARK, Piece, findings
from support.refusals import refusal
from support.traces import announced, histories, stored
from support.xatulake import SENSITIVE_COLUMNS
from support.xatuschemas import read_schemas

REFUSED = "icefleet.table.refused_timestamp"
SCHEMAS = read_schemas()
KEYS = {"seen": "DateTime", "network": "LowCardinality(String)", "updated": "DateTime"}
CONFIG = TableConfig(
    "people", "default", "local.default", PartitionRule("hourly", "seen"), (), network_column="network"
)
DECISIONS = [(name, column) for name, schema in SCHEMAS.items() for column in schema.redacted]


def columns_of(*more: tuple[str, str]) -> tuple[SourceColumn, ...]:
    return tuple(SourceColumn(name, kind) for name, kind in (*KEYS.items(), *more))


@pytest.mark.parametrize(("name", "column"), DECISIONS)
def test_a_real_table_stops_when_one_of_its_decisions_is_missing(name, column):
    schema = SCHEMAS[name]
    config = TableConfig(
        name,
        "default",
        "local.default",
        PartitionRule("integer" if schema.kind == "chunked" else schema.kind, schema.partition_column, 1, 1),
        (),
        network_column=schema.network_column,
        redacted_columns=tuple(one for one in schema.redacted if one != column),
        allowed_columns=tuple(schema.config.get("allowed_columns", ())),
    )
    with pytest.raises(PrivacyUndecided, match=rf"^{name}: {column} may say who or where somebody is"):
        export_columns(config, [SourceColumn(one, kind) for one, kind in schema.columns.items()])


@pytest.mark.parametrize(("column", "kind"), SENSITIVE_COLUMNS.items())
def test_a_column_that_looks_sensitive_by_name_or_by_type_stops_its_table(column, kind):
    with pytest.raises(PrivacyUndecided, match=rf"^people: {column} may say"):
        export_columns(CONFIG, columns_of((column, kind)))
    for decision in ({"redacted_columns": (column,)}, {"allowed_columns": (column,)}):
        assert len(export_columns(replace(CONFIG, **decision), columns_of((column, kind)))) == len(KEYS) + 1


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (replace(CONFIG, partition=PartitionRule("integer", "ip", 1000, 10), types={"ip": "long"}), "partition"),
        (replace(CONFIG, network_column="ip"), "network"),
    ],
)
def test_a_redacted_column_can_name_no_partition_and_no_network(config, why):
    config = replace(config, redacted_columns=("ip",))
    columns = columns_of(("ip", "UInt32"))
    message = rf"^people: column ip: it is redacted, and it is the {why} column, .*; allow it, or choose another"
    with pytest.raises(BadConfig, match=message):
        export_columns(config, columns)
    [finding, *_] = said_of(config, columns)
    assert finding.startswith(f"people ip: it is redacted, and it is the {why} column")


def test_a_redacted_column_cannot_tell_new_rows_from_old():
    config = replace(CONFIG, redacted_columns=("ip",))
    columns = columns_of(("ip", "UInt32"))
    with pytest.raises(BadConfig, match=r"^people: ip is redacted, and it is the version column, .*; allow it$"):
        check_columns(config, SourceFacts(columns, final=True, sorting_key=("seen",), version_column="ip"))
    [finding] = said_of(config, columns)
    assert finding.startswith("people ip: ip is redacted, and it is the version column")


def said_of(config: TableConfig, columns: tuple[SourceColumn, ...]) -> list[str]:
    engine = "ReplacingMergeTree(ip) ORDER BY seen"
    table = SourceTable("default", "people", "ReplacingMergeTree", engine, "seen", columns)
    return [str(finding) for finding in check_source([config], {("default", "people"): table})]


async def make_sealed(fleet, *names: str) -> None:
    """Tables of an address that cannot be read without an error which quotes it."""
    await fleet.make_days(days=1, rows=5)
    for name in names:
        await fleet.run_sql(
            f"CREATE VIEW {fleet.database}.{name} AS SELECT updated, at, number, network, "
            f"toIPv6(concat('{MARK}', name)) AS client_ip FROM {fleet.database}.events"
        )


async def left_of(fleet, log: str) -> set[tuple[str, str]]:
    """Kind and needle of everything that is found in what is left of an environment."""
    environment = fleet.settings().environment(fleet.name)
    pieces = [*await announced(fleet), *await histories(fleet), *stored(environment, fleet.network)]
    assert pieces
    return {(one.kind, one.needle) for one in findings([*pieces, Piece("log", "", log.encode())])}


async def test_an_error_of_the_source_cannot_quote_a_redacted_value_since_nothing_reads_it(fleet, caplog):
    caplog.set_level(logging.DEBUG)
    await make_sealed(fleet, "sealed", "opened")
    network = {"start_date": "2024-03-20", "end_date": "2024-03-20"}
    fleet.add_table("daily", "sealed", "at", network=dict(network), redacted_columns=["client_ip"])
    fleet.add_table("daily", "opened", "at", network=dict(network), allowed_columns=["client_ip"])
    fleet.set_export(partition_attempts=1)
    async with fleet.worker():
        report = await fleet.request("sealed")
        assert (report.status, report.rows) == ("complete", 5)
        await fleet.loop_ended("sealed")
        assert await left_of(fleet, caplog.text) == set()

        failed = await fleet.request("opened")
        assert (failed.exported, failed.failed) == (0, 1)
    assert await left_of(fleet, caplog.text) >= {("history", "text"), ("log", "text")}


async def test_a_table_that_nobody_decided_on_leaves_nothing_behind_and_says_which_columns(fleet, caplog):
    caplog.set_level(logging.DEBUG)
    await fleet.make_days(days=1, rows=5)
    await fleet.run_sql(
        f"CREATE TABLE {fleet.database}.undecided (updated DateTime, at DateTime, number UInt64, network String, "
        "geo_city String, somewhere IPv6) ENGINE = ReplacingMergeTree(updated) ORDER BY at AS SELECT updated, at, "
        f"number, network, concat('{MARK}', name), toIPv6('fd5e:c7e7:1cef:1ee7::') FROM {fleet.database}.events"
    )
    network = {"start_date": "2024-03-20", "end_date": "2024-03-20"}
    fleet.add_table("daily", "undecided", "at", network=network)
    asked = {"environment": fleet.name, "network": fleet.network, "table": "undecided"}
    with measured(export_metrics) as told:
        async with fleet.worker():
            await refusal(fleet, {**asked, "dry_run": True})
            assert told().get(REFUSED, []) == []
            kind, message = await refusal(fleet, asked)
        [(about, at)] = told()[REFUSED]
    assert kind == "PrivacyUndecided"
    # By which an alert knows of a table that has never been planned.
    assert (about, at) == ({"network": fleet.network, "table": "undecided"}, pytest.approx(time.time(), abs=60))
    assert message.startswith("undecided: geo_city, somewhere may say who or where somebody is, and nobody decided")
    assert fleet.table("undecided") is None
    environment = fleet.settings().environment(fleet.name)
    assert list(stored(environment, fleet.network)) == []
    assert await announced(fleet) == []
    assert await left_of(fleet, caplog.text) == set()

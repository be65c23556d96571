"""`icefleet config check --source`: the shipped tables against the real schemas in the real engine."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.tcpproxy import TcpFaults

ROOT = Path(__file__).parents[2]
XATU = ROOT.parent / "shared" / "xatu" / "tables.yaml"
SHIPPED = yaml.safe_load((ROOT / "config" / "tables.yaml").read_text(encoding="utf-8"))
NAMES = [
    table["name"]
    for group in SHIPPED["groups"].values()
    for table in group["tables"]
    if group["defaults"].get("enabled", True)
]
BLOCKS = "beacon_api_eth_v1_events_block"


def quoted(text: str, columns: dict[str, str]) -> str:
    """An expression with its columns in backticks: some are called `from`, `to` and `index`."""
    return re.sub(r"\w+", lambda word: f"`{word[0]}`" if word[0] in columns else word[0], text)


async def make_tables(fleet) -> list[str]:
    """The real tables, local and Distributed, in the fleet's own database; the names of all of them."""
    real = yaml.safe_load(XATU.read_text(encoding="utf-8"))["tables"]
    for table in real:
        columns = table["columns"]
        listed = ", ".join(f"`{name}` {kind}" for name, kind in columns.items())
        order = ", ".join(quoted(key, columns) for key in table["order_by"])
        await fleet.run_sql(
            f"CREATE TABLE {fleet.database}.{table['local_table']} ({listed}) "
            f"ENGINE = ReplacingMergeTree({table['engine_version_column']}) "
            f"PARTITION BY {quoted(table['partition_by'], columns)} ORDER BY ({order}) SETTINGS allow_nullable_key = 1"
        )
        await make_distributed(fleet, table["name"], quoted(table["sharding_key"], columns))
    return [table["name"] for table in real]


async def make_distributed(fleet, name: str, sharding: str) -> None:
    await fleet.run_sql(
        f"CREATE TABLE {fleet.database}.{name} AS {fleet.database}.{name}_local "
        f"ENGINE = Distributed('local', '{fleet.database}', '{name}_local', {sharding})"
    )


def use_shipped_tables(fleet) -> None:
    """The repository's tables.yaml, with the fleet's database in place of the real one."""
    groups = {
        name: {**group, "defaults": {**group["defaults"], "database": fleet.database}}
        for name, group in SHIPPED["groups"].items()
    }
    (fleet.directory / "tables.yaml").write_text(yaml.safe_dump({**SHIPPED, "groups": groups}), encoding="utf-8")


async def check(fleet) -> tuple[int, dict[str, Any]]:
    """Exit code, and what the source's part of the JSON says."""
    code, said, errors = await fleet.command("config", "check", "--source", "--json")
    assert errors == ""
    report = json.loads(said)
    assert (report["ok"], report["problems"]) == (code == 0, [])
    return code, report["sources"][f"{fleet.name}.default"]


@pytest.mark.skipif(not XATU.exists(), reason="the real schemas are not at hand")
async def test_real_tables_are_clean_missing_ones_are_named_and_every_break_is_named_at_once(fleet):
    real = await make_tables(fleet)
    use_shipped_tables(fleet)
    there = set(real) & set(NAMES)
    assert (len(real), len(NAMES), len(there)) == (21, 81, 19)

    code, report = await check(fleet)
    assert (code, report["tables"], report["unreachable"]) == (1, 81, "")
    assert {problem["table"] for problem in report["problems"]} == set(NAMES) - there
    assert len(report["problems"]) == 62
    for problem in report["problems"]:
        missing = f"the source {fleet.name}.default has no table {fleet.database}.{problem['table']} that this user"
        assert problem["problem"].startswith(missing)

    # For a person: one line each, and a sum; and however many tables there are, the source is asked four times.
    asked = len(await fleet.queries("icefleet config check"))
    code, said, errors = await fleet.command("config", "check", "--source")
    assert len(await fleet.queries("icefleet config check")) - asked == 4
    lines = errors.splitlines()
    assert (code, said, len(lines)) == (1, "", 63)
    assert lines[-1] == f"{fleet.name}.default: 62 problems in 62 of 81 tables"

    # Seven breaks in as many tables, all seen by one look.
    both = [BLOCKS, f"{BLOCKS}_local"]
    for table in both:
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.{table} DROP COLUMN meta_client_geo_city")
    head = "beacon_api_eth_v1_events_head"
    for table in (head, f"{head}_local"):
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.{table} ADD COLUMN remote_ip Nullable(IPv6)")
        await fleet.run_sql(f"ALTER TABLE {fleet.database}.{table} ADD COLUMN state AggregateFunction(sum, UInt64)")
    transactions = "canonical_execution_transaction"
    await fleet.run_sql(f"DROP TABLE {fleet.database}.{transactions}")
    await make_distributed(fleet, transactions, "rand()")
    await fleet.run_sql(f"ALTER TABLE {fleet.database}.mempool_transaction_local DROP COLUMN call_data_size")
    await fleet.run_sql(f"DROP TABLE {fleet.database}.canonical_beacon_block_local")
    await fleet.run_sql(f"DROP TABLE {fleet.database}.mev_relay_bid_trace")
    await make_distributed(fleet, "mev_relay_bid_trace", "cityHash64(epoch)")

    code, report = await check(fleet)
    found = {
        (problem["table"], problem["column"]): problem["problem"]
        for problem in report["problems"]
        if problem["table"] in there
    }
    assert code == 1
    assert len(report["problems"]) == 62 + 7
    assert {place: said.partition(",")[0] for place, said in found.items()} == {
        (BLOCKS, "meta_client_geo_city"): "the redacted column does not exist at the source",
        (head, "remote_ip"): "it may say who or where somebody is (Nullable(IPv6))",
        (head, "state"): "AggregateFunction(sum",
        (transactions, ""): "rows are sharded by rand()",
        ("mempool_transaction", "call_data_size"): f"{fleet.database}.mempool_transaction_local",
        ("canonical_beacon_block", ""): f"it looks into {fleet.database}.canonical_beacon_block_local",
        ("mev_relay_bid_trace", ""): "rows are sharded by cityHash64(epoch)",
    }
    assert all(problem["way_out"] for problem in report["problems"])


async def test_a_source_that_is_as_config_says_is_said_to_be_with_exit_code_0(fleet):
    await fleet.make_days(days=1, rows=1)
    code, said, errors = await fleet.command("config", "check", "--source")
    assert (code, said, errors) == (0, f"{fleet.name}.default: 1 table, nothing wrong\n", "")
    code, report = await check(fleet)
    assert (code, report) == (0, {"tables": 1, "unreachable": "", "problems": []})


async def test_a_source_that_cannot_be_reached_or_refuses_is_one_clear_line(fleet, monkeypatch):
    await fleet.make_days(days=1, rows=1)
    async with TcpFaults(fleet.stack.ports["clickhouse"]) as away:
        fleet.point(clickhouse=away.port)
        await away.refuse()
        code, said, errors = await fleet.command("config", "check", "--source")
        assert (code, said, len(errors.splitlines())) == (1, "", 1)
        assert errors.startswith(f"ClickHouse {fleet.name}.default (127.0.0.1:{away.port}): Network Error: "), errors
        code, report = await check(fleet)
        assert (code, report["problems"]) == (1, [])
        assert report["unreachable"] == errors.rstrip("\n")
    fleet.point(clickhouse=fleet.stack.ports["clickhouse"])
    monkeypatch.setenv("ICEFLEET_LOCAL_CLICKHOUSE_PASSWORD", "wrong")
    code, said, errors = await fleet.command("config", "check", "--source")
    assert (code, said) == (1, "")
    assert errors.startswith(f"ClickHouse {fleet.name}.default (127.0.0.1:{fleet.stack.ports['clickhouse']}) refused: ")


async def test_a_table_that_is_disabled_is_refused_by_name_and_by_no_list_named(fleet):
    await fleet.make_days("open", days=1, rows=1)
    await fleet.make_days("hidden", days=1, rows=1, enabled=False)
    code, _, errors = await fleet.command("export", "hidden", "-n", fleet.network)
    assert code == 2
    assert f"table 'hidden' is disabled in environment '{fleet.name}' (`enabled: false`)" in errors
    code, said, _ = await fleet.command("tables", "--json")
    assert (code, [table["table"] for table in json.loads(said)]) == (0, [f"{fleet.network}.open"])
    code, said, _ = await fleet.command("config", "check", "--source")
    assert (code, said) == (0, f"{fleet.name}.default: 1 table, nothing wrong\n")


async def test_the_sample_is_what_the_shipped_config_says_of_it_and_what_is_not_there_is_summed_up(sample):
    code, said, _ = await sample.command("config", "check", "--source", "--json")
    report = json.loads(said)["sources"]["local.default"]
    seeded = {BLOCKS, "beacon_api_eth_v1_events_attestation", "canonical_execution_block"}
    assert (code, {problem["table"] for problem in report["problems"]}) == (1, set(NAMES) - seeded)

    code, said, errors = await sample.command("tables")
    *_, last = lines = said.splitlines()
    assert (code, errors, len(lines)) == (0, "", 1 + 6 + 1)
    assert last == "232 more of config have not been exported yet; `icefleet tables --all` lists them"
    code, said, _ = await sample.command("tables", "--all")
    assert (code, len(said.splitlines())) == (0, 1 + 238)

"""When tables are exported, as config says it; and every problem of schedules.yaml at once."""

from collections import Counter
from pathlib import Path

import pytest

from worker.config import ConfigError, load_settings
from worker.schedules import wanted

SHIPPED = Path(__file__).parents[2] / "config"
CRONS = {"daily": "0 4 * * *", "hourly": "15 * * * *", "integer": "30 */6 * * *"}

EVERYTHING = """\
schedules:
  defaults: {jitter: 1m, overlap: buffer_one}
  kinds:
    daily: {cron: "0 5 * * *", jitter: 2m}
  groups:
    daily: {cron: "0 6 * * *", note: "from the group"}
  tables:
    blocks: {cron: "0 7 * * *", max_partitions: 5}
    canonical: {enabled: false}
  environments:
    local:
      defaults: {paused: true}
      tables:
        blocks: {cron: "0 ${TEST_HOUR:-8} * * *"}
  others:
    orphans: {workflow: DeleteOrphans, per: network, tables: ["b*"], input: {older_than: 7d}, cron: "0 12 * * sun"}
    upkeep: {workflow: Upkeep, per: network, tables: [blocks], cron: "0 6 * * sun"}
    proof: {workflow: VerifyTable, per: network, tables: [blocks], input: {newest: 9, deep: true}, cron: "0 9 * * mon"}
    blocks_early: {workflow: ExportDue, input: {table: blocks}, cron: "0 1 * * *", environments: [local]}
"""


@pytest.fixture
def secrets(monkeypatch):
    for name in ("TEST_ACCESS_KEY", "TEST_SECRET_KEY"):
        monkeypatch.setenv(name, "x")


def test_every_shipped_table_gets_one_schedule_with_the_cron_of_its_kind(monkeypatch):
    monkeypatch.delenv("ICEFLEET_CONFIG_OVERRIDE", raising=False)
    settings = load_settings(SHIPPED)
    monkeypatch.setattr(type(settings), "environment", lambda self, name, _: self.environments[name])
    for environment in ("staging", "production"):
        every = wanted(settings, environment)
        found = {one.table: one for one in every if one.workflow == "ExportDue"}
        assert len([one for one in every if one.workflow == "ExportDue"]) == len(found) == 81
        assert set(found) == {config.name for config, _ in settings.exports(environment)}
        for name, one in found.items():
            assert one.timing.cron == CRONS[settings.tables[name].partition.type], name
            assert (one.timing.overlap, one.timing.time_zone, one.timing.paused) == ("skip", "UTC", False)
            assert one.id == f"export/{environment}/{name}"
            assert one.input == {"table": name, "environment": environment, "networks": [], "max_partitions": 1000}
        identifiers = {f"{network}.{config.name}" for config, network in settings.exports(environment)}
        [upkeep] = [one for one in every if one.workflow == "MaintainTables"]
        assert (upkeep.id, upkeep.input) == (f"maintain/{environment}", {"environment": environment})
        weekly = [one for one in every if one.workflow == "VerifyTable"]
        assert {one.id for one in weekly} == {f"verify/{environment}/{identifier}" for identifier in identifiers}
        assert len(weekly) == len(identifiers)
        place = {"environment": environment, "table": weekly[0].table, "network": weekly[0].network}
        assert weekly[0].input == place | {"newest": 100}
        assert {one.timing.cron.split()[2:] == ["*", "*", "sun"] for one in weekly} == {True}
        assert len(every) == 81 + len(identifiers) + 1
    kinds = Counter(settings.tables[name].partition.type for name in found)
    assert min(kinds[kind] for kind in CRONS) > 3
    local = [one.table for one in wanted(settings, "local")]
    assert local == [
        "beacon_api_eth_v1_events_block",
        "beacon_api_eth_v1_events_attestation",
        "canonical_execution_block",
    ]


def test_without_a_file_tables_run_as_often_as_they_are_cut(whole_config, secrets):
    found = {one.table: one.timing.cron for one in wanted(load_settings(whole_config), "local")}
    assert found == {"blocks": CRONS["daily"], "canonical": CRONS["integer"]}


def test_what_is_more_particular_wins_and_an_environment_goes_over_all_of_it(whole_config, secrets, monkeypatch):
    (whole_config / "schedules.yaml").write_text(EVERYTHING)
    blocks, orphans, upkeep, proof, early = wanted(load_settings(whole_config), "local")
    timing = blocks.timing
    assert (timing.cron, timing.jitter, timing.overlap, timing.max_partitions) == ("0 8 * * *", 120, "buffer_one", 5)
    assert (timing.note, timing.paused, timing.catchup_window) == ("from the group", True, 86_400)
    assert (orphans.id, orphans.workflow) == ("orphans/local/mainnet.blocks", "DeleteOrphans")
    assert orphans.input == {"environment": "local", "table": "blocks", "network": "mainnet", "older_than": "7d"}
    place = {"environment": "local", "table": "blocks", "network": "mainnet"}
    assert (upkeep.id, upkeep.workflow, upkeep.input) == ("upkeep/local/mainnet.blocks", "Upkeep", place)
    assert (proof.workflow, proof.input) == ("VerifyTable", place | {"newest": 9, "deep": True})
    assert (early.id, early.input) == ("blocks_early/local", {"environment": "local", "table": "blocks"})
    monkeypatch.setenv("TEST_HOUR", "9")
    override = whole_config / "override.yaml"
    override.write_text("schedules: {tables: {canonical: {enabled: true}}}")
    found = wanted(load_settings(whole_config, override=[override]), "local")
    assert [(one.table, one.timing.cron) for one in found][:2] == [
        ("blocks", "0 9 * * *"),
        ("canonical", CRONS["integer"]),
    ]


def test_every_problem_of_the_file_is_listed_with_line_and_key(whole_config):
    (whole_config / "schedules.yaml").write_text(
        """\
schedules:
  defaults: {overlap: skipp, jiter: 5m, catchup_window: 5s}
  kinds:
    dialy: {cron: "0 4 * * *"}
    hourly: {cron: "15 25 * * *", time_zone: Europe/Berln}
  groups:
    dayly: {jitter: soon}
  tables:
    block: {max_partitions: -1}
  environments:
    lokal: {defaults: {paused: maybe}}
  others:
    a: {workflow: DeleteOrphan, cron: "0 4 * * *"}
    b: {workflow: DeleteOrphans, per: network, input: {older: 7d}}
    d: {workflow: VerifyTable, per: table, cron: "0 4 * * *"}
    e: {workflow: Upkeep, per: network, input: {newest: 3}, cron: "0 4 * * *"}
    c: {workflow: ExportDue, per: table, cron: "0 4 * * *", environments: [locl]}
"""
    )
    with pytest.raises(ConfigError) as refused:
        load_settings(whole_config)
    overlaps = "'skip', 'buffer_one', 'buffer_all', 'cancel_other', 'terminate_other' or 'allow_all'"
    assert str(refused.value).replace(f"{whole_config}/", "").splitlines() == [
        "schedules.yaml:2 schedules.defaults.catchup_window: must be at least 10s, and is '5s'",
        "schedules.yaml:2 schedules.defaults.jiter: unknown key; did you mean `jitter`?",
        f"schedules.yaml:2 schedules.defaults.overlap: expected {overlaps}, not 'skipp'",
        "schedules.yaml:4 schedules.kinds.dialy: unknown key; did you mean `daily`?",
        "schedules.yaml:5 schedules.kinds.hourly.cron: '25' is no hour: it goes from 0 to 23",
        (
            "schedules.yaml:5 schedules.kinds.hourly.time_zone: 'Europe/Berln' is no time zone; did you mean "
            "`Europe/Berlin` or `Europe/Belfast` or `Europe/Helsinki`?"
        ),
        "schedules.yaml:7 schedules.groups.dayly: no group 'dayly' in config; did you mean `daily`?",
        "schedules.yaml:7 schedules.groups.dayly.jitter: expected a duration such as 30s, 10m or 1h30m, not 'soon'",
        "schedules.yaml:9 schedules.tables.block: no table 'block' in config; did you mean `blocks`?",
        "schedules.yaml:9 schedules.tables.block.max_partitions: must be at least 0, and is -1",
        "schedules.yaml:11 schedules.environments.lokal: no environment 'lokal' in config; did you mean `local`?",
        "schedules.yaml:11 schedules.environments.lokal.defaults.paused: expected true or false, not 'maybe'",
        (
            "schedules.yaml:13 schedules.others.a.workflow: no workflow 'DeleteOrphan' can be scheduled; did you mean "
            "`DeleteOrphans`?"
        ),
        "schedules.yaml:14 schedules.others.b.cron: is missing; say when it runs, such as 0 4 * * *",
        (
            "schedules.yaml:14 schedules.others.b.input: DeleteOrphans could not be started with it: "
            "unknown field 'older': did you mean 'older_than'?; field 'older_than' is missing; it must be a text"
        ),
        (
            "schedules.yaml:15 schedules.others.d: VerifyTable could not be started with it: "
            "field 'network' is missing; it must be a text"
        ),
        (
            "schedules.yaml:16 schedules.others.e.input: Upkeep could not be started with it: "
            "unknown field 'newest': the fields are table, network, environment, take_over, dry_run, thorough"
        ),
        "schedules.yaml:17 schedules.others.c.environments.0: no environment 'locl' in config; did you mean `local`?",
    ]

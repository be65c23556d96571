"""What the config resolves to: tables, sources, variables, overrides."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from activities.core.faults import BadConfig, BadRequest
from activities.core.tables import Clock, NetworkRange, PartitionRule
from worker.config import ConfigError, Settings, load_settings

SHIPPED = Path(__file__).parents[2] / "config"
BLOCK = "beacon_api_eth_v1_events_block"
ATTESTATION = "beacon_api_eth_v1_events_attestation"
EXECUTION = "canonical_execution_block"


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    for name in ("ICEFLEET_CONFIG_DIR", "ICEFLEET_CONFIG_OVERRIDE", "ICEFLEET_LOCAL_CLICKHOUSE_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ICEFLEET_LOCAL_DIR", str(tmp_path / "stack"))


def local_stack(directory: Path, **variables: str) -> None:
    (directory / "stack").mkdir(exist_ok=True)
    lines = "".join(f"{name}={value}\n" for name, value in variables.items())
    (directory / "stack" / "env").write_text(lines, encoding="utf-8")


SECRETS = {
    "ICEFLEET_LOCAL_CLICKHOUSE_PASSWORD": "click-secret",
    "ICEFLEET_LOCAL_POSTGRES_PASSWORD": "postgres-secret",
    "ICEFLEET_LOCAL_S3_ACCESS_KEY": "s3-key",
    "ICEFLEET_LOCAL_S3_SECRET_KEY": "s3=secret",
    "ICEFLEET_LOCAL_CATALOG_CREDENTIAL": "s3-key:s3=secret",
}


def overridden(directory: Path, text: str) -> Settings:
    override = directory / "override.yaml"
    override.write_text(text, encoding="utf-8")
    return load_settings(SHIPPED, override=[override])


def test_the_shipped_config_is_whole_without_any_variable():
    settings = load_settings(SHIPPED)
    assert list(settings.environments) == ["local", "staging", "production"]
    exports = [(config.name, network) for config, network in settings.exports("local")]
    assert len(exports) == len(set(exports)) == 238
    assert {network for table, network in exports if table in {BLOCK, ATTESTATION, EXECUTION}} == {"mainnet", "holesky"}


def test_a_daily_table_resolves_to_dates_seconds_and_redactions():
    table = load_settings(SHIPPED).table("production", BLOCK, "mainnet")
    assert (table.source, table.database, table.lag) == ("production.default", "default", 7200)
    assert table.partition == PartitionRule("daily", "slot_start_date_time")
    assert table.networks == (
        NetworkRange("mainnet", "2020-12-01"),
        NetworkRange("holesky", "2020-12-02", "2026-06-02"),
        NetworkRange("sepolia", "2023-12-24"),
    )
    assert table.redacted_columns == (
        "meta_client_ip",
        "meta_client_geo_longitude",
        "meta_client_geo_latitude",
        "meta_client_geo_city",
        "meta_client_geo_country",
        "meta_client_geo_country_code",
        "meta_client_geo_continent_code",
    )
    assert (table.network_column, table.profile, dict(table.types)) == ("meta_network_name", "as_published", {})


def test_a_chunked_table_resolves_to_indexes_and_blocks():
    table = load_settings(SHIPPED).table("production", EXECUTION, "holesky")
    assert table.source == "production.default"
    clock = Clock("canonical_execution_block", "block_date_time")
    assert table.partition == PartitionRule("integer", "block_number", 1000, 100, clock)
    assert table.networks == (
        NetworkRange("mainnet", "0"),
        NetworkRange("holesky", "0", "4710000"),
        NetworkRange("sepolia", "0"),
    )
    assert table.lag == 0
    assert dict(table.types) == {"block_number": "long"}


def test_an_environment_says_what_it_needs_differently_and_no_other_hears_of_it():
    settings = load_settings(SHIPPED)
    local, production = (settings.table(name, EXECUTION, "mainnet") for name in ("local", "production"))
    assert local.networks == (NetworkRange("mainnet", "0"), NetworkRange("holesky", "0"))
    assert dict(local.types) == {"block_number": "long", "base_fee_per_gas": "decimal(20, 0)"}
    assert (len(production.networks), dict(production.types)) == (3, {"block_number": "long"})
    assert replace(local, networks=(), types={}, source="") == replace(production, networks=(), types={}, source="")
    with pytest.raises(BadRequest, match="has no network 'sepolia'"):
        settings.table("local", EXECUTION, "sepolia")


def test_an_environment_can_enable_and_disable_a_table(tmp_path):
    tables = f"{{{BLOCK}: {{enabled: false}}, node_record_consensus: {{enabled: true}}}}"
    settings = overridden(tmp_path, f"environments: {{staging: {{tables: {tables}}}}}")
    names = {name: {config.name for config, _ in settings.exports(name)} for name in ("staging", "production")}
    assert names["production"] - names["staging"] == {BLOCK}
    assert names["staging"] - names["production"] == {"node_record_consensus"}
    with pytest.raises(BadRequest) as caught:
        settings.table("staging", BLOCK, "mainnet")
    assert str(caught.value) == (
        f"table '{BLOCK}' is disabled in environment 'staging' (`enabled: false`); enable it in tables.yaml, or for "
        f"this environment under environments.staging.tables.{BLOCK}"
    )


def test_redactions_are_those_of_the_sets_and_of_the_table_once_each(tmp_path):
    text = f"""
redaction_sets: {{more: [one, meta_client_ip]}}
groups: {{daily: {{tables: [{{name: {BLOCK}, redact: [more, client], redacted_columns: [two, one]}}]}}}}
"""
    table = overridden(tmp_path, text).table("production", BLOCK, "mainnet")
    assert table.redacted_columns[:3] == ("one", "meta_client_ip", "meta_client_geo_longitude")
    assert table.redacted_columns[-1] == "two"
    assert len(table.redacted_columns) == len(set(table.redacted_columns)) == 9
    assert (
        overridden(tmp_path, f"groups: {{daily: {{tables: [{{name: {BLOCK}, redact: []}}]}}}}")
        .table("production", BLOCK, "mainnet")
        .redacted_columns
        == ()
    )


def test_patterns_of_sensitive_names_and_what_decides_a_sharding_column_reach_the_table(tmp_path):
    settings = overridden(tmp_path, "sensitive_patterns: [ip, email]")
    assert settings.table("local", BLOCK, "mainnet").sensitive_patterns == ("ip", "email")
    follows = {
        name: dict(settings.table("production", name, "mainnet").sharding_follows)
        for name in ("mev_relay_bid_trace", "mev_relay_validator_registration", BLOCK)
    }
    assert list(follows.values()) == [{"slot": "slot_start_date_time"}, {"slot": "timestamp"}, {}]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("lokal", BLOCK, "mainnet"), "no environment 'lokal'; did you mean `local`?"),
        (
            ("local", "blocks", "mainnet"),
            "no table 'blocks' in config; known: `beacon_api_eth_v1_beacon_committee`, `beacon_",
        ),
        (("local", BLOCK + "s", "mainnet"), f"no table '{BLOCK}s' in config; did you mean `{BLOCK}`"),
        (("local", BLOCK, "main"), f"table '{BLOCK}' has no network 'main'; did you mean `mainnet`?"),
        (("local", BLOCK, "gnosis"), f"table '{BLOCK}' has no network 'gnosis'; known: `holesky`, `mainnet`"),
    ],
)
def test_what_is_not_configured_is_refused_with_what_is(asked, message):
    with pytest.raises(BadRequest) as caught:
        load_settings(SHIPPED).table(*asked)
    assert str(caught.value).startswith(message)


def test_a_table_goes_only_where_its_source_is_mapped(tmp_path):
    settings = overridden(
        tmp_path, f"groups: {{daily: {{tables: [{{name: {BLOCK}, source: [production.default, staging.default]}}]}}}}"
    )
    assert settings.table("staging", BLOCK, "mainnet").source == "staging.default"
    assert BLOCK not in [config.name for config, _ in settings.exports("local")]
    with pytest.raises(BadRequest) as caught:
        settings.table("local", BLOCK, "mainnet")
    assert str(caught.value) == (
        f"environment 'local' does not get table '{BLOCK}': it is fed by `local.default` and the table names `source` "
        "production.default, staging.default; add the cluster to `export_mappings`, or choose another environment"
    )


def test_the_mapping_decides_which_cluster_feeds_an_environment(tmp_path):
    settings = overridden(tmp_path, "export_mappings: [{source: production.default, destination: local}]")
    assert settings.table("local", BLOCK, "mainnet").source == "production.default"
    assert settings.exports("production") == []


def test_one_of_two_clusters_feeds_the_table_that_names_it(tmp_path):
    text = "environments: {local: {clickhouse: {other: {host: 127.0.0.2}}}}\nexport_mappings:\n"
    text += "".join(f"  - {{source: local.{name}, destination: local}}\n" for name in ("default", "other"))
    groups = load_settings(SHIPPED).tables.values()
    named = ", ".join(
        f"{group}: {{defaults: {{source: local.{'other' if group == 'hourly' else 'default'}}}}}"
        for group in dict.fromkeys(table.group for table in groups)
    )
    settings = overridden(tmp_path, text + f"groups: {{{named}}}\n")
    assert settings.table("local", BLOCK, "mainnet").source == "local.default"
    assert settings.table("local", ATTESTATION, "mainnet").source == "local.other"


def test_an_override_replaces_keys_and_lists_and_keeps_the_rest(tmp_path):
    settings = overridden(
        tmp_path,
        f"""
environments: {{local: {{export: {{parallel_partitions: 2}}, clickhouse: {{default: {{max_threads: 1}}}}}}}}
groups:
  daily:
    tables:
      - name: {BLOCK}
        networks: [{{name: sepolia, start_date: 2024-03-19}}]
      - name: added
        networks: [{{name: mainnet, start_date: 2024-03-19}}]
""",
    )
    local = settings.environments["local"]
    assert (local.export.parallel_partitions, local.export.partitions_per_commit) == (2, 256)
    assert (local.clickhouse["default"].max_threads, local.clickhouse["default"].user) == (1, "icefleet")
    table = settings.table("staging", BLOCK, "sepolia")
    assert table.networks == (NetworkRange("sepolia", "2024-03-19"),)
    assert (table.lag, len(table.redacted_columns)) == (7200, 7)
    assert settings.table("local", "added", "mainnet").partition.kind == "daily"


def test_a_problem_in_an_override_names_the_override(tmp_path):
    with pytest.raises(ConfigError) as caught:
        overridden(tmp_path, f"groups:\n  daily:\n    tables:\n      - name: {BLOCK}\n        lag: soon\n")
    assert str(caught.value) == (
        f"{tmp_path}/override.yaml:5 groups.daily.tables.{BLOCK}.lag: "
        "expected a duration such as 2h, 90m or 1d12h, not 'soon'"
    )


def threads(settings: Settings) -> int:
    return settings.environments["local"].clickhouse["default"].max_threads


def test_overrides_win_in_their_order_arguments_over_the_environment_over_the_files(tmp_path, monkeypatch):
    def override(name: str, amount: int) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        text = f"environments: {{local: {{clickhouse: {{default: {{max_threads: {amount}}}}}}}}}"
        path.write_text(text, encoding="utf-8")
        return path

    override("many/a.yaml", 3)
    override("many/b.yaml", 4)
    override("many/c.txt", 5)
    assert threads(load_settings(SHIPPED)) == 2
    monkeypatch.setenv("ICEFLEET_CONFIG_OVERRIDE", str(tmp_path / "many"))
    assert threads(load_settings(SHIPPED)) == 4
    first, second = override("first.yaml", 6), override("second.yaml", 7)
    assert threads(load_settings(SHIPPED, override=[first, second])) == 7
    assert threads(load_settings(SHIPPED, override=[second, first])) == 6


def test_the_directory_is_the_argument_else_the_variable_else_config(tmp_path, monkeypatch):
    monkeypatch.chdir(SHIPPED.parent)
    assert threads(load_settings()) == 2
    (tmp_path / "tables.yaml").write_text("", encoding="utf-8")
    (tmp_path / "environments.yaml").write_text("", encoding="utf-8")
    monkeypatch.setenv("ICEFLEET_CONFIG_DIR", str(tmp_path))
    assert load_settings().tables == {}
    assert threads(load_settings(SHIPPED)) == 2


def port(settings: Settings) -> int:
    return settings.environments["local"].clickhouse["default"].port


def test_a_variable_comes_from_the_process_then_the_local_stack_then_its_default(tmp_path, monkeypatch):
    assert port(load_settings(SHIPPED)) == 8123
    local_stack(tmp_path, ICEFLEET_LOCAL_CLICKHOUSE_PORT="18123")
    assert port(load_settings(SHIPPED)) == 18123
    monkeypatch.setenv("ICEFLEET_LOCAL_CLICKHOUSE_PORT", "28123")
    assert port(load_settings(SHIPPED)) == 28123
    monkeypatch.setenv("ICEFLEET_LOCAL_CLICKHOUSE_PORT", "")
    assert port(load_settings(SHIPPED)) == 8123


def test_local_works_with_what_the_stack_wrote(tmp_path):
    local_stack(tmp_path, **SECRETS)
    settings = load_settings(SHIPPED)
    local = settings.environment("local")
    assert settings.cluster("local.default").password.get_secret_value() == "click-secret"
    assert local.storage.secret_key.get_secret_value() == "s3=secret"
    assert local.cdc["demo"].buffer.password.get_secret_value() == "postgres-secret"
    assert local.catalog.credential is not None
    assert local.catalog.credential.get_secret_value() == "s3-key:s3=secret"
    assert (local.name, local.catalog.warehouse, local.temporal.task_queue) == ("local", "lake", "icefleet-export")


def test_an_environment_without_its_secrets_is_refused_when_used_and_only_then(tmp_path):
    local_stack(tmp_path, **SECRETS)
    settings = load_settings(SHIPPED)
    with pytest.raises(BadConfig) as caught:
        settings.cluster("production.default")
    lines = (SHIPPED / "environments.yaml").read_text().splitlines()
    line = 1 + next(number for number, text in enumerate(lines) if "PRODUCTION_CLICKHOUSE_PASSWORD" in text)
    assert str(caught.value) == (
        f"{SHIPPED}/environments.yaml:{line} environments.production.clickhouse.default.password_env: the variable "
        f"PRODUCTION_CLICKHOUSE_PASSWORD is set neither in the environment nor in {tmp_path}/stack/env"
    )
    with pytest.raises(BadConfig) as caught:
        settings.environment("production")
    assert len(str(caught.value).splitlines()) == 6
    assert settings.environment("local").name == "local"


def test_an_environment_whose_plain_variable_is_not_set_disturbs_nobody_else(tmp_path):
    settings = overridden(
        tmp_path, "environments: {staging: {clickhouse: {default: {port: '${TEST_NOBODY_SETS_THIS}'}}}}"
    )
    assert sorted(settings.names()) == ["local", "production", "staging"]
    with pytest.raises(BadConfig, match="TEST_NOBODY_SETS_THIS is set neither"):
        settings.environment("staging")
    with pytest.raises(BadConfig, match="TEST_NOBODY_SETS_THIS is set neither"):
        settings.cluster("staging.default")
    assert settings.table("staging", BLOCK, "mainnet").source == "staging.default"


def test_an_unknown_cluster_is_refused_with_the_known(tmp_path):
    with pytest.raises(BadRequest, match=r"^no ClickHouse cluster 'local.defalt'; did you mean `local.default`\?$"):
        load_settings(SHIPPED).cluster("local.defalt")
    with pytest.raises(BadRequest, match=r"^no environment 'nowhere'; known: "):
        load_settings(SHIPPED).cluster("nowhere.default")


def test_every_secret_of_a_real_environment_comes_from_its_variable(tmp_path, monkeypatch):
    for unset in load_settings(SHIPPED).unset("production"):
        name = unset.message.split()[2]
        monkeypatch.setenv(name, f"value of {name}")
    production = load_settings(SHIPPED).environment("production")
    assert production.nats.credentials is not None
    assert production.nats.credentials.get_secret_value() == "value of PRODUCTION_NATS_CREDENTIALS"
    assert production.temporal.api_key is not None
    assert production.temporal.api_key.get_secret_value() == "value of PRODUCTION_TEMPORAL_API_KEY"


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("90s", 90), ("30m", 1800), ("1d12h", 129600), ("1w", 604800)])
def test_a_lag_is_a_duration(tmp_path, text, seconds):
    settings = overridden(tmp_path, f"groups: {{daily: {{defaults: {{lag: {text}}}}}}}")
    assert settings.table("local", BLOCK, "mainnet").lag == seconds


def test_a_lag_of_an_integer_table_is_blocks(tmp_path):
    settings = overridden(tmp_path, "groups: {chunked: {defaults: {lag: 64}}}")
    assert settings.table("local", EXECUTION, "mainnet").lag == 64


def test_no_secret_shows_in_any_text_of_the_settings(tmp_path):
    local_stack(tmp_path, **SECRETS)
    settings = load_settings(SHIPPED)
    local = settings.environment("local")
    shown = [repr(settings), str(settings), repr(local), str(local), str(local.model_dump()), local.model_dump_json()]
    for text in shown:
        assert "127.0.0.1" in text
        for secret in SECRETS.values():
            assert secret not in text


def test_a_problem_shows_the_variable_and_never_its_value(tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_SECRET", "hunter2")
    text = "environments: {local: {clickhouse: {default: {port: '${TEST_SECRET}', secure: '${TEST_SECRET}'}}}}\n"
    text += f"groups: {{daily: {{tables: [{{name: {BLOCK}, lag: '${{TEST_SECRET}}', profile: '${{TEST_SECRET}}'}}]}}}}"
    with pytest.raises(ConfigError) as caught:
        overridden(tmp_path, text)
    assert "hunter2" not in str(caught.value)
    assert [problem.message for problem in caught.value.problems] == [
        "expected a whole number, not '${TEST_SECRET}'",
        "expected true or false, not '${TEST_SECRET}'",
        "expected a duration such as 2h, 90m or 1d12h, not '${TEST_SECRET}'",
        "expected 'portable' or 'as_published', not '${TEST_SECRET}'",
    ]


def test_the_config_imports_nothing_heavy():
    heavy = "{'pyarrow', 'pyiceberg', 'temporalio', 'clickhouse_connect', 'aioboto3', 'nats'}"
    code = f"import sys; from worker.config import load_settings; print({heavy} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"

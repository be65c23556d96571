"""Bad config as a whole: several problems, several files, files that are no config."""

import pytest

from worker.config import ConfigError, load_settings

BLOCKS = "groups.daily.tables.blocks"
CLUSTER = "environments.local.clickhouse.default"
MAPPING = "  - {source: local.default, destination: local}"
MAINNET = "{name: mainnet, start_date: 2024-03-18}"


def test_the_config_that_the_cases_break_is_whole(whole_config):
    assert list(load_settings(whole_config).tables) == ["blocks", "canonical"]


def test_two_clusters_feeding_one_table_are_refused_unless_it_names_its_source(refused):
    assert refused(
        environments=[
            ("host: 127.0.0.1", "host: 127.0.0.1\n      other: {host: 127.0.0.2}"),
            (MAPPING, f"{MAPPING}\n  - {{source: local.other, destination: local}}"),
        ],
        tables=[("- name: canonical", "- name: canonical\n        source: local.other")],
    ) == [
        (
            f"tables.yaml:7 {BLOCKS}: `local.default` and `local.other` would both feed table 'blocks' "
            "of environment 'local'; name one as `source`"
        )
    ]


def test_every_problem_of_every_file_is_reported_at_once(refused):
    assert refused(
        environments=[
            ("host: 127.0.0.1", "hots: 127.0.0.1\n        port: eighty"),
            ("destination: local", "destination: production"),
        ],
        tables=[
            ("lag: 2h", "lag: soon\n      lagg: 1h"),
            (MAINNET, "{name: mainnet, start_date: 2024-03-18, end_date: 2024-03-17}"),
            ("chunk_size: 1000", "chunk_size: x"),
        ],
    ) == [
        f"environments.yaml:4 {CLUSTER}.host: is missing",
        f"environments.yaml:5 {CLUSTER}.hots: unknown key; did you mean `host`?",
        f"environments.yaml:6 {CLUSTER}.port: expected a whole number, not 'eighty'",
        "environments.yaml:20 export_mappings.0.destination: no environment 'production'; known: `local`",
        "tables.yaml:5 groups.daily.defaults.lag: expected a duration such as 2h, 90m or 1d12h, not 'soon'",
        "tables.yaml:6 groups.daily.defaults.lagg: unknown key; did you mean `lag`?",
        f"tables.yaml:10 {BLOCKS}.networks.mainnet.end_date: 2024-03-17 lies before start_date 2024-03-18",
        "tables.yaml:13 groups.chunked.defaults.partition.chunk_size: expected a whole number, not 'x'",
    ]


def test_a_broken_file_does_not_make_the_other_look_wrong(refused):
    assert refused(environments=[("  local:\n", "\tlocal:\n")], tables=[("type: daily", "type: weekly")]) == [
        "environments.yaml:2: a tab; YAML is indented and separated with spaces",
        "tables.yaml:4 groups.daily.defaults.partition.type: expected 'daily', 'hourly' or 'integer', not 'weekly'",
    ]


def test_a_missing_directory_file_or_override_is_named(whole_config):
    nowhere = whole_config / "nowhere"
    with pytest.raises(ConfigError) as caught:
        load_settings(nowhere)
    assert str(caught.value) == f"{nowhere}: no such directory; name one with --config-dir or ICEFLEET_CONFIG_DIR"
    (whole_config / "tables.yaml").unlink()
    with pytest.raises(ConfigError) as caught:
        load_settings(whole_config, override=[whole_config / "more.yaml"])
    assert str(caught.value).splitlines() == [
        f"{whole_config}/more.yaml: cannot be read: No such file or directory",
        f"{whole_config}/tables.yaml: cannot be read: No such file or directory",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"groups: \xff", "is not UTF-8 (byte 8)"),
        (b"- a\n", "holds no mapping of keys to values"),
        (b"groups: &a {daily: *a}\n", "an alias that contains itself"),
        (b"groups: !thing 5\n", "'5' has no such value in YAML"),
        (b"groups: 5\n", "expected a mapping of keys to values"),
        (b"a: 1\n---\nb: 2\n", "is not valid YAML: but found another document"),
    ],
)
def test_files_that_are_no_config_are_refused(whole_config, text, message):
    (whole_config / "tables.yaml").write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(whole_config)
    assert caught.value.problems[0].message == message

"""Every kind of bad config, and the exact words that say so."""

from pathlib import Path

import pytest

from worker.config import ConfigError, load_settings

ENVIRONMENTS = """\
environments:
  local:
    clickhouse:
      default:
        host: 127.0.0.1
    storage:
      endpoint: http://127.0.0.1:8333
      bucket: icefleet
      access_key_env: TEST_ACCESS_KEY
      secret_key_env: TEST_SECRET_KEY
    catalog:
      uri: http://127.0.0.1:8181
      warehouse: lake
    nats:
      url: nats://127.0.0.1:4222
    temporal:
      address: 127.0.0.1:7233
export_mappings:
  - {source: local.default, destination: local}
"""

TABLES = """\
groups:
  daily:
    defaults:
      partition: {type: daily, column: slot_time}
      lag: 2h
    tables:
      - name: blocks
        networks:
          - {name: mainnet, start_date: 2024-03-18}
  chunked:
    defaults:
      partition: {type: integer, column: block_number, chunk_size: 1000}
    tables:
      - name: canonical
        networks:
          - {name: mainnet, start_index: 0}
"""


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    for name in ("ICEFLEET_CONFIG_DIR", "ICEFLEET_CONFIG_OVERRIDE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ICEFLEET_LOCAL_DIR", str(tmp_path / "no-stack"))


def problems_of(directory: Path, environments: str = ENVIRONMENTS, tables: str = TABLES) -> list[str]:
    (directory / "environments.yaml").write_text(environments, encoding="utf-8")
    (directory / "tables.yaml").write_text(tables, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_settings(directory)
    assert str(caught.value) == "\n".join(str(problem) for problem in caught.value.problems)
    return [str(problem).replace(f"{directory}/", "") for problem in caught.value.problems]


def swapped(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} is not there once"
    return text.replace(old, new)


def test_the_files_that_the_cases_break_are_whole(tmp_path):
    (tmp_path / "environments.yaml").write_text(ENVIRONMENTS, encoding="utf-8")
    (tmp_path / "tables.yaml").write_text(TABLES, encoding="utf-8")
    assert list(load_settings(tmp_path).tables) == ["blocks", "canonical"]


BLOCKS = "groups.daily.tables.blocks"
CANONICAL = "groups.chunked.tables.canonical"
NETWORK = f"{CANONICAL}.networks.mainnet"
MAINNET = "{name: mainnet, start_date: 2024-03-18}"
INDEXED = "{name: mainnet, start_index: 0}"

TABLE_CASES = {
    "an unknown key near a known one": (
        "lag: 2h",
        "lagg: 2h",
        ["tables.yaml:5 groups.daily.defaults.lagg: unknown key; did you mean `lag`?"],
    ),
    "an unknown key near none": (
        MAINNET,
        "{name: mainnet, start_date: 2024-03-18, zzz: 1}",
        [
            (
                f"tables.yaml:9 {BLOCKS}.networks.mainnet.zzz: unknown key; "
                "known: `end_date`, `end_index`, `name`, `start_date`, `start_index`"
            )
        ],
    ),
    "an unknown key at the top": (
        "groups:",
        "grupos: 1\ngroups:",
        ["tables.yaml:1 grupos: unknown key; did you mean `groups`?"],
    ),
    "an unknown key of a group": (
        "    defaults:\n      partition: {type: integer",
        "    table: 1\n    defaults:\n      partition: {type: integer",
        ["tables.yaml:11 groups.chunked.table: unknown key; did you mean `tables`?"],
    ),
    "a missing key": (
        "{type: daily, column: slot_time}",
        "{type: daily}",
        ["tables.yaml:4 groups.daily.defaults.partition.column: is missing"],
    ),
    "a list where a mapping belongs": (
        "partition: {type: daily, column: slot_time}",
        "partition: [daily]",
        ["tables.yaml:4 groups.daily.defaults.partition: expected a mapping of keys to values, not a list"],
    ),
    "a number where text belongs": (
        "column: slot_time",
        "column: 5",
        ["tables.yaml:4 groups.daily.defaults.partition.column: expected text, not 5"],
    ),
    "text where a number belongs": (
        "chunk_size: 1000",
        "chunk_size: many",
        ["tables.yaml:12 groups.chunked.defaults.partition.chunk_size: expected a whole number, not 'many'"],
    ),
    "a truth where a number belongs": (
        "chunk_size: 1000",
        "chunk_size: true",
        ["tables.yaml:12 groups.chunked.defaults.partition.chunk_size: expected a whole number, not true"],
    ),
    "a number below the least": (
        "chunk_size: 1000",
        "chunk_size: 0",
        ["tables.yaml:12 groups.chunked.defaults.partition.chunk_size: must be at least 1, and is 0"],
    ),
    "an unknown partition type": (
        "type: daily",
        "type: weekly",
        ["tables.yaml:4 groups.daily.defaults.partition.type: expected 'daily', 'hourly' or 'integer', not 'weekly'"],
    ),
    "no networks": (
        f"networks:\n          - {MAINNET}",
        "networks: []",
        [f"tables.yaml:8 {BLOCKS}.networks: must not be empty"],
    ),
    "a network that is no mapping": (
        MAINNET,
        "mainnet",
        [f"tables.yaml:9 {BLOCKS}.networks.0: expected a mapping of keys to values, not 'mainnet'"],
    ),
    "an end before its start": (
        MAINNET,
        "{name: mainnet, start_date: 2024-03-18, end_date: 2024-03-17}",
        [f"tables.yaml:9 {BLOCKS}.networks.mainnet.end_date: 2024-03-17 lies before start_date 2024-03-18"],
    ),
    "an end index before its start": (
        INDEXED,
        "{name: mainnet, start_index: 2000, end_index: 1000}",
        [f"tables.yaml:16 {CANONICAL}.networks.mainnet.end_index: 1000 lies before start_index 2000"],
    ),
    "a date range for an integer table": (
        INDEXED,
        "{name: mainnet, start_date: 2024-03-18, end_date: 2024-03-20}",
        [
            f"tables.yaml:16 {NETWORK}.end_date: this table is integer; give `end_index` instead",
            f"tables.yaml:16 {NETWORK}.start_date: this table is integer; give `start_index` instead",
        ],
    ),
    "an index range for a daily table": (
        MAINNET,
        "{name: mainnet, start_index: 0}",
        [f"tables.yaml:9 {BLOCKS}.networks.mainnet.start_index: this table is daily; give `start_date` instead"],
    ),
    "no start": (
        MAINNET,
        "{name: mainnet}",
        [f"tables.yaml:9 {BLOCKS}.networks.mainnet.start_date: is missing"],
    ),
    "a negative start": (
        INDEXED,
        "{name: mainnet, start_index: -1}",
        [f"tables.yaml:16 {CANONICAL}.networks.mainnet.start_index: must not be negative, and is -1"],
    ),
    "a day that does not exist": (
        "start_date: 2024-03-18",
        "start_date: 2024-02-30",
        [f"tables.yaml:9 {BLOCKS}.networks.mainnet.start_date: expected a date such as 2024-03-20, not '2024-02-30'"],
    ),
    "a time where a date belongs": (
        "start_date: 2024-03-18",
        "start_date: 2024-03-18T10:00:00Z",
        [
            (
                f"tables.yaml:9 {BLOCKS}.networks.mainnet.start_date: "
                "expected a date such as 2024-03-20, not '2024-03-18 10:00:00+00:00'"
            )
        ],
    ),
    "no chunk size": (
        ", chunk_size: 1000",
        "",
        [
            (
                "tables.yaml:12 groups.chunked.defaults.partition.chunk_size: "
                "is missing; an integer table says how many values go into one file"
            )
        ],
    ),
    "chunks of days": (
        "column: slot_time",
        "column: slot_time, chunk_size: 10",
        [
            (
                "tables.yaml:4 groups.daily.defaults.partition.chunk_size: "
                "only integer tables are cut into chunks, and this one is daily"
            )
        ],
    ),
    "a column redacted and allowed": (
        "lag: 2h",
        "redacted_columns: [ip, city]\n      allowed_columns: [city]",
        ["tables.yaml:6 groups.daily.defaults.allowed_columns.0: 'city' is both redacted and allowed; decide for one"],
    ),
    "two tables of one name": (
        "name: canonical",
        "name: blocks",
        ["tables.yaml:14 groups.chunked.tables.blocks: table 'blocks' is already at tables.yaml:7"],
    ),
    "two networks of one name": (
        f"- {MAINNET}",
        f"- {MAINNET}\n          - {MAINNET}",
        [f"tables.yaml:10 {BLOCKS}.networks.mainnet: network 'mainnet' is listed twice"],
    ),
    "a negative lag": (
        "lag: 2h",
        "lag: -2h",
        ["tables.yaml:5 groups.daily.defaults.lag: must not be negative, and is '-2h'"],
    ),
    "a lag without a unit": (
        "lag: 2h",
        "lag: 7200",
        ["tables.yaml:5 groups.daily.defaults.lag: expected a duration such as 2h, 90m or 1d12h, not '7200'"],
    ),
    "a lag in hours for an integer table": (
        "- name: canonical",
        "- name: canonical\n        lag: 2h",
        [f"tables.yaml:15 {CANONICAL}.lag: an integer table lags by blocks, not by '2h'"],
    ),
    "a table name with a dot": (
        "name: canonical",
        "name: canonical.block",
        [
            (
                "tables.yaml:14 groups.chunked.tables.canonical.block.name: "
                "'canonical.block' cannot be a name: letters, digits, `_` and `-` only, not starting with `-`"
            )
        ],
    ),
    "a network name with a space": (
        "{name: mainnet, start_index: 0}",
        "{name: main net, start_index: 0}",
        [
            (
                f"tables.yaml:16 {CANONICAL}.networks.main net.name: "
                "'main net' cannot be a name: letters, digits, `_` and `-` only, not starting with `-`"
            )
        ],
    ),
    "a network that YAML takes for a truth": (
        "{name: mainnet, start_index: 0}",
        "{name: no, start_index: 0}",
        [
            (
                f"tables.yaml:16 {CANONICAL}.networks.no.name: "
                "False cannot be a name: letters, digits, `_` and `-` only, not starting with `-`"
            )
        ],
    ),
    "a type that Iceberg lacks": (
        "- name: canonical",
        "- name: canonical\n        types: {block_number: UInt64}",
        [
            (
                f"tables.yaml:15 {CANONICAL}.types.block_number: "
                "'UInt64' is no Iceberg type; such as long, string, decimal(20,0) or fixed[66]"
            )
        ],
    ),
    "a source that does not exist": (
        "- name: canonical",
        "- name: canonical\n        source: local.other",
        [f"tables.yaml:15 {CANONICAL}.source: environment 'local' has no cluster 'other'; known: `local.default`"],
    ),
    "a key written twice": (
        "lag: 2h",
        "lag: 2h\n      lag: 3h",
        ["tables.yaml:6 groups.daily.defaults.lag: written twice; the first is on line 5"],
    ),
    "a tab": (
        "      lag: 2h",
        "\tlag: 2h",
        ["tables.yaml:5: a tab; YAML is indented and separated with spaces"],
    ),
    "tabs on two lines": (
        "      lag: 2h\n    tables:",
        "\tlag: 2h\n\ttables:",
        [
            "tables.yaml:5: a tab; YAML is indented and separated with spaces",
            "tables.yaml:6: a tab; YAML is indented and separated with spaces",
        ],
    ),
    "a bracket that is not closed": (
        "column: slot_time}",
        "column: slot_time",
        ["tables.yaml:5: is not valid YAML: expected ',' or '}', but got ':'"],
    ),
    "a variable that is not set": (
        "lag: 2h",
        "lag: ${TEST_LAG}",
        [
            (
                "tables.yaml:5 groups.daily.defaults.lag: "
                "the variable TEST_LAG is set neither in the environment nor in {local}/env"
            )
        ],
    ),
    "a variable that is not closed": (
        "lag: 2h",
        "lag: ${TEST_LAG",
        ["tables.yaml:5 groups.daily.defaults.lag: '${TEST_LAG' is not ${VAR} or ${VAR:-default}"],
    ),
}


@pytest.mark.parametrize("case", TABLE_CASES)
def test_bad_tables_are_refused_with_file_line_key_and_reason(tmp_path, case):
    old, new, expected = TABLE_CASES[case]
    found = problems_of(tmp_path, tables=swapped(TABLES, old, new))
    assert found == [line.replace("{local}", "no-stack") for line in expected]


CLUSTER = "environments.local.clickhouse.default"

ENVIRONMENT_CASES = {
    "a literal password": (
        "host: 127.0.0.1",
        "host: 127.0.0.1\n        password: hunter2",
        [
            (
                f"environments.yaml:6 {CLUSTER}.password: "
                "a secret is never written into a file; name the variable that holds it with `password_env`"
            )
        ],
    ),
    "a secret where a variable's name belongs": (
        "access_key_env: TEST_ACCESS_KEY",
        "access_key_env: hunter2+/=",
        [
            (
                "environments.yaml:9 environments.local.storage.access_key_env: "
                "expected the name of an environment variable (letters, digits, `_`)"
            )
        ],
    ),
    "a secret among free properties": (
        "warehouse: lake",
        "warehouse: lake\n      properties: {s3.secret-access-key: hunter2}",
        [
            (
                "environments.yaml:14 environments.local.catalog.properties.s3.secret-access-key: "
                "a secret is never written into a file; use `credential_env` or `token_env` of the catalog"
            )
        ],
    ),
    "a login in an address": (
        "nats://127.0.0.1:4222",
        "nats://me:hunter2@127.0.0.1:4222",
        [
            (
                "environments.yaml:15 environments.local.nats.url: "
                "holds a login; name a variable with one of the `*_env` keys instead"
            )
        ],
    ),
    "two ways to log in": (
        "warehouse: lake",
        "warehouse: lake\n      credential_env: TEST_A\n      token_env: TEST_B",
        [
            (
                "environments.yaml:15 environments.local.catalog.token_env: "
                "given beside `credential_env`; choose one of the two"
            )
        ],
    ),
    "a port that cannot be": (
        "host: 127.0.0.1",
        "host: 127.0.0.1\n        port: 70000",
        [f"environments.yaml:6 {CLUSTER}.port: must be below 65536, and is 70000"],
    ),
    "a truth that is none": (
        "host: 127.0.0.1",
        "host: 127.0.0.1\n        secure: perhaps",
        [f"environments.yaml:6 {CLUSTER}.secure: expected true or false, not 'perhaps'"],
    ),
    "an empty value": (
        "host: 127.0.0.1",
        "host:",
        [f"environments.yaml:5 {CLUSTER}.host: expected text, not nothing"],
    ),
    "a section that is missing": (
        "    temporal:\n      address: 127.0.0.1:7233\n",
        "",
        ["environments.yaml:2 environments.local.temporal: is missing"],
    ),
    "parts that S3 does not take": (
        "    temporal:",
        "    export: {part_size_bytes: 1024}\n    temporal:",
        ["environments.yaml:16 environments.local.export.part_size_bytes: must be at least 5242880, and is 1024"],
    ),
    "an environment name with a dot": (
        "  local:\n",
        "  lo.cal:\n",
        [
            (
                "environments.yaml:2 environments.lo.cal: "
                "'lo.cal' cannot be a name: letters, digits, `_` and `-` only, not starting with `-`"
            ),
            "environments.yaml:19 export_mappings.0.destination: no environment 'local'; did you mean `lo.cal`?",
            "environments.yaml:19 export_mappings.0.source: no environment 'local'; did you mean `lo.cal`?",
        ],
    ),
    "a cluster name with a dot": (
        "      default:\n        host: 127.0.0.1",
        "      default:\n        host: 127.0.0.1\n      a.b:\n        host: 127.0.0.1",
        [
            (
                "environments.yaml:6 environments.local.clickhouse.a.b: "
                "'a.b' cannot be a name: letters, digits, `_` and `-` only, not starting with `-`"
            )
        ],
    ),
    "a mapping to an unknown environment": (
        "destination: local",
        "destination: loca1",
        ["environments.yaml:19 export_mappings.0.destination: no environment 'loca1'; did you mean `local`?"],
    ),
    "a mapping from an unknown environment": (
        "source: local.default",
        "source: stage.default",
        ["environments.yaml:19 export_mappings.0.source: no environment 'stage'; known: `local`"],
    ),
    "a mapping from an unknown cluster": (
        "source: local.default",
        "source: local.defualt",
        [
            (
                "environments.yaml:19 export_mappings.0.source: "
                "environment 'local' has no cluster 'defualt'; did you mean `local.default`?"
            )
        ],
    ),
    "a mapping from no cluster": (
        "source: local.default",
        "source: local",
        ["environments.yaml:19 export_mappings.0.source: expected `<environment>.<cluster>`, not 'local'"],
    ),
    "a mapping listed twice": (
        "  - {source: local.default, destination: local}",
        "  - {source: local.default, destination: local}\n  - {source: local.default, destination: local}",
        ["environments.yaml:20 export_mappings.1: this mapping is listed twice"],
    ),
    "mappings that are no list": (
        "  - {source: local.default, destination: local}",
        "  local.default: local",
        ["environments.yaml:18 export_mappings: expected a list"],
    ),
}


@pytest.mark.parametrize("case", ENVIRONMENT_CASES)
def test_bad_environments_are_refused_with_file_line_key_and_reason(tmp_path, case):
    old, new, expected = ENVIRONMENT_CASES[case]
    found = problems_of(tmp_path, environments=swapped(ENVIRONMENTS, old, new))
    assert found == expected
    assert "hunter2" not in "\n".join(found)


def test_two_clusters_feeding_one_table_are_refused_unless_it_names_its_source(tmp_path):
    two = swapped(ENVIRONMENTS, "host: 127.0.0.1", "host: 127.0.0.1\n      other: {host: 127.0.0.2}")
    two += "  - {source: local.other, destination: local}\n"
    named = swapped(TABLES, "- name: canonical", "- name: canonical\n        source: local.other")
    assert problems_of(tmp_path, two, named) == [
        (
            f"tables.yaml:7 {BLOCKS}: `local.default` and `local.other` would both feed table 'blocks' "
            "of environment 'local'; name one as `source`"
        )
    ]


def test_every_problem_of_every_file_is_reported_at_once(tmp_path):
    environments = swapped(ENVIRONMENTS, "host: 127.0.0.1", "hots: 127.0.0.1\n        port: eighty")
    environments = swapped(environments, "destination: local", "destination: production")
    tables = swapped(TABLES, "lag: 2h", "lag: soon\n      lagg: 1h")
    tables = swapped(tables, MAINNET, "{name: mainnet, start_date: 2024-03-18, end_date: 2024-03-17}")
    tables = swapped(tables, "chunk_size: 1000", "chunk_size: x")
    assert problems_of(tmp_path, environments, tables) == [
        f"environments.yaml:4 {CLUSTER}.host: is missing",
        f"environments.yaml:5 {CLUSTER}.hots: unknown key; did you mean `host`?",
        f"environments.yaml:6 {CLUSTER}.port: expected a whole number, not 'eighty'",
        "environments.yaml:20 export_mappings.0.destination: no environment 'production'; known: `local`",
        "tables.yaml:5 groups.daily.defaults.lag: expected a duration such as 2h, 90m or 1d12h, not 'soon'",
        "tables.yaml:6 groups.daily.defaults.lagg: unknown key; did you mean `lag`?",
        f"tables.yaml:10 {BLOCKS}.networks.mainnet.end_date: 2024-03-17 lies before start_date 2024-03-18",
        "tables.yaml:13 groups.chunked.defaults.partition.chunk_size: expected a whole number, not 'x'",
    ]


def test_a_broken_file_does_not_make_the_other_look_wrong(tmp_path):
    found = problems_of(tmp_path, "environments:\n\tlocal: 1\n", swapped(TABLES, "type: daily", "type: weekly"))
    assert found == [
        "environments.yaml:2: a tab; YAML is indented and separated with spaces",
        "tables.yaml:4 groups.daily.defaults.partition.type: expected 'daily', 'hourly' or 'integer', not 'weekly'",
    ]


def test_a_missing_directory_file_or_override_is_named(tmp_path):
    nowhere = tmp_path / "nowhere"
    with pytest.raises(ConfigError) as caught:
        load_settings(nowhere)
    assert str(caught.value) == f"{nowhere}: no such directory; name one with --config-dir or ICEFLEET_CONFIG_DIR"
    (tmp_path / "environments.yaml").write_text(ENVIRONMENTS, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path, override=[tmp_path / "more.yaml"])
    assert str(caught.value).splitlines() == [
        f"{tmp_path}/more.yaml: cannot be read: No such file or directory",
        f"{tmp_path}/tables.yaml: cannot be read: No such file or directory",
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
def test_files_that_are_no_config_are_refused(tmp_path, text, message):
    (tmp_path / "environments.yaml").write_text(ENVIRONMENTS, encoding="utf-8")
    (tmp_path / "tables.yaml").write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path)
    assert caught.value.problems[0].message == message

"""Every kind of bad table, and the exact words that say so."""

import pytest

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
    "a redaction set that does not exist": (
        "lag: 2h",
        "redact: [clint]",
        ["tables.yaml:5 groups.daily.defaults.redact.0: no redaction set 'clint'; there are none"],
    ),
    "a redaction set near another": (
        "groups:\n  daily:\n    defaults:",
        "redaction_sets: {client: [ip], remote: [at]}\ngroups:\n  daily:\n    defaults:\n      redact: clint",
        ["tables.yaml:5 groups.daily.defaults.redact: no redaction set 'clint'; did you mean `client`?"],
    ),
    "a redaction set that is no list": (
        "groups:\n  daily:\n    defaults:",
        "redaction_sets: {client: ip}\ngroups:\n  daily:\n    defaults:\n      redact: client",
        ["tables.yaml:1 redaction_sets.client: expected a list, not 'ip'"],
    ),
    "a column allowed and redacted by a set": (
        "groups:\n  daily:\n    defaults:",
        (
            "redaction_sets: {client: [ip, city]}\ngroups:\n  daily:\n    defaults:\n"
            "      redact: client\n      allowed_columns: [city]"
        ),
        ["tables.yaml:6 groups.daily.defaults.allowed_columns.0: 'city' is both redacted and allowed; decide for one"],
    ),
    "a redaction that is no name": (
        "lag: 2h",
        "redact: {client: true}",
        ["tables.yaml:5 groups.daily.defaults.redact: expected a list, not a mapping"],
    ),
    "a pattern that no name could hold": (
        "groups:",
        "sensitive_patterns: [ip, Geo-City]\ngroups:",
        [
            (
                "tables.yaml:1 sensitive_patterns.1: 'Geo-City' is no pattern: words of lower-case letters and digits, "
                "joined by `_`, such as geo_city"
            )
        ],
    ),
    "no patterns at all": (
        "groups:",
        "sensitive_patterns: []\ngroups:",
        ["tables.yaml:1 sensitive_patterns: must not be empty"],
    ),
    "neither enabled nor disabled": (
        "- name: canonical",
        "- name: canonical\n        enabled: sometimes",
        [f"tables.yaml:15 {CANONICAL}.enabled: expected true or false, not 'sometimes'"],
    ),
    "a sharding column that follows a list": (
        "- name: canonical",
        "- name: canonical\n        sharding_follows: {slot: [at]}",
        [f"tables.yaml:15 {CANONICAL}.sharding_follows.slot: expected text, not a list"],
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
                "the variable TEST_LAG is set neither in the environment nor in no-stack/env"
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
def test_bad_tables_are_refused_with_file_line_key_and_reason(refused, case):
    old, new, expected = TABLE_CASES[case]
    assert refused(tables=[(old, new)]) == expected

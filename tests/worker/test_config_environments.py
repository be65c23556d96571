"""Every kind of bad environment and mapping, and the exact words that say so."""

import pytest

CLUSTER = "environments.local.clickhouse.default"

ENVIRONMENT_CASES = {
    "a literal password": (
        "host: 127.0.0.1",
        "host: 127.0.0.1\n        password: hunter2",
        [
            (
                f"environments.yaml:6 {CLUSTER}.password: "
                "a secret is never written here; name the variable that holds it with `password_env`, or a file with "
                "`password_file`"
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
                "a secret is never written here; name its variable with `credential_env` or `token_env` of the catalog"
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
    "a public address with something behind it": (
        "bucket: icefleet",
        "bucket: icefleet\n      public_url: https://data.example.org/lake/?token=hunter2",
        [
            (
                "environments.yaml:9 environments.local.storage.public_url: "
                "expected an http:// or https:// address without a query, and without a slash at its end"
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
    "a cache of nothing": (
        "bucket: icefleet",
        "bucket: icefleet\n      purge_url: https://cdn.example.org/purge",
        [
            (
                "environments.yaml:9 environments.local.storage.purge_url: "
                "there is nothing to be purged without `public_url`, whose cache this is"
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
    "a way to carry files that is none": (
        "    temporal:",
        "    export: {transfer: pigeon}\n    temporal:",
        ["environments.yaml:16 environments.local.export.transfer: expected 'stream' or 'direct', not 'pigeon'"],
    ),
    "files that ClickHouse is to write without knowing the bucket": (
        "    temporal:",
        "    export: {transfer: direct}\n    temporal:",
        [
            (
                "environments.yaml:16 environments.local.export.transfer: ClickHouse writes the files itself then, and "
                "needs a named collection with the bucket's url and keys: create one at the source and name it as "
                "`storage.named_collection` (docs/guides/transfer.md)"
            )
        ],
    ),
    "a limit below nothing": (
        "host: 127.0.0.1",
        "host: 127.0.0.1\n        max_rows_to_read: -1",
        [f"environments.yaml:6 {CLUSTER}.max_rows_to_read: must be at least 0, and is -1"],
    ),
    "a fleet that can send more queries than it was granted": (
        "host: 127.0.0.1",
        "host: 127.0.0.1\n        export_slots: 3\n        lookup_slots: 2\n        max_concurrent_queries: 19",
        [
            (
                f"environments.yaml:8 {CLUSTER}.max_concurrent_queries: grants 19 queries at once, and 4 workers x "
                "(3 export slots + 2 lookup slots) can send 20; lower export.max_workers, export_slots or "
                "lookup_slots, or have the source allow more"
            )
        ],
    ),
    "two kinds of work in one queue": (
        "address: 127.0.0.1:7233",
        (
            "address: 127.0.0.1:7233\n      merge_task_queue: icefleet-export-default\n"
            "      upkeep_task_queue: icefleet-cdc"
        ),
        [
            (
                "environments.yaml:16 environments.local.temporal: task queue 'icefleet-cdc' would hold pipelines and "
                "upkeep; every kind of work has one of its own"
            ),
            (
                "environments.yaml:16 environments.local.temporal: task queue 'icefleet-export-default' would hold "
                "mirrors and exports of local.default; every kind of work has one of its own"
            ),
        ],
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
def test_bad_environments_are_refused_with_file_line_key_and_reason(refused, case):
    old, new, expected = ENVIRONMENT_CASES[case]
    found = refused(environments=[(old, new)])
    assert found == expected
    assert "hunter2" not in "\n".join(found)

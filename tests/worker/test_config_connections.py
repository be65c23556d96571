"""Connections in the config: secrets from files, certificates, and stores that cannot hold a lake."""

import re
from pathlib import Path

import pytest

from activities.core.destinations import refusal
from activities.core.faults import BadConfig
from worker.config import load_settings

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "connections.md"
KEYS = "      access_key_env: TEST_ACCESS_KEY\n      secret_key_env: TEST_SECRET_KEY\n"
NATS = "url: nats://127.0.0.1:4222"
STORAGE, LOCAL = "environments.local.storage", "environments.local"
HOST = "host: 127.0.0.1"
CDC = "    cdc:\n      shop:\n        buffer: {{host: db, database: shop, user: me, {}}}\n    temporal:"

CASES = {
    "a secret that is named twice": (
        "access_key_env: TEST_ACCESS_KEY",
        "access_key_env: TEST_ACCESS_KEY\n      access_key_file: /run/key",
        [f"environments.yaml:10 {STORAGE}.access_key_file: given beside `access_key_env`; choose one of the two"],
    ),
    "a file that is no path": (
        "access_key_env: TEST_ACCESS_KEY",
        "access_key_file: hunter2",
        [
            (
                f"environments.yaml:9 {STORAGE}.access_key_file: "
                "expected the whole path of a file, such as /run/secrets/icefleet/password"
            )
        ],
    ),
    "half a pair of keys": (
        "      secret_key_env: TEST_SECRET_KEY\n",
        "",
        [f"environments.yaml:9 {STORAGE}.access_key_env: means nothing without `secret_key_env`"],
    ),
    "a token of no keys": (
        KEYS,
        "      session_token_file: /run/token\n",
        [
            (
                f"environments.yaml:9 {STORAGE}.session_token_file: "
                "a session token belongs to keys: give `access_key` and `secret_key` too"
            )
        ],
    ),
    "several ways to log in": (
        NATS,
        f"{NATS}\n      credentials_file: /run/creds\n      nkey_env: TEST_A\n      token_env: TEST_B",
        [
            f"environments.yaml:16 {LOCAL}.nats.credentials_file: given beside `token_env`; choose one of the two",
            f"environments.yaml:17 {LOCAL}.nats.nkey_env: given beside `token_env`; choose one of the two",
        ],
    ),
    "a user without a password": (
        NATS,
        f"{NATS}\n      user: me",
        [f"environments.yaml:16 {LOCAL}.nats.user: means nothing without `password_env`"],
    ),
    "a certificate without its key": (
        HOST,
        f"{HOST}\n        secure: true\n        tls: {{cert_file: /run/tls.crt}}",
        [f"environments.yaml:7 {LOCAL}.clickhouse.default.tls.cert_file: means nothing without `key_file`"],
    ),
    "certificates for plain text": (
        HOST,
        f"{HOST}\n        tls: {{ca_file: /run/ca.crt}}",
        [
            (
                f"environments.yaml:6 {LOCAL}.clickhouse.default.tls: "
                "certificates are used over TLS alone: set `secure: true`, and the port of HTTPS"
            )
        ],
    ),
    "certificates for a plain address": (
        NATS,
        f"{NATS}\n      tls: {{ca_file: /run/ca.crt}}",
        [f"environments.yaml:16 {LOCAL}.nats.tls: certificates are used over TLS alone: `url` begins with tls:// then"],
    ),
    "a name for a store's certificate": (
        "bucket: icefleet",
        "bucket: icefleet\n      tls: {server_name: s3}",
        [
            (
                f"environments.yaml:9 {STORAGE}.tls: "
                "certificates are used over TLS alone: `endpoint` begins with https:// then"
            ),
            f"environments.yaml:9 {STORAGE}.tls.server_name: unknown key; known: `ca_file`",
        ],
    ),
    "a key in plain text": (
        "address: 127.0.0.1:7233",
        "address: 127.0.0.1:7233\n      api_key_env: TEST_A",
        [f"environments.yaml:18 {LOCAL}.temporal.api_key_env: the key would travel in plain text: set `tls: true`"],
    ),
    "tls that is neither": (
        "address: 127.0.0.1:7233",
        "address: 127.0.0.1:7233\n      tls: perhaps",
        [f"environments.yaml:18 {LOCAL}.temporal.tls: expected a mapping of keys to values, not 'perhaps'"],
    ),
    "an authority at which nobody looks": (
        "    temporal:",
        CDC.format("tls: {ca_file: /run/ca.crt}"),
        [
            (
                f"environments.yaml:18 {LOCAL}.cdc.shop.buffer.tls.ca_file: "
                "nobody looks at it with sslmode prefer: set `sslmode: verify-full`"
            )
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_connection_that_cannot_be_is_refused_with_file_line_key_and_reason(refused, case):
    old, new, expected = CASES[case]
    found = refused(environments=[(old, new)])
    assert found == expected
    assert "hunter2" not in "\n".join(found)


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("https://storage.googleapis.com", "Google Cloud Storage takes no precondition on multipart uploads"),
        ("https://lake.storage.googleapis.com/", "Google Cloud Storage takes no precondition on multipart uploads"),
        ("gs://lake", "Google Cloud Storage takes no precondition on multipart uploads"),
        ("https://lake.blob.core.windows.net", "Azure Blob Storage does not speak S3"),
        ("abfss://lake@account.dfs.core.windows.net", "Azure Blob Storage does not speak S3"),
        ("file:///srv/lake", "a directory of one machine is seen by neither other workers nor readers"),
        ("/srv/lake", "a directory of one machine is seen by neither other workers nor readers"),
        ("s3://lake", "expected the http:// or https:// address of a store that speaks S3"),
    ],
)
def test_a_store_that_cannot_hold_a_lake_is_refused_with_the_reason_and_a_way_out(endpoint, why):
    assert refusal(endpoint).startswith(why)
    assert "http" in refusal(endpoint) or "docs/guides/connections.md" in refusal(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://s3.eu-central-1.amazonaws.com",
        "https://0123abc.r2.cloudflarestorage.com",
        "http://minio.storage.svc:9000",
        "http://127.0.0.1:8333",
        "https://notstorage.googleapis.com.example.org",
    ],
)
def test_a_store_that_may_hold_a_lake_is_not_refused(endpoint):
    assert refusal(endpoint) == ""


def test_a_refused_store_is_named_with_file_line_and_key(refused):
    found = refused(environments=[("endpoint: http://127.0.0.1:8333", "endpoint: https://storage.googleapis.com")])
    assert [line.partition(": Google")[0] for line in found] == [f"environments.yaml:7 {STORAGE}.endpoint"]


def test_files_that_are_not_there_are_all_named_and_keep_nobody_from_what_does_not_need_them(whole_config, tmp_path):
    text = (whole_config / "environments.yaml").read_text(encoding="utf-8")
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    text = text.replace("endpoint: http:", "endpoint: https:")
    text = text.replace(KEYS, f"      access_key_file: {tmp_path}/absent\n      secret_key_file: {tmp_path}/empty\n")
    text = text.replace("bucket: icefleet", f"bucket: icefleet\n      tls: {{ca_file: {tmp_path}/no.crt}}")
    (whole_config / "environments.yaml").write_text(text, encoding="utf-8")
    settings = load_settings(whole_config)
    assert [str(problem).replace(f"{whole_config}/", "") for problem in settings.unset("local")] == [
        f"environments.yaml:10 {STORAGE}.access_key_file: the file absent cannot be read: No such file or directory",
        f"environments.yaml:11 {STORAGE}.secret_key_file: the file empty is empty",
        f"environments.yaml:9 {STORAGE}.tls.ca_file: the file no.crt cannot be read: No such file or directory",
    ]
    assert settings.environment("local", "nats").nats.url == "nats://127.0.0.1:4222"
    with pytest.raises(BadConfig, match="absent"):
        settings.environment("local", "storage")


def test_a_secret_in_a_file_is_read_each_time_and_shown_to_nobody(whole_config, tmp_path):
    text = (whole_config / "environments.yaml").read_text(encoding="utf-8")
    for name in ("access", "secret"):
        (tmp_path / name).write_text("hunter2\n", encoding="utf-8")
    text = text.replace(KEYS, f"      access_key_file: {tmp_path}/access\n      secret_key_file: {tmp_path}/secret\n")
    (whole_config / "environments.yaml").write_text(text, encoding="utf-8")
    environment = load_settings(whole_config).environment("local")
    assert environment.storage.secret_key.get_secret_value() == "hunter2"
    (tmp_path / "secret").write_text("hunter3", encoding="utf-8")
    assert environment.storage.secret_key.get_secret_value() == "hunter3"
    assert "hunter" not in f"{environment!r} {environment} {environment.model_dump_json()}"
    (tmp_path / "secret").unlink()
    with pytest.raises(BadConfig, match="secret cannot be read: No such file or directory"):
        environment.storage.secret_key.get_secret_value()


def test_the_config_that_the_guide_shows_has_the_right_shape(whole_config, monkeypatch):
    shown = re.search(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    mapping = "export_mappings:\n  - {source: production.default, destination: production}\n"
    (whole_config / "environments.yaml").write_text(shown[1] + mapping, encoding="utf-8")
    settings = load_settings(whole_config)
    assert {problem.key.rpartition(".")[2] for problem in settings.unset("production")} == {
        *("password_file", "credential_file", "credentials_file", "ca_file", "cert_file", "key_file")
    }

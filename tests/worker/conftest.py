"""A small whole config, and what is said of it once something in it is broken."""

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


@pytest.fixture
def whole_config(monkeypatch, tmp_path):
    """A directory with a config in which nothing is wrong, away from the variables of this machine."""
    for name in ("ICEFLEET_CONFIG_DIR", "ICEFLEET_CONFIG_OVERRIDE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ICEFLEET_LOCAL_DIR", str(tmp_path / "no-stack"))
    (tmp_path / "environments.yaml").write_text(ENVIRONMENTS, encoding="utf-8")
    (tmp_path / "tables.yaml").write_text(TABLES, encoding="utf-8")
    return tmp_path


@pytest.fixture
def refused(whole_config):
    """Break the config by replacing texts (file → [(old, new), …]); the lines of the error, without the directory."""

    def broken(**changes):
        for file, pairs in changes.items():
            path = whole_config / f"{file}.yaml"
            text = path.read_text(encoding="utf-8")
            for old, new in pairs:
                assert text.count(old) == 1, f"{old!r} is not there once"
                text = text.replace(old, new)
            path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            load_settings(whole_config)
        assert str(caught.value) == "\n".join(str(problem) for problem in caught.value.problems)
        return str(caught.value).replace(f"{whole_config}/", "").splitlines()

    return broken

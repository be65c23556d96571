"""What mirrors.yaml says of mirrors, and every problem of it at once."""

from pathlib import Path

import pytest

from activities.core.faults import BadConfig
from activities.core.mirrors import CompactionRules, ExpiryRules, MirrorConfig
from worker.config import ConfigError, load_settings
from worker.wiring_mirrors import mirror_config

SHIPPED = Path(__file__).parents[2] / "config"
SHORTEST = """\
mirrors:
  local:
    - changelog_table: cdc.orders_changelog
      mirror_table: shop.orders
      primary_keys: id
"""
LONGEST = """\
mirrors:
  local:
    - namespace: shop
      changelog_table: others.changes
      mirror_table: orders
      primary_keys: [tenant, id]
      sequence_column: version
      sequence_format: decimal
      operation_column: op
      unchanged_column: same
      metadata_columns: [at, same]
      schema: permissive
      partition: [{column: at_day}, {column: tenant, transform: "bucket[16]"}]
      merge_interval: ${TEST_INTERVAL:-1h30m}
      batch_size: 1000
      batch_bytes: 1048576
      late_event_horizon: 86400
      compaction: {target_file_bytes: 1048576, small_file_bytes: 2, small_files: 3, deleted_ratio: 0.5,
        bytes_per_turn: 4}
      expiry: {keep_snapshots: 5, snapshot_age: 90s, grace: 1d}
"""


@pytest.fixture
def mirrors(whole_config, monkeypatch):
    """The mirrors of `local` by this text of mirrors.yaml, resolved."""
    monkeypatch.setenv("TEST_ACCESS_KEY", "k")
    monkeypatch.setenv("TEST_SECRET_KEY", "k")

    def loaded(text):
        (whole_config / "mirrors.yaml").write_text(text, encoding="utf-8")
        found = load_settings(whole_config).environment("local").mirrors
        return {name: mirror_config(mirror) for name, mirror in found.items()}

    return loaded


@pytest.fixture
def wrong(whole_config):
    """The lines of the error that this text of mirrors.yaml makes."""

    def lines(text):
        (whole_config / "mirrors.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            load_settings(whole_config)
        return str(caught.value).replace(f"{whole_config}/", "").splitlines()

    return lines


def at(line, key, number=0):
    return f"mirrors.yaml:{line} mirrors.local.{number}.{key}: "


def test_a_mirror_needs_two_tables_and_a_key_and_the_rest_has_the_defaults_of_the_core(mirrors):
    assert mirrors(SHORTEST) == {"shop.orders": MirrorConfig("cdc.orders_changelog", "shop.orders", ("id",))}


def test_everything_can_be_said_of_a_changelog_that_others_write(mirrors):
    assert mirrors(LONGEST) == {
        "shop.orders": MirrorConfig(
            changelog="others.changes",
            mirror="shop.orders",
            primary_keys=("tenant", "id"),
            sequence_column="version",
            sequence_format="decimal",
            operation_column="op",
            unchanged_column="same",
            metadata_columns=("at", "same"),
            schema="permissive",
            partition=(("at_day", "identity"), ("tenant", "bucket[16]")),
            merge_interval_seconds=5400,
            batch_rows=1000,
            batch_bytes=1048576,
            late_event_horizon_seconds=86400,
            compaction=CompactionRules(1048576, 2, 3, 0.5, 4),
            expiry=ExpiryRules(5, 90, 86400),
        )
    }


@pytest.mark.parametrize(("text", "seconds"), [("1h", 3600), ("7d", 604800), ("90s", 90), ("90", 90), ("'5400'", 5400)])
def test_a_time_is_written_with_its_unit_or_in_seconds(mirrors, text, seconds):
    found = mirrors(f"{SHORTEST}      merge_interval: {text}\n")
    assert found["shop.orders"].merge_interval_seconds == seconds


def test_without_the_file_there_are_no_mirrors_and_two_may_have_one_changelog(mirrors, whole_config):
    both = SHORTEST + SHORTEST.partition("local:\n")[2].replace("shop.orders", "shop.copies")
    assert {name: one.changelog for name, one in mirrors(both).items()} == {
        "shop.orders": "cdc.orders_changelog",
        "shop.copies": "cdc.orders_changelog",
    }
    (whole_config / "mirrors.yaml").unlink()
    assert load_settings(whole_config).environment("local").mirrors == {}


def test_a_mirror_is_no_changelog_of_another_wherever_it_stands(wrong):
    copies = SHORTEST.partition("local:\n")[2].replace("shop.orders", "shop.copies")
    chained = copies.replace("cdc.orders_changelog", "shop.orders") + SHORTEST.partition("local:\n")[2]
    [said] = wrong(f"mirrors:\n  local:\n{chained}")
    assert said.startswith(at(3, "changelog_table") + "'shop.orders' is the mirror at mirrors.yaml:6, which says")


def test_case_19_a_mirror_without_a_key_is_refused_and_says_why(wrong):
    said = "a mirror has one row for each key: name the columns of the changelog that tell rows apart; a table "
    said += "without a key cannot have a mirror"
    assert wrong(SHORTEST.replace("      primary_keys: id\n", "")) == [at(3, "primary_keys") + said]
    assert wrong(SHORTEST.replace("id\n", "[]\n")) == [at(5, "primary_keys") + said]


def test_every_problem_is_reported_at_once_with_file_line_and_key(wrong):
    text = """\
mirrors:
  local:
    - changelog_table: orders
      mirror_table: shop..orders
      primary_keys: [id, id, op, at]
      operation_column: op
      metadata_columns: [at, cdc_sequence_number]
      partition: [{column: at, transform: "bucket[0]"}]
      merge_interval: soon
      batch_size: 0
      late_horizon: 7d
      compaction: {deleted_ratio: 2, small_files: 1}
      schema: lenient
    - {changelog_table: a.b, mirror_table: a.b, primary_keys: [id], sequence_column: x, operation_column: x}
    - {changelog_table: a.b, mirror_table: a.c, primary_keys: [id]}
    - {changelog_table: a.d, mirror_table: a.c, primary_keys: [id], merge_interval: 0s, expiry: {grace: -1}}
    - 5
  lokal: []
  staging: {}
"""
    assert wrong(text) == [
        at(3, "changelog_table") + "'orders' has no namespace: write namespace.orders, or give `namespace`",
        at(4, "mirror_table") + "'shop..orders' cannot be a table: '' is empty, or has a blank or one of / \\ * >",
        at(5, "primary_keys.1") + "'id' is listed twice",
        at(5, "primary_keys.2") + "'op' is the `operation_column`, which tells changes apart and not rows",
        at(5, "primary_keys.3") + "'at' is among `metadata_columns`, which a mirror lacks",
        at(7, "metadata_columns")
        + "'cdc_sequence_number' is the `sequence_column`, by which a mirror tells late changes: it keeps it",
        at(8, "partition.0.column") + "'at' is no column of the mirror",
        at(8, "partition.0.transform")
        + "'bucket[0]' is no transform: identity, year, month, day, hour, bucket[16] or truncate[1000]",
        at(9, "merge_interval") + "expected a duration such as 30s, 10m or 1h30m, not 'soon'",
        at(10, "batch_size") + "must be at least 1, and is 0",
        at(11, "late_horizon") + "unknown key; did you mean `late_event_horizon`?",
        at(12, "compaction.deleted_ratio") + "must be at most 1.0, and is 2",
        at(12, "compaction.small_files") + "must be at least 2, and is 1",
        at(13, "schema") + "expected 'strict' or 'permissive', not 'lenient'",
        at(14, "mirror_table", 1) + "'a.b' is the changelog itself; a mirror is a table of its own",
        at(14, "sequence_column", 1) + "'x' is the `operation_column` as well; they are two columns",
        at(15, "changelog_table", 2)
        + "'a.b' is the mirror at mirrors.yaml:14, which says what rows are and not how they changed; name the "
        "changelog of that mirror",
        at(16, "expiry.grace", 3) + "expected a duration such as 30s, 10m or 1h30m, not -1",
        at(16, "merge_interval", 3) + "must be at least 1s, and is '0s'",
        at(16, "mirror_table", 3)
        + "mirror 'a.c' is already at mirrors.yaml:15; a mirror has one changelog, and one environment that writes it",
        "mirrors.yaml:17 mirrors.local.4: expected a mapping of keys to values, not 5",
        "mirrors.yaml:18 mirrors.lokal: no environment 'lokal'; did you mean `local`?",
        "mirrors.yaml:19 mirrors.staging: no environment 'staging'; known: `local`",
        "mirrors.yaml:19 mirrors.staging: expected a list of mirrors",
    ]


def test_a_mirror_whose_variables_are_not_set_disturbs_nobody_but_who_uses_its_mirrors(tmp_path, monkeypatch):
    monkeypatch.delenv("ICEFLEET_CONFIG_OVERRIDE", raising=False)
    monkeypatch.setenv("STAGING_TEMPORAL_API_KEY", "k")
    over = tmp_path / "over.yaml"
    over.write_text(
        "mirrors:\n  staging:\n    - {changelog_table: '${TEST_NOT_SET}', mirror_table: a.b, primary_keys: id,\n"
        "       partition: [{column: at, transform: '${TEST_NOR_THIS}'}]}\n"
        "    - {changelog_table: a.c, mirror_table: a.b, primary_keys: id, merge_interval: '${TEST_NOR_THIS}'}\n"
    )
    settings = load_settings(SHIPPED, override=[over])
    assert list(settings.environment("local", "temporal", "mirrors").mirrors) == ["shop.orders"]
    assert settings.environment("staging", "temporal").name == "staging"
    said = "the variable {} is set neither in the environment nor in "
    with pytest.raises(BadConfig) as caught:
        settings.environment("staging", "temporal", "mirrors")
    assert [line.rpartition("in ")[0] + "in " for line in str(caught.value).splitlines()] == [
        f"{over}:3 mirrors.staging.0.changelog_table: {said.format('TEST_NOT_SET')}",
        f"{over}:4 mirrors.staging.0.partition.0.transform: {said.format('TEST_NOR_THIS')}",
        f"{over}:5 mirrors.staging.1.merge_interval: {said.format('TEST_NOR_THIS')}",
    ]
    with pytest.raises(BadConfig, match="TEST_NOT_SET"):
        settings.environment("staging")


def test_the_shipped_mirror_is_that_of_the_demo(monkeypatch):
    monkeypatch.delenv("ICEFLEET_CONFIG_OVERRIDE", raising=False)
    found = load_settings(SHIPPED).environments
    assert {name: list(one.mirrors) for name, one in found.items()} == {
        "local": ["shop.orders"],
        "staging": [],
        "production": [],
    }
    assert found["local"].mirrors["shop.orders"].changelog == "cdc.public_orders_changelog"

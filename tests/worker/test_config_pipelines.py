"""What is said of `cdc` in environments.yaml when something in it cannot be."""

import pytest

from worker.config import load_settings
from worker.wiring_cdc import pipeline_config

SHOP = """\
  local:
    cdc:
      shop:
        source: {host: pg, database: shop, user: u, password_env: TEST_SECRET}
        buffer: {host: pg, database: shop, user: u, password_env: TEST_SECRET}
"""
SIGNS = "1 to 63 lower-case letters, digits and `_`"


def at(line, key, pipeline="shop"):
    """Where a problem of a pipeline is."""
    return f"environments.yaml:{line} environments.local.cdc.{pipeline}.{key}: "


@pytest.fixture
def shop(whole_config, refused, monkeypatch):
    """Break the pipeline by replacing texts; the lines of the error."""
    monkeypatch.setenv("TEST_SECRET", "s")
    monkeypatch.setenv("TEST_ACCESS_KEY", "k")
    monkeypatch.setenv("TEST_SECRET_KEY", "k")
    path = whole_config / "environments.yaml"
    path.write_text(path.read_text().replace("  local:\n", SHOP, 1))
    return lambda *pairs: refused(environments=list(pairs))


def test_a_pipeline_needs_two_databases_and_the_rest_has_defaults(shop, whole_config):
    environment = load_settings(whole_config).environment("local")
    pipeline = pipeline_config("local", "shop", environment.cdc["shop"])
    assert pipeline.source is not None
    assert (pipeline.source.slot, pipeline.source.publication) == ("icefleet_local_shop", "icefleet_local_shop")
    assert (pipeline.buffer.password, pipeline.buffer_schema) == ("s", "icefleet_cdc")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "{schema}_{tabel}",
            "'{schema}_{tabel}' has {tabel}, and only {schema} and {table} are known, alone or with :lower",
        ),
        ("{table:>10}", "'{table:>10}' has {table}, and only {schema} and {table} are known, alone or with :lower"),
        ("{}", "'{}' has {}, and only {schema} and {table} are known, alone or with :lower"),
        ("all", "'all' names every table alike: it needs {table}"),
        ("{table", "'{table' is no template: expected '}' before end of string; write {schema} and {table} alone"),
        ("{schema}.{table}", "'{schema}.{table}' has '.', which no name of a table may have"),
    ],
)
def test_a_template_that_makes_no_names_of_tables_is_refused(shop, name, said):
    assert shop(("      shop:\n", f"      shop:\n        name: '{name}'\n")) == [at(5, "name") + said]


def test_every_problem_of_a_pipeline_is_reported_at_once(shop):
    source = "source: {host: pg, database: shop, user: u,"
    more = " slot: My-Slot, warn_retained_wal_bytes: 10, max_retained_wal_bytes: 10,"
    assert shop(
        (source, source + more),
        ("buffer: {host", "buffer: {schema: pg_mine, host"),
        ("      shop:\n", "      shop:\n        system_columns: {operation: op, lsn: OP, sequence: a.b}\n"),
    ) == [
        at(5, "system_columns.lsn") + "'OP' is what `operation` is called; give one of them another name",
        at(5, "system_columns.sequence") + "'a.b' cannot be a column: no dots, and no blanks at its ends",
        at(6, "source.slot") + f"'My-Slot' is no name that PostgreSQL takes: {SIGNS}",
        at(6, "source.warn_retained_wal_bytes")
        + "warn_retained_wal_bytes 10 must be below max_retained_wal_bytes 10, where the slot is given up",
        at(7, "buffer.schema") + "'pg_mine' cannot be a schema: at most 63 characters, not beginning with `pg_`",
    ]


def test_two_pipelines_share_neither_buffer_nor_slot(shop):
    """Names that only differ by `-` and `_` make one slot."""
    other = SHOP.partition("      shop:\n")[2]
    assert shop(("      shop:\n", f"      sh-op:\n{other}      sh_op:\n")) == [
        at(8, "source", "sh_op") + "pipeline local.sh-op has the same slot there; give one of them another",
        at(9, "buffer", "sh_op") + "pipeline local.sh-op has the same buffer schema there; give one of them another",
    ]


def test_a_name_that_is_none_and_a_slot_that_would_be_too_long_are_refused(shop):
    long = "s" * 60
    assert shop(("      shop:\n", f"      {long}:\n")) == [
        at(5, "source.slot", long)
        + f"its slot would be 'icefleet_local_{long}', which PostgreSQL does not take ({SIGNS})"
    ]
    assert shop((f"      {long}:\n", "      a shop:\n"))[0] == (
        "environments.yaml:4 environments.local.cdc.a shop: 'a shop' cannot be a name: letters, digits, `_` and `-` "
        "only, not starting with `-`"
    )

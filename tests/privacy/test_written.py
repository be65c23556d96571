"""What is redacted is in nothing that an export leaves behind, and a search that would find it says so."""

import pytest

from support.planted import bare_kind
from support.xatulake import PROFILES, SENSITIVE_COLUMNS
from support.xatuschemas import read_schemas

pytestmark = pytest.mark.timeout(300)
SCHEMAS = read_schemas()
KINDS = {
    "object header",
    "parquet file",
    "parquet page",
    "parquet statistics",
    "parquet values",
    "manifest",
    "metadata file",
    "catalog",
    "event",
    "history",
    "log",
}

VALUES = {"parquet file", "parquet page", "parquet statistics", "parquet values", "manifest"}
"""Where values are; everywhere else, what is to be found is the name of a table."""
FAMILIES = {"address", "old address", "text", "longitude", "latitude"}


@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_that_was_planted_is_left_in_anything(redacted, profile):
    searched = redacted[profile]
    tables = len(searched.lake.schemas)
    assert searched.findings == ()
    assert {report.status for report in searched.lake.reports.values()} == {"complete"}
    assert set(searched.counts) == KINDS
    assert searched.counts["parquet file"] == 2 * tables
    assert searched.counts["event"] == searched.counts["catalog"] == tables
    assert searched.counts["manifest"] >= 4 * tables, "a manifest and a list for each, as they are and unpacked"
    assert searched.counts["history"] > 10 * tables
    assert tables == len(SCHEMAS) + 1


@pytest.mark.parametrize("profile", PROFILES)
def test_the_same_search_finds_every_column_that_is_published_as_it_is(allowed, profile):
    searched = allowed[profile]
    found = {
        (finding.where.split("/")[4], finding.where.rpartition(" ")[2])
        for finding in searched.findings
        if finding.kind == "parquet values"
    }
    wanted = {(name, column) for name, schema in searched.lake.schemas.items() for column in schema.redacted}
    assert len(wanted) >= len(SENSITIVE_COLUMNS)
    assert found == wanted
    for kind in KINDS:
        needles = {finding.needle for finding in searched.findings if finding.kind == kind}
        if kind in VALUES:
            families = {family for family in FAMILIES if any(needle.startswith(family) for needle in needles)}
            assert families == FAMILIES, kind
        else:
            assert "number" in needles, f"{kind}: not even the table's name"


def test_what_was_published_for_the_search_has_the_columns_and_types_that_all_real_tables_redact(allowed):
    published = {
        (column, schema.columns[column])
        for schema in allowed["portable"].lake.schemas.values()
        for column in schema.redacted
    }
    for schema in SCHEMAS.values():
        assert {(column, schema.columns[column]) for column in schema.redacted} <= published, schema.name
    assert {bare_kind(kind) for _, kind in published} >= {"IPv4", "IPv6", "String", "Float32", "Float64", "UUID"}

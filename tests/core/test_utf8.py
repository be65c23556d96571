import re

import pytest

from activities.core.columns import ExportColumn, SourceColumn, export_columns
from activities.core.tables import PartitionRule, TableConfig
from activities.core.types import parse_iceberg
from activities.core.utf8 import REFUSED_TEXT, checked, not_utf8

CONFIG = TableConfig("texts", "default", "local.default", PartitionRule("daily", "at"), (), network_column="net")
BAD = "unhex('61ff')"


@pytest.mark.parametrize(("kind", "wrong", "right"), [
    ("String", BAD, "'añ'"),
    ("LowCardinality(String)", BAD, "'añ'"),
    ("Nullable(String)", BAD, "NULL"),
    ("LowCardinality(Nullable(String))", BAD, "NULL"),
    ("FixedString(3)", "unhex('ffffff')", "'ab'"),
    ("Array(String)", f"['a', {BAD}]", "[]"),
    ("Array(Array(Nullable(String)))", f"[[], ['a', {BAD}]]", "[[NULL]]"),
    ("Map(String, UInt8)", f"map({BAD}, 1)", "map('a', 1)"),
    ("Map(UInt8, Array(String))", f"map(1, [{BAD}])", "map(1, ['a'])"),
    ("Tuple(a UInt8, b Tuple(c String))", f"(1, tuple({BAD}))", "(1, tuple('a'))"),
    ("Array(Tuple(k String, v String))", f"[('a', 'b'), ('c', {BAD})]", "[('a', 'b')]"),
])  # fmt: skip
def test_text_that_is_not_utf8_is_found_wherever_it_hides(engine, kind, wrong, right):
    table = re.sub(r"\W+", "_", f"utf8_{kind}")
    engine.run(f"CREATE TABLE {table} (at DateTime, net String, v {kind}) ENGINE = MergeTree ORDER BY net")
    for value in (right, wrong, right, wrong, wrong):
        engine.run(f"INSERT INTO {table} SELECT now(), 'n', {value}")
    columns = export_columns(
        CONFIG, [SourceColumn("at", "DateTime"), SourceColumn("net", "String"), SourceColumn("v", kind)]
    )
    assert engine.rows(f"SELECT countIf({not_utf8(columns[2])}) AS n FROM {table}", {}) == [{"n": 3}]


@pytest.mark.parametrize("kind", ["int", "binary", "fixed[4]", "list<long>", "map<int, double>", "struct<a: uuid>"])
def test_a_column_without_text_is_not_looked_at(kind):
    assert not_utf8(ExportColumn("v", "`v`", parse_iceberg(kind))) == ""


def test_a_row_with_wrong_text_fails_the_expression_that_carries_the_check(engine):
    column = ExportColumn("v", "v", parse_iceberg("string"))
    carrier = checked("toDate(n)", [column])
    rows = engine.rows(f"SELECT {carrier} AS d FROM (SELECT 'añ' AS v, 5 AS n)", {})
    assert str(rows[0]["d"]) == "1970-01-06"
    with pytest.raises(Exception, match=REFUSED_TEXT):
        engine.rows(f"SELECT {carrier} AS d FROM (SELECT {BAD} AS v, 5 AS n)", {})
    assert checked("at", [ExportColumn("v", "v", parse_iceberg("long"))]) == "at"

import re

import pytest

from activities.core.columns import ExportColumn, SourceColumn, export_columns
from activities.core.tables import PartitionRule, TableConfig
from activities.core.types import parse_iceberg
from activities.core.utf8 import REFUSED_TEXT, guarded, is_text, was_refused

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
    assert engine.rows(f"SELECT countIf(NOT {is_text(columns[2], kind)}) AS n FROM {table}", {}) == [{"n": 3}]


@pytest.mark.parametrize("kind", ["int", "binary", "fixed[4]", "list<long>", "map<int, double>", "struct<a: uuid>"])
def test_a_column_without_text_is_not_looked_at(kind):
    assert is_text(ExportColumn("v", "`v`", parse_iceberg(kind)), "Whatever") == ""


@pytest.mark.parametrize("kind", ["String", "Nullable(String)"])
def test_a_row_with_wrong_text_fails_the_expression_that_carries_the_check(engine, kind):
    columns = [ExportColumn(name, name, parse_iceberg("string")) for name in ("v", "w")]
    carrier = guarded("toDate(n)", [is_text(column, kind) for column in columns])

    def day(v, w="'b'"):
        values = f"CAST({v} AS {kind}) AS v, CAST({w} AS {kind}) AS w, toUInt16(number) AS n"
        return [
            str(row["d"]) for row in engine.rows(f"SELECT {carrier} AS d FROM (SELECT {values} FROM numbers(2))", {})
        ]

    assert day("'añ'") == ["1970-01-01", "1970-01-02"]
    if kind != "String":
        assert day("NULL") == day("NULL", "NULL") == ["1970-01-01", "1970-01-02"]
        with pytest.raises(Exception, match=REFUSED_TEXT):
            day("NULL", BAD)
    with pytest.raises(Exception, match=REFUSED_TEXT) as refused:
        day(BAD)
    assert was_refused(str(refused.value))
    with pytest.raises(Exception, match=REFUSED_TEXT) as other:
        engine.rows(f"SELECT {carrier} AS d, gone FROM (SELECT 'a' AS v, 'b' AS w, 1 AS n)", {})
    assert not was_refused(str(other.value))
    assert guarded("at", []) == "at"

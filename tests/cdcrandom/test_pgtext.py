import pytest

from cdcrandom.pgtext import parse_array, parse_row, value_of


def test_a_row_is_read_as_postgresql_writes_it():
    assert parse_row('(1,,"","a ""b"" \\\\ (c),d","\n")') == ["1", None, "", 'a "b" \\ (c),d', "\n"]
    assert parse_row("()") == [None]


def test_an_array_is_read_as_postgresql_writes_it():
    assert parse_array('{1,NULL,"NULL","","a \\"b\\" \\\\,{}"}') == ["1", None, "NULL", "", 'a "b" \\,{}']
    assert parse_array("{}") == []


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("numeric(12,2)", "1.50", ("decimal", "1.5")),
        ("numeric(12,2)", "-3.00", -3),
        ("numeric", "1.50", "1.50"),
        ("real", "1.1", ("float", "1.100000023841858")),
        ("double precision", "-0", ("float", "-0.0")),
        ("timestamp with time zone", "1970-01-01 00:00:00.001+00", ("time", 1000)),
        ("text[]", "{a,NULL}", ("a", None)),
        ("bytea", "\\x00ff", ("bytes", "00ff")),
    ],
)
def test_values_have_one_form(kind, text, value):
    assert value_of(kind, text) == value

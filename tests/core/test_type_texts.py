import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.core.clickhouse_types import bare_type, parse_type
from activities.core.faults import BadConfig, UnsupportedType
from activities.core.iceberg_types import ListOf, MapOf, Primitive, StructOf, parse_iceberg, widens
from activities.core.sqltext import quote_identifier, split_list, unquote

primitives = st.sampled_from(["int", "long", "string", "timestamptz", "decimal(20, 0)", "fixed[66]"]).map(Primitive)
names = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=6)
trees = st.recursive(
    primitives,
    lambda inner: st.one_of(
        inner.map(ListOf),
        st.tuples(inner, inner).map(lambda pair: MapOf(*pair)),
        st.lists(st.tuples(names, inner), min_size=1, max_size=3).map(lambda fields: StructOf(tuple(fields))),
    ),
    max_leaves=6,
)


@given(trees)
def test_the_text_of_an_iceberg_type_reads_back_as_the_type(tree):
    assert parse_iceberg(str(tree)) == tree


@given(trees)
def test_a_type_widens_to_itself(tree):
    assert widens(tree, tree)


@pytest.mark.parametrize(
    ("old", "new", "allowed"),
    [
        ("int", "long", True),
        ("long", "int", False),
        ("float", "double", True),
        ("decimal(9, 2)", "decimal(20, 2)", True),
        ("decimal(9, 2)", "decimal(20, 3)", False),
        ("decimal(20, 2)", "decimal(9, 2)", False),
        ("int", "string", False),
        ("list<int>", "list<long>", True),
        ("map<string, int>", "map<string, long>", True),
        ("map<int, string>", "map<long, string>", False),
        ("struct<a: int>", "struct<a: long, b: string>", True),
        ("struct<a: int, b: string>", "struct<a: int>", False),
        ("struct<a: int>", "struct<b: int>", False),
        ("list<int>", "int", False),
    ],
)
def test_only_what_iceberg_allows_is_a_widening(old, new, allowed):
    assert widens(parse_iceberg(old), parse_iceberg(new)) is allowed


@pytest.mark.parametrize(
    "text", ["", "list<>", "list<int", "map<int>", "struct<>", "struct<a>", "decimal(39, 0)", "fixed[0]"]
)
def test_what_is_no_iceberg_type_is_refused(text):
    with pytest.raises(BadConfig, match="no Iceberg type"):
        parse_iceberg(text)


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("DateTime64(3, 'UTC')", ("DateTime64", ("3", "'UTC'"))),
        ("LowCardinality(Nullable(String))", ("String", ())),
        ("Nullable(Decimal(20, 4))", ("Decimal", ("20", "4"))),
        ("SimpleAggregateFunction(anyLast, Nullable(IPv6))", ("IPv6", ())),
        ("Enum8('a, (' = 1, 'b\\'' = -2)", ("Enum8", ("'a, (' = 1", "'b\\'' = -2"))),
    ],
)
def test_a_type_is_seen_through_its_wrappers(text, bare):
    assert bare_type(text) == bare


def test_fields_of_a_tuple_keep_their_names_and_odd_names_are_quoted():
    tree = parse_type("Nested(a UInt8, `b, ``c` Map(String, Tuple(String, x.y UInt8)))")
    assert tree.fields == ("a", "b, `c")
    assert tree.elements[1].elements[1].fields == ("1", "x.y")


@pytest.mark.parametrize(
    "text", ["", "Array(", "Array()", "Array(Int8) x", "Nullable(Int8, Int8)", "Map(String)", "1", "Tuple()"]
)
def test_what_is_no_clickhouse_type_is_refused(text):
    with pytest.raises(UnsupportedType, match="no ClickHouse type"):
        parse_type(text)


def test_a_type_nested_without_end_is_refused_not_followed():
    with pytest.raises(UnsupportedType, match="no ClickHouse type"):
        parse_type("Array(" * 5000 + "Int8" + ")" * 5000)


@given(names)
def test_a_quoted_name_reads_back_as_the_name(name):
    assert unquote(quote_identifier(name)) == name


@pytest.mark.parametrize("name", ["", "a\nb", "a\0"])
def test_a_name_that_cannot_be_printed_is_no_identifier(name):
    with pytest.raises(BadConfig, match="no identifier"):
        quote_identifier(name)


def test_quotes_and_brackets_do_not_split_a_list():
    assert split_list("a, f(b, 'c, )'), `d,`, [1, 2]") == ("a", "f(b, 'c, )')", "`d,`", "[1, 2]")
    assert split_list("") == ()

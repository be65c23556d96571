"""What a table becomes when its source changes: never less, never something that old files could not be read as."""

import pytest

from activities.core.evolution import Change, changes, check_clashes, check_planned, follow
from activities.core.faults import SchemaConflict, SchemaMoved
from activities.core.types import parse_iceberg


def types(**texts):
    return {name: parse_iceberg(text) for name, text in texts.items()}


FOLLOWS = [
    ("int", "long", "long"),
    ("float", "double", "double"),
    ("decimal(9, 2)", "decimal(18, 2)", "decimal(18, 2)"),
    ("list<int>", "list<long>", "list<long>"),
    ("map<string, int>", "map<string, long>", "map<string, long>"),
    ("struct<a: int>", "struct<a: long, b: string>", "struct<a: long, b: string>"),
    ("list<struct<a: int>>", "list<struct<a: int, b: int>>", "list<struct<a: int, b: int>>"),
]
STAYS = [
    ("long", "int"),
    ("string", "long"),
    ("int", "decimal(20, 0)"),
    ("decimal(18, 2)", "decimal(9, 2)"),
    ("decimal(9, 2)", "decimal(18, 3)"),
    ("date", "timestamptz"),
    ("fixed[16]", "string"),
    ("map<int, int>", "map<long, int>"),
    ("struct<a: int, b: int>", "struct<a: int>"),
    ("struct<a: int>", "struct<b: int, a: int>"),
    ("struct<a: int>", "struct<z: int>"),
    ("list<int>", "int"),
]


@pytest.mark.parametrize(("existing", "chosen", "then"), FOLLOWS)
def test_a_type_is_widened_where_iceberg_can(existing, chosen, then):
    assert str(follow(parse_iceberg(existing), parse_iceberg(chosen))) == then


@pytest.mark.parametrize(("existing", "chosen"), STAYS)
def test_every_other_type_stays_what_the_table_has(existing, chosen):
    assert str(follow(parse_iceberg(existing), parse_iceberg(chosen))) == existing


def test_parts_of_a_struct_are_widened_each_by_itself():
    found = follow(parse_iceberg("struct<a: long, b: int>"), parse_iceberg("struct<a: int, b: long, c: string>"))
    assert str(found) == "struct<a: long, b: long, c: string>"


def test_what_changes_is_what_is_new_or_wider_and_a_dropped_column_is_neither():
    found = changes(types(a="int", dropped="string", b="long"), types(a="long", b="long", c="string"))
    assert found == (
        Change("a", parse_iceberg("int"), parse_iceberg("long")),
        Change("c", None, parse_iceberg("string")),
    )
    assert [str(change) for change in found] == ["a is int, and needs long", "c is new: string"]


@pytest.mark.parametrize(
    ("existing", "wanted"),
    [
        (types(Name="string"), types(Name="string", name="string")),
        (types(Name="string"), types(name="string")),  # dropped, and added again in another case
        (types(), types(a="int", A="int")),
        (types(s="struct<a: int>"), types(s="struct<a: int, A: int>")),
        (types(s="struct<a: int>"), {**types(s="struct<a: int>"), "S.A": parse_iceberg("int")}),
    ],
)
def test_names_that_differ_in_case_alone_are_refused(existing, wanted):
    with pytest.raises(SchemaConflict, match=r"^block: .* could not be told apart"):
        check_clashes("block", existing, wanted)


def test_a_table_that_has_such_names_already_is_left_as_it_is():
    there = types(Name="string", name="string")
    check_clashes("block", there, there)
    check_clashes("block", there, {**there, "more": parse_iceberg("int")})


def test_columns_that_the_plan_has_not_prepared_are_not_exported():
    with pytest.raises(SchemaMoved, match=r"^block: .* \(x is new: string; a is int, and needs long\); ask for the"):
        check_planned("block", types(a="int"), types(x="string", a="long"))
    check_planned("block", types(a="int", b="int"), types(a="int"))

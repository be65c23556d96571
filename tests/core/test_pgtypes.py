import pytest

from activities.core.faults import UnsupportedType
from activities.core.pgtypes import form_of, iceberg_of
from activities.core.sourcetables import SourceColumn

TYPES = {
    "boolean": "boolean",
    "smallint": "int",
    "integer": "int",
    "bigint": "long",
    "real": "float",
    "double precision": "double",
    "text": "string",
    "character varying(20)": "string",
    "character(5)": "string",
    '"char"': "string",
    "name": "string",
    "bytea": "binary",
    "uuid": "uuid",
    "date": "date",
    "time without time zone": "time",
    "time(3) without time zone": "time",
    "time with time zone": "string",
    "timestamp without time zone": "timestamp",
    "timestamp(0) without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "timestamp(6) with time zone": "timestamptz",
    "interval": "string",
    "interval day to second(3)": "string",
    "json": "string",
    "jsonb": "string",
    "xml": "string",
    "inet": "string",
    "money": "string",
    "bit varying(7)": "string",
    "public.hstore": "string",
    "public.geometry(Point,4326)": "string",
    # Short names, as producers of their own write them.
    "int8": "long",
    "pg_catalog.int4": "int",
    "timestamptz": "timestamptz",
    "timestamp(3)": "timestamp",
    "varchar(9)": "string",
    "decimal(9,2)": "decimal(9, 2)",
}
NUMERICS = {
    "numeric": "string",
    "numeric(10,2)": "decimal(10, 2)",
    "numeric(10, 2)": "decimal(10, 2)",
    "numeric(38,38)": "decimal(38, 38)",
    "numeric(5)": "decimal(5, 0)",
    "numeric(39,2)": "string",
    "numeric(1000,0)": "string",
    "numeric(3,-2)": "string",
    "numeric(2,5)": "string",
}
ARRAYS = {
    "integer[]": "list<int>",
    "bigint[][]": "list<long>",
    "text[]": "list<string>",
    "character varying(20)[]": "list<string>",
    "numeric(10,2)[]": "list<decimal(10, 2)>",
    "numeric[]": "list<string>",
    "timestamp(3) with time zone[]": "list<timestamptz>",
    "bytea[]": "list<binary>",
    "jsonb[]": "list<string>",
    # Semicolons stand between the boxes of an array, and nobody knows what in those of extensions.
    "box[]": "string",
    "public.geometry[]": "string",
}


@pytest.mark.parametrize(("source", "expected"), [*TYPES.items(), *NUMERICS.items(), *ARRAYS.items()])
def test_every_type_of_postgresql_has_its_own_in_iceberg(source, expected):
    assert str(iceberg_of(SourceColumn("c", source))) == expected


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (SourceColumn("c", "public.mood", kind="enum"), "string"),
        (SourceColumn("c", "public.mood[]", kind="enum"), "list<string>"),
        (SourceColumn("c", "public.pair[]", kind="composite"), "list<string>"),
        (SourceColumn("c", "int4range", kind="range"), "string"),
        (SourceColumn("c", "int4range[]", kind="range"), "list<string>"),
        (SourceColumn("c", "public.positive", kind="domain", base="integer"), "int"),
        (SourceColumn("c", "public.price", kind="domain", base="numeric(12,2)"), "decimal(12, 2)"),
        (SourceColumn("c", "public.prices", kind="domain", base="numeric(12,2)[]"), "list<decimal(12, 2)>"),
        (SourceColumn("c", "public.positive[]", kind="domain", base="integer"), "list<int>"),
        (SourceColumn("c", "public.feeling", kind="domain", base="public.mood"), "string"),
        # A type of the user's may be called as one of PostgreSQL's own.
        (SourceColumn("c", "public.integer"), "string"),
        (SourceColumn("c", '"integer"'), "string"),
    ],
)
def test_what_people_make_goes_by_its_kind_and_base(column, expected):
    assert str(iceberg_of(column)) == expected


def test_only_json_itself_is_held_to_be_json():
    assert form_of(SourceColumn("c", "jsonb")).json
    assert form_of(SourceColumn("c", "json")).json
    assert form_of(SourceColumn("c", "public.document", kind="domain", base="jsonb")).json
    assert not form_of(SourceColumn("c", "jsonb[]")).json
    assert not form_of(SourceColumn("c", "text")).json


@pytest.mark.parametrize("nothing", ["", " ", "-", "???", "record"])
def test_what_is_no_type_is_refused_with_the_columns_name_and_the_way_out(nothing):
    with pytest.raises(UnsupportedType, match=r"column amount: .* is no type .*format_type.*drop the column"):
        iceberg_of(SourceColumn("amount", nothing))

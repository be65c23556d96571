"""The name mapping says of every name in old files and new ones which field it is, or nothing is written."""

import json

import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import ListType, LongType, MapType, NestedField, StringType, StructType

from activities.core.columns import ExportColumn
from activities.core.faults import SchemaConflict
from activities.core.types import parse_iceberg
from activities.lake.mapping import check_mapping, check_new_names, completed_mapping
from activities.lake.schema import NAME_MAPPING, iceberg_schema, table_properties


def field(number, name, kind=None):
    return NestedField(number, name, kind or StringType(), required=False)


ROW = StructType(field(4, "a"), field(5, "b", LongType()))
SCHEMA = Schema(field(1, "x"), field(2, "rows", ListType(3, ROW, element_required=False)))
WHOLE = [
    {"names": ["x"], "field-id": 1},
    {
        "names": ["rows"],
        "field-id": 2,
        "fields": [
            {
                "names": ["element"],
                "field-id": 3,
                "fields": [{"names": ["a"], "field-id": 4}, {"names": ["b"], "field-id": 5}],
            }
        ],
    },
]


def completed(mapping, schema=SCHEMA):
    text = completed_mapping("table n.t", {NAME_MAPPING: json.dumps(mapping)}, schema)
    return None if text is None else json.loads(text)


def test_a_table_without_a_mapping_gets_one():
    text = completed_mapping("table n.t", {}, SCHEMA)
    assert json.loads(text) == WHOLE == json.loads(SCHEMA.name_mapping.model_dump_json())


def test_a_new_tables_mapping_holds_the_ids_that_it_got_and_not_those_that_were_asked_for():
    columns = [("rows", "list<long>"), ("x", "string")]
    asked = iceberg_schema(tuple(ExportColumn(name, name, parse_iceberg(kind)) for name, kind in columns))
    # A catalog may number fields as it likes, and the embedded one does: a list's element before the next column.
    got = Schema(field(1, "rows", ListType(2, LongType(), element_required=False)), field(3, "x"))
    assert asked.find_field("x").field_id == 2
    text = completed_mapping("table n.t", table_properties(), got)
    assert json.loads(text) == json.loads(got.name_mapping.model_dump_json())


def test_a_whole_mapping_is_left_alone_with_its_older_names_and_dropped_columns():
    mapping = [*WHOLE, {"names": ["gone"], "field-id": 9}]
    mapping[0] = {"names": ["x", "earlier"], "field-id": 1}
    assert completed(mapping) is None
    check_mapping("table n.t", {NAME_MAPPING: json.dumps(mapping)}, SCHEMA)


def test_what_is_missing_is_added_at_every_level_and_everything_else_stays():
    inner = [{"names": ["element"], "field-id": 3, "fields": [{"names": ["a", "A"], "field-id": 4}]}]
    lacking = [{"names": ["rows"], "field-id": 2, "fields": inner}, {"names": ["gone"], "field-id": 9}]
    wanted = [
        {
            "names": ["rows"],
            "field-id": 2,
            "fields": [
                {
                    "names": ["element"],
                    "field-id": 3,
                    "fields": [{"names": ["a", "A"], "field-id": 4}, {"names": ["b"], "field-id": 5}],
                }
            ],
        },
        {"names": ["gone"], "field-id": 9},
        {"names": ["x"], "field-id": 1},
    ]
    assert completed(lacking) == wanted
    with pytest.raises(SchemaConflict, match=r"^table n\.t: its property .* lacks columns of its schema"):
        check_mapping("table n.t", {NAME_MAPPING: json.dumps(lacking)}, SCHEMA)


def test_a_map_has_its_key_and_value_in_the_mapping():
    schema = Schema(field(1, "m", MapType(2, StringType(), 3, LongType(), value_required=False)))
    assert completed([{"names": ["m"], "field-id": 1}], schema) == [
        {
            "names": ["m"],
            "field-id": 1,
            "fields": [{"names": ["key"], "field-id": 2}, {"names": ["value"], "field-id": 3}],
        }
    ]


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ([{"names": ["x"], "field-id": 2}], r"takes x for field 2 \(column rows\), and x is field 1"),
        ([{"names": ["x"], "field-id": 9}], r"takes x for field 9 \(no column any more\), and x is field 1"),
        (
            [{"names": ["x"], "field-id": 1}, {"names": ["x"], "field-id": 9}],
            "takes x for field 9 .*, and x is field 1",
        ),
        (
            [{"names": ["o"], "field-id": 1}, {"names": ["o"], "field-id": 2}],
            "takes o for field 2 .*, and o is field 1",
        ),
        (
            [
                {
                    "names": ["rows"],
                    "field-id": 2,
                    "fields": [{"names": ["element"], "field-id": 3, "fields": [{"names": ["b"], "field-id": 4}]}],
                }
            ],
            r"takes rows\.element\.b for field 4 \(column rows\.element\.a\), and rows\.element\.b is field 5",
        ),
        ({"names": "x"}, "cannot be read"),
    ],
)
def test_a_mapping_that_would_read_files_wrongly_is_refused(mapping, said):
    with pytest.raises(SchemaConflict, match=f"^table n\\.t: its property .* {said}"):
        completed(mapping)


def test_a_name_that_another_field_has_had_is_no_name_for_a_new_one():
    first = Schema(field(1, "x"), field(2, "s", StructType(field(3, "a"))), schema_id=0)
    now = Schema(field(1, "y"), field(2, "s", StructType(field(3, "a"))), schema_id=1)
    for schemas, before, after, said in (
        ([first, now], now, Schema(*now.fields, field(4, "x")), "column x was renamed to y in"),
        ([first, now], Schema(now.fields[1]), Schema(now.fields[1], field(4, "x")), "column x was dropped in"),
        (
            [first, now],
            Schema(field(1, "y"), field(2, "s", StructType(field(5, "b")))),
            Schema(field(1, "y"), field(2, "s", StructType(field(5, "b"), field(6, "a")))),
            r"column s\.a was dropped in",
        ),
    ):
        with pytest.raises(SchemaConflict, match=f"^table n\\.t: {said} the Iceberg table"):
            check_new_names("table n.t", schemas, before, after)
    check_new_names("table n.t", [first, now], now, Schema(*now.fields, field(4, "z")))

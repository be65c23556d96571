"""Columns of types made of others."""

from dataclasses import replace
from datetime import date
from ipaddress import IPv4Address

from support.typeforms import HASHES, LONG, TEXT, UNSIGNED, UPPER_HALF, UUIDS, ZEROS, Case, both, enum, integers, quoted
from support.typevalues import boolean, double, list_of, map_of, moment, same, struct_of, utf8

_DEEP = "Tuple(a UInt64, b Array(Nullable(DateTime64(3, 'UTC'))), `c d` Tuple(UInt32, Nullable(String)))"
_DEEP_STRUCT = "struct<a: decimal(20, 0), b: list<timestamptz>, `c d`: struct<1: long, 2: string>>"
_EMPTY = "''"
_ROW = "({}, ['1969-12-31 23:59:59.999', NULL], (4294967295, {}))"
_ZEROS_MAP = f"map({', '.join(f'{one}, {one}' for one in ZEROS)})"
SHAPES = [
    both(
        "deep",
        f"Array(Array(Map(String, {_DEEP})))",
        [
            "[]",
            "[[]]",
            "[[], [map()]]",
            f"[[map('é', {_ROW.format(2**64 - 1, 'NULL')}), map()], [map('a', {_ROW.format(0, _EMPTY)})]]",
        ],
        (
            f"list<list<map<string, {_DEEP_STRUCT}>>>",
            list_of(list_of(map_of(same, struct_of(a=int, b=list_of(moment), **{"c d": struct_of(_1=int, _2=same)})))),
        ),
    ),
    both(
        "named",
        "Tuple(small Int8, `odd name` Nullable(String), at DateTime, most UInt32)",
        ["(-128, NULL, 4294967295, 4294967295)", "(127, '', 0, 0)"],
        (
            "struct<small: int, `odd name`: string, at: timestamptz, most: long>",
            struct_of(small=int, **{"odd name": same}, at=moment, most=int),
        ),
    ),
    both(
        "nameless",
        "Tuple(UInt32, String, UInt64)",
        ["(4294967295, '', 18446744073709551615)", "(0, 'é', 0)"],
        ("struct<1: long, 2: string, 3: decimal(20, 0)>", struct_of(_1=int, _2=same, _3=int)),
    ),
    both(
        "maybe",
        "Nullable(Tuple(a UInt64, b Nullable(String)))",
        ["(18446744073709551615, NULL)", "(0, '')"],
        ("struct<a: decimal(20, 0), b: string>", struct_of(a=int, b=same)),
    ),
    both(
        "nested",
        "Nested(a UInt64, b LowCardinality(Nullable(String)))",
        ["[]", "[(18446744073709551615, NULL), (0, '')]"],
        ("list<struct<a: decimal(20, 0), b: string>>", list_of(struct_of(a=int, b=same))),
    ),
    both(
        "by_number",
        "Map(UInt64, Array(Nullable(UInt32)))",
        ["map()", "map(18446744073709551615, [4294967295, NULL], 0, [])"],
        ("map<decimal(20, 0), list<long>>", map_of(int, list_of(int))),
    ),
    both(
        "by_word",
        "Map(LowCardinality(String), Nullable(Float64))",
        ["map()", "map('', NULL, 'é', -0.0, 'a', nan)"],
        ("map<string, double>", map_of(same, double)),
    ),
    both(
        "by_uuid",
        "Map(UUID, Bool)",
        ["map()", f"map({UUIDS[2]}, true)"],
        ("map<uuid, boolean>", map_of(same, boolean)),
    ),
    both(
        "by_enum",
        f"Map({enum(8)}, Date)",
        ["map()", "map('以太坊', '2149-06-06')"],
        ("map<string, date>", map_of(same, date.fromisoformat)),
    ),
    Case(
        "by_hash",
        "Map(FixedString(66), IPv4)",
        ["map()", f"map({HASHES[0]}, '255.255.255.255')"],
        ("map<string, string>", map_of(same, same)),
        ("map<fixed[66], long>", map_of(utf8, lambda text: int(IPv4Address(text)))),
    ),
    both(
        "upper_half",
        "Array(UInt64)",
        ["[]", f"[{', '.join(UPPER_HALF)}, 0]"],
        ("list<decimal(20, 0)>", list_of(int)),
    ),
    both("zeros_word", "Map(String, String)", ["map()", _ZEROS_MAP], ("map<string, string>", map_of(same, same))),
    both(
        "zeros_words",
        "Array(LowCardinality(String))",
        ["[]", f"[{', '.join(ZEROS)}]"],
        ("list<string>", list_of(same)),
    ),
    both(
        "numbers_low",
        "Array(LowCardinality(Nullable(UInt64)))",
        ["[]", f"[NULL, {', '.join(UPPER_HALF)}, 0]"],
        ("list<decimal(20, 0)>", list_of(int)),
    ),
    both("lengthy", "String", ["'a'", "''", "repeat('é🚀', 1000)"], TEXT),
    both("latest", "SimpleAggregateFunction(max, Int64)", quoted(str(-(2**63)), str(2**63 - 1)), LONG),
    both("latest_low", "SimpleAggregateFunction(max, LowCardinality(String))", [*ZEROS, "'é'"], TEXT),
    both("latest_maybe", "SimpleAggregateFunction(max, Nullable(UInt32))", ["NULL", *integers(0, 2**32 - 1)], LONG),
    both(
        "latest_low_maybe",
        "SimpleAggregateFunction(anyLast, LowCardinality(Nullable(Int64)))",
        ["NULL", *integers(-(2**63), 2**63 - 1)],
        LONG,
    ),
    both(
        "gathered",
        "SimpleAggregateFunction(groupArrayArray, Array(UInt64))",
        ["[]", f"[{', '.join(UPPER_HALF)}]"],
        ("list<decimal(20, 0)>", list_of(int)),
    ),
    replace(both("way_out", "UInt64", [*UPPER_HALF, "0"], UNSIGNED), override=UNSIGNED[0]),
    replace(both("way_out_maybe", "Nullable(UInt64)", [*UPPER_HALF, "NULL"], TEXT), override=TEXT[0]),
]
"""Types made of others."""

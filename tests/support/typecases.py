"""One column for every ClickHouse type, with its hardest values, and what each value must be in the lake.

What is expected is said here by hand, per profile: the Iceberg type, and how the text that the source itself answers
becomes the value that readers must find (`support.typevalues`). No code of ours decides.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from ipaddress import IPv4Address
from typing import Any

from support.typevalues import (
    boolean,
    double,
    list_of,
    little_endian,
    map_of,
    moment,
    number,
    packed,
    same,
    single,
    struct_of,
    unpadded,
    utf8,
)

Decode = Callable[[Any], Any]
Form = tuple[str, Decode]
"""An Iceberg type, and what a value in the source's JSON (numbers as text) must be in the lake."""


@dataclass(frozen=True)
class Case:
    """A column: its name, ClickHouse type, values as SQL, and its form in each profile."""

    name: str
    kind: str
    values: Sequence[str]
    portable: Form
    published: Form
    inside: Form | None = None
    """Its form within lists, where that is another one under as_published."""
    question: str = "{}"
    """SQL of the value as JSON can carry it."""
    override: str = ""
    """What config says of its type."""

    def form(self, profile: str) -> Form:
        return self.portable if profile == "portable" else self.published


def quoted(*texts: str) -> list[str]:
    return [f"'{text}'" for text in texts]


def integers(low: int, high: int) -> list[str]:
    return quoted(*map(str, dict.fromkeys((low, -1 if low else 1, 0, 1, high - 1, high))))


def _both(name: str, kind: str, values: Sequence[str], form: Form, question: str = "{}") -> Case:
    return Case(name, kind, values, form, form, question=question)


def _enum(bits: int) -> str:
    return f"Enum{bits}('' = -{2 ** (bits - 1)}, 'a, (' = 0, 'it\\'s' = 1, '以太坊' = {2 ** (bits - 1) - 1})"


INT, LONG, DATE = ("int", int), ("long", int), ("date", date.fromisoformat)
TEXT: Form = ("string", same)
TIME: Form = ("timestamptz", moment)
UNSIGNED: Form = ("decimal(20, 0)", int)
_WORDS = [
    *quoted(
        "", "a", "añ€", "👩‍🚀👨‍👩‍👧", "以太坊", "0123456789abcdefghij", "\U0010ffff" * 20, "it\\'s \\\\ \\t\\n \\0."
    ),
    "repeat('é🚀', 40000)",
]
_SECONDS = quoted("1970-01-01 00:00:00", "2024-03-20 01:02:03", "2106-02-07 06:28:15", "1970-01-01 00:00:01")
UUIDS = quoted(
    "00000000-0000-0000-0000-000000000000",
    "7fffffff-ffff-ffff-8000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
)
_HASHES = quoted("0x" + "0123456789abcdef" * 4, "0x" + "0" * 64, "0x" + "f" * 64)

BASE = [
    _both("i8", "Int8", integers(-(2**7), 2**7 - 1), INT),
    _both("i16", "Int16", integers(-(2**15), 2**15 - 1), INT),
    _both("i32", "Int32", integers(-(2**31), 2**31 - 1), INT),
    _both("i64", "Int64", integers(-(2**63), 2**63 - 1), LONG),
    _both("u8", "UInt8", integers(0, 2**8 - 1), INT),
    _both("u16", "UInt16", integers(0, 2**16 - 1), INT),
    _both("u32", "UInt32", [*integers(0, 2**32 - 1), *quoted(str(2**31 - 1), str(2**31))], LONG),
    _both("bool", "Bool", ["true", "false"], ("boolean", boolean)),
    Case("i128", "Int128", integers(-(2**127), 2**127 - 1), TEXT, ("fixed[16]", little_endian(16, signed=True))),
    Case("u128", "UInt128", integers(0, 2**128 - 1), TEXT, ("fixed[16]", little_endian(16, signed=False))),
    Case("i256", "Int256", integers(-(2**255), 2**255 - 1), TEXT, ("fixed[32]", little_endian(32, signed=True))),
    Case("u256", "UInt256", integers(0, 2**256 - 1), TEXT, ("fixed[32]", little_endian(32, signed=False))),
    _both(
        "f32",
        "Float32",
        quoted("-0.0", "0.0", "nan", "0.1", "nan", "3.4028235e38", "inf", "-inf", "1e-45"),
        ("float", single),
    ),
    _both(
        "f64",
        "Float64",
        quoted("0.0", "-0.0", "nan", "0.1", "5e-324", "nan", "1.7976931348623157e308", "-inf", "inf"),
        ("double", double),
    ),
    _both("d9", "Decimal(9, 4)", quoted("-99999.9999", "99999.9999", "0", "-0.0001"), ("decimal(9, 4)", number)),
    _both("d18", "Decimal(18, 18)", quoted(f"-0.{'9' * 18}", f"0.{'9' * 18}", "0"), ("decimal(18, 18)", number)),
    _both("d38", "Decimal(38, 10)", quoted(f"-{'9' * 28}.1", f"{'9' * 28}.1", "-1"), ("decimal(38, 10)", number)),
    _both("d38whole", "Decimal(38, 0)", quoted("-" + "9" * 38, "9" * 38, "0", "255"), ("decimal(38, 0)", number)),
    _both("d39", "Decimal(39, 1)", quoted(f"-{'9' * 38}.5", "0", "1.5"), TEXT),
    _both("d76", "Decimal(76, 20)", quoted(f"-{'9' * 56}.{'9' * 20}", "0", "1.5"), TEXT),
    _both("text", "String", _WORDS, TEXT),
    Case("hash", "FixedString(66)", _HASHES, TEXT, ("fixed[66]", utf8)),
    Case(
        "padded",
        "FixedString(4)",
        quoted("", "ab", "abcd", "\\0b", "é"),
        ("string", unpadded),
        ("fixed[4]", utf8),
    ),
    Case(
        "ip4",
        "IPv4",
        quoted("0.0.0.0", "127.255.255.255", "128.0.0.0", "255.255.255.255"),
        TEXT,
        ("long", lambda text: int(IPv4Address(text))),
    ),
    Case(
        "ip6",
        "IPv6",
        quoted("::", "::1", "::ffff:1.2.3.4", "2001:db8::ff00:42:8329", ":".join(["ffff"] * 8)),
        TEXT,
        ("fixed[16]", packed),
    ),
    _both("enum8", _enum(8), quoted("", "a, (", "it\\'s", "以太坊"), TEXT),
    _both("enum16", _enum(16), quoted("以太坊", "a, (", ""), TEXT),
    _both("uuid", "UUID", UUIDS, ("uuid", same)),
    _both("day", "Date", quoted("1970-01-01", "2024-02-29", "2149-06-06"), DATE),
    _both("day32", "Date32", quoted("1900-01-01", "1969-12-31", "1970-01-01", "2299-12-31"), DATE),
    _both("second", "DateTime", _SECONDS, TIME),
    _both("second_utc", "DateTime('UTC')", _SECONDS, TIME),
    _both("second_tokyo", "DateTime('Asia/Tokyo')", quoted("1970-01-01 09:00:00", "2024-03-20 01:02:03"), TIME),
    _both(
        "tick0",
        "DateTime64(0, 'UTC')",
        quoted("1900-01-01 00:00:00", "1969-12-31 23:59:59", "1970-01-01 00:00:00", "2299-12-31 23:59:59"),
        TIME,
    ),
    _both(
        "tick3",
        "DateTime64(3, 'UTC')",
        quoted("1900-01-01 00:00:00", "1969-12-31 23:59:59.999", "1970-01-01 00:00:00.001", "2299-12-31 23:59:59.999"),
        TIME,
    ),
    _both(
        "tick4",
        "DateTime64(4, 'America/New_York')",
        quoted("1969-12-31 18:59:59.9999", "2024-03-10 03:00:00.0001", "2024-11-03 01:30:00.5"),
        TIME,
    ),
    _both(
        "tick6",
        "DateTime64(6, 'UTC')",
        quoted(
            "1900-01-01 00:00:00.000001",
            "1969-12-31 23:59:59.999999",
            "1970-01-01 00:00:00.000001",
            "2299-12-31 23:59:59.999999",
        ),
        TIME,
    ),
    _both(
        "tick9",
        "DateTime64(9, 'UTC')",
        quoted(
            "1900-01-01 00:00:00.000001000",
            "1969-12-31 23:59:59.999999000",
            "1970-01-01 00:00:00.000001000",
            "2262-04-11 23:47:16.854775000",
        ),
        TIME,
    ),
]
"""Types that may stand inside any other."""


def _unsigned_64(profile: str) -> Case:
    most = 2**64 - 1 if profile == "portable" else 2**63 - 1
    values = [*integers(0, most), *quoted(str(2**63 - 1), str(2**32))]
    return Case("u64", "UInt64", values, UNSIGNED, LONG, inside=UNSIGNED)


_DEEP = "Tuple(a UInt64, b Array(Nullable(DateTime64(3, 'UTC'))), `c d` Tuple(UInt32, Nullable(String)))"
_DEEP_STRUCT = "struct<a: decimal(20, 0), b: list<timestamptz>, `c d`: struct<1: long, 2: string>>"
_EMPTY = "''"
_ROW = "({}, ['1969-12-31 23:59:59.999', NULL], (4294967295, {}))"
SHAPES = [
    _both(
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
    _both(
        "named",
        "Tuple(small Int8, `odd name` Nullable(String), at DateTime, most UInt32)",
        ["(-128, NULL, 4294967295, 4294967295)", "(127, '', 0, 0)"],
        (
            "struct<small: int, `odd name`: string, at: timestamptz, most: long>",
            struct_of(small=int, **{"odd name": same}, at=moment, most=int),
        ),
    ),
    _both(
        "nameless",
        "Tuple(UInt32, String, UInt64)",
        ["(4294967295, '', 18446744073709551615)", "(0, 'é', 0)"],
        ("struct<1: long, 2: string, 3: decimal(20, 0)>", struct_of(_1=int, _2=same, _3=int)),
    ),
    _both(
        "maybe",
        "Nullable(Tuple(a UInt64, b Nullable(String)))",
        ["(18446744073709551615, NULL)", "(0, '')"],
        ("struct<a: decimal(20, 0), b: string>", struct_of(a=int, b=same)),
    ),
    _both(
        "nested",
        "Nested(a UInt64, b LowCardinality(Nullable(String)))",
        ["[]", "[(18446744073709551615, NULL), (0, '')]"],
        ("list<struct<a: decimal(20, 0), b: string>>", list_of(struct_of(a=int, b=same))),
    ),
    _both(
        "by_number",
        "Map(UInt64, Array(Nullable(UInt32)))",
        ["map()", "map(18446744073709551615, [4294967295, NULL], 0, [])"],
        ("map<decimal(20, 0), list<long>>", map_of(int, list_of(int))),
    ),
    _both(
        "by_word",
        "Map(LowCardinality(String), Nullable(Float64))",
        ["map()", "map('', NULL, 'é', -0.0, 'a', nan)"],
        ("map<string, double>", map_of(same, double)),
    ),
    _both(
        "by_uuid",
        "Map(UUID, Bool)",
        ["map()", f"map({UUIDS[2]}, true)"],
        ("map<uuid, boolean>", map_of(same, boolean)),
    ),
    _both(
        "by_enum",
        f"Map({_enum(8)}, Date)",
        ["map()", "map('以太坊', '2149-06-06')"],
        ("map<string, date>", map_of(same, date.fromisoformat)),
    ),
    Case(
        "by_hash",
        "Map(FixedString(66), IPv4)",
        ["map()", f"map({_HASHES[0]}, '255.255.255.255')"],
        ("map<string, string>", map_of(same, same)),
        ("map<fixed[66], long>", map_of(utf8, lambda text: int(IPv4Address(text)))),
    ),
    _both(
        "json", "JSON", ["'{}'", '\'{"a": {"b": [1, null, "é"]}, "c": 18446744073709551615}\''], TEXT, "toString({})"
    ),
    _both("json_maybe", "Nullable(JSON)", ["NULL", "'{\"a\": 1}'"], TEXT, "toString({})"),
    _both("point", "Point", ["(1.5, -0.0)", "(0, 1e300)"], TEXT, "toString({})"),
    _both("ring", "Ring", ["[(0, 0), (1, 1.5)]", "[]"], TEXT, "toString({})"),
    _both(
        "variant",
        "Variant(String, UInt64, Array(UInt8))",
        ["NULL", "18446744073709551615::UInt64", "'é'", "[1, 2]::Array(UInt8)"],
        TEXT,
        "CAST({} AS Nullable(String))",
    ),
    _both("dynamic", "Dynamic", ["NULL", "'é'", "[1, 2]"], TEXT, "CAST({} AS Nullable(String))"),
    _both("time", "Time", quoted("00:00:00", "-999:59:59", "999:59:59"), TEXT, "toString({})"),
    _both("time64", "Time64(6)", quoted("00:00:00.000001", "-01:02:03.5", "999:59:59.999999"), TEXT, "toString({})"),
    _both("interval", "IntervalDay", ["INTERVAL 3 DAY", "INTERVAL -1 DAY"], TEXT, "toString({})"),
    _both("latest", "SimpleAggregateFunction(max, Int64)", quoted(str(-(2**63)), str(2**63 - 1)), LONG),
]
"""Types made of others, and those that only text can carry."""

_COUNTABLE = re.compile(
    r"(U?Int(8|16|32|64)|Float32|Float64|String|FixedString\(.*|Date|Date32|DateTime|IPv[46]|UUID)$"
)


def _around(case: Case) -> Iterator[Case]:
    """The type itself, and whatever may stand around it."""
    yield case
    maybe = [*case.values[:8], "NULL"]
    yield replace(case, name=f"{case.name}_maybe", kind=f"Nullable({case.kind})", values=maybe)
    if _COUNTABLE.match(case.kind):
        kind = f"LowCardinality(Nullable({case.kind}))"
        yield replace(case, name=f"{case.name}_counted", kind=kind, values=["NULL", *case.values[:8]])
    portable, published = case.inside or case.portable, case.inside or case.published
    values = [
        "[]",
        f"[NULL, {', '.join(case.values)}]",
        "[NULL]",
    ]
    yield Case(
        f"{case.name}_list",
        f"Array(Nullable({case.kind}))",
        values,
        (f"list<{portable[0]}>", list_of(portable[1])),
        (f"list<{published[0]}>", list_of(published[1])),
    )


def cases(profile: str) -> list[Case]:
    """Every column of the table of one profile."""
    return [*(one for case in [_unsigned_64(profile), *BASE] for one in _around(case)), *SHAPES]

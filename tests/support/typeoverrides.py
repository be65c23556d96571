"""Columns whose Iceberg type config says, with their hardest values; as `support.typecases`."""

from collections.abc import Sequence
from ipaddress import IPv4Address

from support.typeforms import LONG, TEXT, UNSIGNED, UPPER_HALF, UUIDS, Case, Form, integers, quoted
from support.typevalues import (
    cut,
    from_hex,
    list_of,
    little_endian,
    map_of,
    nanoseconds,
    number,
    packed,
    same,
    single,
    struct_of,
)


def _overridden(name: str, kind: str, values: Sequence[str], form: Form, question: str = "{}") -> Case:
    return Case(name, kind, values, form, form, question=question, override=form[0])


_BYTES = ["unhex('ff00fe')", "''", "'ab\\0\\0'", "'é'", "unhex('c3')"]
_WIDE = quoted(str(10**38 - 1), "0", "1")
_NANOSECONDS = quoted(
    "1900-01-01 00:00:00.000000001",
    "1969-12-31 23:59:59.999999999",
    "1970-01-01 00:00:00.000000001",
    "2262-04-11 23:47:16.854775807",
)
_SIXTEEN = ("fixed[16]", little_endian(16, signed=True))
OVERRIDDEN = [
    _overridden("long", "UInt64", integers(0, 2**63 - 1), LONG),
    _overridden("long_maybe", "LowCardinality(Nullable(UInt64))", ["NULL", *integers(0, 2**63 - 1)], LONG),
    _overridden("long_list", "Array(Nullable(UInt64))", ["[]", f"[NULL, {2**63 - 1}]"], ("list<long>", list_of(int))),
    _overridden(
        "long_map", "Map(String, UInt64)", ["map()", f"map('a', {2**63 - 1})"], ("map<string, long>", map_of(same, int))
    ),
    _overridden(
        "long_field",
        "Tuple(a UInt64, b UInt64)",
        [f"({2**63 - 1}, {one})" for one in UPPER_HALF],
        ("struct<a: long, b: string>", struct_of(a=int, b=same)),
    ),
    _overridden("unsigned_text", "UInt64", [*UPPER_HALF, "0"], TEXT),
    _overridden("unsigned_decimal", "UInt64", [*UPPER_HALF, "0"], UNSIGNED),
    _overridden("wide_i256", "Int256", [*_WIDE, f"'-{10**38 - 1}'"], ("decimal(38, 0)", int)),
    _overridden("wide_i128", "Nullable(Int128)", [*_WIDE, f"'-{10**38 - 1}'", "NULL"], ("decimal(38, 0)", int)),
    _overridden("wide_u256", "Nullable(UInt256)", [*_WIDE, "NULL"], ("decimal(38, 0)", int)),
    _overridden("wide_fixed", "Int128", integers(-(2**127), 2**127 - 1), _SIXTEEN),
    _overridden("nanoseconds", "DateTime64(9, 'UTC')", _NANOSECONDS, ("long", nanoseconds)),
    _overridden("nanoseconds_maybe", "Nullable(DateTime64(9))", ["NULL", *_NANOSECONDS[1:]], ("long", nanoseconds)),
    _overridden("cut", "DateTime64(9, 'UTC')", _NANOSECONDS, ("timestamptz", cut)),
    _overridden(
        "cut_list",
        "Array(Nullable(DateTime64(9, 'UTC')))",
        [f"[NULL, {', '.join(_NANOSECONDS)}]"],
        ("list<timestamptz>", list_of(cut)),
    ),
    _overridden("raw", "String", _BYTES, ("binary", from_hex), "hex({})"),
    _overridden("raw_maybe", "LowCardinality(Nullable(String))", ["NULL", *_BYTES], ("binary", from_hex), "hex({})"),
    _overridden("raw_long", "String", [*_BYTES[:4], "repeat(unhex('ff'), 50000)"], ("binary", from_hex), "hex({})"),
    _overridden("raw_ascii", "String", quoted("", "abc", "0x00ff 1,;~!"), ("binary", from_hex), "hex({})"),
    _overridden("raw_fixed", "FixedString(4)", _BYTES, ("fixed[4]", from_hex), "hex({})"),
    _overridden("address", "IPv6", quoted("::", "::ffff:1.2.3.4"), ("fixed[16]", packed)),
    _overridden("address4", "IPv4", quoted("0.0.0.0", "255.255.255.255"), ("long", lambda one: int(IPv4Address(one)))),
    _overridden("wider", "Int32", integers(-(2**31), 2**31 - 1), LONG),
    _overridden("doubled", "Float32", quoted("0.1", "-0.0", "nan", "-inf", "1e-45"), ("double", single)),
    _overridden("money", "Decimal(9, 4)", quoted("-99999.9999", "0", "0.0001"), ("decimal(30, 4)", number)),
    _overridden("money_text", "Decimal(9, 4)", quoted("-99999.9999", "0", "0.5"), TEXT),
    _overridden("name", "UUID", UUIDS, TEXT),
]
"""Columns whose type config says."""

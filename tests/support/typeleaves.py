"""One column for every ClickHouse type without parts, with its hardest values."""

from ipaddress import IPv4Address

from support.typeforms import (
    DATE,
    HASHES,
    INT,
    LONG,
    TEXT,
    TIME,
    UNSIGNED,
    UPPER_HALF,
    UUIDS,
    ZEROS,
    Case,
    both,
    enum,
    integers,
    quoted,
)
from support.typevalues import (
    boolean,
    double,
    from_hex,
    list_of,
    little_endian,
    map_of,
    number,
    packed,
    same,
    single,
    unpadded,
    utf8,
)

_WORDS = [
    *quoted(
        "", "a", "añ€", "👩‍🚀👨‍👩‍👧", "以太坊", "0123456789abcdefghij", "\U0010ffff" * 20, "it\\'s \\\\ \\t\\n \\0."
    ),
    "repeat('é🚀', 40000)",
]
_SECONDS = quoted("1970-01-01 00:00:00", "2024-03-20 01:02:03", "2106-02-07 06:28:15", "1970-01-01 00:00:01")
BASE = [
    both("i8", "Int8", integers(-(2**7), 2**7 - 1), INT),
    both("i16", "Int16", integers(-(2**15), 2**15 - 1), INT),
    both("i32", "Int32", integers(-(2**31), 2**31 - 1), INT),
    both("i64", "Int64", integers(-(2**63), 2**63 - 1), LONG),
    both("u8", "UInt8", integers(0, 2**8 - 1), INT),
    both("u16", "UInt16", integers(0, 2**16 - 1), INT),
    both("u32", "UInt32", [*integers(0, 2**32 - 1), *quoted(str(2**31 - 1), str(2**31))], LONG),
    both("bool", "Bool", ["true", "false"], ("boolean", boolean)),
    Case("i128", "Int128", integers(-(2**127), 2**127 - 1), TEXT, ("fixed[16]", little_endian(16, signed=True))),
    Case("u128", "UInt128", integers(0, 2**128 - 1), TEXT, ("fixed[16]", little_endian(16, signed=False))),
    Case("i256", "Int256", integers(-(2**255), 2**255 - 1), TEXT, ("fixed[32]", little_endian(32, signed=True))),
    Case("u256", "UInt256", integers(0, 2**256 - 1), TEXT, ("fixed[32]", little_endian(32, signed=False))),
    both(
        "f32",
        "Float32",
        quoted("-0.0", "0.0", "nan", "0.1", "nan", "3.4028235e38", "inf", "-inf", "1e-45"),
        ("float", single),
    ),
    both(
        "f64",
        "Float64",
        quoted("0.0", "-0.0", "nan", "0.1", "5e-324", "nan", "1.7976931348623157e308", "-inf", "inf"),
        ("double", double),
    ),
    both("d9", "Decimal(9, 4)", quoted("-99999.9999", "99999.9999", "0", "-0.0001"), ("decimal(9, 4)", number)),
    both("d18", "Decimal(18, 18)", quoted(f"-0.{'9' * 18}", f"0.{'9' * 18}", "0"), ("decimal(18, 18)", number)),
    both(
        "d38",
        "Decimal(38, 10)",
        quoted(f"-{'9' * 28}.{'9' * 10}", f"{'9' * 28}.{'9' * 10}", "-1", "0.0000000001"),
        ("decimal(38, 10)", number),
    ),
    both("d38whole", "Decimal(38, 0)", quoted("-" + "9" * 38, "9" * 38, "0", "255"), ("decimal(38, 0)", number)),
    both("d39", "Decimal(39, 1)", quoted(f"-{'9' * 38}.9", f"{'9' * 38}.9", "0", "1.5"), TEXT),
    both("d76", "Decimal(76, 20)", quoted(f"-{'9' * 56}.{'9' * 20}", f"{'9' * 56}.{'9' * 20}", "0", "1.5"), TEXT),
    both("text", "String", _WORDS, TEXT),
    both("zeros", "String", ZEROS, TEXT),
    Case("hash", "FixedString(66)", HASHES, TEXT, ("fixed[66]", utf8)),
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
    both("enum8", enum(8), quoted("", "a, (", "it\\'s", "以太坊"), TEXT),
    both("enum16", enum(16), quoted("以太坊", "a, (", ""), TEXT),
    both("uuid", "UUID", UUIDS, ("uuid", same)),
    both("day", "Date", quoted("1970-01-01", "2024-02-29", "2149-06-06"), DATE),
    both("day32", "Date32", quoted("1900-01-01", "1969-12-31", "1970-01-01", "2299-12-31"), DATE),
    both("second", "DateTime", _SECONDS, TIME),
    both("second_utc", "DateTime('UTC')", _SECONDS, TIME),
    both("second_tokyo", "DateTime('Asia/Tokyo')", quoted("1970-01-01 09:00:00", "2024-03-20 01:02:03"), TIME),
    both(
        "tick0",
        "DateTime64(0, 'UTC')",
        quoted("1900-01-01 00:00:00", "1969-12-31 23:59:59", "1970-01-01 00:00:00", "2299-12-31 23:59:59"),
        TIME,
    ),
    both(
        "tick1",
        "DateTime64(1, 'UTC')",
        quoted("1900-01-01 00:00:00.1", "1969-12-31 23:59:59.9", "2299-12-31 23:59:59.9"),
        TIME,
    ),
    both(
        "tick2",
        "DateTime64(2)",
        quoted("1900-01-01 00:00:00.01", "1969-12-31 23:59:59.99", "2299-12-31 23:59:59.99"),
        TIME,
    ),
    both(
        "tick3",
        "DateTime64(3, 'UTC')",
        quoted("1900-01-01 00:00:00", "1969-12-31 23:59:59.999", "1970-01-01 00:00:00.001", "2299-12-31 23:59:59.999"),
        TIME,
    ),
    both(
        "tick4",
        "DateTime64(4, 'America/New_York')",
        quoted("1969-12-31 18:59:59.9999", "2024-03-10 03:00:00.0001", "2024-11-03 01:30:00.5"),
        TIME,
    ),
    both(
        "tick5",
        "DateTime64(5, 'UTC')",
        quoted("1900-01-01 00:00:00.00001", "1969-12-31 23:59:59.99999", "2299-12-31 23:59:59.99999"),
        TIME,
    ),
    both(
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
    both(
        "tick7",
        "DateTime64(7, 'Asia/Tokyo')",
        quoted("1900-01-02 00:00:00.0000010", "1970-01-01 08:59:59.9999990", "2299-12-31 23:59:59.9999990"),
        TIME,
    ),
    both(
        "tick8",
        "DateTime64(8, 'UTC')",
        quoted("1900-01-01 00:00:00.00000100", "1969-12-31 23:59:59.99999900", "2299-12-31 23:59:59.99999900"),
        TIME,
    ),
    both(
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


def unsigned_64(profile: str) -> Case:
    values = [*quoted("0", "1", str(2**32), str(2**63 - 2), str(2**63 - 1))]
    if profile == "portable":
        values += UPPER_HALF
    return Case("u64", "UInt64", values, UNSIGNED, LONG, inside=UNSIGNED)


_BYTES = [f"unhex('{text}')" for text in ("00000000", "ffffffff", "61620000", "00000061", "c328a080", "ff", "80")]
_FIXED = ("fixed[4]", from_hex)
RAW = [
    both("raw", "FixedString(4)", _BYTES, _FIXED, "hex({})"),
    both("raw_maybe", "Nullable(FixedString(4))", [*_BYTES, "NULL"], _FIXED, "hex({})"),
    both("raw_low", "LowCardinality(FixedString(4))", _BYTES, _FIXED, "hex({})"),
    both(
        "raw_list",
        "Array(Nullable(FixedString(4)))",
        ["[]", f"[NULL, {', '.join(_BYTES)}]"],
        ("list<fixed[4]>", list_of(from_hex)),
        "arrayMap(x -> hex(x), {})",
    ),
    both(
        "raw_map",
        "Map(String, FixedString(4))",
        ["map()", f"map('a', {_BYTES[0]}, 'b', {_BYTES[1]})"],
        ("map<string, fixed[4]>", map_of(same, from_hex)),
        "mapApply((k, x) -> (k, hex(x)), {})",
    ),
    both("raw_one", "FixedString(1)", _BYTES[-2:], ("fixed[1]", from_hex), "hex({})"),
]
"""Bytes that are no text, as only as_published carries them of itself."""

from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest

from activities.core.faults import BadConfig, UnsupportedType
from activities.core.types import carry

LARGEST = 2**64 - 1
AT = "2024-03-20 01:02:03"
MOMENT = datetime(2024, 3, 20, 1, 2, 3, tzinfo=UTC)
US, MS = "timestamp[us, tz=UTC]", "timestamp[ms, tz=UTC]"
ZERO_TO_ONE = bytes(15) + b"\x01"

# ClickHouse type, a value of it as SQL, and per profile: Iceberg type, Parquet type as Arrow sees it, value read back.
POLICY = [
    ("Int8", "-8", ("int", "int8", -8), ...),
    ("Int16", "-8", ("int", "int16", -8), ...),
    ("Int32", "-8", ("int", "int32", -8), ...),
    ("UInt8", "255", ("int", "uint8", 255), ...),
    ("UInt16", "65535", ("int", "uint16", 65535), ...),
    ("Bool", "true", ("boolean", "bool", True), ...),
    ("UInt32", "4294967295", ("long", "int64", 2**32 - 1), ("long", "uint32", 2**32 - 1)),
    ("Int64", "-5", ("long", "int64", -5), ...),
    ("UInt64", str(LARGEST), ("decimal(20, 0)", "decimal128(20, 0)", Decimal(LARGEST)), ("long", "uint64", LARGEST)),
    ("Nullable(UInt64)", "NULL", ("decimal(20, 0)", "decimal128(20, 0)", None), ("long", "uint64", None)),
    (
        "UInt128",
        f"'{2**128 - 1}'",
        ("string", "string", str(2**128 - 1)),
        ("fixed[16]", "fixed_size_binary[16]", b"\xff" * 16),
    ),
    ("Int128", "-1", ("string", "string", "-1"), ("fixed[16]", "fixed_size_binary[16]", b"\xff" * 16)),
    ("Int256", "-1", ("string", "string", "-1"), ("fixed[32]", "fixed_size_binary[32]", b"\xff" * 32)),
    ("Nullable(UInt256)", "NULL", ("string", "string", None), ("fixed[32]", "fixed_size_binary[32]", None)),
    ("Float32", "1.5", ("float", "float", 1.5), ...),
    ("Float64", "2.5", ("double", "double", 2.5), ...),
    ("Decimal(9, 2)", "'1.25'", ("decimal(9, 2)", "decimal128(9, 2)", Decimal("1.25")), ...),
    ("Decimal(38, 3)", "'1.25'", ("decimal(38, 3)", "decimal128(38, 3)", Decimal("1.250")), ...),
    ("Decimal(60, 20)", "'1.25'", ("string", "string", "1.25"), ...),
    ("String", "'añ€'", ("string", "string", "añ€"), ...),
    ("LowCardinality(String)", "'a'", ("string", "string", "a"), ...),
    ("LowCardinality(Nullable(String))", "NULL", ("string", "string", None), ...),
    ("FixedString(4)", "'0x12'", ("string", "string", "0x12"), ("fixed[4]", "fixed_size_binary[4]", b"0x12")),
    ("IPv4", "'1.2.3.4'", ("string", "string", "1.2.3.4"), ("long", "uint32", 0x01020304)),
    ("IPv6", "'::1'", ("string", "string", "::1"), ("fixed[16]", "fixed_size_binary[16]", ZERO_TO_ONE)),
    ("Nullable(IPv6)", "NULL", ("string", "string", None), ("fixed[16]", "fixed_size_binary[16]", None)),
    ("Enum8('a' = 1, 'b\\'c' = 2)", "'b\\'c'", ("string", "string", "b'c"), ...),
    ("Enum16('a, (' = 1000)", "'a, ('", ("string", "string", "a, ("), ...),
    ("UUID", f"'{UUID(int=5)}'", ("uuid", "extension<arrow.uuid>", UUID(int=5)), ...),
    ("Date", "'2024-03-20'", ("date", "date32[day]", date(2024, 3, 20)), ...),
    ("Date32", "'1960-03-20'", ("date", "date32[day]", date(1960, 3, 20)), ...),
    ("DateTime", f"'{AT}'", ("timestamptz", US, MOMENT), ("timestamptz", MS, MOMENT)),
    (
        "DateTime('Asia/Tokyo')",
        "'2024-03-20 10:02:03'",
        ("timestamptz", US, MOMENT),
        ("timestamptz", MS, MOMENT),
    ),
    (
        "Nullable(DateTime64(3))",
        f"'{AT}.123'",
        ("timestamptz", US, MOMENT.replace(microsecond=123_000)),
        ("timestamptz", MS, MOMENT.replace(microsecond=123_000)),
    ),
    ("DateTime64(6)", f"'{AT}.123456'", ("timestamptz", US, MOMENT.replace(microsecond=123_456)), ...),
    ("DateTime64(9)", f"'{AT}.123456000'", ("timestamptz", US, MOMENT.replace(microsecond=123_456)), ...),
    ("Nullable(DateTime64(7))", "NULL", ("timestamptz", US, None), ...),
    (
        "Array(UInt32)",
        "[4294967295]",
        ("list<long>", "list<element: int64 not null>", [2**32 - 1]),
        ("list<long>", "list<element: uint32 not null>", [2**32 - 1]),
    ),
    (
        "Array(Nullable(UInt64))",
        f"[{LARGEST}, NULL]",
        ("list<decimal(20, 0)>", "list<element: decimal128(20, 0)>", [Decimal(LARGEST), None]),
        ...,
    ),
    (
        "Array(LowCardinality(Nullable(String)))",
        "['a', NULL]",
        ("list<string>", "list<element: string>", ["a", None]),
        ...,
    ),
    (
        "Map(String, UInt64)",
        f"map('a', {LARGEST})",
        ("map<string, decimal(20, 0)>", "map<string, decimal128(20, 0) ('c')>", [("a", Decimal(LARGEST))]),
        ...,
    ),
    (
        "Map(UInt32, Array(String))",
        "map(4294967295, ['x'])",
        ("map<long, list<string>>", None, [(2**32 - 1, ["x"])]),
        ("map<long, list<string>>", None, [(2**32 - 1, ["x"])]),
    ),
    (
        "Tuple(a UInt32, `b c` String)",
        "(1, 'x')",
        ("struct<a: long, `b c`: string>", "struct<a: int64 not null, b c: string not null>", {"a": 1, "b c": "x"}),
        ("struct<a: long, `b c`: string>", "struct<a: uint32 not null, b c: string not null>", {"a": 1, "b c": "x"}),
    ),
    (
        "Tuple(UInt64, DateTime)",
        f"({LARGEST}, '{AT}')",
        ("struct<1: decimal(20, 0), 2: timestamptz>", None, {"1": Decimal(LARGEST), "2": MOMENT}),
        ("struct<1: decimal(20, 0), 2: timestamptz>", None, {"1": Decimal(LARGEST), "2": MOMENT}),
    ),
    (
        "Nested(a UInt64, b Enum8('x' = 1))",
        "[(1, 'x')]",
        ("list<struct<a: decimal(20, 0), b: string>>", None, [{"a": Decimal(1), "b": "x"}]),
        ...,
    ),
    (
        "Nullable(Tuple(a UInt64))",
        "NULL",
        ("struct<a: decimal(20, 0)>", "struct<a: decimal128(20, 0) not null>", None),
        ...,
    ),
    ("SimpleAggregateFunction(max, Int64)", "4", ("long", "int64", 4), ...),
    ("JSON", '\'{"a": {"b": 1}}\'', ("string", "string", '{"a":{"b":1}}'), ...),
    ("Variant(String, UInt64)", "5::UInt64", ("string", "string", "5"), ...),
    ("Variant(String, UInt64)", "NULL", ("string", "string", None), ...),
    ("Dynamic", "[1, 2]", ("string", "string", "[1,2]"), ...),
    ("Point", "(1., 2.)", ("string", "string", "(1,2)"), ...),
    ("IntervalDay", "INTERVAL 3 DAY", ("string", "string", "3"), ...),
    ("Time", "'01:02:03'", ("string", "string", "01:02:03"), ...),
    ("Time64(3)", "'01:02:03.5'", ("string", "string", "01:02:03.500"), ...),
]
CASES = [
    pytest.param(kind, value, profile, portable if expected is ... else expected, id=f"{kind}-{value}-{profile}")
    for kind, value, portable, published in POLICY
    for profile, expected in (("portable", portable), ("as_published", published))
]

# ClickHouse type, value, Iceberg type from config, and what is read back.
OVERRIDES = [
    ("UInt64", str(2**63 - 1), "long", 2**63 - 1),
    ("LowCardinality(Nullable(UInt64))", "NULL", "long", None),
    ("Array(UInt64)", f"[{2**63 - 1}]", "list<long>", [2**63 - 1]),
    ("UInt64", str(LARGEST), "string", str(LARGEST)),
    ("Int32", "-5", "long", -5),
    ("Float32", "1.5", "double", 1.5),
    ("Decimal(9, 2)", "'1.25'", "decimal(20, 2)", Decimal("1.25")),
    ("UInt128", f"'{10**38 - 1}'", "decimal(38, 0)", Decimal(10**38 - 1)),
    ("Nullable(UInt256)", "NULL", "decimal(38, 0)", None),
    ("Int256", "-7", "decimal(38, 0)", Decimal(-7)),
    ("DateTime64(9)", f"'{AT}.123456789'", "long", int(MOMENT.timestamp()) * 10**9 + 123456789),
    ("DateTime64(9)", f"'{AT}.123456789'", "timestamptz", MOMENT.replace(microsecond=123_456)),
    ("FixedString(4)", "'0x12'", "fixed[4]", b"0x12"),
    ("IPv6", "'::1'", "fixed[16]", ZERO_TO_ONE),
    ("UUID", f"'{UUID(int=5)}'", "string", str(UUID(int=5))),
    ("Tuple(a UInt64, b UInt64)", "(1, 2)", "struct<a: long, b: string>", {"a": 1, "b": "2"}),
]


def read_back(engine, carried, kind, value):
    table = engine.table(
        f"SELECT {carried.expression} AS `c` FROM (SELECT CAST({value} AS {kind}) AS `c`)",
        allow_suspicious_low_cardinality_types=1,
    )
    return table.schema.field("c").type, table.to_pylist()[0]["c"]


@pytest.mark.parametrize(("kind", "value", "profile", "expected"), CASES)
def test_every_type_of_the_policy_reads_back_as_written(engine, kind, value, profile, expected):
    iceberg, parquet, expected_value = expected
    carried = carry(kind, "`c`", profile)
    found_type, found_value = read_back(engine, carried, kind, value)
    assert str(carried.iceberg) == iceberg
    assert parquet is None or str(found_type) == parquet
    assert found_value == expected_value


@pytest.mark.parametrize(("kind", "value", "override", "expected"), OVERRIDES)
def test_a_column_takes_the_type_that_config_gives_it(engine, kind, value, override, expected):
    carried = carry(kind, "`c`", "portable", override)
    assert str(carried.iceberg) == override
    assert read_back(engine, carried, kind, value)[1] == expected


@pytest.mark.parametrize(
    ("kind", "value", "override"),
    [
        ("UInt64", str(2**63), "long"),
        ("Array(UInt64)", f"[{2**63}]", "list<long>"),
        ("UInt128", f"'{10**38}'", "decimal(38, 0)"),
        ("Int256", f"'-{10**38}'", "decimal(38, 0)"),
        ("Nullable(UInt256)", f"'{10**38}'", "decimal(38, 0)"),
        ("LowCardinality(Nullable(UInt64))", str(2**63), "long"),
    ],
)
def test_a_value_that_does_not_fit_its_override_is_an_error_not_another_value(engine, kind, value, override):
    carried = carry(kind, "`c`", "portable", override)
    with pytest.raises(RuntimeError, match=r"cannot be safely converted|Too many digits"):
        read_back(engine, carried, kind, value)


FINE = f"'{AT}.000000001'"


@pytest.mark.parametrize(
    ("kind", "value", "type_of_the_table"),
    [
        ("DateTime64(9)", FINE, None),
        ("Nullable(DateTime64(7))", "'2299-12-31 23:59:59.9999999'", None),
        ("DateTime64(9)", "'1969-12-31 23:59:59.999999999'", "timestamptz"),
        ("Array(Nullable(DateTime64(9)))", f"[NULL, {FINE}]", None),
        ("Map(String, Tuple(a Float64, b Array(DateTime64(9))))", f"map('a', (nan, [{FINE}]))", None),
        ("Map(DateTime64(9), String)", f"map({FINE}, '')", None),
        ("Nested(a DateTime64(9))", f"[tuple({FINE})]", None),
    ],
)
def test_digits_below_a_microsecond_are_an_error_unless_config_drops_them(engine, kind, value, type_of_the_table):
    carried = carry(kind, "`c`", "portable", type_of_the_table, exact=type_of_the_table is not None or None)
    with pytest.raises(
        RuntimeError, match=r"column c has digits below a microsecond, which .*timestamptz.* cannot hold"
    ):
        read_back(engine, carried, kind, value)
    assert read_back(engine, carry(kind, "`c`", "portable", str(carried.iceberg)), kind, value)[1] is not None
    without = f"CAST(defaultValueOfTypeName('{kind}') AS {kind})"
    read_back(engine, carried, kind, without)


@pytest.mark.parametrize("profile", ["portable", "as_published"])
@pytest.mark.parametrize(
    "kind",
    [
        "AggregateFunction(sum, UInt64)",
        "Array(AggregateFunction(uniq, String))",
        "Tuple(a String, b AggregateFunction(sum, UInt64))",
        "BFloat16",
        "Nothing",
        "QBit(Float32, 4)",
        "NewlyInvented(3)",
    ],
)
def test_a_type_without_a_policy_is_refused(profile, kind):
    with pytest.raises(UnsupportedType, match=r"no lossless way into Iceberg"):
        carry(kind, "`c`", profile)


@pytest.mark.parametrize(
    ("kind", "override"),
    [
        ("DateTime", "date"),
        ("String", "long"),
        ("Int64", "int"),
        ("Float64", "float"),
        ("Decimal(9, 2)", "decimal(9, 3)"),
        ("Decimal(9, 2)", "decimal(8, 2)"),
        ("Array(String)", "string"),
        ("String", "list<string>"),
        ("Map(String, String)", "map<string, long>"),
        ("Tuple(a String)", "struct<b: string>"),
        ("Array(UInt256)", "list<decimal(38, 0)>"),
        ("Array(DateTime64(9))", "list<long>"),
    ],
)
def test_an_override_that_would_lose_something_is_refused(kind, override):
    with pytest.raises(UnsupportedType, match=r"cannot be"):
        carry(kind, "`c`", "portable", override)


def test_an_override_that_is_no_iceberg_type_is_refused():
    with pytest.raises(BadConfig, match="'bigint' is no Iceberg type"):
        carry("UInt64", "`c`", "portable", "bigint")

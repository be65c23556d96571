"""Columns of types that only text can carry."""

from collections.abc import Iterator, Sequence

from support.typeforms import TEXT, Case, Form, both, quoted
from support.typevalues import list_of, map_of, same, struct_of


def _around(
    name: str,
    kind: str,
    values: Sequence[str],
    text: str = "{}",
    *,
    maybe: bool = True,
    listed: bool = True,
) -> Iterator[Case]:
    """The type, and what may stand around it.

    Args:
        name: Of the column.
        kind: The type.
        values: As SQL.
        text: SQL of a value's text, at the source.
        maybe: Whether ClickHouse lets Nullable stand around it.
        listed: Whether ClickHouse can cast an array of it.
    """
    yield both(name, kind, values, TEXT, text)
    if maybe:
        yield both(f"{name}_maybe", f"Nullable({kind})", ["NULL", *values], TEXT, text)
    item, element = text.format("x"), f"Nullable({kind})" if maybe else kind
    each = [f"CAST({value} AS {element})" for value in (["NULL", *values] if maybe else values)]
    if listed:
        full, question = f"[{', '.join(each)}]", f"arrayMap(x -> {item}, {{}})"
        yield _filled(f"{name}_list", f"Array({element})", full, ("list<string>", list_of(same)), question)
    pairs = ", ".join(f"'{number}', {value}" for number, value in enumerate(each))
    form = ("map<string, string>", map_of(same, same))
    yield _filled(
        f"{name}_map", f"Map(String, {element})", f"map({pairs})", form, f"mapApply((k, x) -> (k, {item}), {{}})"
    )


def _filled(name: str, kind: str, full: str, form: Form, question: str) -> Case:
    """Full, and empty: by name, since an empty literal cannot be cast to every type."""
    return both(name, kind, [f"defaultValueOfTypeName('{kind}')", full], form, question)


_TO_STRING = "toString({})"
_TO_MAYBE = "CAST({} AS Nullable(String))"
_LINE = "[(0, 0), (1, 1.5), (-180, 1e300)]"
_POLYGON = f"[{_LINE}, [(0, 0), (0.1, 0.1)]]"
_DURATION = quoted(str(-(2**63)), "-1", "0", "3", str(2**63 - 1))
_TUPLE = (
    "Tuple(a Polygon, b Nullable(Point), c IntervalMonth, d Nullable(JSON), e Variant(String, UInt64), f Time64(3))"
)
TEXTS = [
    *_around("json", "JSON", ["'{}'", '\'{"a": {"b": [1, null, "é"]}, "c": 18446744073709551615}\''], _TO_STRING),
    *_around(
        "variant",
        "Variant(String, UInt64, Array(UInt8))",
        ["NULL", "18446744073709551615::UInt64", "'é'", "[1, 2]::Array(UInt8)"],
        _TO_MAYBE,
        maybe=False,
    ),
    *_around("dynamic", "Dynamic", ["NULL", "'é'", "[1, 2]"], _TO_MAYBE, maybe=False),
    *_around("time", "Time", quoted("00:00:00", "-999:59:59", "999:59:59")),
    *_around("time64", "Time64(6)", quoted("00:00:00.000001", "-01:02:03.5", "999:59:59.999999")),
    *_around("time64_fine", "Time64(9)", quoted("00:00:00.000000001", "-00:00:00.000000001", "999:59:59.999999999")),
    *_around("interval", "IntervalDay", ["INTERVAL 3 DAY", "INTERVAL -1 DAY"]),
    *_around("interval_second", "IntervalSecond", _DURATION),
    *_around("interval_month", "IntervalMonth", _DURATION),
    *_around("point", "Point", ["(1.5, -0.0)", "(0, 1e300)"], _TO_STRING),
    *_around("ring", "Ring", [_LINE, "[]"], _TO_STRING, maybe=False, listed=False),
    *_around("line_string", "LineString", [_LINE, "[]"], _TO_STRING, maybe=False, listed=False),
    *_around("lines", "MultiLineString", [_POLYGON, "[]"], _TO_STRING, maybe=False, listed=False),
    *_around("polygon", "Polygon", [_POLYGON, "[[]]", "[]"], _TO_STRING, maybe=False, listed=False),
    *_around("polygons", "MultiPolygon", [f"[{_POLYGON}, []]", "[]"], _TO_STRING, maybe=False, listed=False),
    *_around("shape", "Geometry", ["(0, 0.5)::Point", f"{_POLYGON}::Polygon", "NULL"], _TO_MAYBE, maybe=False),
    both(
        "texts",
        _TUPLE,
        [
            f"({_POLYGON}, NULL, INTERVAL 1 MONTH, NULL, NULL, '00:00:00.001')",
            "([], (0, 1.5), INTERVAL -1 MONTH, '{\"a\": 1}', '', '-999:59:59.999')",
        ],
        (
            "struct<" + ", ".join(f"{name}: string" for name in "abcdef") + ">",
            struct_of(**dict.fromkeys("abcdef", same)),
        ),
        "(toString({0}.a), toString({0}.b), {0}.c, toString({0}.d), CAST({0}.e AS Nullable(String)), {0}.f)",
    ),
]

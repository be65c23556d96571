"""SQL that notices what a cast would drop without a word."""

from activities.core.clickhouse_types import ClickHouseType
from activities.core.sqltext import quote_text, unquote

MICROSECOND_DIGITS = 6


def refuse_lost_digits(tree: ClickHouseType, expression: str, cast: str, iceberg: str) -> str:
    """`cast` as it is, or, where it would cut times to microseconds, in SQL that fails for a time with finer digits.

    Args:
        tree: The type of `expression`.
        expression: SQL of the column's value.
        cast: SQL of the value cast.
        iceberg: What the value becomes, for the message.
    """
    lost = _has_finer_digits(tree, expression, 0)
    if not lost:
        return cast
    other = "long to carry nanoseconds, or " if iceberg == "timestamptz" else ""
    message = (
        f"column {unquote(expression)} has digits below a microsecond, which {iceberg} cannot hold; under `types` in "
        f"tables.yaml, say {other}{iceberg} to drop them"
    )
    # throwIf answers 0, or not at all.
    return f"if(throwIf({lost}, {quote_text(message)}), {cast}, {cast})"


def _has_finer_digits(tree: ClickHouseType, value: str, depth: int) -> str:
    """SQL of whether a time anywhere in `value` has them; empty when no time in it can."""
    item = f"x{depth}"
    match tree.name:
        case "DateTime64" if int(tree.arguments[0]) > MICROSECOND_DIGITS:
            unit = 10 ** (int(tree.arguments[0]) - MICROSECOND_DIGITS)
            return f"ifNull(modulo(reinterpretAsInt64({value}), {unit}) != 0, 0)"
        case "Nullable" | "LowCardinality" | "SimpleAggregateFunction":
            return _has_finer_digits(tree.elements[0], value, depth)
        case "Array":
            return _any_of(tree.elements[0], value, item, depth)
        case "Nested":
            return _any_of(ClickHouseType("Tuple", tree.elements), value, item, depth)
        case "Map":
            key, held = tree.elements
            parts = [_any_of(key, f"mapKeys({value})", item, depth), _any_of(held, f"mapValues({value})", item, depth)]
        case "Tuple":
            parts = [
                _has_finer_digits(part, f"tupleElement({value}, {number})", depth)
                for number, part in enumerate(tree.elements, 1)
            ]
        case _:
            parts = []
    return " OR ".join(f"({part})" for part in parts if part)


def _any_of(element: ClickHouseType, values: str, item: str, depth: int) -> str:
    lost = _has_finer_digits(element, item, depth + 1)
    return lost and f"arrayExists({item} -> {lost}, {values})"

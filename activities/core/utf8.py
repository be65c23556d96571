"""Text that is no text: ClickHouse lets a String hold any bytes, and writes them under Parquet's promise of UTF-8.

Other readers then fail on the whole file. So an export looks at its text while it reads it, in the one expression that
every row has: that of the partition column.
"""

from collections.abc import Iterable

from activities.core.columns import ExportColumn
from activities.core.iceberg_types import IcebergType, ListOf, MapOf, Primitive, StructOf
from activities.core.sqltext import quote_text

REFUSED_TEXT = "icefleet: text that is not UTF-8"
"""What ClickHouse's error says when `guarded` has found some."""
_SAID = f"DB::Exception: {REFUSED_TEXT}"
"""The same where it is the error, and not a query that an error of another kind quotes."""
_NEVER_NULL = ("String", "LowCardinality(String)", "FixedString(", "LowCardinality(FixedString(")


def is_text(column: ExportColumn, source_type: str) -> str:
    """SQL that is true for a row whose text is UTF-8, NULL included; empty when the column holds no text."""
    if str(column.iceberg) == "string" and source_type.startswith(_NEVER_NULL):
        # Most columns are like this, and every function more is time that the source takes to read the query.
        return f"isValidUTF8({column.expression})"
    return _is_text(column.iceberg, column.expression, 0)


def was_refused(message: str) -> bool:
    """Whether ClickHouse's error says that a row's text is not UTF-8."""
    return _SAID in message


def guarded(expression: str, conditions: Iterable[str]) -> str:
    """`expression`, which fails with REFUSED_TEXT on a row for which one of `conditions` is false."""
    together = " AND ".join(conditions)
    if not together:
        return expression
    return f"if(throwIf(NOT ({together}), {quote_text(REFUSED_TEXT)}) = 0, {expression}, {expression})"


def _is_text(kind: IcebergType, value: str, depth: int) -> str:
    match kind:
        case Primitive("string"):
            # Whatever `AND` makes of NULL, `throwIf` might take it for true.
            return f"ifNull(isValidUTF8({value}), 1)"
        case ListOf(element):
            return _all(element, value, depth)
        case MapOf(key, content):
            return _both(_all(key, f"mapKeys({value})", depth), _all(content, f"mapValues({value})", depth))
        case StructOf(fields):
            return _both(
                *(_is_text(inner, f"tupleElement({value}, {at})", depth) for at, (_, inner) in enumerate(fields, 1))
            )
        case _:
            return ""


def _all(element: IcebergType, values: str, depth: int) -> str:
    inner = _is_text(element, f"_v{depth}", depth + 1)
    return f"arrayAll(_v{depth} -> {inner}, {values})" if inner else ""


def _both(*conditions: str) -> str:
    there = [condition for condition in conditions if condition]
    return f"({' AND '.join(there)})" if there else ""

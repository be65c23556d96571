"""Text that is no text: ClickHouse lets a String hold any bytes, and writes them under Parquet's promise of UTF-8.

Other readers then fail on the whole file. So an export looks at its text while it reads it, in the one expression that
every row has: that of the partition column.
"""

from collections.abc import Sequence

from activities.core.columns import ExportColumn
from activities.core.iceberg_types import IcebergType, ListOf, MapOf, Primitive, StructOf
from activities.core.sqltext import quote_text

REFUSED_TEXT = "icefleet: text that is not UTF-8"
"""What ClickHouse's error says when `checked` has found some."""


def not_utf8(column: ExportColumn) -> str:
    """SQL that is true for a row whose value holds text that is not UTF-8; empty when the column holds no text."""
    return _not_utf8(column.iceberg, column.expression, 0)


def checked(expression: str, columns: Sequence[ExportColumn]) -> str:
    """`expression`, which fails with REFUSED_TEXT on a row in which any of `columns` holds text that is not UTF-8."""
    wrong = [sql for column in columns if (sql := not_utf8(column))]
    if not wrong:
        return expression
    return f"if(throwIf({' OR '.join(wrong)}, {quote_text(REFUSED_TEXT)}) = 0, {expression}, {expression})"


def _not_utf8(kind: IcebergType, value: str, depth: int) -> str:
    match kind:
        case Primitive("string"):
            # NULL is no text.
            return f"ifNull(NOT isValidUTF8({value}), 0)"
        case ListOf(element):
            return _any(element, value, depth)
        case MapOf(key, content):
            return _either(_any(key, f"mapKeys({value})", depth), _any(content, f"mapValues({value})", depth))
        case StructOf(fields):
            return _either(
                *(_not_utf8(inner, f"tupleElement({value}, {at})", depth) for at, (_, inner) in enumerate(fields, 1))
            )
        case _:
            return ""


def _any(element: IcebergType, values: str, depth: int) -> str:
    inner = _not_utf8(element, f"_v{depth}", depth + 1)
    return f"arrayExists(_v{depth} -> {inner}, {values})" if inner else ""


def _either(*conditions: str) -> str:
    there = [condition for condition in conditions if condition]
    return f"({' OR '.join(there)})" if there else ""

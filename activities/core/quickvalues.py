"""SQL for what events usually hold: a row of all columns, in texts that Arrow's reader reads as PostgreSQL would.

It must never let something pass that the whole checks refuse, nor change it. It may send a row through the whole
checks, or fail where these would not: then the whole query (`segment_query`) is the one to ask.
"""

from collections.abc import Sequence

from activities.core.drift import ColumnState
from activities.core.iceberg_types import IcebergType, decimal_parts
from activities.core.pgtypes import form_of
from activities.core.pgvalues import Converter, literal, record_type, texts

_PLAIN = {
    "date": "____-__-__",
    "time": "__:__:__%",
    "timestamp": "____-__-__ __:__:__%",
    "timestamptz": "____-__-__ __:__:__%+00",
}
"""How moments are written within the years 1 to 9999; Arrow's reader refuses what else looks like this."""


def is_text(column: ColumnState) -> bool:
    """Whether a column is read as text; arrays come as JSON, too."""
    return not form_of(column.source).array


def fields(columns: Sequence[ColumnState]) -> str:
    """The columns' texts out of the document `e.doc`, as a select list that begins with a comma."""
    return "".join(f",\n    e.doc->>{literal(one.source.name)} AS {_name(n)}" for n, one in enumerate(columns))


def value(converter: Converter, column: ColumnState, place: int, final: IcebergType) -> str:
    """A column's value, of the text that stands at a place of `fields`."""
    kind, text = form_of(column.source).element.name, f"e.{_name(place)}"
    if decimal_parts(kind) or (kind == "string" and not form_of(column.source).json):
        return text
    converted = converter.column(column, text if kind == "string" else f"{text}::{record_type(column)}", final)
    if kind not in _PLAIN:
        return converted
    # Compared as bytes: before the year 1 is what no reader knows, and Arrow does.
    plain = f"{text} LIKE '{_PLAIN[kind]}'" + ("" if kind == "time" else f" AND {text} >= '0001' COLLATE \"C\"")
    return f"CASE WHEN {plain} THEN {text} ELSE ({converted})::text END"


def is_usual(columns: Sequence[ColumnState]) -> str:
    """Whether an event brings a whole row, of these columns and no others, whose key is the one that it had."""
    names = texts([one.source.name for one in columns])
    there = " AND ".join(f"e.{_name(n)} IS NOT NULL" for n in range(len(columns))) or "true"
    return (
        "(e.operation = 'insert' OR e.operation = 'update' AND e.old_row IS NULL)\n"
        f"      AND e.doc - {names} = '{{}}' AND ({there} OR e.doc ?& {names})"
    )


def _name(place: int) -> str:
    return f"v{place}"

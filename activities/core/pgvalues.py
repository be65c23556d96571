"""SQL expressions that convert and check a column's values in PostgreSQL, and the quoting that they need.

Nothing is called for a value that is fine: checks are CASEs. Their failing branch calls something that raises, always
with a part of the row, since PostgreSQL evaluates a constant call while it plans.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from activities.core.changelogs import OutOfRange
from activities.core.drift import ColumnState
from activities.core.iceberg_types import IcebergType, Primitive, decimal_parts
from activities.core.pgtypes import Form, form_of

_SHOWN = 60
"""Characters of a value that a message may hold."""
_TYPES = {
    "int": "integer",
    "long": "bigint",
    "float": "real",
    "double": "double precision",
    "string": "text",
    "binary": "bytea",
}
RANGES = {
    "date": ("0001-01-01", "9999-12-31"),
    "time": ("00:00:00", "23:59:59.999999"),
    "timestamp": ("0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"),
    "timestamptz": ("0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00"),
}
"""The first and last values that every reader knows."""
_EACH = "(SELECT coalesce(array_agg({element} ORDER BY n), '{{}}') FROM unnest({array}) WITH ORDINALITY AS u(x, n))"

Refuse = Callable[[str, str], str]
"""Why (a text) and the value (an SQL expression) → an SQL expression of type text that raises."""


def refuse_by(schema: str) -> Refuse:
    """Refuse through the function of a buffer: SQLSTATE IF001."""
    return lambda why, value: f"{identifier(schema)}.refuse({_telling(why, value)})"


def refuse_by_cast(why: str, value: str) -> str:
    """Refuse on a database that has no function of ours: the error of a cast, 22P02, holds the text."""
    return f"({_telling(why, value)})::integer::text"


def _telling(why: str, value: str) -> str:
    return f"{literal(why)} || coalesce(left({value}::text, {_SHOWN}), '')"


@dataclass(frozen=True)
class Converter:
    """How values become what the CSV has."""

    out_of_range: OutOfRange
    refuse: Refuse
    typed: bool
    """Whether values have the types of the source, not those of `record_type`."""

    def column(self, column: ColumnState, value: str, final: IcebergType) -> str:
        """The SQL expression of a column's value; `final` is the type of its field."""
        form, name = form_of(column.source), f"column {column.source.name}: "
        if form.array:
            return self._list(form, value, name, widened=form.iceberg != final)
        if form.json and not self.typed:
            why = self.refuse(f"{name}no JSON: ", value)
            return f"CASE WHEN {value} IS NOT JSON THEN {why} ELSE {value} END"
        if form.element.name == "float" and form.iceberg != final:
            return f"{value}::double precision"
        return self._scalar(form.element, value, name)

    def _scalar(self, kind: Primitive, value: str, name: str) -> str:
        if decimal_parts(kind.name):
            digits = kind.name.replace("decimal", "numeric")
            why = self.refuse(f"{name}does not fit {kind}: ", value)
            bad = f"{value} <> {value}::{digits} OR {value} = 'NaN'"
            return f"CASE WHEN {bad} THEN {why}::numeric ELSE {value}::{digits} END"
        if kind.name not in RANGES:
            return value
        low, high = (f"'{bound}'::{kind}" for bound in RANGES[kind.name])
        instead = {
            "refuse": f"{self.refuse(f'{name}{kind} out of range: ', value)}::{kind}",
            "null": "NULL",
            "clamp": f"CASE WHEN {value} < {low} THEN {low} ELSE {high} END",
        }[self.out_of_range]
        return f"CASE WHEN {value} < {low} OR {value} > {high} THEN {instead} ELSE {value} END"

    def _list(self, form: Form, value: str, name: str, *, widened: bool) -> str:
        array, element = value, self._scalar(form.element, "x", name)
        if self.typed and form.element.name == "string":
            array = f"{value}::text::text[]"  # a cast of the elements would cut the blanks of char(n)
        elif widened and form.element.name == "float":
            array = f"{value}::double precision[]"
        elif element != "x":
            array = _EACH.format(element=element, array=value)
        nested = self.refuse(f"{name}an array of more than one dimension: ", value)
        none = f"WHEN {value} IS NULL THEN NULL"
        return f"CASE {none} WHEN array_ndims({value}) > 1 THEN {nested} ELSE to_json({array}::text[])::text END"


def record_type(column: ColumnState) -> str:
    """The type by which `jsonb_to_record` reads a column's values."""
    form = form_of(column.source)
    kind = "numeric" if decimal_parts(form.element.name) else _TYPES.get(form.element.name, form.element.name)
    return f"{kind}[]" if form.array else kind


def identifier(name: str) -> str:
    """A quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A quoted text, read alike whatever `standard_conforming_strings` says."""
    quoted = "'" + text.replace("'", "''") + "'"
    return " E" + quoted.replace("\\", "\\\\") if "\\" in text else quoted


def texts(values: Sequence[str]) -> str:
    """A `text[]`."""
    return f"ARRAY[{', '.join(literal(value) for value in values)}]::text[]"

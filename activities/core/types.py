"""The type policy: which Iceberg type carries a ClickHouse column, and the SQL whose Parquet form is legal for it.

Two profiles. `portable` casts to the friendliest exact type; `as_published` leaves the bytes as ClickHouse writes
them, so that files of years past and tomorrow's share one schema. Either way nothing is lost silently: what has no
lossless way raises UnsupportedType. Under `as_published` a UInt64 column is an Iceberg long, uncast; whoever registers
the file must refuse it when the column's maximum is 2⁶³ or more.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

from activities.core.clickhouse_types import ClickHouseType, bare_type, inside, is_plain, parse_type, unwrap
from activities.core.faults import UnsupportedType
from activities.core.iceberg_types import (
    IcebergType,
    ListOf,
    MapOf,
    Primitive,
    StructOf,
    decimal_parts,
    parse_iceberg,
    widens,
)
from activities.core.losses import MICROSECOND_DIGITS, refuse_lost_digits
from activities.core.sqltext import quote_text
from activities.core.tables import Profile

__all__ = [
    "Carried",
    "ClickHouseType",
    "IcebergType",
    "ListOf",
    "MapOf",
    "Primitive",
    "StructOf",
    "bare_type",
    "carry",
    "inside",
    "is_plain",
    "parse_iceberg",
    "parse_type",
    "unwrap",
    "widens",
]

_WIDEST_DECIMAL = 38


@dataclass(frozen=True)
class Carried:
    """How a column travels: the SQL to select, and the Iceberg type that its Parquet form is legal for."""

    expression: str
    iceberg: IcebergType


class _How(IntEnum):
    """How a value is brought into its target type, in order of strength: a composite takes its parts' strongest."""

    AS_IS = 0
    CAST = 1
    ACCURATE = 2
    """A cast that throws when the value does not fit."""
    BY_TEXT = 3
    """Two casts, through String: the only way that ClickHouse has from wide integers to decimals."""
    NANOSECONDS = 4


@dataclass(frozen=True)
class _Form:
    """One legal way to carry a type: ClickHouse type of the result, Iceberg type, and how to get there."""

    target: str
    iceberg: IcebergType
    how: _How


def _as_is(own: str, iceberg: str) -> _Form:
    return _Form(own, Primitive(iceberg), _How.AS_IS)


def _cast(target: str, iceberg: str) -> _Form:
    return _Form(target, Primitive(iceberg), _How.CAST)


_TEXT = _cast("String", "string")
_SAME = {
    "Int8": ["int"],
    "Int16": ["int"],
    "Int32": ["int"],
    "UInt8": ["int"],
    "UInt16": ["int"],
    "Int64": ["long"],
    "Float32": ["float"],
    "Float64": ["double"],
    "Bool": ["boolean"],
    "String": ["string", "binary"],
    "UUID": ["uuid"],
    "Date": ["date"],
    "Date32": ["date"],
}
"""Types whose bytes are right as they are, in either profile."""
_SMALL = (("Int64", "long"), ("String", "string"))
_CASTS = {
    **dict.fromkeys(("Int8", "Int16", "Int32", "UInt8", "UInt16"), _SMALL),
    "Int64": (("String", "string"),),
    "Float32": (("Float64", "double"),),
    "UUID": (("String", "string"),),
}
"""What else those types may become."""
_RAW = {
    "IPv4": "long",
    "IPv6": "fixed[16]",
    "Int128": "fixed[16]",
    "UInt128": "fixed[16]",
    "Int256": "fixed[32]",
    "UInt256": "fixed[32]",
}
"""What Parquet holds when a type is written as it is."""
_LINES = frozenset({"Ring", "LineString", "MultiLineString", "Polygon", "MultiPolygon"})
"""Shapes that are arrays to ClickHouse, which casts no array of them to an array of texts."""
_AS_TEXT = _LINES | {"Point", "Geometry", "Enum8", "Enum16", "JSON", "Object", "Variant", "Dynamic", "Time", "Time64"}
"""Types that Parquet or Iceberg cannot hold, but text can."""
_HOLDS_NULL = frozenset({"Variant", "Dynamic", "Geometry"})


def carry(
    type_text: str, expression: str, profile: Profile, override: str | None = None, *, exact: bool | None = None
) -> Carried:
    """The SQL and the Iceberg type of a column of ClickHouse type `type_text`.

    Args:
        type_text: The type as `system.columns` writes it.
        expression: SQL of the column's value, quoted.
        profile: Which type is chosen where several are legal.
        override: An Iceberg type that replaces the profile's choice.
        exact: Whether the SQL fails for times with digits below a microsecond, which timestamptz cannot hold. By
            default it does, unless there is an override.

    Raises:
        UnsupportedType: There is no lossless way, or none into the override.
        BadConfig: The override is no Iceberg type.
    """
    wanted = None if override is None else parse_iceberg(override)
    tree = parse_type(type_text)
    form = _form(tree, profile, wanted, nested=False)
    sql = _sql(form, expression)
    if (wanted is None if exact is None else exact) and form.how is not _How.NANOSECONDS:
        sql = refuse_lost_digits(tree, expression, sql, str(form.iceberg))
    return Carried(sql, form.iceberg)


def _sql(form: _Form, expression: str) -> str:
    if form.how is _How.AS_IS:
        return expression
    if form.how is _How.NANOSECONDS:
        return f"toUnixTimestamp64Nano({expression})"
    if form.how is _How.ACCURATE:
        return f"accurateCast({expression}, {quote_text(form.target)})"
    if form.how is _How.BY_TEXT:
        if not form.target.startswith("Nullable("):
            return f"CAST(CAST({expression} AS String) AS {form.target})"
        # A text that does not fit is an error when it becomes a Decimal, and NULL when it becomes a Nullable one.
        number = f"CAST(CAST(assumeNotNull({expression}) AS String) AS {form.target[len('Nullable(') : -1]})"
        return f"if({expression} IS NULL, NULL, {number})"
    return f"CAST({expression} AS {form.target})"


def _form(tree: ClickHouseType, profile: Profile, wanted: IcebergType | None, *, nested: bool) -> _Form:
    match tree.name:
        case "LowCardinality" | "SimpleAggregateFunction":
            form = _form(tree.elements[0], profile, wanted, nested=nested)
        case "Nullable":
            form = _form(tree.elements[0], profile, wanted, nested=nested)
            if not form.target.startswith("Nullable("):
                form = replace(form, target=f"Nullable({form.target})")
        case "Array":
            form = _list(tree.elements[0], profile, wanted, tree)
        case "Map":
            form = _map(tree, profile, wanted)
        case "Tuple":
            form = _struct(tree, profile, wanted)
        case "Nested":
            form = _list(replace(tree, name="Tuple"), profile, wanted, tree)
        case _:
            form = _leaf(tree, profile, wanted, nested=nested)
    return form


def _list(element: ClickHouseType, profile: Profile, wanted: IcebergType | None, tree: ClickHouseType) -> _Form:
    if wanted is not None and not isinstance(wanted, ListOf):
        raise _impossible(tree, wanted)
    if element.name in _LINES:
        raise _no_way(tree)
    inner = _form(element, profile, wanted.element if wanted else None, nested=True)
    return _Form(f"Array({inner.target})", ListOf(inner.iceberg), _together(tree, inner))


def _map(tree: ClickHouseType, profile: Profile, wanted: IcebergType | None) -> _Form:
    if wanted is not None and not isinstance(wanted, MapOf):
        raise _impossible(tree, wanted)
    key = _form(tree.elements[0], profile, wanted.key if wanted else None, nested=True)
    if key.target.startswith("Nullable("):
        raise _no_way(tree)
    value = _form(tree.elements[1], profile, wanted.value if wanted else None, nested=True)
    return _Form(f"Map({key.target}, {value.target})", MapOf(key.iceberg, value.iceberg), _together(tree, key, value))


def _struct(tree: ClickHouseType, profile: Profile, wanted: IcebergType | None) -> _Form:
    parts: list[IcebergType | None] = [None] * len(tree.fields)
    if wanted is not None:
        if not isinstance(wanted, StructOf) or tuple(name for name, _ in wanted.fields) != tree.fields:
            raise _impossible(tree, wanted)
        parts = [part for _, part in wanted.fields]
    forms = [_form(item, profile, part, nested=True) for item, part in zip(tree.elements, parts, strict=True)]
    # Rebuilt from the tree, so that field names are quoted as they are everywhere.
    targets = tuple(parse_type(form.target) for form in forms)
    target = str(ClickHouseType("Tuple", targets, tree.fields, tree.named))
    iceberg = StructOf(tuple(zip(tree.fields, (form.iceberg for form in forms), strict=True)))
    return _Form(target, iceberg, _together(tree, *forms))


def _together(tree: ClickHouseType, *forms: _Form) -> _How:
    how = max(form.how for form in forms)
    if how > _How.ACCURATE:
        raise UnsupportedType(f"{tree} cannot be cast inside: {forms[0].iceberg} is possible for whole columns only")
    return how


def _leaf(tree: ClickHouseType, profile: Profile, wanted: IcebergType | None, *, nested: bool) -> _Form:
    forms = _choices(tree, profile, nested=nested)
    if not forms or (forms[0].how is _How.AS_IS and not is_plain(tree)):
        raise _no_way(tree)
    if wanted is None:
        return forms[0]
    for form in forms:
        if form.iceberg == wanted:
            return form
    wider = _wider_decimal(tree, wanted)
    if wider is None:
        raise _impossible(tree, wanted, forms)
    return wider


def _choices(tree: ClickHouseType, profile: Profile, *, nested: bool) -> list[_Form]:
    """Every legal form of a type without parts, the profile's own choice first; empty when there is none."""
    own, published, name = str(tree), profile == "as_published", tree.name
    if name in _SAME:
        forms = [_as_is(own, iceberg) for iceberg in _SAME[name]]
        return [*forms, *(_cast(target, iceberg) for target, iceberg in _CASTS.get(name, ()))]
    if name in _AS_TEXT or name.startswith("Interval"):
        return [_cast("Nullable(String)", "string") if name in _HOLDS_NULL else _TEXT]
    match name:
        case "UInt32" | "UInt64":
            forms = _unsigned(own, published=published, nested=nested)
        case "DateTime" | "DateTime64":
            forms = _times(tree, published=published)
        case "Decimal":
            precision, scale = (int(argument) for argument in tree.arguments)
            forms = [_as_is(own, f"decimal({precision}, {scale})")] if precision <= _WIDEST_DECIMAL else []
            forms.append(_TEXT)
        case "FixedString" | "IPv4" | "IPv6" | "Int128" | "UInt128" | "Int256" | "UInt256":
            same = _as_is(own, _RAW.get(name) or f"fixed[{tree.arguments[0]}]")
            forms = [same, _TEXT] if published else [_TEXT, same]
            if name.endswith(("Int128", "Int256")):
                forms.append(_Form("Decimal(38, 0)", Primitive("decimal(38, 0)"), _How.BY_TEXT))
        case _:
            forms = []
    return forms


def _unsigned(own: str, *, published: bool, nested: bool) -> list[_Form]:
    if own == "UInt32":
        return [_as_is(own, "long") if published else _cast("Int64", "long"), _TEXT]
    decimal = _cast("Decimal(20, 0)", "decimal(20, 0)")
    # Files have no bounds of nested values, so nobody could check that they stay below 2⁶³.
    if published and not nested:
        return [_as_is(own, "long"), decimal, _TEXT]
    return [decimal, _Form("Int64", Primitive("long"), _How.ACCURATE), _TEXT]


def _times(tree: ClickHouseType, *, published: bool) -> list[_Form]:
    digits = int(tree.arguments[0]) if tree.name == "DateTime64" else 0
    cast = _cast("DateTime64(6, 'UTC')", "timestamptz")
    if digits > MICROSECOND_DIGITS:
        return [cast, _Form("Int64", Primitive("long"), _How.NANOSECONDS)]
    return [_as_is(str(tree), "timestamptz") if published else cast]


def _wider_decimal(tree: ClickHouseType, wanted: IcebergType) -> _Form | None:
    parts = decimal_parts(str(wanted))
    if tree.name != "Decimal" or parts is None:
        return None
    precision, scale = (int(argument) for argument in tree.arguments)
    if parts[1] != scale or parts[0] < precision:
        return None
    return _cast(f"Decimal({parts[0]}, {parts[1]})", str(wanted))


def _no_way(tree: ClickHouseType) -> UnsupportedType:
    return UnsupportedType(
        f"{tree} has no lossless way into Iceberg: leave the column out of the source's table, or convert it there"
    )


def _impossible(tree: ClickHouseType, wanted: IcebergType, forms: list[_Form] | None = None) -> UnsupportedType:
    possible = f"; possible: {', '.join(str(form.iceberg) for form in forms)}" if forms else ""
    return UnsupportedType(f"{tree} cannot be carried as {wanted}{possible}")

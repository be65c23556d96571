"""A source's columns as they are exported: privacy first, then the type policy, then the table that is there."""

import contextlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

from activities.core.evolution import TableShape, check_clashes, field_names, follow
from activities.core.faults import BadConfig, Fault, PrivacyUndecided, SchemaConflict, UnsupportedType
from activities.core.sensitive import field_may_identify, fields, looks_sensitive, may_identify
from activities.core.sqltext import quote_identifier, quote_text
from activities.core.tables import COORDINATES, PLACES, TableConfig
from activities.core.types import IcebergType, bare_type, carry, inside, is_plain, parse_type

_BLANKS = {
    "IPv4": str(IPv4Address(0)),
    "IPv6": str(IPv6Address(0)),
    "UUID": str(UUID(int=0)),
    "FixedString": "",
    "Array": "[]",
    **{f"{sign}Int{bits}": "0" for sign in ("", "U") for bits in (8, 16, 32, 64, 128, 256)},
    **dict.fromkeys(("Float32", "Float64", "Decimal"), "0"),
}
"""Text whose cast to a type is that type's blank value; String depends on what the column says of itself."""
_MAY_BE_NULL = frozenset({"Nullable", "Variant", "Dynamic", "Geometry"})
_ADDRESS_BYTES = frozenset({"4", "16"})


@dataclass(frozen=True)
class SourceColumn:
    """A column as `system.columns` describes it."""

    name: str
    type: str


@dataclass(frozen=True)
class ExportColumn:
    """A column as it is exported: the SQL to select under `name`, and the Iceberg type that it has in the table."""

    name: str
    expression: str
    iceberg: IcebergType


def export_columns(
    config: TableConfig, columns: Sequence[SourceColumn], table: TableShape | None = None
) -> tuple[ExportColumn, ...]:
    """How each of `columns` is exported, in their order; MATERIALIZED and ALIAS columns are the caller's to leave out.

    Args:
        config: What config says of the table.
        columns: The source's columns.
        table: The Iceberg table, when it exists: its types win, or are widened as Iceberg allows.

    Raises:
        BadConfig: Config names a column that the source lacks, or redacts one whose type has no blank value or
            after which files and tables are named.
        PrivacyUndecided: Columns look sensitive, and config neither redacts nor allows them.
        UnsupportedType: A column has no lossless way into Iceberg.
        SchemaConflict: A column has changed in a way that the existing table cannot follow.
    """
    _check_names(config, columns)
    _check_privacy(config, columns)
    table = table or TableShape({})
    _check_new_fields(config, columns, table)
    _check_required(config, columns, table.required)
    exported = tuple(export_column(config, column, table.types.get(column.name)) for column in columns)
    for column in exported:
        check_chunks(config, column)
    check_clashes(config.name, table.types, {column.name: column.iceberg for column in exported})
    return exported


def check_chunks(config: TableConfig, column: ExportColumn) -> None:
    """Chunks are counted in Iceberg as well, by a transform of the column, which knows whole numbers only.

    Raises:
        BadConfig: The column is the partition column of an integer table, and would be no int or long in Iceberg.
    """
    if column.name != config.partition.column or config.partition.kind != "integer":
        return
    if str(column.iceberg) not in {"int", "long"}:
        raise BadConfig(
            f"{config.name}: partition column {column.name} would be {column.iceberg} in Iceberg, and integer "
            f"partitions need int or long; write `types: {{{column.name}: long}}` for the table in tables.yaml"
        )


def missing_columns(config: TableConfig, columns: Sequence[SourceColumn]) -> list[tuple[str, str]]:
    """What config names and the source lacks: (what config takes it for, the column's name)."""
    there = {column.name for column in columns}
    named = [
        ("partition column", config.partition.column),
        ("network column", config.network_column),
        *(("redacted column", name) for name in config.redacted_columns),
        *(("allowed column", name) for name in config.allowed_columns if not _is_field(name, columns)),
        *(("column with a type of its own", name) for name in config.types),
    ]
    return [(what, name) for what, name in named if name not in there]


def _is_field(name: str, columns: Sequence[SourceColumn]) -> bool:
    """Whether a name such as `column.field` is one of a field that a column of the source has inside it."""
    holders = [column for column in columns if name.startswith(f"{column.name}.")]
    with contextlib.suppress(UnsupportedType):  # said of the column itself, by whoever reads its type
        return any(path == name for column in holders for path, _ in fields(column.name, parse_type(column.type)))
    return False


def undecided(config: TableConfig, columns: Sequence[SourceColumn]) -> list[str]:
    """Columns that look sensitive, and that config neither redacts nor allows.

    Raises:
        UnsupportedType: The text of a column's type is no type.
    """
    decided = {*config.redacted_columns, *config.allowed_columns}
    return [
        column.name
        for column in columns
        if column.name not in decided and may_identify(column.name, column.type, config.sensitive_patterns)
    ]


def _check_names(config: TableConfig, columns: Sequence[SourceColumn]) -> None:
    missing = [f"{what} {name}" for what, name in missing_columns(config, columns)]
    if missing:
        raise BadConfig(
            f"{config.name}: the source has no {', no '.join(missing)}; correct the names in config, or take out what "
            "the source has dropped (never a partition or network column: bring it back, or export to a new table)"
        )
    both = sorted(set(config.redacted_columns) & set(config.allowed_columns))
    if both:
        raise BadConfig(f"{config.name}: {', '.join(both)} is both redacted and allowed; decide for one")


def _check_privacy(config: TableConfig, columns: Sequence[SourceColumn]) -> None:
    open_names = undecided(config, columns)
    if open_names:
        raise PrivacyUndecided(
            f"{config.name}: {', '.join(open_names)} may say who or where somebody is, and nobody decided; "
            "name each under redacted_columns or allowed_columns"
        )


def _check_new_fields(config: TableConfig, columns: Sequence[SourceColumn], table: TableShape) -> None:
    """Whoever allowed a column knew the fields that it had: one that appears inside it later is to be decided anew."""
    open_names = []
    for column in columns:
        if column.name not in config.allowed_columns or column.name not in table.types:
            continue
        there = set(field_names(column.name, table.types[column.name]))
        open_names += [
            path
            for path, tree in fields(column.name, parse_type(column.type))
            if path not in there
            and path not in config.allowed_columns
            and field_may_identify(path, tree, config.sensitive_patterns)
        ]
    if open_names:
        raise PrivacyUndecided(
            f"{config.name}: {', '.join(open_names)} came after its column was allowed, and may say who or where "
            "somebody is; name each under allowed_columns as it stands here, or take it out of the column at the source"
        )


def _check_required(config: TableConfig, columns: Sequence[SourceColumn], required: Collection[str]) -> None:
    """Tables of others may have columns that must never be null: the source must be able to promise it."""
    kinds = {column.name: column.type for column in columns}
    for name in sorted(required):
        if name not in kinds:
            problem = "the source has no such column"
        elif not _MAY_BE_NULL.isdisjoint(inside(parse_type(kinds[name]))[1]):
            problem = f"{kinds[name]} at the source, which may be NULL"
        else:
            continue
        raise SchemaConflict(
            f"{config.name}: column {name} is required in the Iceberg table, and {problem}; "
            "make it optional in the table with an Iceberg client, or mend the source"
        )


def export_column(config: TableConfig, column: SourceColumn, existing: IcebergType | None = None) -> ExportColumn:
    """How one column is exported; raises as `export_columns` does."""
    try:
        expression = quote_identifier(column.name)
        if column.name in config.redacted_columns:
            _check_role(config, column)
            expression = _blank(column)
        chosen = carry(column.type, expression, config.profile, config.types.get(column.name))
    except (UnsupportedType, BadConfig) as error:
        raise _located(config, column, error) from error
    wanted = chosen.iceberg if existing is None else follow(existing, chosen.iceberg)
    if wanted == chosen.iceberg:
        return ExportColumn(column.name, chosen.expression, wanted)
    if column.name in config.types:
        raise SchemaConflict(
            f"{config.name}: column {column.name} is {existing} in the Iceberg table, and config says "
            f"{chosen.iceberg}; take it out of types, or export to a new table"
        )
    try:
        kept = carry(column.type, expression, config.profile, str(wanted), exact=True)
    except (UnsupportedType, BadConfig) as error:
        raise SchemaConflict(
            f"{config.name}: column {column.name} is {existing} in the Iceberg table, and {column.type} at the source, "
            f"which cannot become that; change the source back, or export to a new table ({error})"
        ) from error
    return ExportColumn(column.name, kept.expression, kept.iceberg)


def _check_role(config: TableConfig, column: SourceColumn) -> None:
    """Values that files and tables are named after cannot be blank, and would be said by every name."""
    roles = {config.partition.column: "partition", config.network_column: "network"}
    if column.name in roles:
        raise BadConfig(
            f"it is redacted, and it is the {roles[column.name]} column, whose values are in the names of files, "
            "tables and events; allow it, or choose another column for that"
        )


def _located(config: TableConfig, column: SourceColumn, error: Fault) -> Fault:
    return type(error)(f"{config.name}: column {column.name}: {error}")


def _blank(column: SourceColumn) -> str:
    """SQL of the value that replaces a redacted one, in the column's own full type, so that the schema stays.

    Addresses become the zero address, coordinates 0, places the empty string, identifiers `REDACTED` as in the public
    files (an empty one would look like a value that was never there), and arrays are empty.
    """
    name, arguments = bare_type(column.type)
    tree = parse_type(column.type)
    # A FixedString as wide as an address is one, in bytes; any other holds an address as text.
    written = name == "FixedString" and looks_sensitive(column.name, ("ip",)) and arguments[0] not in _ADDRESS_BYTES
    value = _blank_text(column.name) if name == "String" or written else _BLANKS.get(name)
    if value is None or not is_plain(tree):
        raise BadConfig(f"there is no blank value of type {column.type}; allow the column, or convert it at the source")
    return f"CAST({quote_text(value)} AS {tree})"


def _blank_text(name: str) -> str:
    if looks_sensitive(name, ("ip",)):
        return "::"
    if looks_sensitive(name, COORDINATES):
        return "0"
    return "" if looks_sensitive(name, PLACES) else "REDACTED"

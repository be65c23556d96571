"""Files that others made, as files of a table: judged by their footers, described with bounds that are never wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from pyiceberg.conversions import to_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.types import DecimalType

from activities.core.adopting import (
    EMPTY,
    MISSING_COLUMN,
    NO_VERSION,
    UNREDACTED,
    VALUE,
    WRONG_NETWORK,
    WRONG_PARTITION,
    Refusal,
    is_blank,
)
from activities.core.evolution import TableShape
from activities.core.orphans import check_line
from activities.core.partitions import bounds_of, label_of
from activities.core.tables import PartitionRule, TableConfig
from activities.lake.files import DAY, SECONDS, new_file, partition_record
from activities.lake.filestatistics import statistics_of
from activities.lake.footers import Ends, Footer
from activities.lake.readable import bounded_by_footer, leaves, unreadable
from activities.lake.schema import shape_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Judge:
    """What a file is held against: the table as it will be, and what config says of it."""

    config: TableConfig
    network: str
    shape: TableShape
    version_column: str
    unredacted: frozenset[str] = frozenset()

    def first_look(self, footer: Footer) -> Refusal | None:
        """What the footer alone says against a file: rows, columns, types, and what must not be seen."""
        config = self.config
        if not footer.rows:
            return Refusal(EMPTY, "it holds no rows; icefleet remembers empty partitions without a file")
        needed = dict.fromkeys((config.partition.column, config.network_column, *sorted(self.shape.required)))
        if missing := [name for name in needed if name not in footer.columns]:
            return Refusal(MISSING_COLUMN, f"it has no column {', '.join(missing)}")
        if refusal := unreadable(footer, self.shape.types) or self._holed(footer):
            return refusal
        if self.version_column and self.version_column not in footer.columns:
            return Refusal(NO_VERSION, f"it has no column {self.version_column}")
        return self._shown(footer)

    def _holed(self, footer: Footer) -> Refusal | None:
        """Tables of others may have columns that must never be null."""
        for name in sorted(self.shape.required):
            ends = _ends(footer, name)
            if ends is None or ends.nulls:
                return Refusal(VALUE, f"{name} is required in the table, and may be null in the file")
        return None

    def told(self, footer: Footer) -> tuple[dict[str, Ends], list[str]]:
        """What the columns span that must be known, and those of which the footer does not say it."""
        names = (self.config.partition.column, self.config.network_column, self.version_column)
        found = {name: _ends(footer, name) for name in names if name}
        return (
            {name: ends for name, ends in found.items() if ends is not None},
            [name for name, ends in found.items() if ends is None],
        )

    def second_look(self, index: int, known: Mapping[str, Ends]) -> Refusal | None:
        """What speaks against a file as this partition's, by what those columns span."""
        config, rule = self.config, self.config.partition
        told = known[rule.column]
        if told.nulls or told.lowest is None:
            return Refusal(WRONG_PARTITION, f"{rule.column} is null in {told.nulls} rows")
        first, stop = (edge * (1 if rule.kind == "integer" else SECONDS) for edge in bounds_of(rule, index))
        if units(told.lowest) < first or units(told.highest) >= stop:
            where = f"its key is that of {label_of(rule, index)}"
            return Refusal(WRONG_PARTITION, f"{where}, and {rule.column} goes from {told.lowest} to {told.highest}")
        held = known[config.network_column]
        if held.nulls or {_text(held.lowest), _text(held.highest)} != {self.network}:
            span = f"from {held.lowest!r} to {held.highest!r}, with {held.nulls} nulls"
            return Refusal(WRONG_NETWORK, f"{config.network_column} goes {span}")
        if self.version_column and known[self.version_column].highest is None:
            return Refusal(NO_VERSION, f"{self.version_column} is null in every row")
        return None

    def _shown(self, footer: Footer) -> Refusal | None:
        """Redacted columns must show blank values and nothing else."""
        watched = {name for name in self.config.redacted_columns if name not in self.unredacted}
        shown = []
        for path, position in footer.positions.items():
            name = next((name for name in watched if path == name or path.startswith(f"{name}.")), None)
            if name is None:
                continue
            ends = footer.ends(position)
            if ends is None:
                shown.append(f"{name} (its footer does not say what it holds)")
            elif not all(value is None or is_blank(value) for value in (ends.lowest, ends.highest)):
                shown.append(name)
        if not shown:
            return None
        return Refusal(
            UNREDACTED,
            f"config redacts {', '.join(sorted(set(shown)))}, and the file, public as it is, shows more than blank "
            "values; export the partition anew, or name the column under 'unredacted' if that is meant to be",
        )


def _ends(footer: Footer, name: str) -> Ends | None:
    position = footer.positions.get(name)
    return None if position is None else footer.ends(position)


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def units(value: Any) -> int:
    """A partition's or a version's value as planning counts it: microseconds of times, else the number."""
    match value:
        case datetime():
            moment = value if value.tzinfo else value.replace(tzinfo=UTC)
            since = moment - _EPOCH
            return (since.days * 86_400 + since.seconds) * SECONDS + since.microseconds
        case date():
            return (value - _EPOCH.date()).days * DAY
    return int(value)


def adopted_file(
    table: Table, rule: PartitionRule, index: int, path: str, footer: Footer, known: Mapping[str, Ends]
) -> DataFile:
    """Describe a file that was judged as a file of the table; `known` says what the columns span that planning needs.

    Bounds are those of the footer where they are of the table's own type, and left out elsewhere. Those of the columns
    in `known` are always there: planning lives by them.

    Raises:
        ObjectRefused: icefleet made the object itself, and it may be deleted as an orphan by now.
    """
    if footer.ours:
        check_line(table.properties, footer.key, footer.made)
    schema = table.schema()
    found, _ = leaves(footer, shape_of(table).types)
    statistics = statistics_of(
        table.metadata,
        footer,
        names={leaf.path: leaf.known for leaf in found if leaf.path != leaf.known},
        counted=[leaf.path for leaf in found if not bounded_by_footer(leaf)],
    )
    for name, ends in known.items():
        field = schema.find_field(name)
        for bounds, value in ((statistics["lower_bounds"], ends.lowest), (statistics["upper_bounds"], ends.highest)):
            if value is not None:
                bounds[field.field_id] = to_bytes(field.field_type, _counted(field.field_type, value))  # type: ignore[arg-type]
        statistics["null_value_counts"][field.field_id] = ends.nulls
    return new_file(table.metadata, partition_record(rule, index), path, footer.size, statistics)


def _counted(kind: Any, value: Any) -> Any:
    """A value as the serialiser of its Iceberg type takes it."""
    match value:
        case datetime():
            return units(value)
        case date():
            return units(value) // DAY
    return Decimal(value) if isinstance(kind, DecimalType) else value

"""Counts and bounds of a data file for its manifest's entry, from the footer: right ones, or none."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import pyarrow.parquet as pq
from pyiceberg.conversions import from_bytes, to_bytes
from pyiceberg.io.pyarrow import (
    DataFileStatistics,
    MetricModeTypes,
    MetricsMode,
    StatisticsCollector,
    StatsAggregator,
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
)
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import BinaryType, DoubleType, FloatType

from activities.lake.footers import Footer

_LAST, _BEFORE_GAP, _AFTER_GAP = "\U0010ffff", "\ud7ff", "\ue000"
"""The last character of all; and between the two others lie the numbers that are no characters."""


def statistics_of(
    metadata: TableMetadata, footer: Footer, *, names: Mapping[str, str] | None = None, counted: Collection[str] = ()
) -> dict[str, Any]:
    """Counts and bounds for the manifest's entry: of the whole file, or none.

    Args:
        metadata: The table's.
        footer: The file's.
        names: Path of a column in the file → its path in a file of ours, where the two differ.
        counted: Paths (in the file) of columns without bounds: those of the footer are not of the table's type.
    """
    schema = metadata.schema()
    known_numbers, known_plan = _columns_of(_Same(metadata))
    numbers = {**known_numbers, **{path: known_numbers[known] for path, known in (names or {}).items()}}
    plan = dict(known_plan)
    for number in {numbers[path] for path in counted}:
        plan[number] = _counted_only(plan[number])
    collected = _collected(footer.metadata, plan, numbers)
    for column in collected.column_aggregates.values():
        _pass_gap(column)
    found = collected.to_serialized_dict()
    lower, upper = found["lower_bounds"], found["upper_bounds"]
    for path in footer.unbounded():
        # The library takes what the other row groups say for the bounds of all.
        lower.pop(numbers[path], None)
        upper.pop(numbers[path], None)
    _widen_zeros(schema, lower, upper)
    return found


@dataclass(frozen=True, eq=False)
class _Same:
    """A table's metadata as a key: the same object, which nothing changes."""

    metadata: TableMetadata

    def __hash__(self) -> int:
        return id(self.metadata)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.metadata is other.metadata


@lru_cache(maxsize=4)
def _columns_of(table: _Same) -> tuple[Mapping[str, int], Mapping[int, StatisticsCollector]]:
    """Path of a column in Parquet → its id, and id → what is collected of it; the same for all files of a commit."""
    schema = table.metadata.schema()
    plan = compute_statistics_plan(schema, table.metadata.properties)
    # In Parquet they are texts, and the library would decode them.
    binary = {n: _counted_only(one) for n, one in plan.items() if isinstance(one.iceberg_type, BinaryType)}
    return parquet_path_to_id_mapping(schema), plan | binary


def _collected(
    metadata: pq.FileMetaData, plan: Mapping[int, StatisticsCollector], numbers: Mapping[str, int]
) -> DataFileStatistics:
    try:
        return data_file_statistics_from_parquet_metadata(metadata, dict(plan), dict(numbers))
    except OverflowError:  # a day before the year 1 or after 9999, which Python cannot say
        unsaid = {numbers[path]: _counted_only(plan[numbers[path]]) for path in _unsaid(metadata)}
        return data_file_statistics_from_parquet_metadata(metadata, {**plan, **unsaid}, dict(numbers))


def _unsaid(metadata: pq.FileMetaData) -> set[str]:
    """Paths of columns whose ends Python cannot say."""
    found = set[str]()
    for group in range(metadata.num_row_groups):
        for place in range(metadata.num_columns):
            column = metadata.row_group(group).column(place)
            try:
                _ = column.statistics and (column.statistics.min, column.statistics.max)
            except OverflowError:
                found.add(column.path_in_schema)
            except NotImplementedError:  # of such columns the library leaves the bounds out by itself
                continue
    return found


def _pass_gap(column: StatsAggregator) -> None:
    """Let a text that is cut be followed by one that can be written: the library would end it with half a character."""
    highest, length = column.current_max, column.trunc_length
    if not isinstance(highest, str) or length is None or len(highest) <= length:
        return
    counted = highest[:length].rstrip(_LAST)
    if counted.endswith(_BEFORE_GAP):
        column.current_max = counted[:-1] + _AFTER_GAP


def _counted_only(column: StatisticsCollector) -> StatisticsCollector:
    return replace(column, mode=MetricsMode(MetricModeTypes.COUNTS))


def _widen_zeros(schema: Schema, lower: dict[int, bytes], upper: dict[int, bytes]) -> None:
    """Let bounds of zero enclose both zeros.

    To Parquet they are one value, and a footer names whichever it likes; by Iceberg's order -0.0 comes before 0.0, and
    a reader that follows it would miss the other one.
    """
    for bounds, zero in ((lower, -0.0), (upper, 0.0)):
        for number, raw in bounds.items():
            kind = schema.find_type(number)
            if isinstance(kind, FloatType | DoubleType) and float(from_bytes(kind, raw)) == 0:
                bounds[number] = to_bytes(kind, zero)

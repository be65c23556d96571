"""Which partition rows belong to, as arrays: PyIceberg's own way from Arrow needs another library."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import DayTransform, HourTransform, MonthTransform, TimeTransform, Transform, YearTransform
from pyiceberg.typedef import Record
from pyiceberg.types import DecimalType, IcebergType, IntegerType, LongType, StructType, UUIDType

from activities.core.faults import SchemaConflict

Rows = npt.NDArray[np.int64]
_UNITS: tuple[tuple[type[TimeTransform[Any]], str], ...] = (
    (YearTransform, "datetime64[Y]"),
    (MonthTransform, "datetime64[M]"),
    (DayTransform, "datetime64[D]"),
    (HourTransform, "datetime64[h]"),
)


@dataclass(frozen=True)
class Part:
    """The rows of a table that belong to one partition."""

    values: tuple[Any, ...]
    """One for each field of the spec, as manifests hold them."""
    rows: Rows | None
    """Their places, ascending; None: all of them."""

    @property
    def record(self) -> Record:
        """For the manifest."""
        return Record(*self.values)


def parts_of(table: pa.Table, schema: Schema, spec: PartitionSpec) -> list[Part]:
    """The partitions of a table's rows; none when there are no rows.

    Raises:
        SchemaConflict: a number is too small to be cut.
    """
    if not table.num_rows:
        return []
    if not spec.fields:
        return [Part((), None)]
    codes, columns = np.zeros(table.num_rows, np.int64), list[_Column]()
    for field in spec.fields:
        number, transform = field.source_id, field.transform
        name, kind = str(schema.find_column_name(number)), schema.find_field(number).field_type
        column = _transformed(_source(table, schema, number), kind, transform, name)
        # Compact again after each field, so that many fields cannot overflow.
        codes = np.unique(codes * len(column.values) + column.codes, return_inverse=True)[1]
        columns.append(column)
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    groups = np.split(order, starts[1:])
    return [
        Part(
            tuple(column.values[int(column.codes[group[0]])] for column in columns), group if len(groups) > 1 else None
        )
        for group in groups
    ]


def _source(table: pa.Table, schema: Schema, number: int) -> pa.ChunkedArray:
    """The values of a field; a table may be cut by fields of structs, too."""
    column, *inside = _path_to(schema.as_struct(), number)
    values = table.column(column)
    for name in inside:
        values = pc.struct_field(values, name)
    return values


def _path_to(struct: StructType, number: int) -> list[str]:
    for field in struct.fields:
        if field.field_id == number:
            return [field.name]
        if isinstance(field.field_type, StructType) and (inside := _path_to(field.field_type, number)):
            return [field.name, *inside]
    return []


def partition_path(spec: PartitionSpec, values: Record, schema: Schema) -> str:
    """A partition as Iceberg writes it into paths; of years that Python cannot say, numbers as manifests have them."""
    try:
        return spec.partition_to_path(values, schema)
    except (OverflowError, ValueError):
        return "/".join(f"{field.name}={values[place]}" for place, field in enumerate(spec.fields))


@dataclass(frozen=True)
class _Column:
    codes: Rows
    """Of each row: which of the values it has."""
    values: list[Any]


def _transformed(column: pa.ChunkedArray, kind: IcebergType, transform: Transform[Any, Any], name: str) -> _Column:
    unit = next((unit for known, unit in _UNITS if isinstance(transform, known)), None)
    if unit is not None:
        return _times(column, unit)
    encoded = _physical(column).dictionary_encode(null_encoding="encode")
    apply: Callable[[Any], Any] = transform.transform(kind)
    values = encoded.dictionary.to_pylist()
    if isinstance(kind, UUIDType):  # as they are read from manifests
        values = [None if value is None else UUID(bytes=value) for value in values]
    results = [None if value is None else apply(value) for value in values]
    _check_range(values, results, kind, f"{name} by {transform}")
    numbers: dict[Any, int] = {}
    codes = np.array([numbers.setdefault(result, len(numbers)) for result in results], np.int64)
    return _Column(codes[encoded.indices.to_numpy()], list(numbers))


def _check_range(values: list[Any], results: list[Any], kind: IcebergType, what: str) -> None:
    """See that every result is a number of the type: what the smallest numbers are cut to may be none."""
    for value, result in zip(values, results, strict=True):
        if _is_outside(result, kind):
            raise SchemaConflict(
                f"a row cannot be put into a partition: cutting {what} puts {value} below the smallest {kind}; take "
                "that partition field out of the table's spec with an Iceberg client, and out of `partition` in "
                "mirrors.yaml"
            )


def _is_outside(result: Any, kind: IcebergType) -> bool:
    if isinstance(kind, DecimalType):
        return isinstance(result, Decimal) and result.adjusted() >= kind.precision - kind.scale
    return isinstance(kind, IntegerType | LongType) and result is not None and result < kind.min


def _times(column: pa.ChunkedArray, unit: str) -> _Column:
    """Whole years, months, days or hours since 1970."""
    base = "datetime64[D]" if pa.types.is_date(column.type) else "datetime64[us]"
    physical = _physical(column)
    moments = physical.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64).astype(base)
    counted = moments.astype(unit).astype(np.int64)
    missing = physical.is_null().to_numpy(zero_copy_only=False)
    numbers, codes = np.unique(np.where(missing, np.int64(0), counted), return_inverse=True)
    values: list[Any] = numbers.tolist()
    if missing.any():
        codes = np.where(missing, len(values), codes)
        values.append(None)
    return _Column(codes, values)


def _physical(column: pa.ChunkedArray) -> pa.Array:
    """The values as manifests hold them: times as numbers, UUIDs as bytes."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # of no rows, or too large for one
        array = pa.concat_arrays(array.chunks)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = array.type
    if pa.types.is_date(kind):
        return array.cast(pa.date32()).cast(pa.int32())
    if pa.types.is_timestamp(kind):
        return array.cast(pa.timestamp("us", kind.tz)).cast(pa.int64())
    return array.cast(pa.time64("us")).cast(pa.int64()) if pa.types.is_time(kind) else array

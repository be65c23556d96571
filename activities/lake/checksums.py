"""A checksum of rows that does not depend on their order, nor on the physical types that carry the values.

Every row is written down as bytes under the Iceberg types of its columns, so that a value reads the same whether it
came as UINT_32 or as a long, in milliseconds or microseconds, from ClickHouse or out of a file. The checksum is the sum
of the rows' hashes (BLAKE2b, 128 bits) modulo 2^128, and their number: rows that were lost, added or changed show,
also when two of them would cancel each other under an exclusive or.
"""

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from activities.core.faults import UnsupportedType
from activities.core.iceberg_types import IcebergType, ListOf, MapOf, StructOf, decimal_parts

PIECE_BYTES = 8 * 2**20
"""Rows are written down in pieces of about so many bytes, whatever the size of the batch that brings them."""
_BITS = 128
_MODULUS = 2**_BITS
_MICROSECONDS = 1_000_000
_NULL, _VALUE = b"\x00", b"\x01"
_LARGE = pa.large_binary()
_WHOLE_NUMBERS = {"int": pa.int64(), "long": pa.int64(), "boolean": pa.uint8()}
_FLOATS = {"float": pa.float32(), "double": pa.float64()}


def _is_whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _is_day(kind: pa.DataType) -> bool:
    return bool(pa.types.is_date(kind) or pa.types.is_integer(kind))


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_integer(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind) or pa.types.is_integer(kind))


def is_bytes(kind: pa.DataType) -> bool:
    """Whether an Arrow type carries texts or bytes, which are compared as bytes."""
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(check(kind) for check in checks) or bool(pa.types.is_fixed_size_binary(kind))


_FITTING = {
    **dict.fromkeys(_WHOLE_NUMBERS, (_is_whole, "no whole number")),
    **dict.fromkeys(_FLOATS, (pa.types.is_floating, "no floating-point number")),
    "date": (_is_day, "no date"),
    **dict.fromkeys(("timestamptz", "timestamp"), (_is_time, "no time")),
    "time": (pa.types.is_time64, "no time of day"),
    "decimal": (_is_number, "no number"),
}
"""Iceberg type → which Arrow types may carry it, and what to say of all others; what is not named here is bytes."""


@dataclass(frozen=True)
class Checksum:
    """Rows, and the sum of their hashes."""

    rows: int = 0
    total: int = 0

    def __add__(self, other: "Checksum") -> "Checksum":
        return Checksum(self.rows + other.rows, (self.total + other.total) % _MODULUS)

    def __str__(self) -> str:
        return f"{self.total:0{_BITS // 4}x}"


def checksum(batches: Iterable[pa.RecordBatch], types: Mapping[str, IcebergType]) -> Checksum:
    """The checksum of some columns of all rows; memory follows the batch, not the number of rows.

    Args:
        batches: Columns that `types` does not name are left out; each must have all that it names.
        types: Column → the type under which its values are compared; its order is part of the checksum.

    Raises:
        UnsupportedType: a column's values cannot be read as its type; the message names the column.
    """
    total = Checksum()
    for batch in batches:
        for piece in _pieces(batch):
            total += _checksum_of(piece, types)
    return total


def _pieces(batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
    rows = max(1, batch.num_rows * PIECE_BYTES // max(1, batch.nbytes))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _checksum_of(piece: pa.RecordBatch, types: Mapping[str, IcebergType]) -> Checksum:
    rows = written_rows(piece, types)
    # One after the other: sums of hashes of whole rows are what nothing can cancel, and Arrow has no such hash.
    offsets = _offsets(rows).to_pylist()
    data = memoryview(_data(rows))
    total = 0
    for begin, end in itertools.pairwise(offsets):
        total += int.from_bytes(hashlib.blake2b(data[begin:end], digest_size=_BITS // 8).digest())
    return Checksum(piece.num_rows, total % _MODULUS)


def written_rows(piece: pa.RecordBatch, types: Mapping[str, IcebergType]) -> pa.Array:
    """Each row as bytes, equal for equal values of the columns that `types` names.

    Raises:
        UnsupportedType: a column's values cannot be read as its type; the message names the column.
    """
    columns = [pa.repeat(pa.scalar(b"", _LARGE), piece.num_rows)]
    for name, kind in types.items():
        column = piece.column(name)
        try:
            columns.append(_written(column, kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, UnsupportedType) as wrong:
            raise UnsupportedType(f"column {name} ({column.type}) cannot be read as {kind}: {wrong}") from wrong
    return _joined(*columns)


def _written(array: pa.Array, kind: IcebergType) -> pa.Array:
    """Each value as bytes that end by themselves, so that no two rows of different values read the same."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if isinstance(array, pa.DictionaryArray):
        array = array.dictionary_decode()
    match kind:
        case ListOf(element):
            values = _written(array.values, element)
            return _marked(array, _joined(_lengths(pc.list_value_length(array)), _gathered(array.offsets, values)))
        case MapOf(key, value):
            values = _joined(_written(array.keys, key), _written(array.items, value))
            lengths = pc.subtract(array.offsets[1:], array.offsets[:-1])
            return _marked(array, _joined(_lengths(lengths), _gathered(array.offsets, values)))
        case StructOf(fields):
            parts = [_written(array.field(name), inner) for name, inner in fields]
            return _marked(array, _joined(*parts))
        case _:
            return _marked(array, _primitive(array, str(kind)))


def _marked(array: pa.Array, written: pa.Array) -> pa.Array:
    """The same behind a mark that says whether there is a value; what lies below a null does not count."""
    if not array.null_count:
        return _joined(pa.repeat(pa.scalar(_VALUE, _LARGE), len(array)), written)
    there = array.is_valid()
    marks = pc.if_else(there, pa.scalar(_VALUE, _LARGE), pa.scalar(_NULL, _LARGE))
    return _joined(marks, pc.if_else(there, written, pa.scalar(b"", _LARGE)))


def _primitive(array: pa.Array, kind: str) -> pa.Array:
    family = "decimal" if kind.startswith("decimal") else kind
    fits, what = _FITTING.get(family, (is_bytes, "no bytes"))
    if not fits(array.type):
        raise UnsupportedType(f"it is {what}")  # Arrow's own casts would read a number out of a text
    if kind in _WHOLE_NUMBERS:
        return _fixed(array.cast(_WHOLE_NUMBERS[kind]))
    if kind in _FLOATS:
        numbers = array.cast(_FLOATS[kind])
        # There are many bit patterns that are no number, and one meaning; the two zeros are two values.
        return _fixed(pc.if_else(pc.is_nan(numbers), pa.scalar(float("nan"), _FLOATS[kind]), numbers))
    if kind == "date":
        return _fixed(array.cast(pa.int32()) if pa.types.is_integer(array.type) else array.cast(pa.date32()))
    if kind in {"timestamptz", "timestamp", "time"}:
        return _fixed(_microseconds(array))
    if parts := decimal_parts(kind):
        return _fixed(array.cast(pa.decimal128(38, parts[1])))
    written = array.cast(_LARGE) if not pa.types.is_fixed_size_binary(array.type) else array.cast(pa.binary())
    return _joined(_lengths(pc.binary_length(written)), written.cast(_LARGE))


def _microseconds(array: pa.Array) -> pa.Array:
    if pa.types.is_integer(array.type):  # ClickHouse writes the seconds of a DateTime as a number into Arrow
        return pc.multiply_checked(array.cast(pa.int64()), pa.scalar(_MICROSECONDS, pa.int64()))
    if pa.types.is_time(array.type):
        return array.cast(pa.time64("us")).cast(pa.int64())
    return array.cast(pa.timestamp("us", array.type.tz)).cast(pa.int64())


def _fixed(array: pa.Array) -> pa.Array:
    """Values of one width as they lie in memory; below a null is whatever, which `_marked` drops."""
    width = pa.binary(array.type.bit_width // 8)
    validity, data = array.buffers()
    whole = pa.Array.from_buffers(width, len(array), [validity, data], array.null_count, array.offset)
    return whole.cast(pa.binary()).cast(_LARGE)


def _lengths(lengths: pa.Array) -> pa.Array:
    return _fixed(lengths.cast(pa.int64()))


def _joined(*arrays: pa.Array) -> pa.Array:
    if len(arrays) == 1:
        return arrays[0]
    return pc.binary_join_element_wise(*arrays, pa.scalar(b"", _LARGE), null_handling="replace", null_replacement="")


def _gathered(offsets: pa.Array, written: pa.Array) -> pa.Array:
    """The written values of each list, one behind the other: they lie so already, and only their ends are new."""
    ends = _offsets(written).take(offsets)
    return pa.Array.from_buffers(_LARGE, len(offsets) - 1, [None, ends.buffers()[1], _data(written)])


def _offsets(written: pa.Array) -> pa.Array:
    return pa.Array.from_buffers(pa.int64(), len(written) + 1, [None, written.buffers()[1]], offset=written.offset)


def _data(written: pa.Array) -> pa.Buffer:
    return written.buffers()[2] or pa.py_buffer(b"")

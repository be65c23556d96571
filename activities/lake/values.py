"""Texts as PostgreSQL writes them, as Arrow columns: what Arrow's CSV reader does not know is decoded here.

No Python runs for each value, except for the elements of lists.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from pyiceberg.io.pyarrow import schema_to_pyarrow

from activities.core.faults import UnsupportedType
from activities.core.iceberg_types import IcebergType
from activities.lake.schema import to_pyiceberg

TEXT = pa.large_string()
_UUID_DIGITS = 32
LONGEST_CAUSE = 160
"""Characters of what is said of a value, which may show it."""
_PREFIX = len("\\x")
_PLACE = re.compile(r"In CSV column #(\d+): ")


def arrow_type(kind: IcebergType) -> pa.DataType:
    """The type as which values of a column are held, and written to Parquet."""
    return schema_to_pyarrow(to_pyiceberg(kind, itertools.count(1)), include_field_ids=False)


def read_csv(piece: bytes, names: Sequence[str], kinds: Sequence[pa.DataType]) -> list[pa.Array]:
    r"""The columns of whole CSV lines as `COPY … (FORMAT csv)` writes them: no header, NULL is nothing, '' is `""`.

    Values are written as `CsvColumn` says.

    Raises:
        UnsupportedType: a value is none of its column's type, or a line has another number of values.
    """
    try:
        table = _read(piece, dict(zip(names, map(_read_as, kinds), strict=True)))
    except pa.ArrowInvalid as wrong:
        raise _misfit(_PLACE.sub(lambda found: f"column {names[int(found[1])]}: ", str(wrong))) from wrong
    columns = (column.combine_chunks() for column in table.columns)
    return [_decoded(name, *column) for name, *column in zip(names, columns, kinds, strict=True)]


def _read(piece: bytes, types: Mapping[str, pa.DataType]) -> pa.Table:
    return pacsv.read_csv(
        pa.BufferReader(piece),
        # One block, so that no value is cut by the end of one.
        read_options=pacsv.ReadOptions(column_names=list(types), block_size=len(piece) + 1),
        parse_options=pacsv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pacsv.ConvertOptions(
            column_types=types,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
            true_values=["t", "true"],
            false_values=["f", "false"],
        ),
    )


def _read_as(kind: pa.DataType) -> pa.DataType:
    return TEXT if _decoded_here(kind) else kind


def _decoded_here(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_binary(kind) or pa.types.is_large_list(kind) or kind == pa.uuid())


def _decoded(name: str, values: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(kind):
        _check_digits(name, values, kind)
    if not _decoded_here(kind):
        return values
    if values.null_count == len(values):
        return pa.nulls(len(values), kind)
    try:
        if pa.types.is_large_list(kind):
            return _lists(name, values, kind)
        return _bytes(values) if pa.types.is_large_binary(kind) else _uuids(name, values)
    except ValueError as wrong:  # of json, of hex digits, or of Arrow
        raise _misfit(f"column {name}: {wrong}") from wrong


def _check_digits(name: str, values: pa.Array, kind: pa.Decimal128Type) -> None:
    """Arrow's reader counts the digits that are written, and not those of zeros that the scale adds."""
    ends = pc.min_max(values)
    for end in (ends["min"].as_py(), ends["max"].as_py()):
        if end is not None and end.adjusted() >= kind.precision - kind.scale:
            raise _misfit(f"column {name}: {end} has more than {kind.precision} digits")


def _misfit(why: str) -> UnsupportedType:
    return UnsupportedType(f"a row does not fit its columns: {why[:LONGEST_CAUSE]}")


def _uuids(name: str, texts: pa.Array) -> pa.Array:
    digits = pc.fill_null(pc.replace_substring(texts, "-", ""), "0" * _UUID_DIGITS)
    data = pa.py_buffer(_from_hex(digits))
    valid = pc.is_valid(texts).buffers()[1] if texts.null_count else None
    if data.size * 2 != _UUID_DIGITS * len(texts):
        raise _misfit(f"column {name}: a UUID has other than {_UUID_DIGITS} digits")
    storage = pa.Array.from_buffers(pa.binary(_UUID_DIGITS // 2), len(texts), [valid, data])
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


def _bytes(texts: pa.Array) -> pa.Array:
    digits = pc.utf8_slice_codeunits(texts, start=_PREFIX)
    data = pa.py_buffer(_from_hex(digits))
    offsets = pa.Array.from_buffers(pa.int64(), len(digits) + 1, [None, digits.buffers()[1]])
    halves = pc.divide(pc.subtract(offsets, offsets[0]), 2)
    return pa.Array.from_buffers(pa.large_binary(), len(texts), [digits.buffers()[0], halves.buffers()[1], data])


def _from_hex(digits: pa.Array) -> bytes:
    """What the hex digits of all texts say, one after the other."""
    offsets = pa.Array.from_buffers(pa.int64(), len(digits) + 1, [None, digits.buffers()[1]])
    first, stop = offsets[0].as_py(), offsets[-1].as_py()
    return bytes.fromhex(digits.buffers()[2].slice(first, stop - first).to_pybytes().decode("ascii"))


def _lists(name: str, texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Lists are few or the same, such as the columns that an update left unchanged: each text is read once."""
    known = texts.dictionary_encode()
    lists = [_parsed(text) for text in known.dictionary.to_pylist()]
    elements = [element for one in lists for element in one]
    offsets = pa.array([0, *itertools.accumulate(len(one) for one in lists)], pa.int64())
    values = _elements(name, elements, kind.value_type)
    return pa.LargeListArray.from_arrays(offsets, values, type=kind).take(known.indices)


def _parsed(text: str) -> list[str | None]:
    """The elements of a JSON list, which are texts, or null."""
    found: list[str | None] = json.loads(text)
    return found


def _elements(name: str, texts: list[str | None], kind: pa.DataType) -> pa.Array:
    """Elements read as a column of their own would be."""
    values = pa.array(texts, TEXT)
    if kind == TEXT:
        return values
    if not texts:
        return pa.nulls(0, kind)
    lines = pa.BufferOutputStream()
    options = pacsv.WriteOptions(include_header=False, quoting_style="all_valid")
    pacsv.write_csv(pa.table([values], [name]), lines, options)
    [column] = read_csv(lines.getvalue().to_pybytes(), [name], [kind])
    return column

"""Columns of a changelog that speak of the change: its sequence number, its operation, what it does not carry.

They are read into the arrays that the fold takes.
"""

import binascii
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from activities.core.faults import BadConfig, ChangeInvalid
from activities.core.fold import DELETE, INSERT, TRUNCATE, UPDATE
from activities.core.mirrors import SequenceFormat, Sequences, Words

_DIGITS = 32
_TEXT = pa.large_string()
_HEX = "^0*[0-9A-Fa-f]{1,32}$"
_DECIMAL = "^0*[0-9]{1,39}$"
_NUMBER = pa.decimal256(39, 0)
LONGEST_VALUE = 60
"""Characters of a value that a message shows."""
_MEND = (
    "roll the changelog back to before the snapshot that brought it and append what is right, or delete it there and "
    "have the mirror begin again (icefleet mirrors merge --bootstrap)"
)
"""What to do with a change that should never have come: merges pass over no snapshot, whatever is deleted later."""
_MEANINGS = {
    **dict.fromkeys(("insert", "i", "create", "c", "read", "r"), INSERT),
    **dict.fromkeys(("update", "u"), UPDATE),
    **dict.fromkeys(("delete", "d"), DELETE),
    **dict.fromkeys(("truncate", "t"), TRUNCATE),
}
_WORDS = [word for word in _MEANINGS if len(word) > 1]


def sequences_of(column: pa.ChunkedArray, written: SequenceFormat, where: str) -> Sequences:
    """The sequence numbers of changes.

    Args:
        column: Integers, decimals of scale 0, or text: hex digits in either case or decimal ones, of any number, of a
            number below 2^128.
        written: How text says a number; `auto` is hex.
        where: Which changelog and column it is.

    Raises:
        BadConfig: the column is of another type.
        ChangeInvalid: a change has no sequence number: null, less than 0, or no number.
    """
    kind = column.type
    if not (pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0) or _is_text(kind)):
        raise BadConfig(
            f"{where}: it is {kind}, which says no sequence number: that is an integer, a decimal without places "
            "behind the point, or text; mend `sequence_column` in mirrors.yaml"
        )
    if column.null_count:
        raise _invalid(where, None, "a number")
    words = [_words(chunk, written, where) for chunk in column.chunks if len(chunk)]
    if len(words) == 1:
        return Sequences(*words[0])
    nothing = np.empty(0, dtype=np.uint64)
    return Sequences(
        np.concatenate([nothing, *(high for high, _ in words)]), np.concatenate([nothing, *(low for _, low in words)])
    )


def _words(values: pa.Array, written: SequenceFormat, where: str) -> tuple[Words, Words]:
    if pa.types.is_integer(values.type):
        return _of_integers(values, where)
    if pa.types.is_decimal(values.type):
        return _of_decimals(values.cast(_NUMBER), values, where)
    if not pa.types.is_string(values.type):
        values = values.cast(_TEXT)
    return _of_decimal_text(values, where) if written == "decimal" else _of_hex(values, where)


def _of_integers(values: pa.Array, where: str) -> tuple[Words, Words]:
    if not pa.types.is_unsigned_integer(values.type):
        _refuse(values, pc.less(values, 0), where, "a number from 0")
        values = values.cast(pa.int64())
    low = values.cast(pa.uint64()).to_numpy()
    return np.zeros(len(low), dtype=np.uint64), low


def _of_decimals(numbers: pa.Array, values: pa.Array, where: str) -> tuple[Words, Words]:
    _, data = numbers.buffers()
    words = np.frombuffer(data, dtype="<u8").reshape(-1, 4)[numbers.offset : numbers.offset + len(numbers)]
    _refuse(values, pa.array(words[:, 2:].any(axis=1)), where, "a number from 0 that is less than 2^128")
    return words[:, 1].astype(np.uint64), words[:, 0].astype(np.uint64)


def _of_decimal_text(values: pa.Array, where: str) -> tuple[Words, Words]:
    _refuse(values, pc.invert(pc.match_substring_regex(values, _DECIMAL)), where, "a decimal number from 0")
    return _of_decimals(_stripped(values).cast(_NUMBER), values, where)


def _of_hex(values: pa.Array, where: str) -> tuple[Words, Words]:
    expected = "a number of up to 32 hex digits"
    if not (np.diff(_offsets(values)) == _DIGITS).all():  # all of ours have that many
        _refuse(values, pc.invert(pc.match_substring_regex(values, _HEX)), where, expected)
        values = pc.utf8_lpad(_stripped(values), _DIGITS, "0")
    try:
        words = np.frombuffer(binascii.a2b_hex(_together(values)), dtype=">u8")
    except binascii.Error as wrong:
        place = pc.index(pc.match_substring_regex(values, _HEX), value=False).as_py()
        raise _invalid(where, values[place].as_py(), expected) from wrong
    return words[::2].astype(np.uint64), words[1::2].astype(np.uint64)


def _together(values: pa.Array) -> memoryview:
    """The texts, one after the other, where Arrow has them."""
    offsets = _offsets(values)
    return memoryview(values.buffers()[2] or b"")[offsets[0] : offsets[-1]]


def _offsets(values: pa.Array) -> npt.NDArray[Any]:
    width = np.int64 if pa.types.is_large_string(values.type) else np.int32
    return np.frombuffer(values.buffers()[1], dtype=width)[values.offset : values.offset + len(values) + 1]


def _stripped(values: pa.Array) -> pa.Array:
    """Digits without zeros before them; one of nothing else keeps the last."""
    stripped = pc.utf8_ltrim(values, "0")
    return pc.if_else(pc.equal(pc.binary_length(stripped), 0), "0", stripped)


def _refuse(values: pa.Array, wrong: pa.Array, where: str, expected: str) -> None:
    place = pc.index(wrong, value=True).as_py()
    if place >= 0:
        raise _invalid(where, values[place].as_py(), expected)


def _invalid(where: str, value: object, expected: str) -> ChangeInvalid:
    return ChangeInvalid(
        f"{where}: {shown(value)} is no sequence number: it should be {expected}; {_MEND}; or mend "
        "`sequence_column` or `sequence_format` in mirrors.yaml"
    )


def operations_of(column: pa.ChunkedArray, where: str) -> npt.NDArray[np.uint8]:
    """What each change is: `INSERT`, `UPDATE`, `DELETE` or `TRUNCATE`.

    Args:
        column: Text, in any case: the words themselves or their first letters; what others write for an insert, too.
        where: Which changelog and column it is.

    Raises:
        BadConfig: the column is no text.
        ChangeInvalid: a change has another operation, or none.
    """
    if not _is_text(column.type):
        raise BadConfig(f"{where}: it is {column.type} and should be text; mend `operation_column` in mirrors.yaml")
    found = column.cast(_TEXT).combine_chunks().dictionary_encode()
    words = found.dictionary.to_pylist()
    strange = next((word for word in words if word.lower() not in _MEANINGS), None)
    if strange is not None or found.indices.null_count:
        raise ChangeInvalid(
            f"{where}: {shown(strange)} is no operation: it must be one of {', '.join(_WORDS)}, or the first letter "
            f"of one; {_MEND}; or name another `operation_column` in mirrors.yaml"
        )
    codes = np.array([_MEANINGS[word.lower()] for word in words], dtype=np.uint8)
    return codes[found.indices.to_numpy()] if words else codes


def unchanged_of(
    column: pa.ChunkedArray | None,
    names: Sequence[str],
    where: str,
    ignored: Collection[str] = (),
) -> npt.NDArray[np.bool_] | None:
    """Which values changes do not carry, as rows and `names`; None when they carry all.

    Args:
        column: list<string>; None when the changelog has none.
        names: The changelog's columns for which it matters, as lists name them.
        where: Which changelog and column it is.
        ignored: Further columns of the changelog, for which it does not matter.

    Raises:
        BadConfig: the column is no list of texts.
        ChangeInvalid: a name is none of the above, so nobody knows which value is missing.
    """
    if column is None or column.null_count == len(column):
        return None
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not _is_text(kind.value_type):
        raise BadConfig(f"{where}: it is {kind} and should be list<string>; mend `unchanged_column` in mirrors.yaml")
    lists = column.combine_chunks()
    listed = lists.flatten().cast(_TEXT).dictionary_encode()
    if not len(listed):
        return None
    nowhere = len(names)
    places = dict.fromkeys(ignored, nowhere) | {name: place for place, name in enumerate(names)}
    words = listed.dictionary.to_pylist()
    strange = next((word for word in words if word not in places), None)
    if strange is not None or listed.null_count:
        raise ChangeInvalid(
            f"{where}: a change does not carry {shown(strange)}, which is no column of the changelog; "
            f"{_MEND}; or name another `unchanged_column` in mirrors.yaml"
        )
    rows = np.repeat(np.arange(len(lists)), lists.value_lengths().fill_null(0).to_numpy())
    columns = np.array([places[word] for word in words])[listed.indices.to_numpy()]
    unchanged = np.zeros((len(lists), nowhere + 1), dtype=np.bool_)
    unchanged[rows, columns] = True
    unchanged = unchanged[:, :nowhere]
    return unchanged if unchanged.any() else None


def shown(value: object) -> str:
    """A value for a message, cut where it gets long."""
    if value is None:
        return "null"
    return (repr(value) if isinstance(value, str) else str(value))[:LONGEST_VALUE]


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))

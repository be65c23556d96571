"""Keys of rows, from Arrow columns: docs/formats/mirror-keys.md has what stands for them, which is kept for ever."""

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from activities.core import keyhash
from activities.core.faults import BadConfig, ChangeInvalid
from activities.core.fold import Places
from activities.core.mirrors import Keys
from activities.lake.changecolumns import shown

_BATCH_ROWS = 65_536
_BYTES = pa.large_binary()
_NOTHING = pa.scalar(b"", _BYTES)
_WIDEST = 38


def keys_of(columns: Sequence[pa.ChunkedArray], where: str) -> Keys:
    """The keys of rows.

    Args:
        columns: The key's columns, in the order that config has.
        where: Which changelog or mirror it is, for messages.

    Raises:
        BadConfig: there is no column, or one is of a type that is no key.
    """
    if not columns:
        raise BadConfig(
            f"{where}: rows without a key cannot be told apart; name its columns as `primary_keys` in mirrors.yaml"
        )
    if len(columns) == 1 and _is_whole(columns[0].type):
        keys = [_integer_keys(chunk) for chunk in columns[0].chunks]
    else:
        table = pa.table(list(columns), names=[str(place) for place in range(len(columns))])
        keys = [_hashed(batch.columns, where) for batch in table.to_batches(max_chunksize=_BATCH_ROWS) if len(batch)]
    if len(keys) == 1:
        return keys[0]
    nothing = np.empty(0, dtype=np.uint64)
    return Keys(
        np.concatenate([nothing, *(one.high for one in keys)]), np.concatenate([nothing, *(one.low for one in keys)])
    )


def _is_whole(kind: pa.DataType) -> bool:
    is_integer = pa.types.is_integer(kind) and kind != pa.uint64()
    return is_integer or bool(pa.types.is_boolean(kind) or (pa.types.is_temporal(kind) and not _is_span(kind)))


def _is_span(kind: pa.DataType) -> bool:
    return bool(pa.types.is_duration(kind) or pa.types.is_interval(kind))


def _whole(values: pa.Array) -> pa.Array:
    """As int64: days of dates, microseconds of times."""
    kind = values.type
    if pa.types.is_timestamp(kind):
        values = values.cast(pa.timestamp("us", kind.tz))
    elif pa.types.is_time(kind):
        values = values.cast(pa.time64("us"))
    elif pa.types.is_date(kind):
        values = values.cast(pa.date32()).cast(pa.int32())
    return values.cast(pa.int64())


def _integer_keys(chunk: pa.Array) -> Keys:
    nulls = chunk.is_null().to_numpy(zero_copy_only=False) if chunk.null_count else None
    return keyhash.integer_keys(_numbers(_whole(chunk), 0), nulls)


def _numbers(values: pa.Array, of_null: int) -> npt.NDArray[np.int64]:
    filled = values.fill_null(of_null) if values.null_count else values
    numbers: npt.NDArray[np.int64] = filled.to_numpy()
    return numbers


def _hashed(columns: Sequence[pa.Array], where: str) -> Keys:
    parts = []
    for column in columns:
        value = _canonical(column, where)
        lengths = _numbers(pc.binary_length(value), -1)
        parts += [_fixed(lengths.astype("<i8"), 8), value.fill_null(b"")]
    messages = pc.binary_join_element_wise(*parts, _NOTHING)
    _, offsets, data = messages.buffers()
    places = np.frombuffer(offsets, dtype=np.int64)[messages.offset : messages.offset + len(messages) + 1]
    return keyhash.hashed(data.to_pybytes() if data else b"", places)


def _canonical(values: pa.Array, where: str) -> pa.Array:
    """Every value as the bytes that stand for it."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _canonical(values.dictionary_decode(), where)
    if _is_whole(kind):
        return _masked(_fixed(_numbers(_whole(values), 0).astype("<i8"), 8), values)
    if pa.types.is_floating(kind):
        return _masked(_fixed(_doubles(values).astype("<f8"), 8), values)
    if pa.types.is_decimal(kind) and kind.precision <= _WIDEST:
        return _masked(_fixed(_unscaled(values.cast(pa.decimal128(_WIDEST, kind.scale))), 16), values)
    if _is_bytes(kind):
        return values.cast(_BYTES)
    raise BadConfig(
        f"{where}: a column of type {kind} cannot be part of a key; name others as `primary_keys` in mirrors.yaml"
    )


def _is_bytes(kind: pa.DataType) -> bool:
    texts = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    binaries = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    return bool(texts or binaries or pa.types.is_fixed_size_binary(kind))


def _doubles(values: pa.Array) -> npt.NDArray[np.float64]:
    doubles = np.array(values.cast(pa.float64()).fill_null(0.0).to_numpy(), dtype=np.float64)
    doubles[doubles == 0] = 0  # -0.0 as well
    doubles[np.isnan(doubles)] = np.nan
    return doubles


def _unscaled(values: pa.Array) -> npt.NDArray[np.uint64]:
    """Low and high word of decimals of up to 38 digits; what stands where there is null does not matter."""
    _, data = values.buffers()
    words = np.frombuffer(data, dtype="<u8").reshape(-1, 2)
    return words[values.offset : values.offset + len(values)]


def _fixed(words: npt.NDArray[np.generic], width: int) -> pa.Array:
    """Bytes of one width each."""
    rows = words.nbytes // width
    data = pa.py_buffer(np.ascontiguousarray(words))
    return pa.Array.from_buffers(pa.binary(width), rows, [None, data]).cast(_BYTES)


def _masked(values: pa.Array, like: pa.Array) -> pa.Array:
    return pc.if_else(like.is_null(), pa.scalar(None, _BYTES), values) if like.null_count else values


def check_twins(columns: Sequence[pa.ChunkedArray], twins: tuple[Places, Places], where: str) -> None:
    """See that rows whose keys have the same hash have the same key: nobody merges one row into another for its hash.

    Args:
        columns: As in `keys_of`.
        twins: Pairs of rows, as `Folded.twins`.
        where: Which changelog or mirror it is.

    Raises:
        ChangeInvalid: two keys have the same hash.
    """
    rows, others = twins
    if not len(rows) or (len(columns) == 1 and _is_whole(columns[0].type)):
        return
    pairs = [(column.take(pa.array(rows)), column.take(pa.array(others))) for column in columns]
    differ = functools.reduce(pc.or_, (_differ(*pair, where) for pair in pairs))
    place = pc.index(differ, value=True).as_py()
    if place >= 0:
        one, other = (", ".join(shown(side[place].as_py()) for side in sides) for sides in zip(*pairs, strict=True))
        raise ChangeInvalid(
            f"{where}: the keys ({one}) and ({other}) have the same hash of 128 bits, and would become one row; tell "
            "us, and name a further column in `primary_keys` in mirrors.yaml and have the mirror begin again "
            "(icefleet mirrors merge --bootstrap)"
        )


def _differ(values: pa.ChunkedArray, others: pa.ChunkedArray, where: str) -> pa.Array:
    one, other = _canonical(values.combine_chunks(), where), _canonical(others.combine_chunks(), where)
    return pc.or_(pc.fill_null(pc.not_equal(one, other), fill_value=False), pc.xor(one.is_null(), other.is_null()))

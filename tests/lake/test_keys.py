"""Cases 14-19: which rows have the same key, whatever their columns' types."""

import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.core import keyhash
from activities.core.faults import BadConfig, ChangeInvalid
from activities.core.fold import INSERT, Changes, fold
from activities.core.mirrors import Sequences
from activities.lake.keys import check_twins, keys_of

WHERE = "changelog cdc.orders"


def pairs(*columns):
    keys = keys_of([pa.chunked_array([one]) if isinstance(one, pa.Array) else one for one in columns], WHERE)
    return [f"{high:016x}{low:016x}" for high, low in zip(keys.high.tolist(), keys.low.tolist(), strict=True)]


def test_keys_have_the_words_that_they_have_always_had():
    """Golden values of version 1, one for each kind of column."""
    moment = datetime(2026, 11, 22, 2, 15, 11, 123456, tzinfo=UTC)
    golden = {
        "810879608e4259cc0000000000000000": pa.array([42]),
        "77993ba809f849470000000000000000": pa.array([date(2026, 11, 22)]),
        "f2550efa9a116ba20000000000000000": pa.array([time(2, 15, 11, 123456)]),
        "5335058f300b48370000000000000000": pa.array([moment]),
        "b456bcfc34c2cb2c0000000000000000": pa.array([True]),
        "cfc9162419b034283221a83d8ccfd77b": pa.array([1.5]),
        "6057acd83e70741030ebaf598c6cb8a1": pa.array([Decimal("1.50")], pa.decimal128(9, 2)),
        "db99c420bef3f7752eef44d597e4d85f": pa.array(["Ångström"]),
        "50d5ac10dffeb3155e8954263a33c6f3": pa.array([b"\x00\xff"]),
        "da0eca701d4f5a8b9638b22aa151f7f4": pa.array([uuid.UUID(int=1).bytes], pa.uuid()),
    }
    assert {pairs(column)[0]: str(column.type) for column in golden.values()} == {
        words: str(column.type) for words, column in golden.items()
    }
    several = [pa.array([1]), pa.array(["a"]), pa.array([None], pa.string())]
    assert pairs(*several) == ["970f67cc46fa90169b236fbbf1e14fad"]


def test_a_key_is_hashed_as_its_format_says():
    """By plain Python: of each column its length, then its bytes."""
    told = [part.to_bytes(8, "little", signed=True) for part in (8, 1, 5, -1, 16)]
    length_of_number, number, length_of_text, null, length_of_uuid = told
    message = (
        length_of_number + number + length_of_text + "Ålan".encode() + null + length_of_uuid + uuid.UUID(int=1).bytes
    )
    columns = [
        pa.array([1]),
        pa.array(["Ålan"]),
        pa.array([None], pa.binary()),
        pa.array([uuid.UUID(int=1).bytes], pa.uuid()),
    ]
    assert pairs(*columns) == [blake2b(message, digest_size=16).hexdigest()]


def test_widening_a_column_keeps_its_keys():
    """Case 18: alone and among others."""
    other = pa.array(["x", "y", "z"])
    for narrow, wide in [
        (pa.array([1, -1, None], pa.int32()), pa.int64()),
        (pa.array([1.5, -0.0, None], pa.float32()), pa.float64()),
        (pa.array([Decimal("1.50"), Decimal("-2.25"), None], pa.decimal128(9, 2)), pa.decimal128(38, 2)),
    ]:
        assert pairs(narrow) == pairs(narrow.cast(wide))
        assert pairs(narrow, other) == pairs(narrow.cast(wide), other)


def test_null_is_neither_zero_nor_an_empty_text():
    """Case 14: alone and among others."""
    for values in (pa.array([None, 0, 1]), pa.array([None, "", "\x00", "null"]), pa.array([None, b"", b"\x00"])):
        assert len(set(pairs(values))) == len(values)
        assert len(set(pairs(values, pa.array([1] * len(values))))) == len(values)
    assert pairs(pa.array([None, None], pa.int64()))[0] == pairs(pa.array([None, None], pa.int64()))[1]


def test_parts_of_a_key_do_not_run_into_each_other():
    """Case 15."""
    first, second = ["a|b", "a", "", "a|b|c", "a\x00", "a", None], ["c", "b|c", "a|b|c", "", "b", "\x00b", "a|b|c"]
    assert len(set(pairs(pa.array(first), pa.array(second)))) == len(first)


def test_floats_have_one_zero_and_one_nan():
    """Case 17."""
    nans = np.array([0x7FF8000000000000, 0xFFF8000000000001, 0x7FF0000000000001], dtype=np.uint64).view(np.float64)
    zero, minus, *rest = pairs(pa.array([0.0, -0.0, *nans, np.inf, 1.0]))
    assert zero == minus
    assert len({zero, *rest[:3]}) == 2
    assert len({zero, *rest}) == 4


def test_texts_are_equal_when_their_bytes_are():
    """Case 17: other normal forms are other keys, as they are at the source."""
    assert len(set(pairs(pa.array(["\u00e9", "e\u0301"])))) == 2


def test_a_uuid_and_a_decimal_are_known_by_their_value():
    """Case 17."""
    ids = [uuid.UUID(int=1).bytes, uuid.UUID(int=256).bytes, None]
    assert pairs(pa.array(ids, pa.uuid())) == pairs(pa.array(ids, pa.binary(16))) == pairs(pa.array(ids))
    assert len(set(pairs(pa.array(ids, pa.uuid())))) == 3
    amounts = pa.array([Decimal("1.50"), Decimal("1.5"), Decimal("15.0"), Decimal("-1.5")], pa.decimal128(9, 2))
    same, also, *others = pairs(amounts)
    assert (same, len({same, *others})) == (also, 3)


def test_how_arrow_holds_a_column_does_not_matter():
    values = ["a", None, "bc", "d" * 300, "", "ü"]
    for column in (pa.array(values), pa.array(list(range(6)), pa.int64()), pa.array([1.0, None, 2.0, 3.0, 4.0, 5.0])):
        whole = pairs(column)
        cut = pa.chunked_array([column.slice(0, 2), column.slice(2, 0), column.slice(2, 1), column.slice(3)])
        assert pairs(cut) == whole
        both = pairs(column, column)
        assert pairs(cut, pa.chunked_array([column.slice(0, 1), column.slice(1)])) == both
    text = pa.array(values)
    for kind in (pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.binary()):
        assert pairs(text.cast(kind)) == pairs(text)


def test_no_rows_have_no_keys():
    for kind in (pa.int64(), pa.string(), pa.uuid(), pa.float64(), pa.decimal128(9, 2)):
        assert pairs(pa.chunked_array([], kind)) == pairs(pa.array([], kind)) == []
        assert pairs(pa.chunked_array([], kind), pa.chunked_array([], kind)) == []


VALUES = st.tuples(st.none() | st.text(max_size=3), st.none() | st.integers(-2, 2), st.none() | st.binary(max_size=2))


@given(st.lists(VALUES, max_size=20))
def test_rows_have_the_same_key_exactly_when_their_values_are_the_same(rows):
    columns = [
        pa.array([row[place] for row in rows], kind)
        for place, kind in enumerate([pa.string(), pa.int32(), pa.binary()])
    ]
    of = dict(zip(pairs(*columns), rows, strict=True))
    assert len(of) == len(set(rows))
    assert [of[key] for key in pairs(*columns)] == rows


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.int64()), pa.struct({"a": pa.int64()}), pa.map_(pa.string(), pa.string()), pa.null()]
)
def test_what_is_no_key_is_refused_with_what_to_do(kind):
    """Case 19: alone and among others."""
    with pytest.raises(BadConfig, match=r"changelog cdc\.orders: a column of type .* cannot be part of a key; name"):
        pairs(pa.array([None], kind), pa.array([1]))
    with pytest.raises(BadConfig, match=r"cannot be part of a key"):
        pairs(pa.array([None], kind))


def test_rows_without_a_key_are_refused_with_what_to_do():
    """Case 19."""
    with pytest.raises(BadConfig, match=r"changelog cdc\.orders: rows without a key .*`primary_keys` in mirrors\.yaml"):
        pairs()


def folded(*columns):
    rows = len(columns[0])
    numbers = Sequences(np.zeros(rows, dtype=np.uint64), np.arange(rows, dtype=np.uint64))
    return fold(Changes(keys_of(columns, WHERE), numbers, np.full(rows, INSERT, dtype=np.uint8)))


def test_two_keys_with_one_hash_are_refused_with_both(monkeypatch):
    """Case 16: with a hash that knows only how long a key is."""
    monkeypatch.setattr(keyhash, "_digest", lambda message: len(message).to_bytes(16, "big"))
    for column, message in [
        (["anna", "otto", "eva"], r"changelog cdc\.orders: the keys \('anna'\) and \('otto'\) have the same hash"),
        (["", "eva", None], r"the keys \(''\) and \(null\) have the same hash"),
        (["anna", "anna", "eva", "uwe"], r"the keys \('eva'\) and \('uwe'\) have the same hash"),
    ]:
        names = pa.chunked_array([column])
        with pytest.raises(ChangeInvalid, match=message):
            check_twins([names], folded(names).twins, WHERE)
    names, numbers = pa.chunked_array([["anna", "anna"]]), pa.chunked_array([[1, 2]])
    with pytest.raises(ChangeInvalid, match=r"the keys \('anna', 1\) and \('anna', 2\)"):
        check_twins([names, numbers], folded(names, numbers).twins, WHERE)


def test_changes_of_the_same_key_are_no_collision():
    """Case 16: whatever ways there are to write it."""
    zeros, names = pa.chunked_array([[0.0, -0.0, None, None, np.nan]]), pa.chunked_array([["", "", "a", "a", None]])
    assert len(folded(zeros, names)) == 3
    for columns in ([zeros, names], [zeros], [names], [pa.chunked_array([[1, 1, 2, 2, 1]])]):
        check_twins(columns, folded(*columns).twins, WHERE)

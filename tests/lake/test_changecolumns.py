"""Cases 11, 52: what columns of a changelog say of its changes, as integers or text, ours or others'."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.core.faults import BadConfig, ChangeInvalid
from activities.core.fold import DELETE, INSERT, TRUNCATE, UPDATE
from activities.lake.changecolumns import operations_of, sequences_of, unchanged_of

TEXT = pa.string()
WHERE = "changelog cdc.orders: column seq"
LARGEST = 2**128 - 1


def numbers(column, written="auto"):
    column = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    found = sequences_of(column, written, WHERE)
    return [high << 64 | low for high, low in zip(found.high.tolist(), found.low.tolist(), strict=True)]


@given(st.lists(st.integers(0, LARGEST), max_size=20), st.data())
def test_a_number_is_the_same_however_it_is_written(values, data):
    """Case 11: hex in any case and length, decimal text, with zeros before it or without."""
    widths = data.draw(st.lists(st.integers(0, 40), min_size=len(values), max_size=len(values)))
    padded = [f"{value:0{width}x}" for value, width in zip(values, widths, strict=True)]
    for texts in ([f"{value:032x}" for value in values], padded, [text.upper() for text in padded]):
        for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
            assert numbers(pa.array(texts, pa.string()).cast(kind)) == values
    decimal = [f"{value:0{width}d}" for value, width in zip(values, widths, strict=True)]
    assert numbers(pa.array(decimal, pa.string()), "decimal") == values


@pytest.mark.parametrize(
    "kind",
    [pa.int8(), pa.int32(), pa.int64(), pa.uint64(), pa.decimal128(10, 0), pa.decimal128(38, 0), pa.decimal256(40)],
)
@pytest.mark.parametrize("written", ["auto", "hex", "decimal"])
def test_integers_and_decimals_are_what_they_are(kind, written):
    """Case 11."""
    values = [0, 1, 10, 127]
    assert (
        numbers(pa.array([Decimal(one) for one in values] if pa.types.is_decimal(kind) else values, kind), written)
        == values
    )


def test_numbers_of_any_type_are_whole():
    assert numbers(pa.array([2**63 - 1])) == [2**63 - 1]
    assert numbers(pa.array([2**64 - 1], pa.uint64())) == [2**64 - 1]
    assert numbers(pa.array([Decimal(10**38 - 1)], pa.decimal128(38, 0))) == [10**38 - 1]


def test_how_arrow_holds_sequence_numbers_does_not_matter():
    for column, values in [
        (pa.array([f"{one:032x}" for one in (3, LARGEST, 5, 2**64)]), [3, LARGEST, 5, 2**64]),
        (pa.array([1, 2, 3, 4]), [1, 2, 3, 4]),
        (pa.array([Decimal(one) for one in (1, 2, 3, 4)], pa.decimal128(9, 0)), [1, 2, 3, 4]),
    ]:
        cut = [column.slice(0, 1), column.slice(1, 0), column.slice(1, 2), column.slice(3)]
        assert numbers(pa.chunked_array(cut)) == values
        assert numbers(pa.chunked_array([], column.type)) == numbers(column.slice(0, 0)) == []


@pytest.mark.parametrize(
    ("value", "written", "expected"),
    [
        ("", "auto", "hex digits"),
        ("-1", "auto", "hex digits"),
        ("0x1", "auto", "hex digits"),
        (" 1", "auto", "hex digits"),
        ("1\n", "auto", "hex digits"),
        ("g" * 32, "hex", "hex digits"),
        ("ä" * 16, "hex", "hex digits"),
        ("1" * 33, "hex", "hex digits"),
        ("1f", "decimal", "a decimal number"),
        ("-1", "decimal", "a decimal number"),
        ("1.0", "decimal", "a decimal number"),
        ("٣", "decimal", "a decimal number"),
        (str(LARGEST + 1), "decimal", "less than 2"),
        ("1" * 40, "decimal", "a decimal number"),
        (-1, "auto", "a number from 0"),
        (Decimal(-1), "auto", "less than 2"),
        (None, "auto", "a number"),
    ],
)
def test_what_is_no_sequence_number_is_refused_and_never_0(value, written, expected):
    """Case 11: the message has changelog, column, value and way out."""
    good = {str: "1", int: 1, Decimal: Decimal(1)}.get(type(value), 1)
    with pytest.raises(ChangeInvalid) as refused:
        numbers(pa.array([good, value]), written)
    message = str(refused.value)
    shown = repr(value) if isinstance(value, str) else "null" if value is None else str(value)
    assert message.startswith(f"{WHERE}: {shown[:60]} is no sequence number")
    assert expected in message
    assert "mirrors.yaml" in message


@pytest.mark.parametrize("kind", [pa.float64(), pa.timestamp("us"), pa.decimal128(9, 2), pa.binary(), pa.bool_()])
def test_a_column_of_another_type_says_no_sequence_number(kind):
    with pytest.raises(BadConfig, match=r"changelog cdc\.orders: column seq: it is .*, which says no sequence number"):
        numbers(pa.nulls(1, kind))


def operations(*texts, kind=TEXT):
    return operations_of(pa.chunked_array([pa.array(list(texts), pa.string()).cast(kind)]), WHERE).tolist()


def test_operations_are_known_by_our_words_and_others_in_any_case():
    words = {
        INSERT: ["insert", "INSERT", "I", "i", "c", "create", "Create", "r", "READ"],
        UPDATE: ["update", "Update", "u", "U"],
        DELETE: ["delete", "DELETE", "d"],
        TRUNCATE: ["truncate", "T", "t"],
    }
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        for operation, texts in words.items():
            assert operations(*texts, kind=kind) == [operation] * len(texts)
        assert operations("u", "i", "u", "d", kind=kind) == [UPDATE, INSERT, UPDATE, DELETE]
    assert operations() == []


@pytest.mark.parametrize("word", ["upsert", "", " insert", None, "x" * 100])
def test_an_unknown_operation_is_refused_with_what_to_do(word):
    with pytest.raises(ChangeInvalid) as refused:
        operations("insert", word)
    assert str(refused.value).startswith(f"{WHERE}: {'null' if word is None else repr(word)[:60]} is no operation")
    with pytest.raises(BadConfig, match="operation_column"):
        operations_of(pa.chunked_array([pa.array([1])]), WHERE)


def unchanged(lists, names=("a", "b", "c"), kind=None, **more):
    column = pa.chunked_array([pa.array(lists, kind or pa.list_(pa.string()))])
    found = unchanged_of(column, names, WHERE, **more)
    return None if found is None else found.astype(int).tolist()


def test_what_changes_do_not_carry_is_known_by_row_and_column():
    """Case 52."""
    rows = [[1, 0, 1], [0, 0, 0], [0, 0, 0], [0, 1, 0]]
    for kind in (pa.list_(pa.string()), pa.large_list(pa.large_string())):
        assert unchanged([["c", "a"], None, [], ["b", "b"]], kind=kind) == rows
    column = pa.chunked_array([pa.array([["b"], ["a", "c"], None]).slice(1), pa.array([[], ["b"]])])
    assert unchanged_of(column, ("a", "b", "c"), WHERE).astype(int).tolist() == rows


def test_changes_that_carry_everything_cost_no_table():
    assert unchanged_of(None, ("a",), WHERE) is None
    assert unchanged([None, None]) is unchanged([[], None]) is unchanged([]) is None


def test_columns_that_do_not_matter_may_be_named():
    """Case 52: a mirror may lack columns of its changelog."""
    assert unchanged([["b", "meta"], ["meta"]], ignored=["meta"]) == [[0, 1, 0], [0, 0, 0]]
    assert unchanged([["meta"]], ignored=["meta"]) is None


@pytest.mark.parametrize("name", ["zz", None])
def test_a_name_that_is_no_column_is_refused(name):
    """Case 52: or a value would be null that is not."""
    with pytest.raises(ChangeInvalid, match=r"does not carry ('zz'|null), which is no column of the changelog"):
        unchanged([["a"], [name]])
    with pytest.raises(BadConfig, match="unchanged_column"):
        unchanged_of(pa.chunked_array([pa.array([1])]), ("a",), WHERE)


def test_sequence_numbers_of_ours_are_read_together():
    """A hundred thousand in one go: a step for each would take a hundred times as long."""
    values = np.arange(100_000)
    found = sequences_of(
        pa.chunked_array([pa.array([f"{one:016x}{one % 7:016x}" for one in values.tolist()])]), "auto", WHERE
    )
    assert (found.high == values).all()
    assert (found.low == values % 7).all()

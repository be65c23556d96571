"""Comparing a range of keys: whatever is wrong with a mirror or its index is found, and the key named."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.core.faults import BadRequest
from activities.core.iceberg_types import parse_iceberg
from activities.core.index import ordered
from activities.core.keyranges import KeyRanges
from activities.core.mirrors import Entries, Keys, MirrorConfig, Sequences
from activities.lake.checksums import checksum
from activities.lake.keys import keys_of
from activities.lake.mirrorcompare import FILE, ROW, Terms, compare
from activities.lake.spilling import Spill

CONFIG = MirrorConfig("cdc.orders_changelog", "shop.orders", ("id",))
KINDS = {"cdc_sequence_number": "string", "id": "long", "a": "string"}
TYPES = {name: parse_iceberg(kind) for name, kind in KINDS.items()}
SHAPE = pa.schema(
    {
        "cdc_operation": pa.large_string(),
        "cdc_unchanged": pa.large_list(pa.large_string()),
        "cdc_sequence_number": pa.large_string(),
        "id": pa.int64(),
        "a": pa.large_string(),
    }
)
HELD = pa.schema({**{one.name: one.type for one in list(SHAPE)[2:]}, FILE: pa.uint32(), ROW: pa.uint32()})


def text(number):
    return f"{number:032x}"


def changes(*events):
    """(operation, number, id, value); a value of None: it is unchanged."""
    rows = [
        (operation, ["a"] if value is None else None, text(number), key, value)
        for operation, number, key, value in events
    ]
    return pa.Table.from_pylist([dict(zip(SHAPE.names, row, strict=True)) for row in rows], SHAPE)


def held(*rows):
    """(number, id, value), the position of each being its place."""
    found = [(text(number), key, value, 1, place) for place, (number, key, value) in enumerate(rows)]
    return pa.Table.from_pylist([dict(zip(HELD.names, row, strict=True)) for row in found], HELD)


def entries_of(rows):
    numbers = [int(number, 16) for number in rows.column("cdc_sequence_number").to_pylist()]
    sequences = Sequences(np.zeros(len(rows), np.uint64), np.array(numbers, np.uint64))
    file, row = (rows.column(name).to_numpy() for name in (FILE, ROW))
    return ordered(Entries(keys_of([rows.column("id")], "here"), file, row, sequences))


def compared(events, rows, *, entries=None, truncated="", horizon=""):
    terms = Terms(CONFIG, TYPES, SHAPE.names, "cdc_unchanged", truncated, horizon)
    return compare(events, rows, terms, entries)


EVENTS = changes(
    ("insert", 1, 1, "x"), ("insert", 2, 2, "y"), ("update", 3, 1, "z"), ("delete", 4, 2, "y"), ("insert", 5, 3, "w")
)
RIGHT = held((3, 1, "z"), (5, 3, "w"))


def test_equal_rows_have_equal_checksums_in_any_order():
    found = compared(EVENTS, RIGHT, entries=entries_of(RIGHT))
    assert (found.mirror, found.differing, found.examples, found.index) == (found.expected, 0, (), ())
    turned = compared(EVENTS, held((5, 3, "w"), (3, 1, "z")))
    assert (turned.mirror, turned.expected) == (found.mirror, found.expected)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(3, 1, "z")], "id=3: the mirror lacks it; 5 brought it"),
        ([(3, 1, "z"), (5, 3, "w"), (2, 2, "y")], "id=2: the mirror has it, and 4 deleted it"),
        ([(3, 1, "z"), (5, 3, "w"), (2, 7, "y")], "id=7: the mirror has it, and no change brought it"),
        ([(1, 1, "x"), (5, 3, "w")], "id=1: the mirror has the row of 1, and 3 is the newest"),
        ([(3, 1, "x"), (5, 3, "w")], "id=1: a differ from what 3 brought"),
        ([(3, 1, "z"), (5, 3, "w"), (5, 3, "w")], "id=3: the mirror has more than one row of it"),
    ],
    ids=["missing", "deleted", "unknown", "old", "wrong", "twice"],
)
def test_what_is_wrong_with_a_key_is_said(rows, said):
    found = compared(EVENTS, held(*rows))
    assert (found.differing, found.mirror == found.expected) == (1, False)
    for number in range(1, 6):
        said = said.replace(f"of {number},", f"of {text(number)},").replace(f" {number} ", f" {text(number)} ")
    assert found.examples == (said,)


def test_a_truncate_and_what_was_refused_are_no_differences():
    assert compared(EVENTS, held((5, 3, "w")), truncated=text(5)).differing == 0
    found = compared(EVENTS, held((3, 1, "z")), horizon=text(5))
    assert (found.differing, found.refused, found.mirror) == (0, 1, found.expected)


def test_values_that_changes_do_not_carry_come_from_older_changes_or_are_taken_from_the_mirror():
    """Case 52: also of a row that had another key before, and of one that is older than the changelog."""
    events = changes(
        ("insert", 1, 1, "x"),
        ("update", 2, 1, None),
        ("delete", 3, 1, None),
        ("insert", 4, 2, None),  # its key was 1
        ("update", 5, 9, None),  # the changelog does not say what it was
    )
    assert compared(events, held((4, 2, "x"), (5, 9, "old"))).differing == 0
    found = compared(events, held((4, 2, "y"), (5, 9, "old")))
    assert found.examples == (f"id=2: a differ from what {text(4)} brought",)


def test_values_that_changes_do_not_carry_are_found_between_keys_that_are_deleted():
    gone = [("delete", 100 + key, key, "x") for key in range(0, 40, 2)]
    there = [("update", 200 + key, key, None) for key in range(1, 40, 2)]
    brought = [("insert", 10 + key, key, f"v{key}") for key in range(1, 40, 4)]
    rows = held(*((200 + key, key, f"v{key}") for key in range(1, 40, 2)))
    assert compared(changes(*brought, *gone, *there), rows).differing == 0


def test_times_of_day_are_compared():
    kind = {"at": parse_iceberg("time")}
    noon, other = (pa.table({"at": pa.array([at, None], pa.time64("us"))}) for at in (43_200_000_000, 1))
    same, different = (checksum(table.to_batches(), kind) for table in (noon, other))
    assert checksum(noon.to_batches(), kind) == same != different


def test_an_index_that_does_not_fit_is_said():
    """Invariant I3: of every live row exactly one entry, and of every entry a live row."""
    elsewhere = entries_of(held((3, 1, "z"), (4, 8, ""), (5, 3, "w")))
    assert set(compared(EVENTS, RIGHT, entries=elsewhere).index) == {
        "id=3: the index has no entry for row 1 of file 1",
        "an entry names row 1 of file 1, whose key is not there",
    }
    without = entries_of(held((3, 1, "z")))
    assert compared(EVENTS, RIGHT, entries=without).index == ("id=3: the index has no entry for row 1 of file 1",)
    assert compared(EVENTS, RIGHT, entries=entries_of(held())).index != ()
    older = entries_of(held((2, 1, "z"), (5, 3, "w")))
    assert compared(EVENTS, RIGHT, entries=older).index == ("id=1: the index has no entry for row 0 of file 1",)


EVENT = st.tuples(
    st.sampled_from(["insert", "update", "delete"]), st.integers(1, 40), st.integers(0, 8), st.sampled_from("xyz")
)


@given(st.lists(EVENT, max_size=40), st.randoms(use_true_random=False))
def test_a_naive_fold_is_equal_and_one_with_a_row_less_is_not(events, random):
    """Invariant I1."""
    state = {}
    for operation, number, key, value in events:
        if key not in state or number > state[key][0]:
            state[key] = (number, key, None if operation == "delete" else value)
    rows = [row for row in state.values() if row[2] is not None]
    random.shuffle(rows)
    found = compared(changes(*events), held(*rows), entries=entries_of(held(*rows)))
    assert (found.mirror, found.differing, found.index) == (found.expected, 0, ())
    if rows:
        assert compared(changes(*events), held(*rows[1:])).differing == 1


# --- ranges ---------------------------------------------------------------------------------------------------


@given(st.integers(1, 200), st.lists(st.integers(0, 2**64 - 1), max_size=50), st.data())
def test_every_key_lies_in_the_range_whose_bounds_hold_it(count, numbers, data):
    ranges = KeyRanges(count, tuple(range(count)))
    edges = [edge for one in range(count) for edge in ranges.bounds(one) if edge is not None]
    numbers += [edge + step for edge in edges[:20] for step in (-1, 0) if 0 <= edge + step < 2**64]
    high = np.array(numbers, np.uint64)
    for number, found in zip(numbers, ranges.of(Keys(high, np.zeros_like(high))), strict=True):
        first, stop = ranges.bounds(int(found))
        assert first <= number < (2**64 if stop is None else stop)
        assert 0 <= found < count


def test_samples_are_some_ranges_the_same_for_the_same_seed():
    assert KeyRanges.pick(64, 0, 1).chosen == KeyRanges.pick(64, 64, 2).chosen == tuple(range(64))
    assert KeyRanges.pick(64, 3, 5) == KeyRanges.pick(64, 3, 5)
    assert len({KeyRanges.pick(64, 3, seed).chosen for seed in range(20)}) > 10
    parted = KeyRanges.pick(4, 1, 3, parts=3)
    assert (parted.count, parted.chosen[0] % 3, len(parted.chosen)) == (12, 0, 3)


def test_a_disk_that_is_nearly_full_is_not_filled(tmp_path, monkeypatch):
    monkeypatch.setattr("activities.lake.spilling.RUN_BYTES", 2000)
    shape = pa.schema({"id": pa.int64()})
    spill = Spill(tmp_path / "rows", shape, KeyRanges.pick(8, 0, 1), ["id"], "here")
    spill.add(pa.table({"id": range(300)}, shape))
    written = list(tmp_path.iterdir())
    monkeypatch.setattr("activities.lake.spilling.LEAST_FREE", 2**60)
    with pytest.raises(BadRequest, match=r"^here: comparing takes 0\.0 GB more .* beside 1152921504\.6 GB for others"):
        spill.add(pa.table({"id": range(300)}, shape))
    assert list(tmp_path.iterdir()) == written != []


def test_rows_come_back_by_range_in_their_order_and_few_are_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("activities.lake.spilling.RUN_BYTES", 2000)
    ranges = KeyRanges.pick(8, 3, 1)
    shape = pa.schema({"id": pa.int64(), "n": pa.int64()})
    spill = Spill(tmp_path / "rows", shape, ranges, ["id"], "here")
    for first in range(0, 3000, 100):
        spill.add(pa.table({"id": [n % 500 for n in range(first, first + 100)], "n": range(first, first + 100)}, shape))
        assert spill._bytes <= 2000 + 1600
    found = [spill.read(number) for number in ranges.chosen]
    assert len(list(tmp_path.iterdir())) > 5
    every = pa.table({"id": [n % 500 for n in range(3000)], "n": range(3000)}, shape)
    numbers = ranges.of(keys_of([every.column("id")], "here"))
    for number, rows in zip(ranges.chosen, found, strict=True):
        assert rows.equals(every.filter(pa.array(numbers == number)).combine_chunks()), number
    assert spill.read(next(n for n in range(8) if n not in ranges.chosen)).num_rows == 0

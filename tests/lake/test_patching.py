"""Cases 1-10, 13, 20, 52, 53 together: a table that people change, against what a batch of its changelog brings."""

import uuid
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activities.core.faults import ChangeInvalid
from activities.core.fold import Changes, fold
from activities.core.sequences import newer, sequence_text
from activities.core.unchanged import resolve
from activities.lake.changecolumns import operations_of, sequences_of, unchanged_of
from activities.lake.keys import check_twins, keys_of
from activities.lake.patching import patched

WHERE = "changelog cdc.orders"
NAMES = ("id", "cdc_sequence_number", "a", "b", "c")
SCHEMA = pa.schema(
    {
        "cdc_operation": pa.string(),
        "cdc_sequence_number": pa.string(),
        "cdc_unchanged": pa.list_(pa.string()),
        "id": pa.string(),
        "a": pa.int64(),
        "b": pa.list_(pa.string()),
        "c": pa.uuid(),
    }
)


@dataclass
class Source:
    """A table, and the changelog of what was done to it; no value is ever there twice."""

    rows: dict = field(default_factory=dict)
    """Key → row, with the sequence number of its last change."""
    log: list = field(default_factory=list)
    states: list = field(default_factory=list)
    """After each change: rows, tombstones, and the newest truncate."""
    tombstones: dict = field(default_factory=dict)
    truncated: str = ""
    values: int = 0
    number: int = 2**64 - 8  # so that numbers cross the end of a word

    def new(self, column):
        self.values += 1
        fresh = {"a": self.values, "b": [str(self.values)], "c": uuid.UUID(int=self.values)}[column]
        return None if self.values % 5 == 0 else fresh  # null is a value

    def write(self, operation, key, unchanged=(), row=None):
        self.number += 1
        text = sequence_text(self.number >> 64, self.number % 2**64)
        told = {"cdc_operation": operation, "cdc_sequence_number": text, "cdc_unchanged": sorted(unchanged) or None}
        self.log.append(told | {"id": key} | {column: (row or {}).get(column) for column in "abc"})
        for column in unchanged:
            self.log[-1][column] = None
        if operation == "truncate":
            self.rows, self.truncated = {}, text
        elif operation == "delete":
            self.rows = {other: kept for other, kept in self.rows.items() if other != key}
            self.tombstones = self.tombstones | {key: text}
        else:
            self.rows = self.rows | {key: row | {"id": key, "cdc_sequence_number": text}}
            self.tombstones = {other: kept for other, kept in self.tombstones.items() if other != key}
        self.states.append((self.rows, self.tombstones, self.truncated))

    def do(self, what, key, other, unchanged):
        there = self.rows.get(key)
        if what == "insert" and there is None:
            self.write("insert", key, (), {column: self.new(column) for column in "abc"})
        elif what == "update" and there is not None:
            kept = {column: there[column] if column in unchanged else self.new(column) for column in "abc"}
            self.write("update", key, unchanged, kept)
        elif what == "move" and there is not None and other not in self.rows:
            kept = {column: there[column] if column in unchanged else self.new(column) for column in "abc"}
            self.write("delete", key)
            self.write("insert", other, unchanged, kept)
        elif what == "delete":  # also of a row that is not there
            self.write("delete", key)
        elif what == "truncate":
            self.write("truncate", None)


@dataclass
class Found:
    """What a mirror has of folded keys."""

    known: np.ndarray
    live: np.ndarray
    sequences: object


def merged(log, state, *, stale):
    """The rows of a mirror in some state once a batch was merged, with what that says of its truncates."""
    rows, tombstones, truncated = state
    # A row that a truncate took may still be in an index.
    entries = {key: row["cdc_sequence_number"] for key, row in (stale | rows).items()} | tombstones
    table = pa.Table.from_pylist(log, schema=SCHEMA)
    columns = [table["id"]]
    changes = Changes(
        keys_of(columns, WHERE),
        sequences_of(table["cdc_sequence_number"], "auto", WHERE),
        operations_of(table["cdc_operation"], WHERE),
    )
    folded = fold(changes, truncated)
    check_twins(columns, folded.twins, WHERE)
    keys = table["id"].take(pa.array(folded.rows)).to_pylist()
    known = np.array([key in entries for key in keys], dtype=np.bool_)
    live = np.array([key in entries and key not in tombstones for key in keys], dtype=np.bool_)
    numbers = pa.chunked_array([pa.array([entries.get(key, "0") for key in keys], pa.string())])
    mirror = Found(known, live, sequences_of(numbers, "auto", WHERE))
    unchanged = unchanged_of(table["cdc_unchanged"], NAMES, WHERE)
    sources = resolve(changes, folded, unchanged, mirror)
    wins = ~known | newer(folded.sequences, mirror.sequences)
    finals = np.flatnonzero(wins & ~folded.deletes)
    old = [rows[keys[key]] for key in sources.of(finals).old_keys]
    old_rows = pa.Table.from_pylist(old, schema=pa.schema([SCHEMA.field(name) for name in NAMES])) if old else None
    after = {key: row for key, row in rows.items() if row["cdc_sequence_number"] >= folded.truncated}
    for key in np.array(keys, dtype=object)[wins & folded.deletes]:
        after.pop(key, None)
    for some in (finals[::2], finals[1::2]):  # wide rows are written in slices
        for row in patched(
            table, folded, some, sources, NAMES, old_rows_of(sources, some, finals, old_rows), WHERE
        ).to_pylist():
            after[row["id"]] = {name: row[name] for name in NAMES}
    return after, folded.truncated


def old_rows_of(sources, some, finals, old_rows):
    """Of the rows of the mirror that all finals need, those that some need."""
    if old_rows is None:
        return None
    of_all, of_some = sources.of(finals).old_keys, sources.of(some).old_keys
    return old_rows.take(pa.array(np.searchsorted(of_all, of_some)))


KEYS = st.sampled_from(["", "a", "b", "ä"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["insert"] * 3 + ["update"] * 4 + ["move"] * 3 + ["delete"] * 2 + ["truncate"]),
        KEYS,
        KEYS,
        st.sets(st.sampled_from("abc")),
    ),
    max_size=30,
)


@given(STEPS, st.data())
@settings(max_examples=150, deadline=None)
def test_a_mirror_has_the_sources_rows_whatever_part_of_the_changelog_comes_again_and_in_any_order(steps, data):
    """I1 and I2 with cases 1-10, 13, 20, 52, 53: the batch begins anywhere before what is merged, in any order."""
    source = Source()
    for step in steps:
        source.do(*step)
    ends = [
        end
        for end in range(len(source.log) + 1)
        if end in {0, len(source.log)}
        or not (source.log[end]["cdc_operation"] == "insert" and source.log[end]["cdc_unchanged"])
    ]
    end = data.draw(st.sampled_from(ends), label="merged up to")
    begin = data.draw(st.integers(0, end), label="read from")
    batch = source.log[begin:]
    again = data.draw(st.lists(st.sampled_from(batch), max_size=5) if batch else st.just([]), label="again")
    batch = data.draw(st.permutations(batch + again), label="batch")
    state = source.states[end - 1] if end else ({}, {}, "")
    gone = {
        key: row for rows, _, _ in source.states[: end and end - 1] for key, row in rows.items() if key not in state[0]
    }

    rows, truncated = merged(batch, state, stale=gone if data.draw(st.booleans(), label="stale") else {})

    assert rows == source.rows
    assert truncated == source.truncated


def small(**columns):
    """A batch of updates of one key each."""
    rows = len(next(iter(columns.values())))
    table = pa.table({"id": list(range(rows)), **columns})
    numbers = sequences_of(pa.chunked_array([list(range(1, rows + 1))]), "auto", WHERE)
    changes = Changes(keys_of([table["id"]], WHERE), numbers, np.ones(rows, dtype=np.uint8))
    return table, changes, fold(changes)


def known(count, number=0):
    return Found(
        np.ones(count, np.bool_),
        np.ones(count, np.bool_),
        sequences_of(pa.chunked_array([[number] * count]), "auto", ""),
    )


def test_old_values_become_what_the_column_is_now_and_are_null_where_it_is_new():
    """Cases 49, 52: the mirror's file has narrower columns, and lacks one."""
    table, changes, folded = small(a=pa.array([None, 5, None]), b=pa.array([None, "new", "newer"]), c=["x", "y", "z"])
    sources = resolve(changes, folded, np.array([[True, True], [False, False], [True, False]]), known(3))
    old = {0: 7, 2: 8}
    old_rows = pa.table({"a": pa.array([old[row] for row in folded.rows[sources.old_keys].tolist()], pa.int32())})
    rows = patched(table, folded, np.arange(3), sources, ["a", "b"], old_rows, WHERE)
    assert rows.schema == table.schema
    assert sorted(rows.to_pylist(), key=lambda row: row["id"]) == [
        {"id": 0, "a": 7, "b": None, "c": "x"},
        {"id": 1, "a": 5, "b": "new", "c": "y"},
        {"id": 2, "a": 8, "b": "newer", "c": "z"},
    ]


def test_a_value_that_is_nowhere_is_refused_with_its_column_and_change():
    """Case 52: only if its row is written at all."""
    table, changes, folded = small(a=[1, 2], b=[3, None])
    nowhere = Found(np.zeros(2, np.bool_), np.zeros(2, np.bool_), known(2).sequences)
    sources = resolve(changes, folded, np.array([[False, False], [False, True]]), nowhere)
    lacking = np.flatnonzero(folded.rows == 1)
    expected = rf"changelog cdc\.orders: the change with the sequence number {2:032x} \(hex\) does not carry b, and"
    with pytest.raises(ChangeInvalid, match=expected):
        patched(table, folded, lacking, sources, ["a", "b"], None, WHERE)
    assert patched(table, folded, np.flatnonzero(folded.rows == 0), sources, ["a", "b"], None, WHERE).to_pylist() == [
        {"id": 0, "a": 1, "b": 3}
    ]


def test_rows_come_in_the_order_that_was_asked_for_and_none_for_none():
    table, changes, folded = small(a=[1, 2, 3])
    sources = resolve(changes, folded, None, known(3))
    for finals in (np.arange(3), np.array([1]), np.empty(0, dtype=np.int64)):
        rows = patched(table, folded, finals, sources, ["a"], None, WHERE)
        assert rows["id"].to_pylist() == folded.rows[finals].tolist()
        assert rows.schema == table.schema

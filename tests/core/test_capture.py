"""From messages of the log to lines for the buffer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.core import capture
from activities.core.capture import (
    COLUMNS,
    Change,
    Described,
    Shape,
    Transaction,
    agrees,
    array,
    dump_described,
    from_relation,
    read_described,
    read_message,
    schema_line,
)
from activities.core.faults import BadRequest
from activities.core.pgoutput import UNCHANGED, Begin, Relation, RelationColumn, Update
from activities.core.sourcetables import SourceColumn, SourceTable

KEYED = Shape("public", "t", ("id", "a", "b"), ("id",), full=False)
FULL = Shape("public", "t", ("id", "a", "b"), ("id",), full=True)
KEYLESS = Shape("public", "t", ("a", "b"), (), full=True)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


def plain(change):
    rows = (json.loads(row) if row else None for row in (change.old, change.new))
    return (change.operation, *rows, change.unchanged)


def updated(shape, old, new):
    return [plain(change) for change in shape.updated(Update(1, old, new))]


def test_a_changed_key_is_a_delete_and_an_insert_that_says_which_long_values_are_those_of_the_old_row():
    assert updated(KEYED, ["1", None, None], ["2", UNCHANGED, "x"]) == [
        ("delete", {"id": "1"}, None, ()),
        ("insert", None, {"id": "2", "b": "x"}, ("a",)),
    ]


def test_a_row_that_is_larger_than_the_buffer_takes_comes_without_its_longest_values_and_with_its_key(monkeypatch):
    monkeypatch.setattr(capture, "LARGEST_ROW", 60)
    row = ["k" * 20, "é" * 30, "short"]
    assert plain(KEYED.inserted(row)) == ("insert", None, {"id": "k" * 20, "b": "short"}, ())
    assert plain(KEYED.inserted(["1", "x" * 20, "y" * 8])) == (
        "insert", None, {"id": "1", "a": "x" * 20, "b": "y" * 8}, ()
    )  # fmt: skip


def test_an_old_key_that_is_the_same_changes_no_key():
    # PostgreSQL logs it although it did not change when it is stored apart, and the new one as unchanged.
    assert updated(KEYED, ["long", None, None], [UNCHANGED, "x", None]) == [
        ("update", None, {"id": "long", "a": "x", "b": None}, ())
    ]


def test_long_values_that_did_not_change_are_filled_from_an_old_row_that_is_whole():
    assert updated(FULL, ["1", "long", "x"], ["1", UNCHANGED, "y"]) == [
        ("update", None, {"id": "1", "a": "long", "b": "y"}, ())
    ]
    assert updated(FULL, ["1", "long", "x"], ["2", UNCHANGED, "y"]) == [
        ("delete", {"id": "1", "a": "long", "b": "x"}, None, ()),
        ("insert", None, {"id": "2", "a": "long", "b": "y"}, ()),
    ]


def test_without_a_whole_old_row_they_are_listed_and_not_in_the_row():
    assert updated(KEYED, None, ["1", UNCHANGED, None]) == [("update", None, {"id": "1", "b": None}, ("a",))]
    # A partition whose identity is not that of its root.
    assert updated(FULL, ["1", None, None], ["1", UNCHANGED, "y"]) == [("update", None, {"id": "1", "b": "y"}, ("a",))]


def test_a_row_without_a_key_is_told_by_the_whole_old_row():
    assert updated(KEYLESS, ["1", None], ["2", ""]) == [("update", {"a": "1", "b": None}, {"a": "2", "b": ""}, ())]
    assert plain(KEYLESS.deleted(["1", None])) == ("delete", {"a": "1", "b": None}, None, ())


def unescaped(field):
    kinds = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}
    letters = iter(field)
    return "".join(kinds[next(letters)] if letter == "\\" else letter for letter in letters)


def fields(line):
    """The values of a COPY line, read as PostgreSQL's documentation says."""
    assert line.endswith("\n")
    assert line.count("\n") == 1
    split = line[:-1].split("\t")
    assert len(split) == len(COLUMNS)
    return [None if field == r"\N" else unescaped(field) for field in split]


@given(texts, texts, st.lists(texts, min_size=1, max_size=5, unique=True), st.data())
def test_a_line_holds_what_the_row_held_whatever_signs_are_in_it(schema, name, names, data):
    row = data.draw(st.lists(st.none() | texts, min_size=len(names), max_size=len(names)))
    shape = Shape(schema, name, tuple(names), (names[0],), full=False)
    transaction = Transaction(Begin(0x1_0000_00AB, 820_638_245_678_901, 7))
    transaction.place()
    found = fields(shape.line(shape.inserted(row), transaction.place()))
    assert found[:6] == [schema, name, "insert", "1/AB", "1", "2026-01-02T03:04:05.678901+00:00"]
    assert found[6] == array(names[:1])
    assert found[7] is None
    assert json.loads(found[8]) == dict(zip(names, row, strict=True))
    assert found[9] == "{}"
    line = fields(shape.line(Change("update", None, "{}", tuple(names)), transaction.place()))
    assert (line[4], line[9]) == ("2", array(names))


def test_arrays_are_written_as_postgresql_reads_them():
    assert array(["a", 'q"', "b\\", "", "NULL", "{,}"]) == '{"a","q\\"","b\\\\","","NULL","{,}"}'


TABLE = SourceTable("s", "t", (SourceColumn("id", "bigint", 1), SourceColumn("m", "s.mood", 3, "enum")), ("id",))
DESCRIBED = Described(TABLE, 77, ((20, -1), (900, -1)))


def relation(identity="d", key=("id",), columns=(("id", 20), ("m", 900))):
    made = tuple(RelationColumn(name, oid, -1, identifies=name in key) for name, oid in columns)
    return Relation(77, "s", "t", identity, made)


def test_a_relation_agrees_when_columns_types_and_logged_key_are_the_same():
    assert agrees(DESCRIBED, relation())
    assert agrees(DESCRIBED, relation("f", ("id", "m")))
    assert not agrees(DESCRIBED, relation(key=("id", "m")))
    assert not agrees(DESCRIBED, relation(columns=(("id", 20), ("mood", 900))))
    assert not agrees(DESCRIBED, relation(columns=(("id", 23), ("m", 900))))
    assert not agrees(DESCRIBED, relation(columns=(("id", 20),)))


def test_a_relation_alone_tells_names_and_types_and_no_identities():
    texts = [{"type": "bigint", "kind": "base", "base": ""}, {"type": "s.mood", "kind": "enum", "base": ""}]
    found = from_relation(relation(), texts, ())
    assert found.table.columns == (SourceColumn("id", "bigint"), SourceColumn("m", "s.mood", kind="enum"))
    assert found.table.key == ("id",)
    assert from_relation(relation("f", ("id", "m")), texts, ("m",)).table.key == ("m",)
    assert from_relation(relation("f", ("id", "m")), texts, ("gone",)).table.key == ()


def test_a_description_comes_back_and_only_the_slot_that_is_meant_hears_it():
    told = dump_described(DESCRIBED)
    assert read_described(told) == DESCRIBED
    content = json.dumps({**told, "slot": "ours"}).encode()
    assert read_message(content, "ours") == DESCRIBED
    assert read_message(content, "theirs") is None
    with pytest.raises(BadRequest, match="no JSON"):
        read_message(b"hello", "ours")
    with pytest.raises(BadRequest, match="not of icefleet's form"):
        read_message(b'{"slot": "ours"}', "ours")


@pytest.mark.parametrize(
    "wrong",
    [
        {"relid": 2**70},
        {"relid": float("inf")},
        {"relid": 0},
        {"schema": ["public"]},
        {"table": "t\0"},
        {"columns": [{"name": "id", "type": "bigint"}, {"name": "m\ud800", "type": "s.mood"}]},
        {"key": [["id"]]},
        {"types": 7},
    ],
)
def test_a_message_that_nobody_could_write_down_is_refused_as_a_whole(wrong):
    content = json.dumps({**dump_described(DESCRIBED), "slot": "ours", **wrong}).encode()
    with pytest.raises(BadRequest):
        read_message(content, "ours")
    with pytest.raises(BadRequest, match="no JSON"):
        read_message(b"[" * 100_000, "ours")


def test_a_schema_event_is_what_the_buffers_contract_says():
    found = fields(schema_line(TABLE, Transaction(Begin(1, 0, 1)).place()))
    assert found[2] == "schema"
    assert json.loads(found[8]) == {
        "columns": [
            {"name": "id", "type": "bigint", "id": 1},
            {"name": "m", "type": "s.mood", "id": 3, "kind": "enum"},
        ],
        "key": ["id"],
    }

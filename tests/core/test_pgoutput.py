"""The decoder against what PostgreSQL 18 sent, and against an encoder written from the protocol's description."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.core.faults import ResultIncomplete
from activities.core.pgoutput import (
    UNCHANGED,
    Begin,
    Commit,
    Delete,
    Insert,
    Message,
    Origin,
    Relation,
    RelationColumn,
    Truncate,
    TypeInfo,
    Update,
    decode,
)

MOOD = "52000047517075626c696300726563006400030169640000000017ffffffff006e6f74650000000019ffffffff006d6f6f64000000474dffffffff"
RECORDED = [
    ("4200000000375b00680002ea5dbb1f6f3500000436", Begin(928710760, 820638245678901, 1078)),
    ("4f0000000000000010656c7365776865726500", Origin(16, "elsewhere")),
    (
        "4d0100000000375aae80696365666c6565742e736368656d6100000000087b2261223a20317d",
        Message(transactional=True, lsn=928689792, prefix="icefleet.schema", content=b'{"a": 1}'),
    ),
    ("590000474d7075626c6963006d6f6f6400", TypeInfo(18253, "public", "mood")),
    (
        MOOD,
        Relation(
            18257,
            "public",
            "rec",
            "d",
            (
                RelationColumn("id", 23, -1, identifies=True),
                RelationColumn("note", 25, -1, identifies=False),
                RelationColumn("mood", 18253, -1, identifies=False),
            ),
        ),
    ),
    ("49000047514e00037400000001326e7400000003736164", Insert(18257, ["2", None, "sad"])),
    ("55000047514e0003740000000131757400000003736164", Update(18257, None, ["1", UNCHANGED, "sad"])),
    (
        "55000047514b00037400000001326e6e4e00037400000001336e7400000003736164",
        Update(18257, ["2", None, None], ["3", None, "sad"]),
    ),
    ("44000047514b00037400000001336e6e", Delete(18257, ["3", None, None])),
    (
        "52000047597075626c696300726563320066000101c38420620000000019ffffffff",
        Relation(18265, "public", "rec2", "f", (RelationColumn("Ä b", 25, -1, identifies=True),)),
    ),
    ("49000047594e00017400000009c3a9e282acf09f9880", Insert(18265, ["é€😀"])),
    ("55000047594f00017400000009c3a9e282acf09f98804e00017400000000", Update(18265, ["é€😀"], [""])),
    ("44000047594f00017400000000", Delete(18265, [""])),
    ("5400000002030000475100004759", Truncate((18257, 18265), cascade=True, restart_identity=True)),
    (
        "430000000000375b006800000000375b02b80002ea5dbb1f6f35",
        Commit(928710760, 928711352, 820638245678901),
    ),
]

ids = st.integers(0, 2**32 - 1)
lsns = st.integers(0, 2**63 - 1)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
values = st.lists(st.none() | st.just(UNCHANGED) | texts, max_size=20)


@pytest.mark.parametrize(("sent", "meant"), RECORDED, ids=lambda one: type(one).__name__)
def test_what_a_server_sent_is_read_as_it_was_meant(sent, meant):
    assert decode(bytes.fromhex(sent)) == meant


@pytest.mark.parametrize("sent", [sent for sent, _ in RECORDED])
def test_a_message_that_is_cut_anywhere_is_refused_and_never_half_read(sent):
    whole = bytes.fromhex(sent)
    for end in range(1, len(whole)):
        with pytest.raises(ResultIncomplete, match="cannot be read"):
            decode(whole[:end])


def test_a_kind_that_nobody_asked_for_is_refused():
    with pytest.raises(ResultIncomplete, match="kind b'S'"):
        decode(b"S\0\0")


def written(row):
    parts = [struct.pack("!H", len(row))]
    for value in row:
        if value is None:
            parts.append(b"n")
        elif value is UNCHANGED:
            parts.append(b"u")
        else:
            parts.append(b"t" + struct.pack("!I", len(value.encode())) + value.encode())
    return b"".join(parts)


@given(ids, values, st.sampled_from(["K", "O", ""]), values)
def test_rows_come_back_as_they_were_written(relid, old, kind, new):
    head = struct.pack("!I", relid)
    assert decode(b"I" + head + b"N" + written(new)) == Insert(relid, new)
    before = kind.encode() + written(old) if kind else b""
    assert decode(b"U" + head + before + b"N" + written(new)) == Update(relid, old if kind else None, new)
    if kind:
        assert decode(b"D" + head + before) == Delete(relid, old)


columns = st.builds(RelationColumn, texts, ids, st.integers(-(2**31), 2**31 - 1), st.booleans())


@given(st.builds(Relation, ids, texts.filter(bool), texts, st.sampled_from("dinf"), st.lists(columns).map(tuple)))
def test_relations_come_back_as_they_were_written(relation):
    parts = [b"R", struct.pack("!I", relation.relid), relation.schema.encode(), b"\0", relation.name.encode(), b"\0"]
    parts += [relation.identity.encode(), struct.pack("!H", len(relation.columns))]
    for column in relation.columns:
        parts += [bytes([column.identifies]), column.name.encode(), b"\0"]
        parts.append(struct.pack("!Ii", column.type_id, column.modifier))
    assert decode(b"".join(parts)) == relation


@given(lsns, lsns, st.integers(-(2**62), 2**62), ids, texts, st.binary())
def test_frames_and_messages_come_back_as_they_were_written(lsn, end, when, xid, prefix, content):
    assert decode(b"B" + struct.pack("!qqI", lsn, when, xid)) == Begin(lsn, when, xid)
    assert decode(b"C" + struct.pack("!bqqq", 0, lsn, end, when)) == Commit(lsn, end, when)
    message = struct.pack("!bq", 1, lsn) + prefix.encode() + b"\0" + struct.pack("!i", len(content)) + content
    assert decode(b"M" + message) == Message(transactional=True, lsn=lsn, prefix=prefix, content=content)

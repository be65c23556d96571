"""The messages of PostgreSQL's `pgoutput` plugin, protocol version 1, with values as text."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from activities.core.faults import ResultIncomplete


class Unchanged(Enum):
    """What stands for a value that was not logged, since it is long and did not change."""

    VALUE = "unchanged"


UNCHANGED = Unchanged.VALUE
Value = str | Unchanged | None
Values = list[Value]


@dataclass(frozen=True, slots=True)
class Begin:
    """A transaction that was committed; everything up to its `Commit` belongs to it."""

    lsn: int
    """Where its commit record begins: grows from transaction to transaction."""
    committed_at: int
    """Microseconds since 2000."""
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    """The end of a transaction."""

    lsn: int
    end_lsn: int
    """Where its commit record ends: with this confirmed it is not sent again."""
    committed_at: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a transaction comes from that was replicated to the source."""

    lsn: int
    name: str


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """One column of a relation."""

    name: str
    type_id: int
    modifier: int
    identifies: bool
    """Whether it is part of the replica identity; with a full one every column is."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as the rows after this message have it."""

    relid: int
    schema: str
    name: str
    identity: str
    """`d` default, `i` an index, `f` full, `n` nothing."""
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True, slots=True)
class TypeInfo:
    """The name of a type that is none of PostgreSQL's own."""

    type_id: int
    schema: str
    name: str


@dataclass(frozen=True, slots=True)
class Insert:
    """A new row."""

    relid: int
    new: Values


@dataclass(frozen=True, slots=True)
class Update:
    """A changed row; `old` has the key if that changed, or the whole row, or is not there."""

    relid: int
    old: Values | None
    new: Values


@dataclass(frozen=True, slots=True)
class Delete:
    """A row that is gone; `old` has its key, or the whole row."""

    relid: int
    old: Values


@dataclass(frozen=True, slots=True)
class Truncate:
    """Tables that were emptied together."""

    relids: tuple[int, ...]
    cascade: bool
    restart_identity: bool


@dataclass(frozen=True, slots=True)
class Message:
    """What `pg_logical_emit_message` wrote."""

    transactional: bool
    lsn: int
    prefix: str
    content: bytes


Event = Begin | Commit | Origin | Relation | TypeInfo | Insert | Update | Delete | Truncate | Message

_COUNT = struct.Struct("!H")
_ID = struct.Struct("!I")
_LENGTH = struct.Struct("!i")
_BEGIN = struct.Struct("!qqI")
_COMMIT = struct.Struct("!bqqq")
_LSN = struct.Struct("!q")
_COLUMN_TYPE = struct.Struct("!Ii")
_TRUNCATE = struct.Struct("!ib")
_MESSAGE = struct.Struct("!bq")
_TEXT, _NULL, _SAME = b"tnu"
_NEW, _KEY, _OLD = b"NKO"


def decode(data: bytes) -> Event:
    """One message.

    Raises:
        ResultIncomplete: it is cut short, or of a kind that was not asked for.
    """
    try:
        return _DECODERS[data[:1]](data)
    except (KeyError, IndexError, ValueError, struct.error) as broken:
        raise _unreadable(data) from broken


def _unreadable(data: bytes) -> ResultIncomplete:
    return ResultIncomplete(
        f"the source's log: a message of kind {data[:1]!r} and {len(data)} bytes cannot be read; if it comes "
        "again, report it with the server's version"
    )


def _begin(data: bytes) -> Begin:
    return Begin(*_BEGIN.unpack_from(data, 1))


def _commit(data: bytes) -> Commit:
    _, lsn, end_lsn, committed_at = _COMMIT.unpack_from(data, 1)
    return Commit(lsn, end_lsn, committed_at)


def _origin(data: bytes) -> Origin:
    return Origin(_LSN.unpack_from(data, 1)[0], _text(data, 9)[0])


def _relation(data: bytes) -> Relation:
    schema, at = _text(data, 5)
    name, at = _text(data, at)
    identity = chr(data[at])
    (count,) = _COUNT.unpack_from(data, at + 1)
    at += 3
    columns = []
    for _ in range(count):
        identifies = bool(data[at] & 1)
        column, at = _text(data, at + 1)
        type_id, modifier = _COLUMN_TYPE.unpack_from(data, at)
        at += 8
        columns.append(RelationColumn(column, type_id, modifier, identifies))
    # What is PostgreSQL's own comes without a schema.
    return Relation(_ID.unpack_from(data, 1)[0], schema or "pg_catalog", name, identity, tuple(columns))


def _type(data: bytes) -> TypeInfo:
    schema, at = _text(data, 5)
    return TypeInfo(_ID.unpack_from(data, 1)[0], schema or "pg_catalog", _text(data, at)[0])


def _insert(data: bytes) -> Insert:
    return Insert(_ID.unpack_from(data, 1)[0], _values(data, 5, _NEW)[0])


def _update(data: bytes) -> Update:
    old, at = None, 5
    if data[at] in {_KEY, _OLD}:
        old, at = _values(data, at, data[at])
    return Update(_ID.unpack_from(data, 1)[0], old, _values(data, at, _NEW)[0])


def _delete(data: bytes) -> Delete:
    kind = _KEY if data[5] == _KEY else _OLD
    return Delete(_ID.unpack_from(data, 1)[0], _values(data, 5, kind)[0])


def _truncate(data: bytes) -> Truncate:
    count, options = _TRUNCATE.unpack_from(data, 1)
    return Truncate(struct.unpack_from(f"!{count}I", data, 6), bool(options & 1), bool(options & 2))


def _message(data: bytes) -> Message:
    flags, lsn = _MESSAGE.unpack_from(data, 1)
    prefix, at = _text(data, 10)
    (length,) = _LENGTH.unpack_from(data, at)
    content = data[at + 4 : at + 4 + length]
    if len(content) != length:
        raise _unreadable(data)
    return Message(bool(flags & 1), lsn, prefix, content)


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(0, at)
    return str(data[at:end], "utf-8"), end + 1


def _values(data: bytes, at: int, kind: int) -> tuple[Values, int]:
    if data[at] != kind:
        raise _unreadable(data)
    (count,) = _COUNT.unpack_from(data, at + 1)
    at += 3
    values: Values = []
    for _ in range(count):
        form = data[at]
        at += 1
        if form == _TEXT:
            begin = at + 4
            at = begin + int.from_bytes(data[at:begin], "big")
            values.append(str(data[begin:at], "utf-8"))
        elif form == _NULL:
            values.append(None)
        elif form == _SAME:
            values.append(UNCHANGED)
        else:
            raise _unreadable(data)
    if at > len(data):
        raise _unreadable(data)
    return values, at


_DECODERS: dict[bytes, Callable[[bytes], Event]] = {
    b"B": _begin,
    b"C": _commit,
    b"O": _origin,
    b"R": _relation,
    b"Y": _type,
    b"I": _insert,
    b"U": _update,
    b"D": _delete,
    b"T": _truncate,
    b"M": _message,
}

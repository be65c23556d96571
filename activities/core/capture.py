"""From what PostgreSQL's log says to rows of the buffer, as lines for its COPY.

The form is that of docs/formats/cdc-buffer.md. Values are PostgreSQL's own text in JSON strings. An update that changes
the key becomes a delete and an insert.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from json.encoder import encode_basestring as quoted
from typing import Any

from activities.core.changelogs import lsn_text
from activities.core.faults import BadRequest
from activities.core.pgoutput import UNCHANGED, Begin, Relation, Update, Values
from activities.core.sourcetables import SourceColumn, SourceTable, dump_table, parse_table

SCHEMA_PREFIX = "icefleet.schema"
"""What the messages are called with which a source tells of changed tables."""
COLUMNS = (
    "source_schema",
    "source_table",
    "operation",
    "commit_lsn",
    "ordinal",
    "committed_at",
    "key_columns",
    "old_row",
    "new_row",
    "unchanged",
)
"""The columns of `events` in the order of a line."""
LARGEST_ROW = 250 * 2**20
"""Bytes of a row as JSON text; a jsonb value of PostgreSQL holds hardly more."""
OIDS = 2**32
_IMPOSSIBLE = re.compile("[\0\ud800-\udfff]")
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_NULL = r"\N"
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


@dataclass(frozen=True)
class Described:
    """A table as the source tells it: `relid` and the oids of types tell apart what names do not."""

    table: SourceTable
    relid: int
    types: tuple[tuple[int, int], ...]
    """Of each column: the type's oid, and its modifier."""

    @property
    def columns(self) -> list[tuple[str, int, int]]:
        """Name and type of each column, as a `Relation` has them."""
        return [(column.name, *one) for column, one in zip(self.table.columns, self.types, strict=True)]


def read_described(told: Any) -> Described:
    """What `catalogue.described` or `dump_described` wrote.

    Raises:
        BadRequest: neither wrote this.
    """
    try:
        table = parse_table(told["schema"], told["table"], told)
        types = tuple((int(type_id), int(modifier)) for type_id, modifier in told["types"])
        relid = int(told["relid"])
    except (ArithmeticError, KeyError, TypeError, ValueError) as wrong:
        raise BadRequest(f"a description of a table is not of icefleet's form: {str(told)[:200]}") from wrong
    if len(types) != len(table.columns):
        raise BadRequest(f"a description of {table.identifier} has another number of types than of columns")
    return Described(table, relid, types)


def dump_described(described: Described) -> dict[str, Any]:
    """As JSON that `read_described` takes."""
    table = described.table
    return {
        "schema": table.schema,
        "table": table.name,
        "relid": described.relid,
        "types": [list(one) for one in described.types],
        **dump_table(table),
    }


def read_message(content: bytes, slot: str) -> Described | None:
    """The table that a message of `SCHEMA_PREFIX` tells of; None when it is meant for another slot.

    Raises:
        BadRequest: it is not of our form, or cannot be written: whoever may log in may write under our prefix.
    """
    try:
        told = json.loads(content)
    except (RecursionError, ValueError) as wrong:
        raise BadRequest(f"a message {SCHEMA_PREFIX} in the source's log is no JSON: {content[:100]!r}") from wrong
    if not isinstance(told, dict) or told.get("slot") != slot:
        return None
    described = read_described(told)
    if not (0 < described.relid < OIDS and _is_text(described.table)):
        raise BadRequest(f"a message {SCHEMA_PREFIX} in the source's log tells of no table: {content[:100]!r}")
    return described


def _is_text(table: SourceTable) -> bool:
    """Whether PostgreSQL could have such names and types."""
    names = [table.schema, table.name]
    names += [text for column in table.columns for text in (column.name, column.type, column.kind, column.base)]
    # JSON has zeros and halves of characters, too.
    return all(isinstance(name, str) and not _IMPOSSIBLE.search(name) for name in names)


def agrees(described: Described, relation: Relation) -> bool:
    """Whether a relation is as described: the same columns and, where the log tells it, the same key."""
    columns = [(column.name, column.type_id, column.modifier) for column in relation.columns]
    if columns != described.columns:
        return False
    flagged = {column.name for column in relation.columns if column.identifies}
    return relation.identity not in "di" or flagged == set(described.table.key)


def from_relation(relation: Relation, texts: Sequence[dict[str, Any]], known_key: Sequence[str]) -> Described:
    """What a relation alone tells: names and types, and the key unless the identity is full; no identities of columns.

    `texts` has `type`, `kind` and `base` of every column.
    """
    columns = tuple(SourceColumn(column.name, **text) for column, text in zip(relation.columns, texts, strict=True))
    names = {column.name for column in columns}
    if relation.identity in "di":
        key = tuple(column.name for column in relation.columns if column.identifies)
    else:
        key = tuple(known_key) if names.issuperset(known_key) else ()
    types = tuple((column.type_id, column.modifier) for column in relation.columns)
    return Described(SourceTable(relation.schema, relation.name, columns, key), relation.relid, types)


@dataclass(frozen=True)
class Change:
    """One event without its place in the log; rows are JSON texts."""

    operation: str
    old: str | None = None
    new: str | None = None
    unchanged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shape:
    """How rows of one table are written, as of one `Relation`."""

    schema: str
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    full: bool
    """Whether old rows come whole."""
    relid: int = 0
    _heads: tuple[str, ...] = field(init=False, repr=False)
    _key_places: tuple[int, ...] = field(init=False, repr=False)
    _line_head: str = field(init=False, repr=False)
    _line_key: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        heads = tuple(f"{quoted(column)}: " for column in self.columns)
        object.__setattr__(self, "_heads", heads)
        object.__setattr__(self, "_key_places", tuple(self.columns.index(column) for column in self.key))
        object.__setattr__(self, "_line_head", f"{escaped(self.schema)}\t{escaped(self.name)}\t")
        object.__setattr__(self, "_line_key", escaped(array(self.key)))

    def inserted(self, new: Values) -> Change:
        """A new row."""
        return Change("insert", None, self._row(new))

    def updated(self, update: Update) -> tuple[Change, ...]:
        """A changed row: an update, or a delete and an insert when the key changed."""
        old, new = update.old, update.new
        if old is not None:
            # An old row brings what is too long to be logged anew: of a key always, of the rest if it comes whole.
            places = range(len(new)) if self.full else self._key_places
            for place in places:
                # A partition with another identity than its root brings nulls, and what is null is not long.
                if new[place] is UNCHANGED and old[place] is not None:
                    new[place] = old[place]
        unchanged = tuple(self.columns[place] for place, value in enumerate(new) if value is UNCHANGED)
        if old is not None and any(old[place] != new[place] for place in self._key_places):
            return (self.deleted(old), Change("insert", None, self._row(new), unchanged))
        # Without a key the old row is all that tells which one it was.
        told = self._row(old) if old is not None and not self.key else None
        return (Change("update", told, self._row(new), unchanged),)

    def deleted(self, old: Values) -> Change:
        """A row that is gone: all of it if it was logged, else its key."""
        if self.full:
            return Change("delete", self._row(old))
        return Change("delete", self._object((place, old[place]) for place in self._key_places))

    def truncated(self, place: str) -> str:
        """All rows gone at once, as a line for COPY."""
        return self.line(Change("truncate"), place)

    def _row(self, values: Values) -> str:
        parts = []
        for head, value in zip(self._heads, values, strict=True):
            if value is None:
                parts.append(f"{head}null")
            elif value is not UNCHANGED:
                parts.append(head + quoted(value))
        text = "{" + ", ".join(parts) + "}"
        # A character takes four bytes at most: what is longer is looked at.
        return text if len(text) * 4 <= LARGEST_ROW else self._held(values, text)

    def _held(self, values: Values, text: str) -> str:
        """The row without its longest values, if it is larger than the buffer takes: the ingest refuses such an event.

        So one row that nobody can carry becomes a dead letter, and does not hold up the whole log.
        """
        left = list(values)
        while len(text.encode()) > LARGEST_ROW:
            told = {at: one for at, one in enumerate(left) if isinstance(one, str) and at not in self._key_places}
            if not told:
                break
            longest = max(told, key=lambda at: len(told[at]))
            left[longest] = UNCHANGED
            text = self._object((at, one) for at, one in enumerate(left) if one is not UNCHANGED)
        return text

    def _object(self, pairs: Iterator[tuple[int, Any]]) -> str:
        return "{" + ", ".join(self._heads[at] + ("null" if one is None else quoted(one)) for at, one in pairs) + "}"

    def line(self, change: Change, place: str) -> str:
        """A change as a line for COPY; `place` is what `Transaction.place` gave."""
        old = _NULL if change.old is None else change.old.replace("\\", "\\\\")
        new = _NULL if change.new is None else change.new.replace("\\", "\\\\")
        unchanged = escaped(array(change.unchanged)) if change.unchanged else "{}"
        return f"{self._line_head}{change.operation}\t{place}\t{self._line_key}\t{old}\t{new}\t{unchanged}\n"


class Transaction:
    """The places of a transaction's events: one after the other."""

    def __init__(self, begin: Begin) -> None:
        self.lsn = begin.lsn
        self.events = 0
        self._lsn = lsn_text(begin.lsn)
        self._committed_at = (_EPOCH + timedelta(microseconds=begin.committed_at)).isoformat()

    def place(self) -> str:
        """LSN, ordinal and time of the next event, as in a line for COPY."""
        ordinal = self.events
        self.events += 1
        return f"{self._lsn}\t{ordinal}\t{self._committed_at}"


def shape_of(described: Described, relation: Relation) -> Shape:
    """How the rows after a relation's message are written."""
    return Shape(
        schema=relation.schema,
        name=relation.name,
        columns=tuple(column.name for column in relation.columns),
        key=described.table.key,
        full=relation.identity == "f",
        relid=relation.relid,
    )


def schema_line(table: SourceTable, place: str) -> str:
    """A schema event as a line for COPY."""
    names = tuple(column.name for column in table.columns)
    shape = Shape(table.schema, table.name, names, table.key, full=False)
    return shape.line(Change("schema", None, json.dumps(dump_table(table), ensure_ascii=False)), place)


def truncate_line(table: SourceTable, place: str) -> str:
    """A truncate event of a table, whatever its columns are, as a line for COPY."""
    return Shape(table.schema, table.name, (), (), full=False).truncated(place)


def array(texts: Sequence[str]) -> str:
    """PostgreSQL's text of an array of texts."""
    elements = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{element}"' for element in elements) + "}"


def escaped(text: str) -> str:
    """A text as COPY reads it."""
    return text.translate(_ESCAPES)

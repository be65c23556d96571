"""A range of a mirror's keys held against the fold of its changelog, and against its index."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from activities.core.fold import Changes, Folded, fold
from activities.core.iceberg_types import IcebergType
from activities.core.index import Found
from activities.core.mirrors import TOMBSTONE, Entries, Keys, MirrorConfig, Sequences
from activities.core.sequences import sequence_text
from activities.core.unchanged import needed, resolve
from activities.lake.changecolumns import operations_of, sequences_of, shown, unchanged_of
from activities.lake.checksums import Checksum, checksum, written_rows
from activities.lake.keys import keys_of
from activities.lake.patching import patched

EXAMPLES = 10
Places = npt.NDArray[np.int64]
FILE, ROW = "\0file", "\0row"
"""Columns of the mirror's rows: number of the data file, position in it."""
_NOWHERE = -1


@dataclass(frozen=True)
class Terms:
    """What is compared."""

    config: MirrorConfig
    types: Mapping[str, IcebergType]
    """Column of the mirror → the type under which it is compared."""
    every: Sequence[str]
    """The columns that the changelog has, as it calls them."""
    unchanged: str
    """The column that says what changes do not carry; empty: there is none."""
    truncated: str
    """The greatest sequence number of a truncate, 32 hex digits; empty: there was none."""
    horizon: str
    """Up to there changes of unknown keys were refused."""


@dataclass(frozen=True)
class RangeFound:
    """What was found of some keys."""

    mirror: Checksum = field(default_factory=Checksum)
    expected: Checksum = field(default_factory=Checksum)
    differing: int = 0
    """Keys."""
    refused: int = 0
    """Keys whose row may have been refused, and is not expected."""
    examples: tuple[str, ...] = ()
    """At most EXAMPLES differing keys, each with what is wrong about it."""
    unspoken: int = 0
    """Of those that differ, keys with a row that is newer than every change of them, or of which there is no change."""
    index: tuple[str, ...] = ()
    """The same of the index."""

    def __add__(self, other: "RangeFound") -> "RangeFound":
        return RangeFound(
            self.mirror + other.mirror,
            self.expected + other.expected,
            self.differing + other.differing,
            self.refused + other.refused,
            (*self.examples, *other.examples)[:EXAMPLES],
            self.unspoken + other.unspoken,
            (*self.index, *other.index)[:EXAMPLES],
        )


def compare(changes: pa.Table, rows: pa.Table, terms: Terms, entries: Entries | None) -> RangeFound:
    """Compare the keys of one range.

    Args:
        changes: All merged changes of these keys, in the changelog's order, with the mirror's names of columns, and
            operation and unchanged columns.
        rows: The mirror's rows of these keys, with FILE and ROW.
        terms: What is compared.
        entries: What the index says of these keys; None: it is not to be compared.
    """
    return _Range(changes, rows, terms).found(entries)


def reduced(changes: pa.Table, terms: Terms) -> pa.Table:
    """Those of some changes, in their order, which say as much as all of them, also together with later ones."""
    return _Range(changes, None, terms).needed()


class _Range:
    def __init__(self, changes: pa.Table, rows: pa.Table | None, terms: Terms) -> None:
        self._terms, self._changes = terms, changes
        self._names = [name for name in changes.column_names if name in terms.types]
        self._folded, self._events = self._fold(changes)
        if rows is None:
            return
        keys = self._keys(rows, "mirror " + terms.config.mirror)
        order = np.lexsort((keys.low, keys.high))
        self._keys_held = keys.take(order)
        self._rows = rows.take(pa.array(order))
        self._sequences = self._sequences_of(self._rows, "mirror " + terms.config.mirror)

    def found(self, entries: Entries | None) -> RangeFound:
        held, folded = self._keys_held, self._folded
        again = np.flatnonzero(_same(held, held, np.arange(1, len(held)), np.arange(len(held) - 1))) + 1
        wanted = np.flatnonzero(~folded.deletes)
        at = _places(held, folded.keys)  # where in the mirror each folded key is
        missing = wanted[at[wanted] == _NOWHERE]
        refused = missing[self._is_forgotten(missing)]
        missing = np.setdiff1d(missing, refused)
        extra = np.flatnonzero(_places(folded.keys.take(wanted), held) == _NOWHERE)
        there = wanted[at[wanted] != _NOWHERE]
        expected = self._expected(there, at)
        differing = _unequal(expected, self._rows.take(pa.array(at[there])), self._terms.types)
        lost = self._changes.take(pa.array(folded.rows[missing])).select(self._names)
        mirror, wrong = self._sum(self._rows), len(again) + len(missing) + len(extra) + len(differing)
        result = RangeFound(
            mirror,
            # Where every row is, byte by byte, what is expected, so is the sum.
            self._sum(expected) + self._sum(lost) if wrong else mirror,
            wrong,
            len(refused),
            tuple(self._told(again, missing, extra, there[differing], at)),
            self._unspoken() if wrong else 0,
        )
        return result if entries is None else replace(result, index=tuple(self._misplaced(entries)))

    def needed(self) -> pa.Table:
        nothing = Found.nothing(len(self._folded))
        return self._changes.take(pa.array(needed(self._events, self._folded, self._unchanged(), nothing)))

    # --- what is expected -------------------------------------------------------------------------------------

    def _fold(self, changes: pa.Table) -> tuple[Folded, Changes]:
        config, where = self._terms.config, f"changelog {self._terms.config.changelog}"
        operations = operations_of(
            changes.column(config.operation_column), f"{where}, column {config.operation_column}"
        )
        events = Changes(self._keys(changes, where), self._sequences_of(changes, where), operations)
        return fold(events, self._terms.truncated), events

    def _keys(self, table: pa.Table, where: str) -> Keys:
        return keys_of([table.column(name) for name in self._terms.config.primary_keys], where)

    def _sequences_of(self, table: pa.Table, where: str) -> Sequences:
        config = self._terms.config
        column = table.column(config.sequence_column)
        return sequences_of(column, config.sequence_format, f"{where}, column {config.sequence_column}")

    def _expected(self, finals: Places, at: Places) -> pa.Table:
        """The rows of some folded keys; what the changelog does not say of them is taken as the mirror has it."""
        folded, names = self._folded, self._names
        table = self._changes.select(names)
        unchanged = self._unchanged()
        if unchanged is None:
            return table.take(pa.array(folded.rows[finals]))
        sources = resolve(self._events, folded, unchanged, Found.nothing(len(folded)))
        sources = replace(sources, keys=np.where(sources.events < 0, sources.finals, _NOWHERE))
        old = self._rows.take(pa.array(at[sources.of(finals).old_keys])).select(names)
        return patched(table, folded, finals, sources, names, old, f"changelog {self._terms.config.changelog}")

    def _unchanged(self) -> npt.NDArray[np.bool_] | None:
        terms = self._terms
        if not terms.unchanged:
            return None
        where = f"changelog {terms.config.changelog}, column {terms.unchanged}"
        return unchanged_of(
            self._changes.column(terms.unchanged), self._names, where, ignored=set(terms.every) - set(self._names)
        )

    def _is_forgotten(self, finals: Places) -> npt.NDArray[np.bool_]:
        texts = [_text(self._folded.sequences, place) for place in finals]
        return np.array([text <= self._terms.horizon for text in texts], np.bool_)

    def _unspoken(self) -> int:
        """Rows that no change has brought which is still there."""
        known, held, folded = _places(self._folded.keys, self._keys_held), self._sequences, self._folded.sequences
        floor = divmod(int(self._terms.truncated or "0", 16), 2**64)
        # The last of each is for keys without a change, whose place is -1.
        high = np.append(folded.high, np.uint64(floor[0]))[known]
        low = np.append(folded.low, np.uint64(floor[1]))[known]
        newer = (held.high > high) | ((held.high == high) & (held.low > low))
        return int((newer if self._terms.truncated else newer | (known == _NOWHERE)).sum())

    def _sum(self, table: pa.Table) -> Checksum:
        return checksum(table.to_batches(), self._terms.types)

    # --- what is wrong ----------------------------------------------------------------------------------------

    def _told(self, again: Places, missing: Places, extra: Places, differing: Places, at: Places) -> Iterator[str]:
        folded = self._folded
        for place in again[:EXAMPLES]:
            yield f"{self._key(self._rows, place)}: the mirror has more than one row of it"
        for place in missing[:EXAMPLES]:
            row = folded.rows[place]
            yield f"{self._key(self._changes, row)}: the mirror lacks it; {_text(folded.sequences, place)} brought it"
        known = _places(folded.keys, self._keys_held)
        for place in extra[:EXAMPLES]:
            at_all = int(known[place])
            why = f"{_text(folded.sequences, at_all)} deleted it" if at_all != _NOWHERE else "no change brought it"
            yield f"{self._key(self._rows, place)}: the mirror has it, and {why}"
        for place in differing[:EXAMPLES]:
            yield f"{self._key(self._changes, folded.rows[place])}: {self._difference(place, int(at[place]))}"

    def _difference(self, final: int, row: int) -> str:
        expected, held = _text(self._folded.sequences, final), _text(self._sequences, row)
        if expected != held:
            return f"the mirror has the row of {held}, and {expected} is the newest"
        places = np.array([final]), np.full(len(self._folded), row)
        one = self._expected(*places)
        mirror = self._rows.slice(row, 1)
        wrong = [name for name, kind in self._terms.types.items() if len(_unequal(one, mirror, {name: kind}))]
        return f"{', '.join(wrong)} differ from what {expected} brought"

    def _key(self, table: pa.Table, row: int) -> str:
        names = self._terms.config.primary_keys
        return ", ".join(f"{name}={shown(table.column(name)[int(row)].as_py())}" for name in names)

    def _misplaced(self, entries: Entries) -> Iterator[str]:
        """Live rows without their entry, and entries without their live row."""
        live = np.flatnonzero(entries.file != TOMBSTONE)
        keys, held = entries.keys.take(live), self._keys_held
        at = _places(keys, held)
        file, row = (self._rows.column(name).to_numpy() for name in (FILE, ROW))
        entry = live[np.maximum(at, 0)] if len(live) else np.zeros(len(held), np.int64)
        right = at != _NOWHERE
        if len(live):
            right &= (entries.file[entry] == file) & (entries.row[entry] == row)
            right &= entries.sequences.high[entry] == self._sequences.high
            right &= entries.sequences.low[entry] == self._sequences.low
        for place in np.flatnonzero(~right)[:EXAMPLES]:
            yield f"{self._key(self._rows, place)}: the index has no entry for row {row[place]} of file {file[place]}"
        for place in np.flatnonzero(_places(held, keys) == _NOWHERE)[:EXAMPLES]:
            entry_of = live[place]
            yield f"an entry names row {entries.row[entry_of]} of file {entries.file[entry_of]}, whose key is not there"


def _places(keys: Keys, wanted: Keys) -> Places:
    """Where in `keys`, which are sorted, each wanted key is first; -1 where it is not."""
    if not len(keys):
        return np.full(len(wanted), _NOWHERE)
    every = Keys(np.concatenate([keys.high, wanted.high]), np.concatenate([keys.low, wanted.low]))
    order = np.lexsort((every.low, every.high))  # stable: of equal ones those of `keys` come first
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = ~_same(every, every, order[1:], order[:-1])
    first = np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))
    leader = order[first]
    found = np.empty(len(order), np.int64)
    found[order] = np.where(leader < len(keys), leader, _NOWHERE)
    return found[len(keys) :]


def _same(these: Keys, those: Keys, left: Places, right: Places) -> npt.NDArray[np.bool_]:
    return np.asarray((these.high[left] == those.high[right]) & (these.low[left] == those.low[right]))


def _unequal(expected: pa.Table, held: pa.Table, types: Mapping[str, IcebergType]) -> Places:
    """Rows of which some value differs."""
    if not len(expected):
        return np.empty(0, np.int64)
    ours, theirs = (
        written_rows(table.select(list(types)).combine_chunks().to_batches()[0], types) for table in (expected, held)
    )
    return np.flatnonzero(pc.not_equal(ours, theirs).to_numpy(zero_copy_only=False))


def _text(sequences: Sequences, place: int) -> str:
    return sequence_text(sequences.high[place], sequences.low[place])

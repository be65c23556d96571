"""Changes of a table's rows, half updates, a quarter inserts, a quarter deletes, and what the table must hold then."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ROW = pa.schema(
    [
        ("id", pa.int64()),
        ("account", pa.string()),
        ("balance", pa.int64()),
        ("status", pa.string()),
        ("updated", pa.timestamp("us", tz="UTC")),
    ]
)
CHANGE = pa.schema([("cdc_operation", pa.string()), ("cdc_sequence_number", pa.string()), *ROW])
STATES = pa.array(["new", "open", "frozen", "closed"])
FIRST_MOMENT = 1_700_000_000_000_000
STEP = 1_000_000
"""Rows that are made at once."""


@dataclass(frozen=True)
class Batch:
    """What a merge is given, also as peers want it."""

    changes: pa.Table
    upserts: pa.Table
    deletes: pa.Table
    """Their ids."""


@dataclass
class Rows:
    """A table of `count` rows at first, and what becomes of it."""

    count: int
    sequence: int = 0
    _rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    _order: np.ndarray = field(init=False)
    _deleted: int = 0
    _balance: np.ndarray = field(init=False)
    """By id; -1: there is no such row. Longer than there are ids: what is large is not to be copied for each batch."""
    _next: int = field(init=False)
    """The id of the next row that is inserted."""

    def __post_init__(self) -> None:
        self._next = self.count
        self._order = self._rng.permutation(self.count)
        self._balance = np.full(self.count, -1, np.int64)

    def first(self) -> Iterator[pa.Table]:
        """The rows that are there at first."""
        for start in range(0, self.count, STEP):
            ids = np.arange(start, min(self.count, start + STEP))
            made = self._made(ids)
            self._balance[ids] = made["balance"].to_numpy()
            yield made

    def batch(self, size: int) -> Batch:
        """The next `size` changes, in an order that mixes them."""
        deletes, updates = size // 4, size // 2
        gone = self._order[self._deleted : self._deleted + deletes]
        self._deleted += deletes
        left = self._order[self._deleted :]
        changed = left[self._rng.choice(len(left), updates, replace=False)]
        new = np.arange(self._next, self._next + size - deletes - updates)
        self._next += len(new)
        if self._next > len(self._balance):
            self._balance = np.append(self._balance, np.full(len(new) + len(self._balance) // 8, -1))
        upserts = self._made(np.concatenate([changed, new]))
        self._balance[upserts["id"].to_numpy()] = upserts["balance"].to_numpy()
        self._balance[gone] = -1
        nothing = [pa.nulls(deletes, kind) for kind in ROW.types[1:]]
        whole = pa.concat_tables([upserts, pa.table([pa.array(gone), *nothing], schema=ROW)])
        operations = np.repeat(["update", "insert", "delete"], [updates, len(new), deletes])
        mixed = self._rng.permutation(size)
        changes = self.numbered(whole.take(mixed), pa.array(operations[mixed]))
        return Batch(changes, upserts, pa.table({"id": gone}))

    def numbered(self, rows: pa.Table, operations: pa.Array) -> pa.Table:
        """Rows as a changelog has them: decimal digits are hex digits, and sort as well."""
        numbers = pa.array(np.arange(self.sequence, self.sequence + rows.num_rows))
        self.sequence += rows.num_rows
        sequence = pc.utf8_lpad(numbers.cast(pa.string()), 32, "0")
        return pa.Table.from_arrays([operations, sequence, *rows.columns], schema=CHANGE)

    def expected(self) -> tuple[int, int]:
        """How many rows there must be, and the sum of their balances."""
        held = self._balance[self._balance >= 0]
        return len(held), int(held.sum())

    def _made(self, ids: np.ndarray) -> pa.Table:
        texts = pc.utf8_lpad(pa.array(ids * 7919 % 1_000_003).cast(pa.string()), 7, "0")
        moments = pa.array(FIRST_MOMENT + ids * 1_000_000 + self.sequence, pa.timestamp("us", tz="UTC"))
        columns = [
            pa.array(ids),
            pc.binary_join_element_wise("account", texts, "-"),
            pa.array(self._rng.integers(0, 10**9, len(ids))),
            STATES.take(pa.array(ids % len(STATES))),
            moments,
        ]
        return pa.Table.from_arrays(columns, schema=ROW)

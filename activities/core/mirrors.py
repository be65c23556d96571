"""Mirrors: what config says of them, what a snapshot says of how far they have merged, and the arrays that they share.

Keys and sequence numbers of many rows are kept as pairs of 64-bit words in arrays, so that a batch is sorted, folded
and looked up without a step of Python for each row.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from activities.core.faults import MirrorForeign

Words = npt.NDArray[np.uint64]
Schemas = Literal["strict", "permissive"]
SequenceFormat = Literal["auto", "hex", "decimal"]

PREFIX = "icefleet.mirror."
WATERMARK = PREFIX + "watermark"
"""Summary: `Watermark.dump`, beside the data that it speaks of."""
INDEX = PREFIX + "index"
"""Summary: `IndexPointer.dump`, of the head Puffin."""
TAG = "icefleet-watermark"
"""The tag on the snapshot that holds the newest watermark, set in the same commit."""
CHANGELOG_TAG = "icefleet-mirror-{mirror}"
"""The tag on the changelog's last merged snapshot; `mirror` is the identifier with `.` as `--`."""


@dataclass(frozen=True)
class CompactionRules:
    """When files are rewritten, and how large they become."""

    target_file_bytes: int = 256 * 2**20
    small_file_bytes: int = 32 * 2**20
    """Files below this are put together once there are `small_files` of them."""
    small_files: int = 16
    deleted_ratio: float = 0.3
    """A file of which more is deleted is rewritten."""
    bytes_per_turn: int = 2 * 2**30
    """What one compaction rewrites at most."""


@dataclass(frozen=True)
class ExpiryRules:
    """When old snapshots go, and what only they name."""

    keep_snapshots: int = 20
    snapshot_age_seconds: float = 600
    grace_seconds: float = 3600
    """An object that no snapshot names any more is deleted so long after that became true: a reader may be with it."""


@dataclass(frozen=True)
class MirrorConfig:
    """One mirror, resolved."""

    changelog: str
    """Iceberg identifier."""
    mirror: str
    """Iceberg identifier."""
    primary_keys: tuple[str, ...]
    """Column names of the changelog, in this order."""
    sequence_column: str = "cdc_sequence_number"
    sequence_format: SequenceFormat = "auto"
    """How text says a number; `auto`: hex for text. Integers and decimals of scale 0 are what they are."""
    operation_column: str = "cdc_operation"
    unchanged_column: str = "cdc_unchanged"
    """list<string> of columns whose values an update does not carry, which the mirror lacks, too; ignored when the
    changelog has none."""
    metadata_columns: tuple[str, ...] = ("cdc_lsn", "cdc_timestamp", "cdc_unchanged")
    """Columns of the changelog that say something of the change and not of the row: the mirror lacks them, as it
    lacks the operation."""
    schema: Schemas = "strict"
    """Whether a column that the changelog gets is an error until a person has looked, or is added to the mirror."""
    partition: tuple[tuple[str, str], ...] = ()
    """(column, Iceberg transform such as `day` or `bucket[16]`) of the mirror."""
    merge_interval_seconds: float = 3600
    batch_rows: int = 100_000
    """Changes of one piece, at most but for ties."""
    batch_bytes: int = 256 * 2**20
    """Bytes (as Arrow holds them) of one piece; a piece has fewer rows when they are wide."""
    late_event_horizon_seconds: float = 7 * 86400
    """How long after its merge a delete is remembered: an older event that comes later still loses against it."""
    compaction: CompactionRules = CompactionRules()
    expiry: ExpiryRules = ExpiryRules()


@dataclass(frozen=True)
class WordPairs:
    """Two words for each row."""

    high: Words
    low: Words

    def __len__(self) -> int:
        return len(self.high)

    def take(self, rows: npt.NDArray[Any]) -> Self:
        """Those of some rows (indices, or a mask)."""
        return type(self)(self.high[rows], self.low[rows])


@dataclass(frozen=True)
class Keys(WordPairs):
    """Keys of rows as pairs of words: equal pairs, equal keys.

    A single integer key of up to 64 bits is mixed by a bijection into `high`, `low` is 0 (1 for null). All others are
    hashed to 128 bits.
    """


@dataclass(frozen=True)
class Sequences(WordPairs):
    """Sequence numbers as unsigned 128-bit numbers in two words."""


@dataclass(frozen=True)
class Entries:
    """Entries of the index, sorted by key (high, low); a key comes once.

    `file` 0 is a tombstone: the key was deleted by the change with that sequence number. Its `row` is then when that
    was merged, in seconds since 1970.
    """

    keys: Keys
    file: npt.NDArray[np.uint32]
    row: npt.NDArray[np.uint32]
    """0-based position in the data file."""
    sequences: Sequences

    def __len__(self) -> int:
        return len(self.keys)


TOMBSTONE = 0
"""The file number of keys that were deleted."""


@dataclass(frozen=True)
class Watermark:
    """Up to where a mirror has merged its changelog."""

    changelog_uuid: str
    snapshot_id: int | None
    """The newest changelog snapshot of which everything is merged; None: of none."""
    sequence_number: int
    """That snapshot's Iceberg sequence number; 0 for none."""
    committed_ms: int
    """When it was committed; 0 for none."""
    partial: str = ""
    """Of the snapshot that follows: everything with a source sequence number (32 hex digits) up to this is merged."""
    newest: str = ""
    """The greatest source sequence number that was ever merged, 32 hex digits; empty: nothing was."""
    truncated: str = ""
    """The sequence number of the newest truncate: what is older does not count any more; empty: there was none."""
    horizon: str = ""
    """Deletes up to this sequence number are not remembered any more: an insert of an unknown key that is older is
    refused; empty: all are remembered."""
    columns: dict[str, str] = field(default_factory=dict)
    """Name of a column of the changelog → its field id there, as text: what the mirror's columns were made from."""
    partial_ties: int = 0
    """Of the changes with the very number in `partial` only the first so many are; 0: all."""
    partial_snapshot: int | None = None
    """The snapshot that `partial` speaks of; None: of none."""
    partial_sequence_number: int = 0
    """Its Iceberg sequence number: `partial` speaks of no change of a later snapshot."""
    partial_committed_ms: int = 0
    """When it was committed."""

    def dump(self) -> str:
        """As JSON text."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def load(cls, text: str, mirror: str) -> Self:
        """What `dump` wrote.

        Raises:
            MirrorForeign: it is something else.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as wrong:
            raise MirrorForeign(
                f"mirror {mirror}: its snapshot's {WATERMARK} is none of ours: {wrong!r}; roll the mirror back to a "
                "snapshot of ours, or have it begin again (icefleet mirrors merge --bootstrap)"
            ) from wrong


@dataclass(frozen=True)
class IndexPointer:
    """Where the index of a snapshot is."""

    path: str
    """Of the head Puffin."""
    size: int
    """Bytes of the file."""
    sha256: str
    """Of the file's footer, which holds the digests of all that the index is made of."""
    version: int = 2

    def dump(self) -> str:
        """As JSON text."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def load(cls, text: str) -> Self | None:
        """What `dump` wrote; None when it is something else, so that the index is made anew."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None

"""The deletes that a changelog holds: what an index needs that is made anew, so that deleted keys stay deleted."""

from collections.abc import Iterator

import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, ancestors_of

from activities.core import fold
from activities.core.mirrors import MirrorConfig, Sequences, Watermark
from activities.core.sequences import older_than, predecessor, sequence_text, sequence_words
from activities.lake.changecolumns import operations_of, sequences_of
from activities.lake.changelog import PIPELINE
from activities.lake.changemanifests import ChangelogFiles
from activities.lake.changereading import OpenFile, Projection
from activities.lake.changes import ChangelogFile
from activities.lake.content import Files
from activities.lake.storage import metadata_named

_KEEPS_ALL = {Operation.APPEND, Operation.REPLACE}
_DELETE = "delete"


class Deletes:
    """The deletes of a changelog as it is now that count for a mirror, to be gone through once.

    What is newer than anything that the mirror has merged is left out: to the merge that brings it, it would be merged
    already, and the key update that it may be half of could take no values from the row before it.
    """

    def __init__(self, changelog: Table, config: MirrorConfig, watermark: Watermark, files: Files) -> None:
        self._table, self._config, self._files = changelog, config, files
        self._watermark = watermark
        self._wanted = Projection(changelog, (*config.primary_keys, config.sequence_column, config.operation_column))
        self._where = f"changelog {'.'.join(changelog.name())}, column "
        self._merged = _merged_up_to(changelog, watermark)
        self._smallest: tuple[int, int] | None = None
        """Of what is merged: a late change that is not says nothing of what went before it came."""

    @property
    def horizon(self) -> str:
        """Deletes up to this sequence number (32 hex digits) may be missing; empty: none is. Known at the end."""
        known = self._watermark.horizon
        if self._smallest == (0, 0) or _is_whole(self._table):
            return known
        if self._smallest is None:
            return max(known, self._watermark.newest)  # nothing is left of it
        return max(known, sequence_text(*predecessor(*self._smallest)))

    def __iter__(self) -> Iterator[pa.Table]:
        """Tables of the key's columns and the sequence column, as the changelog names and types them today.

        Raises:
            ChangeInvalid: a change has an unknown operation or no sequence number.
            ObjectRefused, StoreRefused, StoreUnavailable: a file cannot be read.
        """
        for file in self._live():
            with self._files.open_most(file.path, file.size) as parquet:
                source = OpenFile(file, parquet, self._wanted)
                is_merged = file.sequence_number <= self._merged
                for group in self._groups(source, is_merged=is_merged):
                    for table in source.batches([group]):
                        yield self._deletes(table, is_merged=is_merged)

    @metadata_named()
    def _live(self) -> list[ChangelogFile]:
        head = self._table.current_snapshot()
        return [] if head is None else ChangelogFiles(self._table, self._config.sequence_column).live(head)

    def _deletes(self, table: pa.Table, *, is_merged: bool) -> pa.Table:
        config = self._config
        sequences = sequences_of(
            table.column(config.sequence_column), config.sequence_format, self._where + config.sequence_column
        )
        operations = operations_of(table.column(config.operation_column), self._where + config.operation_column)
        if is_merged:
            self._see(sequences)
        counts = (operations == fold.DELETE) & older_than(sequences, _successor(self._watermark.newest))
        counts &= ~older_than(sequences, max(self._watermark.truncated, _successor(self._watermark.horizon)))
        return table.drop_columns([config.operation_column]).filter(pa.array(counts))

    def _see(self, sequences: Sequences) -> None:
        if (smallest := _smallest(sequences)) is not None:
            self._see_one(*smallest)

    def _see_one(self, high: int, low: int) -> None:
        self._smallest = (high, low) if self._smallest is None else min(self._smallest, (high, low))

    def _groups(self, source: OpenFile, *, is_merged: bool) -> list[int]:
        """Row groups that may hold deletes: of our own changelogs, statistics say where there are none."""
        groups = range(source.parquet.metadata.num_row_groups)
        if PIPELINE not in self._table.properties:
            return list(groups)
        idle = set()
        for group in groups:
            operations = source.statistics(self._config.operation_column, group)
            sequences = source.statistics(self._config.sequence_column, group)
            if operations is not None and sequences is not None and operations.min > _DELETE:
                idle.add(group)
                if is_merged:
                    self._see_one(*map(int, sequence_words(sequences.min)))
        return [group for group in groups if group not in idle]


def _merged_up_to(changelog: Table, watermark: Watermark) -> int:
    """Up to which of Iceberg's sequence numbers files hold merged changes: a rewrite behind those brings no others."""
    at, number = watermark.snapshot_id, watermark.sequence_number
    if watermark.partial:
        at, number = watermark.partial_snapshot, watermark.partial_sequence_number
    line = ancestors_of(changelog.current_snapshot(), changelog.metadata)
    following = {one.parent_snapshot_id: one for one in line if one.parent_snapshot_id is not None}
    while (after := following.get(at or 0)) and after.summary and after.summary.operation == Operation.REPLACE:
        at, number = after.snapshot_id, after.sequence_number or 0
    return number


def first_horizon(changelog: Table, sequences: Sequences) -> str:
    """Up to where a mirror may miss deletes that begins with these changes, the oldest of its changelog among them."""
    smallest = _smallest(sequences)
    if smallest is None or smallest == (0, 0) or _is_whole(changelog):
        return ""
    return sequence_text(*predecessor(*smallest))


def _smallest(sequences: Sequences) -> tuple[int, int] | None:
    if not len(sequences):
        return None
    high = sequences.high.min()
    return int(high), int(sequences.low[sequences.high == high].min())


def _is_whole(changelog: Table) -> bool:
    """Whether a changelog's history is there to its beginning, and nothing was ever taken away from it."""
    there = {one.snapshot_id: one for one in changelog.snapshots()}
    snapshot = changelog.current_snapshot()
    while snapshot is not None:
        if snapshot.summary is None or snapshot.summary.operation not in _KEEPS_ALL:
            return False
        if snapshot.parent_snapshot_id is None:
            return True
        snapshot = there.get(snapshot.parent_snapshot_id)
    return False


def _successor(text: str) -> str:
    """The next number; of nothing nothing, than which none is older."""
    return f"{int(text, 16) + 1:032x}" if text else ""

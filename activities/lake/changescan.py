"""What is new in a changelog since a mirror's watermark: told from its history, or known to be lost.

Append snapshots bring changes. Rewrites and deletes bring none: what they take away was brought by an append before
them, whose snapshot still names the files. Where snapshots have expired, files tell by their own sequence numbers when
they came, as long as everything that was there before is there still.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from activities.core.faults import BadConfig, ChangeInvalid, WatermarkLost
from activities.core.mirrors import CHANGELOG_TAG, MirrorConfig, Watermark
from activities.lake.changemanifests import ChangelogFiles
from activities.lake.changes import ChangelogFile, ChangelogSnapshot, Pending
from activities.lake.storage import metadata_named

_NEVER = 2**63
WAY_OUT = (
    "have the mirror begin again (icefleet mirrors merge --bootstrap), which leaves it only those rows whose changes "
    "the changelog still has"
)


def tag_name(config: MirrorConfig) -> str:
    """The tag by which a mirror holds a snapshot of its changelog against expiry."""
    return CHANGELOG_TAG.format(mirror=config.mirror.replace(".", "--"))


@metadata_named()
def pending(changelog: Table, watermark: Watermark | None, config: MirrorConfig) -> Pending:
    """What `watermark` does not cover; with None, or one of no snapshot, all that the changelog has.

    Raises:
        WatermarkLost: the changelog was made anew, rolled back, overwritten or expired so that nobody can tell.
        ChangeInvalid: a mirror is to begin with a changelog whose rows are deleted by delete files.
        BadConfig: the changelog has no such sequence column.
        StoreUnavailable, StoreRefused: manifests cannot be read.
    """
    return _Scan(changelog, watermark, config).pending()


@dataclass(frozen=True)
class _Line:
    """The history that leads to the head."""

    newer: Sequence[Snapshot]
    """After the watermark's, oldest first: all of them, or those after some that have expired."""
    reached: bool
    """Whether they follow the watermark's snapshot without a gap."""
    gap: bool
    """Whether they follow a snapshot that has expired, and that is not the watermark's."""


class _Scan:
    def __init__(self, table: Table, watermark: Watermark | None, config: MirrorConfig) -> None:
        self._table, self._config = table, config
        self._name = ".".join(table.name())
        self._uuid = str(table.metadata.table_uuid)
        self._before = watermark or Watermark(self._uuid, None, 0, 0)
        self._files = ChangelogFiles(table, config.sequence_column)
        self._numbered = table.metadata.format_version > 1
        self._rewritten = False
        self._since: list[int] = [_NEVER]
        """When snapshots may have been committed that have expired."""

    def pending(self) -> Pending:
        if self._config.sequence_column not in {field.name for field in self._table.schema().fields}:
            raise BadConfig(
                f"mirror {self._config.mirror}: changelog {self._name} has no column "
                f"{self._config.sequence_column!r}; mend `sequence_column` of the mirror in mirrors.yaml"
            )
        if self._before.changelog_uuid != self._uuid:
            raise self._lost(f"was dropped and made anew (table {self._before.changelog_uuid} is now {self._uuid})")
        known = self._before.snapshot_id
        snapshots = tuple(self._all() if known is None else self._after(known))
        first = next((one.committed_ms for one in snapshots if one.files), 0)
        return Pending(self._table, self._config, self._before, snapshots, min(first, *self._since), self._rewritten)

    # --- a mirror that begins ---------------------------------------------------------------------------------

    def _all(self) -> list[ChangelogSnapshot]:
        """All that there is as if one snapshot had brought it, then what came while that was merged."""
        head = self._table.current_snapshot()
        if head is None:
            if self._before.partial:
                raise self._lost("has no snapshot any more")
            return []
        begun, number = self._before.partial_snapshot, self._before.partial_sequence_number
        self._since += [snapshot.timestamp_ms for snapshot in self._table.snapshots()]
        base = self._table.snapshot_by_id(begun) if begun is not None else None
        line = self._line(begun, number) if begun is not None else None
        if line is not None and not line.reached and not line.gap:
            raise self._rolled_back(f"{begun}, with which the mirror began")
        if base is not None and line is not None and line.reached:
            return [self._state(base), *self._runs(line.newer, base.sequence_number or 0)]
        self._check_no_deletes(head)
        files = self._files.live(head)
        if line is None:
            return [_snapshot(head, files)]
        # The snapshot with which the mirror began has expired. What was rewritten since is merged again, which is
        # idle and does no harm.
        first = [file for file in files if file.sequence_number <= number]
        later = [file for file in files if file.sequence_number > number]
        return [self._partial(first), _snapshot(head, later)]

    def _state(self, snapshot: Snapshot) -> ChangelogSnapshot:
        self._check_no_deletes(snapshot)
        return _snapshot(snapshot, self._files.live(snapshot))

    def _check_no_deletes(self, snapshot: Snapshot) -> None:
        if self._files.has_deletes(snapshot):
            raise ChangeInvalid(
                f"changelog {self._name}: rows of it are deleted by delete files, which mirrors do not read; have it "
                f"rewritten without them (rewrite_data_files), then {WAY_OUT}"
            )

    def _partial(self, files: Iterable[ChangelogFile]) -> ChangelogSnapshot:
        """What is left of the snapshot that is merged in part."""
        before = self._before
        return ChangelogSnapshot(
            before.partial_snapshot or 0, before.partial_sequence_number, before.partial_committed_ms, tuple(files)
        )

    # --- a mirror that goes on --------------------------------------------------------------------------------

    def _after(self, known: int) -> list[ChangelogSnapshot]:
        if self._table.current_snapshot() is None:
            raise self._lost("has no snapshot any more")
        line = self._line(known, self._before.sequence_number)
        self._check_begun(line)
        if line.reached:
            return self._runs(line.newer, self._before.sequence_number)
        if not line.gap:
            raise self._rolled_back(f"{known}, up to which the mirror has merged")
        oldest = line.newer[0]
        return [*self._over_gap(oldest), *self._runs(line.newer[1:], oldest.sequence_number or 0)]

    def _check_begun(self, line: _Line) -> None:
        """See that the history has the snapshot that is merged in part; one that lies in a gap has expired."""
        begun, number = self._before.partial_snapshot, self._before.partial_sequence_number
        if not self._before.partial or any(one.snapshot_id == begun for one in line.newer):
            return
        is_passed = self._numbered and any((one.sequence_number or 0) <= number for one in line.newer)
        if line.reached or is_passed:
            raise self._rolled_back(f"{begun}, which the mirror has merged in part")

    def _line(self, known: int, number: int) -> _Line:
        newer: list[Snapshot] = []
        at = self._table.metadata.current_snapshot_id
        while at is not None:
            if at == known:
                return _Line(newer[::-1], reached=True, gap=False)
            snapshot = self._table.snapshot_by_id(at)
            if snapshot is None:
                return _Line(newer[::-1], reached=False, gap=True)
            if self._numbered and (snapshot.sequence_number or 0) <= number:
                break
            newer.append(snapshot)
            at = snapshot.parent_snapshot_id
        return _Line(newer[::-1], reached=False, gap=False)

    def _over_gap(self, oldest: Snapshot) -> list[ChangelogSnapshot]:
        """What came with the snapshots that have expired, and with the oldest one that has not."""
        before, number = self._before, self._before.sequence_number
        self._since.append(before.committed_ms)
        gone = f"snapshots between {before.snapshot_id}, up to which the mirror has merged, and {oldest.snapshot_id}"
        witness = self._witness()
        if witness is None or not self._numbered:
            raise self._lost(
                f"has let {gone} expire, and no tag {tag_name(self._config)!r} holds what was there before"
            )
        if missing := self._files.missing(witness, oldest):
            raise self._lost(
                f"has let {gone} expire, and lacks {len(missing)} files that it had before, such as {missing[0]}: "
                "they were rewritten or removed, perhaps with changes that are not merged"
            )
        if self._files.has_deletes(oldest, number):
            raise self._lost(f"has let {gone} expire, and rows were deleted from it since")
        files = self._files.live(oldest, number)
        at = before.partial_sequence_number
        if not before.partial or at >= (oldest.sequence_number or 0):
            return [_snapshot(oldest, files)]
        first = [file for file in files if file.sequence_number <= at]
        later = [file for file in files if file.sequence_number > at]
        return [self._partial(first), _snapshot(oldest, later)]

    def _witness(self) -> Snapshot | None:
        """A snapshot from before the gap that is there still: the watermark's, or an older one that the tag holds."""
        known = self._table.snapshot_by_id(self._before.snapshot_id or 0)
        tag = self._table.metadata.refs.get(tag_name(self._config))
        if known is not None or tag is None:
            return known
        held = self._table.snapshot_by_id(tag.snapshot_id)
        is_older = held is not None and (held.sequence_number or 0) <= self._before.sequence_number
        return held if is_older else None

    # --- snapshots without a gap ------------------------------------------------------------------------------

    def _runs(self, newer: Sequence[Snapshot], after: int) -> list[ChangelogSnapshot]:
        """What each snapshot brought. Appends that follow each other are read from the last one's manifests."""
        found: list[ChangelogSnapshot] = []
        for appends, run in groupby(newer, key=_is_append):
            snapshots = list(run)
            if appends:
                found += self._appended(snapshots, after if self._numbered else 0)
            else:
                found += [self._changed(snapshot) for snapshot in snapshots]
            after = snapshots[-1].sequence_number or 0
        return found

    def _appended(self, run: Sequence[Snapshot], after: int) -> list[ChangelogSnapshot]:
        by_id: dict[int, list[ChangelogFile]] = {snapshot.snapshot_id: [] for snapshot in run}
        for file in self._files.added_by(by_id, run[-1], after):
            by_id[file.snapshot_id].append(file)
        return [_snapshot(snapshot, by_id[snapshot.snapshot_id]) for snapshot in run]

    def _changed(self, snapshot: Snapshot) -> ChangelogSnapshot:
        """A snapshot that did something else than append."""
        operation = snapshot.summary.operation if snapshot.summary else None
        if operation in {Operation.REPLACE, Operation.DELETE}:
            self._rewritten = True
            return _snapshot(snapshot, [])
        brought = self._files.brought_by(snapshot)
        if not brought.removed and not brought.deletes:
            return _snapshot(snapshot, brought.added)
        self._rewritten = True
        rows = [sum(file.rows for file in files) for files in (brought.added, brought.removed)]
        ends = [self._files.ends_of(files) for files in (brought.added, brought.removed)]
        is_rewrite = rows[0] == rows[1] and ends[0] == ends[1] is not None
        if brought.added and (brought.deletes or not is_rewrite):
            raise self._lost(
                f"was overwritten by snapshot {snapshot.snapshot_id}: {len(brought.added)} files with {rows[0]} rows "
                f"stand where {len(brought.removed)} with {rows[1]} were, and nobody can tell which of them are new"
            )
        return _snapshot(snapshot, [])

    # --- what is lost -----------------------------------------------------------------------------------------

    def _rolled_back(self, what: str) -> WatermarkLost:
        return self._lost(f"was rolled back: its history lacks snapshot {what}")

    def _lost(self, why: str) -> WatermarkLost:
        return WatermarkLost(f"mirror {self._config.mirror}: its changelog {self._name} {why}; {WAY_OUT}")


def _is_append(snapshot: Snapshot) -> bool:
    return snapshot.summary is not None and snapshot.summary.operation == Operation.APPEND


def _snapshot(snapshot: Snapshot, files: Iterable[ChangelogFile]) -> ChangelogSnapshot:
    number = snapshot.sequence_number or 0
    return ChangelogSnapshot(snapshot.snapshot_id, number, snapshot.timestamp_ms, tuple(files))

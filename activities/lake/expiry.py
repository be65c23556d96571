"""Letting old snapshots go: a commit of metadata alone. Files that nothing names any more are orphans."""

from collections.abc import Callable, Collection, Mapping, Sequence

from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import ancestors_of
from pyiceberg.table.update import AssertRefSnapshotId, RemoveSnapshotsUpdate, SetPropertiesUpdate, TableUpdate

from activities.core.faults import CommitConflict, SchemaConflict
from activities.core.publication import Shown
from activities.core.retention import Moment, expirable
from activities.lake import sending
from activities.lake.catalog import Lake
from activities.lake.history import Announced, snapshots_after
from activities.lake.sending import send, tries

MAIN = "main"
Choice = Callable[[Table], Sequence[int]]


def old_snapshots(
    table: Table,
    announced: Announced,
    shown: Shown,
    *,
    keep: int,
    before_ms: int,
    needed: Collection[int] = (),
) -> list[int]:
    """The snapshots that may go: announced, named by no tag and no other branch, and not the state for long enough.

    What is `shown` to the public stays, and what is `needed`.
    """
    head = table.current_snapshot()
    protected = {snapshot.snapshot_id for snapshot in snapshots_after(table, *announced)} | set(needed)
    protected |= {
        one.snapshot_id for one in table.snapshots() if shown.keeps(one.snapshot_id, one.sequence_number or 0)
    }
    for name, ref in table.metadata.refs.items():
        protected.add(ref.snapshot_id)
        if name != MAIN and ref.snapshot_ref_type == SnapshotRefType.BRANCH:
            named = table.snapshot_by_id(ref.snapshot_id)
            protected.update(one.snapshot_id for one in ancestors_of(named, table.metadata))
    moments = [Moment(one.snapshot_id, one.parent_snapshot_id, one.timestamp_ms) for one in table.snapshots()]
    return expirable(moments, head.snapshot_id if head else None, protected, keep=keep, before_ms=before_ms)


def expire(lake: Lake, identifier: str, choose: Choice, properties: Mapping[str, str] | None = None) -> int:
    """Remove the snapshots that `choose` answers, which is asked again for every head; answers how many went.

    The `properties` become the table's in the same commit.

    Raises:
        SchemaConflict: the table is not there any more.
        CommitConflict, CatalogUnavailable: other writers won every try, or nobody knows.
    """
    sent: set[int] = set()
    unanswered: Exception | None = None
    for may_send in tries():
        table = lake.load(identifier)
        if table is None:
            raise SchemaConflict(f"table {identifier} is not in the catalog any more; nothing is left to be kept")
        gone = sent - {snapshot.snapshot_id for snapshot in table.snapshots()}
        chosen = choose(table)
        if not chosen:
            return len(gone)
        if may_send:
            head = table.current_snapshot()
            updates: list[TableUpdate] = [RemoveSnapshotsUpdate.model_validate({"snapshot-ids": list(chosen)})]
            updates += [SetPropertiesUpdate(updates=dict(properties))] if properties else []
            # A head that has moved may have been rolled back to one of them.
            unmoved = AssertRefSnapshotId.model_validate(
                {"ref": MAIN, "snapshot-id": head.snapshot_id if head else None}
            )
            answer = send(lake, table, updates, [unmoved])
            sent.update(chosen)
            if answer.landed:
                return len(gone | set(chosen))
            unanswered = answer.unanswered
    if unanswered is not None:
        raise lake.unavailable(f"table {identifier}: none of {sending.TRIES} expiries landed", unanswered)
    raise CommitConflict(f"table {identifier}: {sending.TRIES} expiries in a row lost against other writers; ask again")

"""Committing: optimistic, planned anew against every head, and never in doubt.

PyIceberg's own retry re-applies an append to a head that may hold it already, and its clean-up after a refused
commit deletes manifests that a lost answer may have made part of the table. So the updates are built with PyIceberg
and sent by hand: after anything but a clean answer the table is loaded again, and its head decides.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from activities.core.commits import CommitPlan, NewFile, Removal, plan_commit
from activities.core.faults import SchemaConflict
from activities.core.partitions import Span
from activities.core.planning import ExistingFile
from activities.core.tables import PartitionRule
from activities.lake.catalog import Lake
from activities.lake.files import live_files
from activities.lake.layout import check_layout
from activities.lake.mapping import check_mapping
from activities.lake.sending import Attempt, given_up, landed_in, tries
from activities.lake.storage import metadata_named

PropertyUpdate = Callable[[Mapping[str, str]], Mapping[str, str]]


@dataclass(frozen=True)
class Commit:
    """What was committed: nothing (`snapshot_id` None), or one snapshot."""

    snapshot_id: int | None
    plan: CommitPlan


@metadata_named()
def commit_files(
    lake: Lake,
    identifier: str,
    rule: PartitionRule,
    files: Sequence[NewFile],
    describe: Callable[[Table, NewFile], DataFile],
    *,
    summary: Mapping[str, str],
    properties: PropertyUpdate = lambda _: {},
    moves_head: bool = False,
    removals: Sequence[Removal] = (),
) -> Commit:
    """Make `files` part of the table in one snapshot, leaving out what the head already holds, and drop `removals`.

    `describe` makes the manifest's entry of a file from its footer; `properties` answers the table properties that
    are to change, given those that are there. Both are asked again for every head. With `moves_head` properties that
    change make a snapshot even when no file does, so that no other commit which was staged before can land any more.

    Raises:
        SchemaConflict: somebody changed the table so that the files do not fit it any more.
        CommitConflict: other writers won every try.
        CatalogUnavailable: the catalog cannot be reached, or answers every try with an error.
    """
    sent: list[_Staged] = []
    for may_send in tries():
        table = _load(lake, identifier)
        if landed := landed_in(table, sent):
            return Commit(landed.snapshot_id, landed.plan)
        check_layout(table, rule)
        check_mapping(f"table {identifier}", table.properties, table.schema())
        wanted = {file.index for file in files} | {removal.index for removal in removals}
        plan = plan_commit(_head(table, rule, wanted), files, removals)
        changes = {
            name: value for name, value in properties(table.properties).items() if table.properties.get(name) != value
        }
        if not plan.changes_files and not changes:
            return Commit(None, plan)
        if may_send:
            sent.append(_Staged(table, rule, plan, describe, summary, changes, moves_head=moves_head))
            if sent[-1].send(lake):
                return Commit(sent[-1].snapshot_id, plan)
    way_out = "look for a foreign writer, then ask for the same range again: the objects are there and will be adopted"
    raise given_up(lake, identifier, sent[-1], way_out)


def _load(lake: Lake, identifier: str) -> Table:
    table = lake.load(identifier)
    if table is None:
        raise SchemaConflict(
            f"table {identifier} is not in the catalog any more; ask for the export again to make it anew"
        )
    return table


def _head(table: Table, rule: PartitionRule, wanted: set[int]) -> dict[int, ExistingFile]:
    """What the head holds of the partitions at hand; manifests that cannot touch them stay closed."""
    if not wanted:
        return {}
    span = Span(min(wanted), max(wanted) + 1)
    return {
        index: ExistingFile(index, file.file_path, file.record_count, None)
        for index, file in live_files(table, rule, span)
        if index in wanted
    }


class _Staged(Attempt):
    """One try: the plan for one head."""

    def __init__(
        self,
        table: Table,
        rule: PartitionRule,
        plan: CommitPlan,
        describe: Callable[[Table, NewFile], DataFile],
        summary: Mapping[str, str],
        changes: Mapping[str, str],
        *,
        moves_head: bool,
    ) -> None:
        super().__init__(table)
        self.plan = plan
        if plan.changes_files or moves_head:
            files = [describe(table, file) for file in plan.files]
            self.snapshot(summary, files, _files_at(table, rule, plan.outdated))
        self.change_properties(changes)


def _files_at(table: Table, rule: PartitionRule, wanted: Mapping[int, str]) -> list[DataFile]:
    if not wanted:
        return []
    span = Span(min(wanted), max(wanted) + 1)
    return [file for index, file in live_files(table, rule, span) if wanted.get(index) == file.file_path]

"""Many small manifests become few: a snapshot that says what the one before it said."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pyiceberg.table import Table

from activities.core.faults import CommitConflict, SchemaConflict
from activities.lake.catalog import Lake
from activities.lake.manifests import is_small
from activities.lake.rowdelta import HeadMoved, RowDelta, TableGone, commit
from activities.lake.sending import TRIES
from activities.lake.storage import metadata_named

MERGE_AT = 8
"""Small manifests of one kind and spec from which on they are put together: each is a request of every reader."""


@dataclass(frozen=True)
class Merged:
    """How many manifests the head had, and how many it has."""

    before: int = 0
    after: int = 0
    more: bool = False
    """Whether another turn has something to do."""


@metadata_named()
def merge_manifests(lake: Lake, identifier: str, summary: Mapping[str, str], *, dry_run: bool = False) -> Merged:
    """Put small manifests together, data and deletes and each partition spec by itself, in one commit.

    Raises:
        SchemaConflict: the table was dropped or made anew meanwhile.
        CommitConflict, CatalogUnavailable: other writers won every try, or nobody knows.
    """
    for _ in range(TRIES):
        table = lake.load(identifier)
        if table is None:
            return Merged()
        before, small = _counted(table)
        if not small:
            return Merged(before, before)
        if dry_run:
            return Merged(before, before - small + 1)
        try:
            done = commit(lake, table, RowDelta(summary, is_rewrite=True, tag=None, merge_at=MERGE_AT))
        except TableGone as gone:
            raise SchemaConflict(f"table {identifier} was dropped or made anew meanwhile; ask again") from gone
        except HeadMoved:
            continue
        after, left = _counted(done.table)
        return Merged(before, after, more=bool(left))
    raise CommitConflict(
        f"table {identifier}: {TRIES} merges of manifests in a row lost against other writers; ask again"
    )


def _counted(table: Table) -> tuple[int, int]:
    """The manifests of the head, and how many of them are to be put together."""
    head = table.current_snapshot()
    manifests = [] if head is None else head.manifests(table.io)
    small = Counter((one.content, one.partition_spec_id) for one in manifests if is_small(one))
    return len(manifests), sum(count for count in small.values() if count >= MERGE_AT)

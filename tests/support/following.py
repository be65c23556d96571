"""A changelog as a merge goes through it, piece by piece, and what others may do to it meanwhile."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Summary
from pyiceberg.table.update.snapshot import _OverwriteFiles

from activities.core.mirrors import MirrorConfig, Watermark
from activities.lake.catalog import Lake
from activities.lake.changelog import StoredFile, _described
from activities.lake.changepieces import Taken, take
from activities.lake.changes import Pending
from activities.lake.changescan import pending, tag_name
from activities.lake.expiry import expire


def config_of(changelog: str, **more: Any) -> MirrorConfig:
    """A mirror of a changelog."""
    return MirrorConfig(**{"changelog": changelog, "mirror": f"{changelog}_mirror", "primary_keys": ("id",), **more})


@dataclass
class Follower:
    """Takes what is new in a changelog, and remembers by a watermark up to where."""

    lake: Lake
    config: MirrorConfig
    watermark: Watermark | None = None
    pieces: list[int] = field(default_factory=list)
    """How many changes each had that was taken."""

    @property
    def table(self) -> Table:
        """The changelog as it is now."""
        table = self.lake.load(self.config.changelog)
        assert table is not None
        return table

    def pending(self) -> Pending:
        return pending(self.table, self.watermark, self.config)

    def one(self, columns: Sequence[str] = (), found: Pending | None = None) -> Taken | None:
        """The next piece; it is remembered as merged."""
        found = self.pending() if found is None else found
        before = self.watermark or found.before
        names = list(columns) or [self.config.sequence_column, "id"]
        taken = take(found, before, self.lake.files(), names)
        if taken is not None:
            self.pieces.append(taken.piece.rows)
            assert taken.changes.num_rows == taken.piece.rows
            self.watermark = Watermark.load(taken.piece.next_watermark(before).dump(), self.config.mirror)
        return taken

    def all(self, *columns: str, plan_once: bool = True) -> list[tuple[Any, ...]]:
        """Everything that is new, in the order in which it comes; a plan may serve for all pieces, or for one."""
        found = self.pending() if plan_once else None
        rows: list[tuple[Any, ...]] = []
        while taken := self.one(columns, found):
            rows += zip(*(column.to_pylist() for column in taken.changes.columns), strict=True)
        return rows

    def ids(self) -> list[Any]:
        """The column `id` of everything that is new."""
        return [value for (value,) in self.all("id")]

    def tag(self) -> None:
        """Hold the watermark's snapshot against expiry, as a mirror does."""
        assert self.watermark is not None
        assert self.watermark.snapshot_id is not None
        self.table.manage_snapshots().create_tag(self.watermark.snapshot_id, tag_name(self.config)).commit()

    def let_expire(self, *, keep: int = 1) -> int:
        """Let all snapshots go but the newest and those with a tag; answers how many went."""

        def choose(table: Table) -> list[int]:
            staying = {ref.snapshot_id for ref in table.metadata.refs.values()}
            newest = sorted(table.snapshots(), key=lambda one: one.sequence_number or 0)[-keep:]
            staying |= {one.snapshot_id for one in newest}
            return [one.snapshot_id for one in table.snapshots() if one.snapshot_id not in staying]

        return expire(self.lake, self.config.changelog, choose)


def make_changelog(lake: Lake, identifier: str, schema: Schema, **properties: str) -> Table:
    """A changelog of others, with columns and types as they like."""
    catalog = lake.catalog
    catalog.create_namespace_if_not_exists(identifier.rpartition(".")[0])
    return catalog.create_table(identifier, schema=schema, properties=properties)


class _Replace(_OverwriteFiles):
    """What engines call a rewrite: no row comes or goes."""

    def _summary(self, snapshot_properties: Any = ()) -> Summary:
        made = super()._summary(dict(snapshot_properties))
        return Summary(Operation.REPLACE, **made.additional_properties)


def append(table: Table, files: Iterable[StoredFile]) -> None:
    """Add files to one of our changelogs, as an engine would that is not ours."""
    with table.transaction() as transaction:
        producer = transaction.update_snapshot().fast_append()
        for file in _described(table.metadata, files):
            producer.append_data_file(file)
        producer.commit()


def rewrite(table: Table, files: Iterable[StoredFile], operation: Operation = Operation.REPLACE) -> None:
    """Put `files` in the place of all that one of our changelogs has."""
    kind = _Replace if operation == Operation.REPLACE else _OverwriteFiles
    with table.transaction() as transaction:
        producer = kind(operation=Operation.OVERWRITE, transaction=transaction, io=table.io)
        for task in table.scan().plan_files():
            producer.delete_data_file(task.file)
        for file in _described(table.metadata, files):
            producer.append_data_file(file)
        producer.commit()

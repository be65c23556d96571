"""What the snapshots of a table name, and the line before its orphans go."""

from collections.abc import Callable, Mapping
from typing import NoReturn

from pyiceberg.manifest import DataFileContent, ManifestEntry, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from activities.core.faults import SchemaConflict
from activities.core.orphans import PROPERTY, line_of
from activities.core.tables import PartitionRule
from activities.lake.catalog import Lake
from activities.lake.commit import commit_files
from activities.lake.files import index_of_file
from activities.lake.metadatafiles import named_metadata
from activities.lake.neighbours import neighbours
from activities.lake.storage import metadata_named


class Named:
    """Every path that a retained snapshot of a table names, whatever branch or tag holds it.

    Tables of the same namespace that config does not know may hold our files too: one that was renamed, or made by hand
    over them. `is_ours` says whether config has a table of that name, whose files then lie under a prefix of its own.

    Entries that a snapshot deleted count as well. `refresh` reads what is new; what has been named once stays so for
    the life of this object. Methods block.
    """

    def __init__(self, lake: Lake, identifier: str, rule: PartitionRule, is_ours: Callable[[str], bool]) -> None:
        self._lake = lake
        self._rule = rule
        self._is_ours = is_ours
        self._identifier = identifier
        self._places: set[str] = set()
        """`<bucket>/<key>` of every data file, manifest, manifest list and metadata file that has been seen."""
        self._live: set[str] = set()
        """The same of the data files alone that a reader of some snapshot may open."""
        self._manifests: dict[str, tuple[tuple[int, str], ...]] = {}
        """Manifest of the table itself → partition and path of each file in it that is live."""
        self.properties: Mapping[str, str] = {}
        """The table's."""
        self.snapshots: frozenset[int] = frozenset()
        """Ids of the table's own that are retained."""
        self.head: Mapping[int, str] = {}
        """Partition → path of the file that holds it, in the newest snapshot."""
        self.metadata_place = ("", "")
        """Bucket and prefix of the table's metadata."""

    @metadata_named()
    def refresh(self) -> bool:
        """Look at the newest metadata of the table; False when the catalog has no such table.

        Raises:
            StoreUnavailable: a manifest cannot be read, so nobody knows what it names.
        """
        table = self._lake.load(self._identifier)
        if table is None:
            return False
        bucket, _, key = _place(table.location()).partition("/")
        self.metadata_place = (bucket, f"{key.rstrip('/')}/metadata/")
        for one in (table, *neighbours(self._lake, self._identifier, self._is_known)):
            self._places.update(map(_place, named_metadata(one)))
            for snapshot in one.snapshots():
                if _place(snapshot.manifest_list) not in self._places:
                    self._read(one, snapshot, own=one is table)
        self.properties = dict(table.properties)
        self.snapshots = frozenset(snapshot.snapshot_id for snapshot in table.snapshots())
        newest = table.current_snapshot()
        manifests = newest.manifests(table.io) if newest is not None else []
        self.head = dict(file for one in manifests for file in self._manifests.get(one.manifest_path, ()))
        return True

    def _is_known(self, identifier: str) -> bool:
        return self._is_ours(identifier.rpartition(".")[2])

    def _read(self, table: Table, snapshot: Snapshot, *, own: bool) -> None:
        for manifest in snapshot.manifests(table.io):
            if _place(manifest.manifest_path) in self._places:
                continue
            entries = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
            live = [entry for entry in entries if entry.status != ManifestEntryStatus.DELETED]
            if own:
                self._manifests[manifest.manifest_path] = self._held(table, live)
            self._live.update(_place(entry.data_file.file_path) for entry in live)
            self._places.update(_place(entry.data_file.file_path) for entry in entries)
            self._places.add(_place(manifest.manifest_path))
        # Last, so that a snapshot which could not be read to its end is read again.
        self._places.add(_place(snapshot.manifest_list))

    def _held(self, table: Table, live: list[ManifestEntry]) -> tuple[tuple[int, str], ...]:
        files = [entry.data_file for entry in live if entry.data_file.content == DataFileContent.DATA]
        return tuple((index_of_file(table, self._rule, file), file.file_path) for file in files)

    def has(self, bucket: str, key: str) -> bool:
        """Whether a snapshot names this object, be it as one that it deleted."""
        return f"{bucket}/{key}" in self._places

    def is_read(self, bucket: str, key: str) -> bool:
        """Whether a reader of some snapshot may open this object."""
        return f"{bucket}/{key}" in self._live


def _place(path: str) -> str:
    """`<bucket>/<key>` of a path, whichever of the schemes of S3 it was written with."""
    return path.rpartition("://")[2]


def draw_line(lake: Lake, identifier: str, rule: PartitionRule, line: int, summary: dict[str, str]) -> None:
    """See to it that no object made before `line` can become part of the table any more.

    The line stands in the table's properties and comes with a snapshot, so that every commit under way is refused by
    the catalog and, planned anew, sees it. A line that is drawn already is not drawn again.

    Raises:
        CommitConflict, CatalogUnavailable: it could not be drawn, or nobody knows.
    """

    def describe(table: Table, _: object) -> NoReturn:
        raise SchemaConflict(f"table {'.'.join(table.name())}: a line has no files")

    commit_files(
        lake,
        identifier,
        rule,
        [],
        describe,
        summary=summary,
        properties=lambda properties: {PROPERTY: str(line)} if line_of(properties) < line else {},
        moves_head=True,
    )

"""What the snapshots of a mirror name: data, deletes, segments of the index, manifests; and its metadata files."""

from collections.abc import Iterable, Iterator

from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from activities.core.mirrors import INDEX, IndexPointer
from activities.lake.indexcache import IndexCache
from activities.lake.indexhead import IndexUnusable
from activities.lake.indexstore import ReadPart, paths_of
from activities.lake.live import live_entries
from activities.lake.metadatafiles import named_metadata
from activities.lake.placeset import PlaceSet
from activities.lake.storage import metadata_named


class Unknown(Exception):  # noqa: N818 - named for what it says; it does not leave its room
    """Something that names objects cannot be read, so nobody knows which of them are still needed."""


@metadata_named()
def named_by(table: Table, read: ReadPart, cache: IndexCache, put_aside: Iterable[Table] = ()) -> PlaceSet:
    """`<bucket>/<key>` of every object that a snapshot names which has not expired, whatever tag or branch holds it.

    Of mirrors that were put aside it is all but their indexes, which are made anew if somebody wants one back.

    Raises:
        Unknown: the head of an index cannot be read.
        StoreUnavailable: a manifest cannot be read.
    """
    named = PlaceSet(places_of(table))
    for other in put_aside:
        named.update(places_of(other))
    for pointer in _pointers(table.snapshots()):
        try:
            named.update(place_of(path) for path in paths_of(read, cache, pointer))
        except IndexUnusable as unusable:
            raise Unknown(f"the index in {pointer.path}: {unusable}") from unusable
    return named


def places_of(table: Table) -> Iterator[str]:
    """The same of what Iceberg itself knows of a table: metadata, manifests and their lists, data and deletes.

    Some come more than once. In memory are paths of manifests, and entries of a few of these.
    """
    manifests = set[str]()

    def each_once() -> Iterator[ManifestFile]:
        for snapshot in table.snapshots():
            for one in snapshot.manifests(table.io):
                if one.manifest_path not in manifests:
                    manifests.add(one.manifest_path)
                    yield one

    yield from map(place_of, named_metadata(table))
    yield from (place_of(snapshot.manifest_list) for snapshot in table.snapshots())
    for entries in live_entries(table.io, each_once()):
        yield from (place_of(entry.data_file.file_path) for entry in entries)
    yield from map(place_of, manifests)


def _pointers(snapshots: Iterable[Snapshot]) -> list[IndexPointer]:
    said = {str(one.summary[INDEX]) for one in snapshots if one.summary and one.summary[INDEX]}
    return [found for text in said if (found := IndexPointer.load(text)) is not None]


def place_of(path: str) -> str:
    """`<bucket>/<key>` of a path, whichever of the schemes of S3 it was written with."""
    return path.rpartition("://")[2]


def metadata_place(table: Table) -> tuple[str, str]:
    """Bucket and prefix of the table's metadata."""
    bucket, _, key = place_of(table.location()).partition("/")
    return bucket, f"{key.rstrip('/')}/metadata/"

"""A copy of the head's metadata that names nothing but public URLs, and says nothing that is not for the public.

Manifests and manifest lists are copied record by record, with the very schema that they were written with: field ids,
partitions, statistics, statuses, snapshot ids and sequence numbers stay, inherited ones as well, because the entry of
a copy in its list is the source's. Only paths change, and the lengths of manifests.
"""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pyiceberg.avro.codecs import AVRO_CODEC_KEY
from pyiceberg.avro.file import AvroFile, AvroOutputFile
from pyiceberg.io import InputFile, OutputFile, OutputStream
from pyiceberg.manifest import ManifestContent
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.typedef import Record

from activities.core.faults import BadConfig
from activities.core.publication import Place
from activities.lake.schema import NAME_MAPPING
from activities.lake.storage import metadata_named

DATA_FILE, FILE_PATH, MANIFEST_PATH, MANIFEST_LENGTH = 2, 100, 500, 501
"""Ids that Iceberg gives to these fields of manifests and manifest lists."""
BLOCK = 1_000
"""Entries that are held, and written, at once."""
HEADERS = frozenset(
    {
        *("schema", "schema-id", "partition-spec", "partition-spec-id", "format-version", "content"),
        *("snapshot-id", "parent-snapshot-id", "sequence-number", AVRO_CODEC_KEY),
    }
)
COUNTS = ("added-", "changed-", "deleted-", "removed-", "total-")
"""What names of Iceberg's own numbers in a snapshot's summary begin with; the rest is for those who run the fleet."""
KEPT = (
    *("format-version", "table-uuid", "last-sequence-number", "last-column-id", "current-schema-id"),
    *("partition-specs", "default-spec-id", "last-partition-id", "sort-orders", "default-sort-order-id"),
)


@dataclass(frozen=True)
class PublicHead:
    """What is to be published of a table: its current snapshot, and none of those before."""

    manifest_list: str
    """Path of the source."""
    manifests: tuple[str, ...]
    """Paths of the sources."""
    metadata: bytes
    """The table's metadata, to be published as it is."""


@metadata_named()
def public_head(table: Table, place: Place) -> PublicHead | None:
    """The head as the public may see it; None when there is no snapshot.

    Raises:
        BadConfig: the catalog keeps the table where its copy would be; or the table has delete files, whose content
            names data files by paths that are not public.
    """
    snapshot = table.current_snapshot()
    if snapshot is None:
        return None
    # What is old and of no version is swept from there: nothing of the catalog's may lie among it.
    if f"s3://{place.bucket}/{place.prefix}".startswith(f"{table.location().rstrip('/')}/"):
        raise BadConfig(
            f"table {place.table} lies at {table.location()}, where its public copy would be written; give the "
            "catalog's warehouse another place than `storage.prefix`"
        )
    manifests = snapshot.manifests(table.io)
    if any(manifest.content != ManifestContent.DATA for manifest in manifests):
        raise BadConfig(
            f"table {place.table} has delete files, and what they say names files by private paths, so it cannot be "
            "published; rewrite the files that they touch, or publish from an environment without `storage.public_url`"
        )
    return PublicHead(
        snapshot.manifest_list,
        tuple(manifest.manifest_path for manifest in manifests),
        _metadata(table, snapshot, place),
    )


def _metadata(table: Table, snapshot: Snapshot, place: Place) -> bytes:
    """Metadata of one snapshot. The same head always gives the same bytes: by them the published one is known again."""
    whole: dict[str, Any] = json.loads(table.metadata.model_dump_json())
    schemas = {whole["current-schema-id"], snapshot.schema_id}
    mapping = table.properties.get(NAME_MAPPING)
    published = {
        **{name: whole[name] for name in KEPT if name in whole},
        "location": place.url,
        "last-updated-ms": snapshot.timestamp_ms,
        "schemas": [schema for schema in whole["schemas"] if schema["schema-id"] in schemas],
        "properties": {NAME_MAPPING: mapping} if mapping else {},
        "current-snapshot-id": snapshot.snapshot_id,
        "snapshots": [_snapshot(snapshot, place)],
        "snapshot-log": [{"snapshot-id": snapshot.snapshot_id, "timestamp-ms": snapshot.timestamp_ms}],
        "metadata-log": [],
        "refs": {"main": {"snapshot-id": snapshot.snapshot_id, "type": "branch"}},
    }
    return json.dumps(published, sort_keys=True, ensure_ascii=False).encode()


def _snapshot(snapshot: Snapshot, place: Place) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(snapshot.model_dump_json())
    summary = {
        name: value
        for name, value in (whole.get("summary") or {"operation": "append"}).items()
        if name == "operation" or name.startswith(COUNTS)
    }
    kept = {
        name: whole[name] for name in ("snapshot-id", "sequence-number", "timestamp-ms", "schema-id") if name in whole
    }
    return kept | {"summary": summary, "manifest-list": place.at(place.copy(snapshot.manifest_list))}


@metadata_named()
def manifest_copy(table: Table, path: str, place: Place) -> bytes:
    """The copy of a manifest.

    Raises:
        BadConfig: a file lies where the public cannot get it.
    """

    def publish(schema: Schema, entry: Record) -> None:
        at = _position(schema, DATA_FILE)
        file, field = entry[at], schema.fields[at].field_type
        at = _position(field, FILE_PATH)
        file[at] = place.public(file[at])

    return _rewritten(table.io.new_input(path), "manifest_entry", publish)


@metadata_named()
def list_copy(table: Table, path: str, place: Place, lengths: Mapping[str, int]) -> bytes:
    """The copy of a manifest list; `lengths` are the bytes of the copy of each manifest, by the path of its source."""

    def publish(schema: Schema, entry: Record) -> None:
        at = _position(schema, MANIFEST_PATH)
        source = entry[at]
        entry[at] = place.at(place.copy(source))
        entry[_position(schema, MANIFEST_LENGTH)] = lengths[source]

    return _rewritten(table.io.new_input(path), "manifest_file", publish)


def manifests_named(copy: bytes) -> set[str]:
    """The URLs of the manifests that the copy of a manifest list names."""
    with AvroFile[Record](_Memory(copy)) as entries:
        at = _position(entries.schema, MANIFEST_PATH)
        return {str(entry[at]) for entry in entries}


def _position(struct: Any, number: int) -> int:
    return next(at for at, field in enumerate(struct.fields) if field.field_id == number)


def _rewritten(source: InputFile, name: str, change: Callable[[Schema, Record], None]) -> bytes:
    target = _Memory()
    with AvroFile[Record](source) as entries:
        headers = {key: value for key, value in entries.header.meta.items() if key in HEADERS}
        headers.setdefault(AVRO_CODEC_KEY, "null")
        with AvroOutputFile[Record](target, entries.schema, name, metadata=headers) as copies:
            block: list[Record] = []
            for entry in entries:
                change(entries.schema, entry)
                block.append(entry)
                if len(block) == BLOCK:
                    copies.write_block(block)
                    block = []
            if block:
                copies.write_block(block)
            return target.written.getvalue()


class _Memory(OutputFile, InputFile):
    """A file of the Avro library that is held in memory: manifests are small, by the way that they are merged."""

    def __init__(self, content: bytes = b"") -> None:
        super().__init__("memory")
        self.written = io.BytesIO(content)

    def __len__(self) -> int:
        return len(self.written.getvalue())

    def exists(self) -> bool:
        return True

    def to_input_file(self) -> InputFile:
        return self

    def create(self, overwrite: bool = False) -> OutputStream:  # noqa: ARG002, FBT001, FBT002 - the library's signature
        return self.written

    def open(self, seekable: bool = True) -> io.BytesIO:  # noqa: ARG002, FBT001, FBT002
        return self.written

"""What upkeep of a changelog needs to know: what is still named, who needs its history, which files are small."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot, ancestors_of

from activities.core.compactplan import Chosen, FileFacts, choose, is_small
from activities.core.mirrors import CHANGELOG_TAG, CompactionRules
from activities.lake.catalog import Lake
from activities.lake.changelog import PIPELINE, SNAPSHOT, SOURCE_TABLE
from activities.lake.content import Files
from activities.lake.live import LiveFile, live_entries
from activities.lake.mirrorfiles import MadeMirrorFile, MirrorWriter, all_described
from activities.lake.mirrornames import places_of
from activities.lake.mirrorrows import live_rows
from activities.lake.neighbours import neighbours
from activities.lake.placeset import PlaceSet
from activities.lake.rowdelta import RowDelta
from activities.lake.storage import metadata_named

RULES = CompactionRules(
    target_file_bytes=128 * 2**20, small_file_bytes=16 * 2**20, small_files=8, bytes_per_turn=256 * 2**20
)
"""When files of one day are put together. One turn has batches wait for some seconds."""
MOST_BEHIND_MS = 3_600_000
"""How old a mirror's tag may be, beside the head, for its changelog to be compacted."""
MOST_HELD = 5_000
"""Snapshots that stay for a mirror which has not passed a rewrite: one that nobody resumes must begin again then."""
MIRROR_TAG = CHANGELOG_TAG.format(mirror="")


@dataclass(frozen=True)
class Known:
    """A changelog, what is named by it, and until when whatever is not named never will be."""

    table: Table
    named: PlaceSet
    """`<bucket>/<key>`."""
    line: float | None
    """In seconds since the epoch: what was made before, and is not named, no commit can bring any more.

    A batch, a copy and a compaction read the changelog before they store their files, and land only while its position
    is as they have read it. So what is older than the pipeline's last snapshot is too late. None: that one has expired.
    """


@metadata_named()
def known_of(lake: Lake, identifier: str) -> Known | None:
    """What a changelog names, also one of the same source table that was put aside; None when there is none.

    Raises:
        StoreUnavailable: a manifest cannot be read, so nobody knows.
    """
    table = lake.load(identifier)
    if table is None:
        return None
    named = PlaceSet(places_of(table))
    for other in _put_aside(lake, table):
        named.update(places_of(other))
    last = _last_of(table)
    return Known(table, named, None if last is None else last.timestamp_ms / 1000)


def _put_aside(lake: Lake, table: Table) -> Iterator[Table]:
    """Tables of the namespace that may name files of this one."""
    own = table.properties
    for other in neighbours(lake, ".".join(table.name()), lambda _: False):
        said = other.properties
        is_anothers = PIPELINE in said and said.get(SOURCE_TABLE) != own.get(SOURCE_TABLE)
        if not is_anothers:
            yield other


def _last_of(table: Table) -> Snapshot | None:
    """The pipeline's last snapshot."""
    said = table.properties.get(SNAPSHOT)
    return None if said is None else table.snapshot_by_id(int(said))


def needed(table: Table) -> set[int]:
    """Snapshots that must not expire for what is read from the changelog's history.

    That is the pipeline's last one and what came after it, by which a rollback is seen; and, where files were rewritten
    since a mirror's tag, all that came after the tag: the mirror follows them one by one, or has lost its way.
    """
    head = table.current_snapshot()
    line = [] if head is None else list(ancestors_of(head, table.metadata))
    last = _last_of(table)
    needed = set[int]()
    if last is not None and any(one.snapshot_id == last.snapshot_id for one in line):
        needed |= {one.snapshot_id for one in _newer(line, last.snapshot_id)} | {last.snapshot_id}
    for tag in _tags(table):
        newer = _newer(line, tag)
        is_rewritten = any(one.summary is None or one.summary.operation != Operation.APPEND for one in newer)
        if is_rewritten and len(newer) <= MOST_HELD:
            needed |= {one.snapshot_id for one in newer}
    return needed


def _newer(line: Sequence[Snapshot], than: int) -> list[Snapshot]:
    """Those of a line, newest first, that come before a snapshot in it; all when it is not in it."""
    return list(takewhile(lambda one: one.snapshot_id != than, line))


def _tags(table: Table) -> list[int]:
    refs = table.metadata.refs.items()
    return [
        ref.snapshot_id
        for name, ref in refs
        if ref.snapshot_ref_type == SnapshotRefType.TAG and name.startswith(MIRROR_TAG)
    ]


def mirrors_behind(table: Table) -> str:
    """Why the changelog must not be compacted now, in words; empty when no mirror is far behind."""
    head = table.current_snapshot()
    for tag in _tags(table):
        held = table.snapshot_by_id(tag)
        if head is not None and held is not None and head.timestamp_ms - held.timestamp_ms > MOST_BEHIND_MS:
            names = ", ".join(name for name, ref in table.metadata.refs.items() if ref.snapshot_id == tag)
            return (
                f"not compacted: the mirror of tag {names} has not merged what came since long ago; have it go on "
                "(icefleet mirrors list), or remove the tag with an Iceberg client if there is no such mirror any more"
            )
    return ""


@metadata_named()
def small_files(table: Table) -> tuple[Chosen, Mapping[str, LiveFile]]:
    """Which files one turn puts together, and every small file of the head by its path.

    None when rows were deleted by files: whoever does so knows what becomes of them.

    Raises:
        StoreUnavailable: a manifest cannot be read.
    """
    head = table.current_snapshot()
    manifests = [] if head is None else head.manifests(table.io)
    live: dict[str, LiveFile] = {}
    for entries in live_entries(table.io, manifests):
        for entry in entries:
            if entry.data_file.content.value:
                return Chosen((), more=False), {}
            file = LiveFile(entry.data_file, entry.sequence_number or 0)
            if is_small(_facts(file), RULES):  # nothing else is chosen, and of the others there may be very many
                live[file.path] = file
    ordered = sorted(live.values(), key=lambda file: (file.sequence, file.path))
    return choose([_facts(file) for file in ordered], RULES), live


def _facts(file: LiveFile) -> FileFacts:
    data = file.data
    partition = (data.spec_id, tuple(data.partition[place] for place in range(len(data.partition))))
    return FileFacts(file.path, partition, data.file_size_in_bytes, file.rows, 0)


def rewrite(
    table: Table, files: Files, chosen: Sequence[LiveFile], sequence: str, directory: Path
) -> list[MadeMirrorFile]:
    """Write the rows of some files into fewer ones in `directory`, in the order of their sequence numbers.

    In memory are files of which the sequence numbers overlap, which are few: a batch follows the other.

    Raises:
        ObjectRefused, StoreUnavailable: a file cannot be read.
    """
    schema = table.schema()
    field = schema.find_field(sequence)

    def ends(file: LiveFile) -> tuple[bytes, bytes]:
        low, high = (
            (bounds or {}).get(field.field_id, b"") for bounds in (file.data.lower_bounds, file.data.upper_bounds)
        )
        return low, high

    with MirrorWriter(schema, table.spec(), RULES.target_file_bytes, directory) as writer:
        for cluster in clusters(chosen, ends):
            batches = [found.rows for file in cluster for found in live_rows(files, schema, file)]
            if batches:
                writer.add(pa.Table.from_batches(batches).sort_by(sequence))
        return writer.finish()


def clusters(files: Sequence[LiveFile], ends: Callable[[LiveFile], tuple[bytes, bytes]]) -> list[list[LiveFile]]:
    """Files by their days and first values, those beside each other that overlap together."""
    found: list[list[LiveFile]] = []
    day: object = None
    until = b""
    for file in sorted(files, key=lambda one: (_facts(one).partition, ends(one), one.sequence)):
        low, high = ends(file)
        if found and _facts(file).partition == day and low <= until:
            found[-1].append(file)
            until = max(until, high)
        else:
            found.append([file])
            day, until = _facts(file).partition, high
    return found


def delta_of(
    table: Table,
    made: Sequence[MadeMirrorFile],
    stored: Mapping[int, str],
    gone: Sequence[DataFile],
    summary: Mapping[str, str],
) -> RowDelta:
    """What is to be committed; `stored` is ordinal → path."""
    return RowDelta(summary, add=all_described(table.metadata, made, stored), remove=gone, is_rewrite=True, tag=None)

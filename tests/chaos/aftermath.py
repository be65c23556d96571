"""The world after a run: tables, events and objects, each seen by somebody who had no part in it."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from chaos.sources import Source, Tallies, label_of_file, lake_tallies, source_tallies
from chaos.world import ORPHAN_SECONDS, World
from support.direct import metadata_files
from support.evidence import objects, open_uploads
from support.fleet import Fleet, eventually
from support.leftovers import begin_upload, prefix_of_table

BUCKET = "s3://icefleet/"
AGE_SECONDS = 3 * ORPHAN_SECONDS


@dataclass
class TableState:
    """One table at the end, beside its source."""

    source: Tallies
    lake: Tallies
    live: list[str]
    """The partition of every live file."""
    doubled: list[str]
    """Snapshots, of the whole history, in which a partition has more than one file."""
    snapshots: list[str]
    """Oldest first."""
    events: list[dict[str, Any]]
    """As the stream holds them."""
    keys: set[str]
    """Objects that a retained snapshot names."""


@dataclass
class Cleaning:
    """The bucket before and after orphans were removed; names are object keys, or paths of manifests."""

    there: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    public: set[str] = field(default_factory=set)
    """What else lies where the public reads a partition of a table by its URL: no orphan, named or not."""
    unfinished: list[str] = field(default_factory=list)
    """Multipart uploads that nobody ended, before."""
    manifests: set[str] = field(default_factory=set)
    """Manifests and manifest lists that no snapshot names, before."""
    listed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """What `icefleet orphans` lists, as (kind, key)."""
    spared: set[str] = field(default_factory=set)
    """What was there after everything older than a day had been deleted: everything is younger."""
    remaining: set[str] = field(default_factory=set)
    left: list[str] = field(default_factory=list)
    """Unfinished uploads and unnamed manifests, afterwards."""
    tables: dict[str, TableState] = field(default_factory=dict)
    """The tables afterwards."""


async def look_at(fleet: Fleet, source: Source) -> TableState:
    """Everything that is to be known of one table."""
    events = await fleet.events(source.name)
    tallies = await source_tallies(fleet, source)
    return await asyncio.to_thread(_look_at_lake, fleet, source, tallies, events)


def _look_at_lake(fleet: Fleet, source: Source, tallies: Tallies, events: list[dict[str, Any]]) -> TableState:
    table = fleet.table(source.name)
    doubled, keys = [], set()
    for snapshot in table.snapshots():
        paths = table.inspect.files(snapshot.snapshot_id)["file_path"].to_pylist()
        keys |= {path.removeprefix(BUCKET) for path in paths}
        labels = Counter(_label(source, path) for path in paths)
        doubled += [f"{label} in {snapshot.snapshot_id}" for label, files in labels.items() if files > 1]
    return TableState(
        source=tallies,
        lake=lake_tallies(fleet, source),
        live=sorted(_label(source, path) for path in table.inspect.files()["file_path"].to_pylist()),
        doubled=doubled,
        snapshots=[str(snapshot.snapshot_id) for snapshot in table.snapshots()],
        events=events,
        keys=keys,
    )


def _label(source: Source, path: str) -> str:
    return label_of_file(source, path.rpartition(f"/{source.name}/")[2])


async def clean(world: World, tables: dict[str, TableState]) -> Cleaning:
    """Delete what no snapshot names, as an operator would, and look again."""
    fleet = world.fleet
    for source in world.sources:  # there may be no other orphans: most are adopted, or gone
        await world.leave_object(source)
        begin_upload(fleet, f"{prefix_of_table(fleet, source.name)}unfinished.parquet", 2**20)
    there, unfinished = await asyncio.to_thread(lambda: (set(objects(fleet)), open_uploads(fleet)))
    found = Cleaning(there=there, unfinished=unfinished, named=_keys(tables.values()))
    found.public = {public_key(key) for key in found.named} & there - found.named
    found.manifests = await _unnamed_manifests(world)
    found.listed = await _listed(fleet)
    await _icefleet(fleet, "orphans", "--metadata", "--delete", "--older-than", "1d")
    found.spared = await asyncio.to_thread(lambda: set(objects(fleet)))

    async def all_gone() -> bool:
        await _icefleet(fleet, "orphans", "--metadata", "--delete", "--older-than", f"{ORPHAN_SECONDS}s")
        return not await _listed(fleet)

    await eventually(all_gone, seconds=AGE_SECONDS, every=1)
    for source in world.sources:
        await fleet.loop_ended(source.name, seconds=60)
        found.tables[source.name] = await look_at(fleet, source)
    found.remaining = await asyncio.to_thread(lambda: set(objects(fleet)))
    found.left = [*await asyncio.to_thread(open_uploads, fleet), *sorted(await _unnamed_manifests(world))]
    return found


def _keys(tables: Iterable[TableState]) -> set[str]:
    return {key for table in tables for key in table.keys}


def public_key(key: str) -> str:
    """Where the public reads the partition of a data object, which may lie beside an older one."""
    return re.sub(r"-[0-9a-f]{8}(?=\.parquet$)", "", key)


async def _unnamed_manifests(world: World) -> set[str]:
    found = set()
    for source in world.sources:
        _, unnamed = await asyncio.to_thread(metadata_files, world.fleet, source.name)
        found |= unnamed
    return {path.removeprefix("s3://").partition("/")[2] for path in found}


async def _listed(fleet: Fleet) -> Counter[tuple[str, str]]:
    orphans = json.loads(await _icefleet(fleet, "orphans", "--metadata", "--json"))
    return Counter((orphan["kind"], orphan["key"]) for orphan in orphans)


async def _icefleet(fleet: Fleet, *words: str) -> str:
    code, said, errors = await fleet.command(*words, seconds=180)
    assert code == 0, f"icefleet {' '.join(words)} ended with {code}: {errors}"
    return said

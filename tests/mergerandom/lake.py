"""A mirror as three engines read it, and all that its metadata, its index and the store say of it."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq
from pyiceberg.manifest import DataFileContent
from temporalio.testing import ActivityEnvironment

from activities.contracts.mirrors import MirrorInput, VerifyMirrorInput, VerifyMirrorReport
from activities.core.mirrors import INDEX, WATERMARK, IndexPointer, MirrorConfig, Watermark
from activities.lake import mirror as mirrors
from activities.lake.indexcache import cache_at
from activities.lake.indexhead import IndexUnusable
from activities.lake.indexstore import paths_of
from activities.mirror_index import rebuild_index
from activities.verifymirror import verify_mirror
from cdcrandom.lake import Values, read_by_all
from cdcrandom.tables import Table
from cdcrandom.world import World
from mergerandom.mirrors import mirror_of
from support.mirrorcontext import mirror_context
from support.mirrorentries import Entry, entries_said, entries_there
from worker.lake import open_lake
from worker.wiring_mirrors import mirror_config


@dataclass
class Seen:
    """One mirror at the end of a run."""

    identifier: str
    rows: dict[str, list[Values]] = field(default_factory=dict)
    """Reader → every row; the sequence column is among the values."""
    watermark: Watermark | None = None
    changelog_head: int | None = None
    deletes: Counter[str] = field(default_factory=Counter)
    """Data file → live delete files that speak of it."""
    files: int = 0
    snapshots: int = 0
    missing: list[str] = field(default_factory=list)
    """Objects that a snapshot names and that are not there."""
    said: list[Entry] = field(default_factory=list)
    """What the index says of live keys."""
    there: list[Entry] = field(default_factory=list)
    """What it would have to say by the rows."""
    rebuilt: list[Entry] = field(default_factory=list)
    """What it says once it was made anew."""
    verified: VerifyMirrorReport | None = None


async def look_at_mirrors(world: World, tables: Sequence[Table], spoiled: Sequence[str] = ()) -> dict[str, Seen]:
    """The mirror of each of these tables, by the table's identifier; no loop may be at work meanwhile.

    `spoiled` are objects that were destroyed on purpose.
    """
    names = [mirror_of(table) for table in tables]
    seen = {name: Seen(name) for name in names}
    loaded = {name: await asyncio.to_thread(world.fleet.load, name) for name in names}
    for reader, answered in (await asyncio.to_thread(read_by_all, world.fleet, loaded)).items():
        for name, rows in answered.items():
            seen[name].rows[reader] = rows
    configs = configs_of(world)
    for name in names:
        await asyncio.to_thread(_look, world, configs[name], loaded[name], seen[name], spoiled)
    await _make_indexes_anew(world, [configs[name] for name in names], seen)
    return {table.identifier: seen[mirror_of(table)] for table in tables}


def configs_of(world: World) -> dict[str, MirrorConfig]:
    """What config says of every mirror, by its identifier."""
    return {entry.mirror: mirror_config(entry) for entry in world.direct.mirrors.values()}


def _look(world: World, config: MirrorConfig, table: Any, seen: Seen, spoiled: Sequence[str]) -> None:
    lake, cache = open_lake(world.direct), world.fleet.directory / "looking"
    head = table.current_snapshot()
    seen.watermark = Watermark.load(head.summary[WATERMARK], config.mirror)
    seen.changelog_head = lake.catalog.load_table(config.changelog).current_snapshot().snapshot_id
    live = _entries(table, head.manifests(table.io))
    seen.files = sum(one.content == DataFileContent.DATA for one in live)
    seen.snapshots = len(table.snapshots())
    seen.deletes = _deletes(table, [one.file_path for one in live if one.content == DataFileContent.POSITION_DELETES])
    seen.missing = _missing(table, _named(table) | _named_by_indexes(lake, table, cache, spoiled), spoiled)
    mirror = mirrors.read(lake, config)
    assert mirror is not None
    seen.said = entries_said(lake, mirror, cache)
    seen.there = entries_there(lake, config, mirror)


def _entries(table: Any, manifests: Iterable[Any]) -> list[Any]:
    """The files that manifests name and that are not gone."""
    return [
        entry.data_file
        for manifest in manifests
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True)
    ]


def _deletes(table: Any, paths: Sequence[str]) -> Counter[str]:
    """Data file → the live delete files that have a position of it."""
    found: Counter[str] = Counter()
    for path in paths:
        with table.io.new_input(path).open() as file:
            found.update(set(pq.read_table(file, columns=["file_path"])["file_path"].to_pylist()))
    return found


def _named(table: Any) -> set[str]:
    """Every object that a snapshot which has not expired names."""
    named = {snapshot.manifest_list for snapshot in table.snapshots()}
    manifests = {one.manifest_path: one for snapshot in table.snapshots() for one in snapshot.manifests(table.io)}
    return named | set(manifests) | {one.file_path for one in _entries(table, manifests.values())}


def _named_by_indexes(lake: Any, table: Any, cache: Any, spoiled: Sequence[str]) -> set[str]:
    named = set()
    for said in {snapshot.summary[INDEX] for snapshot in table.snapshots() if snapshot.summary[INDEX]}:
        pointer = IndexPointer.load(str(said))
        assert pointer is not None
        try:
            named |= paths_of(lake.files().part, cache_at(cache), pointer)
        except IndexUnusable:
            if pointer.path not in spoiled:
                raise
    return named


def _missing(table: Any, named: set[str], spoiled: Sequence[str]) -> list[str]:
    return sorted(path for path in named if path not in spoiled and not table.io.new_input(path).exists())


async def _make_indexes_anew(world: World, configs: Sequence[MirrorConfig], seen: dict[str, Seen]) -> None:
    """Have each mirror verified, and its index made from scratch by a worker that remembers nothing."""
    cache = world.fleet.directory / "anew"
    name = world.fleet.name
    async with mirror_context(world.fleet.settings(), name, world.fleet.temporal, cache, *configs) as context:
        for config in configs:
            asked = VerifyMirrorInput(name, config.mirror, ranges=4)
            seen[config.mirror].verified = await ActivityEnvironment().run(verify_mirror, context, asked)
            await ActivityEnvironment().run(rebuild_index, context, MirrorInput(name, config.mirror))
            mirror = await asyncio.to_thread(mirrors.read, context.lake, config)
            assert mirror is not None
            seen[config.mirror].rebuilt = await asyncio.to_thread(entries_said, context.lake, mirror, cache)

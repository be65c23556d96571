"""The world after a run: tables, events and objects, each seen by somebody who had no part in it."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from chaos.sources import Source, Tallies, label_of_file, lake_tallies, source_tallies
from chaos.world import World
from support.evidence import objects
from support.fleet import Fleet

BUCKET = "s3://icefleet/"


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
    """The bucket before and after orphans were removed."""

    there: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    orphans: set[str] = field(default_factory=set)
    spared: set[str] = field(default_factory=set)
    """What was there after everything older than an hour had been removed: everything is younger."""
    remaining: set[str] = field(default_factory=set)
    lake: dict[str, Tallies] = field(default_factory=dict)
    """What the tables hold afterwards."""


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
    """Remove what no snapshot names, and look again."""
    fleet = world.fleet
    found = Cleaning(there=set(objects(fleet)), named={key for table in tables.values() for key in table.keys})
    found.orphans = found.there - found.named
    found.spared = found.there
    found.remaining = found.named
    for source in world.sources:
        found.lake[source.name] = await asyncio.to_thread(lake_tallies, fleet, source)
    return found

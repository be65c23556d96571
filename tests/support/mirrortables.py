"""A mirror without its loop: rows put and deleted by hand, each time in one commit."""

import uuid
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from activities.clients.objectstore import ObjectStore
from activities.core.mirrors import WATERMARK, MirrorConfig, Watermark
from activities.core.names import folder_of
from activities.lake import live, mirror, mirrorfiles, positiondeletes, rowdelta
from activities.lake.catalog import Lake
from activities.lake.live import LiveFile
from activities.lake.rowdelta import RowDelta
from activities.mirror_objects import store_objects
from support.changelogs import Changelog, opened
from support.fleet import replace_ports
from support.lakereaders import ask_clickhouse, ask_duckdb, by_clickhouse, by_duckdb, by_pyiceberg
from worker.config import Environment

READERS = (by_pyiceberg, by_duckdb, by_clickhouse)


def watermark(**more: Any) -> Watermark:
    return Watermark(**{"changelog_uuid": "u", "snapshot_id": 1, "sequence_number": 1, "committed_ms": 1, **more})


def read_all(fleet: Any, identifier: str) -> list[tuple[Any, ...]]:
    """Sorted rows of a table, on which all three readers must agree."""
    environment = _environment(fleet)
    found = [sorted(reader(environment, [identifier])[0], key=repr) for reader in READERS]
    assert found[0] == found[1] == found[2]
    return found[0]


def _environment(fleet: Any) -> Environment:
    return replace_ports(fleet.settings().environment(fleet.name), fleet.stack)


@dataclass
class HandMirror:
    """One mirror of a fleet, with store and catalog as `changelog.context` reaches them."""

    fleet: Any
    changelog: Changelog
    config: MirrorConfig
    directory: Path
    target_bytes: int = 2**28
    planned: Any = field(default=None)
    """Whatever a test wants to keep with it."""

    @property
    def lake(self) -> Lake:
        return self.changelog.context.lake

    @property
    def store(self) -> ObjectStore:
        return self.changelog.context.store

    @asynccontextmanager
    async def seen_anew(self):
        """The same mirror by the config that the fleet has now, such as through proxies."""
        async with opened(self.fleet) as changelog:
            yield replace(self, changelog=changelog)

    def create(self) -> mirror.Mirror:
        mirror.create(self.lake, self.config, self.lake.load(self.config.changelog))
        return self.read()

    def drop(self) -> None:
        self.lake.catalog.drop_table(self.config.mirror)

    def read(self) -> mirror.Mirror:
        found = mirror.read(self.lake, self.config)
        assert found is not None
        return found

    def live(self) -> dict[str, LiveFile]:
        return live.live_files(self.read().table)

    async def delta(
        self,
        rows: pa.Table | None = None,
        deleted: Mapping[str, Sequence[int]] | None = None,
        *,
        schema: Any = None,
        **more: Any,
    ) -> RowDelta:
        """A delta of new rows and of deleted ones (path → positions), its files stored."""
        table = self.read().table
        metadata = rowdelta.metadata_after(table, schema)
        made = []
        with mirrorfiles.MirrorWriter(metadata.schema(), metadata.spec(), self.target_bytes, self.directory) as writer:
            if rows is not None:
                for batch in rows.to_batches():
                    writer.add(pa.Table.from_batches([batch]))
            made = writer.finish()
        stored = await self.put({one.ordinal: one.path for one in made}, "data/", ".parquet")
        files = self.lake.files()
        wanted = {path: np.array(positions, np.uint32) for path, positions in (deleted or {}).items()}
        gone = positiondeletes.delete(files, live.live_files(table), wanted)
        paths = await self.put(dict(enumerate(one.body for one in gone.made)), "deletes/", ".parquet")
        return RowDelta(
            summary={WATERMARK: watermark().dump(), **more.pop("summary", {})},
            add=mirrorfiles.all_described(metadata, made, stored),
            remove=[one.data for one in gone.gone],
            add_deletes=[positiondeletes.described(one, paths[number]) for number, one in enumerate(gone.made)],
            remove_deletes=gone.superseded,
            schema=schema,
            **more,
        )

    async def put(self, bodies: Mapping[Any, Any], folder: str, ending: str) -> dict[Any, str]:
        prefix = f"mirrors/{folder_of(self.config.mirror)}/{folder}"
        keys = {name: f"{prefix}{uuid.uuid4()}{ending}" for name in bodies}
        stored = await store_objects(self.store, self.lake.files(), {keys[name]: body for name, body in bodies.items()})
        return {name: stored[key] for name, key in keys.items()}

    async def apply(self, *args: Any, **more: Any) -> int:
        """The same, committed; answers the snapshot."""
        table = self.read().table
        return rowdelta.commit(self.lake, table, await self.delta(*args, **more)).snapshot_id

    def rows(self) -> list[tuple[Any, ...]]:
        """What all three readers see, who must agree."""
        return read_all(self.fleet, self.config.mirror)

    def ids_then(self, snapshot: int) -> list[list[int]]:
        """The ids that each of the three readers finds in an old snapshot."""
        environment, name = _environment(self.fleet), self.config.mirror
        [found] = by_pyiceberg(environment, [name], snapshot)
        [duck] = ask_duckdb(environment, [f"SELECT id FROM lake.{name} AT (VERSION => {snapshot})"])
        [house] = ask_clickhouse(
            environment, [f"SELECT id FROM lake.`{name}` SETTINGS iceberg_snapshot_id = {snapshot}"]
        )
        return [sorted(row[1] for row in found), *(sorted(row[0] for row in rows) for rows in (duck, house))]

    def ids_where(self, condition: str) -> list[list[int]]:
        """The ids that each of the three readers finds with a condition that leaves files out."""
        environment, name = _environment(self.fleet), [self.config.mirror]
        return [sorted(row[1] for row in reader(environment, name, where=[condition])[0]) for reader in READERS]

    def deletes(self) -> list[int]:
        """Of how many data files each live delete file speaks, sorted."""
        files = {one.file_path: one for file in self.live().values() for one in file.deletes}
        return sorted(len(positiondeletes.read(self.lake.files(), one)) for one in files.values())


@asynccontextmanager
async def hand_mirror(fleet: Any, directory: Path, fields: Mapping[str, str] | None = None, **config: Any):
    """A mirror of the fleet's own, made, of a changelog that is made, too; both are empty."""
    async with opened(fleet, **({"fields": dict(fields)} if fields else {})) as changelog:
        await changelog.create()
        settings = {"primary_keys": ("id",), **config}
        made = HandMirror(
            fleet,
            changelog,
            MirrorConfig(changelog=changelog.identifier, mirror=f"{fleet.network}.orders", **settings),
            directory,
        )
        made.create()
        yield made


def rows_of(numbers: Sequence[int], mark: str = "n", **more: Any) -> pa.Table:
    """Rows of the table of `changelogs.FIELDS`; a row's sequence number is its id."""
    return pa.table(
        {
            "cdc_sequence_number": [f"{number:032x}" for number in numbers],
            "id": pa.array(numbers, pa.int64()),
            "name": [f"{mark}{number}" for number in numbers],
            **more,
        }
    )

"""The index of a mirror beside its rows, and what is done to it."""

from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from activities.core.mirrors import INDEX, IndexPointer, MirrorConfig
from activities.lake import mirror as mirrors
from activities.lake.indexcache import IndexCache
from activities.lake.indexhead import IndexUnusable
from activities.lake.indexstore import paths_of
from cdcrandom.world import World
from support.mirrorentries import entries_said
from worker.lake import open_lake


def objects_of(world: World, identifier: str) -> list[str]:
    """The paths of what the index of a mirror's head is made of; nothing if it has none, or none that can be read."""
    table = world.fleet.load(identifier)
    head = table.current_snapshot() if table is not None else None
    pointer = IndexPointer.load(str(head.summary[INDEX])) if head is not None and head.summary[INDEX] else None
    if pointer is None:
        return []
    files = open_lake(world.direct).files()
    with TemporaryDirectory() as cache, suppress(IndexUnusable):
        return sorted(paths_of(files.part, IndexCache(Path(cache)), pointer))
    return []


def is_whole(world: World, config: MirrorConfig) -> bool:
    """Whether a worker that has seen nothing of it can use a mirror's index."""
    lake = open_lake(world.direct)
    mirror = mirrors.read(lake, config)
    assert mirror is not None
    with TemporaryDirectory() as cache, suppress(IndexUnusable):
        entries_said(lake, mirror, Path(cache))
        return True
    return False


def lose(world: World, identifier: str) -> list[str]:
    """Delete a mirror's index, and what workers keep of indexes on disk; answers the paths of the objects."""
    paths = objects_of(world, identifier)
    io = world.fleet.load(identifier).io if paths else None
    for path in paths:
        io.delete(path)
    forget(world)
    return paths


def damage(world: World, rng: Random, identifier: str) -> list[str]:
    """Flip a bit of an object of a mirror's index; a worker that has looked into it before need not notice."""
    paths = objects_of(world, identifier)
    if not paths:
        return []
    path = rng.choice(paths)
    io = world.fleet.load(identifier).io
    with io.new_input(path).open() as stream:
        content = bytearray(stream.read())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    with io.new_output(path).create(overwrite=True) as stream:
        stream.write(bytes(content))
    forget(world)
    return [path]


def forget(world: World) -> None:
    """Delete what workers keep of indexes, but for what one of them is just writing."""
    for kept in (world.fleet.directory / "indexes").glob("*"):
        if kept.is_file() and kept.suffix != ".part":
            kept.unlink(missing_ok=True)

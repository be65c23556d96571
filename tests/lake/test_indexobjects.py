"""An index in a real store is read by ranges; what has gone or was cut short there makes it unusable."""

import numpy as np
import pytest

from activities.core.indexmoves import moves_of
from activities.lake import indexstore
from activities.lake.indexcache import IndexCache
from activities.lake.indexhead import IndexUnusable
from activities.lake.indexstore import open_index, paths_of
from activities.lake.remembered import Remembered
from support.indexes import UUID, Carried, entries_of, found_of, keys_of


@pytest.fixture
async def stored(fleet, tmp_path):
    """What activities have at hand, and an index of two merges in the store."""
    async with fleet.context() as context:
        carried = Carried(tmp_path / "here", context.store.path(f"{fleet.name}/index/"))
        carried.known = {(number, 0): (1, number, (0, 1)) for number in range(500)}
        carried.merge(entries_of(carried.known), new=["a"])
        carried.merge(entries_of({(1, 0): (0, 5, (0, 2))}))
        carried.known[1, 0] = (0, 5, (0, 2))
        for path, body in carried.store.held.items():
            assert await context.store.create(context.store.key(path), body, "index")
        yield context, carried


async def test_a_worker_without_a_cache_reads_the_index_from_the_store(stored, tmp_path):
    context, carried = stored
    index = open_index(context.lake.files().part, IndexCache(tmp_path / "new"), carried.pointer, UUID, ["a"])
    keys = keys_of(carried.known)
    assert found_of(keys, index.find(keys)) == carried.known


@pytest.mark.parametrize("which", [0, 1])
async def test_an_object_that_has_gone_from_the_store_makes_the_index_unusable_case_35(stored, tmp_path, which):
    context, carried = stored
    path = list(carried.store.held)[which]
    await context.store.delete(context.store.key(path))
    with pytest.raises(IndexUnusable, match=f"{path} is not there"):
        open_index(context.lake.files().part, IndexCache(tmp_path / "new"), carried.pointer, UUID, ["a"])


@pytest.mark.parametrize("kept", [0, 1])
async def test_an_object_that_was_cut_short_in_the_store_makes_the_index_unusable_case_35(stored, tmp_path, kept):
    context, carried = stored
    for number, (path, body) in enumerate(carried.store.held.items()):
        await context.store.delete(context.store.key(path))
        await context.store.create(context.store.key(path), body[: len(body) * kept // 4], "cut")
        with pytest.raises(IndexUnusable, match=path):
            open_index(context.lake.files().part, IndexCache(tmp_path / f"{number}"), carried.pointer, UUID, ["a"])
        await context.store.delete(context.store.key(path))
        await context.store.create(context.store.key(path), body, "whole")


async def test_moves_are_kept_in_the_store_as_long_as_a_segment_does_not_know_of_them_case_35(
    stored, tmp_path, monkeypatch
):
    context, carried = stored
    count = np.arange(500, dtype=np.uint32)
    moves = moves_of([(1, count, np.full(500, 2, np.uint32), count)])
    carried.merge(entries_of({}), new=["b"], gone={1}, moves=moves)
    where = carried.pointer.path
    carried.merge(entries_of({(7, 0): (2, 7, (0, 3))}))
    known = {key: (2 * bool(file), row, number) for key, (file, row, number) in carried.known.items()}
    known[7, 0] = (2, 7, (0, 3))
    assert where in paths_of(carried.store.part, carried.cache, carried.pointer)
    for path in list(carried.store.held)[2:]:
        assert await context.store.create(context.store.key(path), carried.store.held[path], "index")
    read, keys = context.lake.files().part, keys_of(known)
    monkeypatch.setattr(indexstore, "known_moves", Remembered(0, len))
    assert (
        found_of(keys, open_index(read, IndexCache(tmp_path / "a"), carried.pointer, UUID, ["b"]).find(keys)) == known
    )
    await context.store.delete(context.store.key(where))
    with pytest.raises(IndexUnusable, match=where):
        open_index(read, IndexCache(tmp_path / "b"), carried.pointer, UUID, ["b"])

"""An index in a real store is read by ranges; what has gone or was cut short there makes it unusable."""

import pytest

from activities.lake.indexcache import IndexCache
from activities.lake.indexhead import IndexUnusable
from activities.lake.indexstore import open_index
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

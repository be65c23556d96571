"""An index that is missing, damaged or somebody else's is never believed: it is unusable and says why, or right."""

import json
from dataclasses import replace

import numpy as np
import pytest

from activities.core.faults import ObjectRefused, StoreUnavailable
from activities.core.mirrors import IndexPointer
from activities.lake import segmentfile
from activities.lake.indexcache import IndexCache
from activities.lake.indexhead import Head, IndexUnusable
from activities.lake.indexstaging import Staging
from activities.lake.indexstore import open_index, paths_of
from support.indexes import UUID, Carried, entries_of, found_of, keys_of


@pytest.fixture
def carried(tmp_path):
    """An index of three merges, the last of which has two others' segments beside its own."""
    made = Carried(tmp_path / "cache")
    made.known = {}
    for sequence in range(1, 4):
        run = {(1000 * number + sequence % 2, 0): (1, number, (sequence, number)) for number in range(200)}
        made.known |= run
        made.merge(entries_of(run), new=["s3://bucket/a.parquet"] if sequence == 1 else ())
    return made


def looked_up(carried, cache):
    keys = keys_of([*carried.known, (5, 5)])
    return found_of(keys, carried.reopen(["s3://bucket/a.parquet"], cache=cache).find(keys))


def usable_or_said(carried, cache):
    """Whether it was usable; then it was right."""
    try:
        found = looked_up(carried, cache)
    except IndexUnusable:
        return False
    assert found == carried.known
    return True


def places(size, rng):
    """A sample of the places of a file: its ends, where its marks and lengths are, and some of the rest."""
    ends = [*range(min(12, size)), *range(max(0, size - 24), size)]
    return sorted({*ends, *rng.integers(0, size, 30).tolist()})


def test_every_flipped_byte_of_what_is_in_the_store_is_noticed_case_35(carried, tmp_path):
    rng, caught = np.random.default_rng(1), 0
    for path, whole in list(carried.store.held.items()):
        for place in places(len(whole), rng):
            broken = bytearray(whole)
            broken[place] ^= 1 << int(rng.integers(0, 8))
            carried.store.held[path] = bytes(broken)
            caught += not usable_or_said(carried, IndexCache(tmp_path / f"new-{len(path)}-{path[-8]}-{place}"))
        carried.store.held[path] = whole
    assert caught > 80
    assert usable_or_said(carried, IndexCache(tmp_path / "whole"))


def test_every_flipped_byte_of_the_cache_is_noticed_and_the_store_is_asked_again(carried, tmp_path):
    rng, checked = np.random.default_rng(2), 0
    for path in sorted(carried.cache.directory.iterdir()):
        whole = path.read_bytes()
        for place in places(len(whole), rng):
            broken = bytearray(whole)
            broken[place] ^= 1 << int(rng.integers(0, 8))
            path.unlink()  # what is mapped stays what it was
            path.write_bytes(bytes(broken))
            assert usable_or_said(carried, IndexCache(carried.cache.directory))
            checked += 1
    assert checked > 180


@pytest.mark.parametrize("kept", [0, 1, 11, 12, 0.3, 0.6, 0.9, 0.999, -1])
def test_what_was_truncated_is_noticed_case_35(carried, tmp_path, kept):
    for number, (path, whole) in enumerate(list(carried.store.held.items())):
        left = whole[: int(len(whole) * kept) if isinstance(kept, float) else kept]
        carried.store.held[path] = left
        segments = [record.place for record in carried.index.head.segments if record.place.path == path]
        # Of older ones only a segment is needed.
        needed = len(whole) if path == carried.pointer.path else segments[0].offset + segments[0].length
        assert usable_or_said(carried, IndexCache(tmp_path / f"{number}")) == (len(left) >= needed)
        carried.store.held[path] = whole


def test_what_is_truncated_in_the_cache_is_fetched_again(carried):
    for path in carried.cache.directory.iterdir():
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[: len(content) // 2])
    assert usable_or_said(carried, IndexCache(carried.cache.directory))
    assert carried.store.asked


def test_what_was_cached_in_another_layout_is_fetched_again(carried, monkeypatch):
    monkeypatch.setattr(segmentfile, "_LAYOUT", segmentfile._LAYOUT + 1)
    assert usable_or_said(carried, IndexCache(carried.cache.directory))
    assert carried.store.asked


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_missing_object_is_noticed_and_said_case_35(carried, tmp_path, which):
    missing = list(carried.store.held)[which]

    def read(path, offset, length):
        if path == missing:
            raise ObjectRefused(f"object {path} is not there")
        return carried.store.part(path, offset, length)

    with pytest.raises(IndexUnusable, match=f"{missing}.*is not there"):
        open_index(read, IndexCache(tmp_path / "new"), carried.pointer, UUID, ["s3://bucket/a.parquet"])


def test_a_store_that_does_not_answer_says_nothing_of_the_index(carried, tmp_path):
    def read(path, offset, length):
        raise StoreUnavailable("no answer")

    with pytest.raises(StoreUnavailable):
        open_index(read, IndexCache(tmp_path / "new"), carried.pointer, UUID, ["s3://bucket/a.parquet"])


@pytest.mark.parametrize(
    ("pointer", "reason"),
    [
        (None, "names none"),
        ({"version": 3}, "version 3"),
        ({"sha256": "0" * 64}, "not what the snapshot says"),
        ({"size": 100}, "damaged"),
        ({"size": 1_000_000}, "too early"),
        ({"size": 0}, "damaged"),
    ],
)
def test_a_pointer_that_does_not_fit_is_noticed_case_35(carried, tmp_path, pointer, reason):
    given = replace(carried.pointer, **pointer) if pointer is not None else None
    with pytest.raises(IndexUnusable, match=reason):
        open_index(carried.store.part, IndexCache(tmp_path / "new"), given, UUID, ["s3://bucket/a.parquet"])


def test_an_older_head_than_the_snapshot_s_is_not_used_case_36(carried, tmp_path):
    older, there = carried.pointer, ["s3://bucket/a.parquet", "s3://bucket/b.parquet"]
    carried.merge(entries_of({(3, 0): (2, 0, (9, 9))}), new=there[1:], live_rows=401)
    with pytest.raises(IndexUnusable, match=r"1 data files that it does not know, such as s3://bucket/b\.parquet"):
        open_index(carried.store.part, carried.cache, older, UUID, there)
    with pytest.raises(IndexUnusable, match="written for 401 rows, and the mirror has 400"):
        open_index(carried.store.part, carried.cache, carried.pointer, UUID, there, 400)
    assert open_index(carried.store.part, carried.cache, carried.pointer, UUID, there, 401).next_file == 3


def test_the_index_of_another_table_is_not_used(carried):
    with pytest.raises(IndexUnusable, match="that of table"):
        open_index(carried.store.part, carried.cache, carried.pointer, "another", ["s3://bucket/a.parquet"])


@pytest.mark.parametrize("there", [[], ["s3://bucket/x.parquet"]])
def test_a_data_file_that_has_gone_is_noticed_when_the_index_is_opened_case_37(carried, there):
    with pytest.raises(
        IndexUnusable, match=r"1 data files that the mirror has no more, such as s3://bucket/a\.parquet"
    ):
        open_index(carried.store.part, carried.cache, carried.pointer, UUID, there)


@pytest.mark.parametrize("number", [2, 3, 2**32 - 1])
def test_an_entry_for_a_removed_file_is_noticed_when_it_is_looked_up_case_37(tmp_path, number):
    cache = IndexCache(tmp_path)
    with Staging(cache) as staging:
        entries = entries_of({(1, 0): (1, 5, (0, 1)), (2, 0): (number, 5, (0, 1))})
        head = Head(UUID, next_file=3, segments=tuple(staging.segment("run", 0, [entries])))
        staged = staging.finish(head, {1: "a"})
    pointer = staged.pointer("head")
    index = open_index(
        lambda _, offset, length: staged.path.read_bytes()[offset:][:length], cache, pointer, UUID, ["a"]
    )
    assert index.find(keys_of([(1, 0)])).known.all()
    with pytest.raises(IndexUnusable, match=f"data files that are gone, such as number {number}"):
        index.find(entries.keys)


def headed(tmp_path, change):
    """Open an index whose head's text was changed before it was signed."""
    read, cache, pointer = changed(tmp_path, change)
    return open_index(read, cache, pointer, UUID, ["a"])


def changed(tmp_path, change):
    """How to read such an index, and its pointer."""
    cache = IndexCache(tmp_path)
    with Staging(cache) as staging:
        segments = staging.segment("run", 0, [entries_of({(1, 0): (1, 5, (0, 1))})])
        head = _Changed(change, Head(UUID, next_file=2, segments=tuple(segments)))
        staged = staging.finish(head, {1: "a"})
    body = staged.path.read_bytes()
    return (lambda _, offset, length: body[offset:][:length]), cache, staged.pointer("head")


class _Changed:
    def __init__(self, change, head):
        self._change, self._head = change, head

    @property
    def places(self):
        return self._head.places

    def __replace__(self, **fields):
        return _Changed(self._change, replace(self._head, **fields))

    def dump(self):
        said = json.loads(self._head.dump())
        self._change(said)
        return json.dumps(said)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda said: said.update(version=3), "of version 3, and this release reads 2"),
        (lambda said: said.pop("version"), "cannot be read"),
        (lambda said: said.update(unknown=1), "cannot be read"),
        (lambda said: said.update(files=None), "cannot be read"),
        (lambda said: said["segments"][0].update(kind="other"), "no segments of kind 'other'"),
        (lambda said: said["segments"][0].update(rows=7), "has not 7 entries"),
        (lambda said: said.update(next_file=1), "never given"),
    ],
)
def test_a_head_that_says_something_else_is_not_used_case_35(tmp_path, monkeypatch, change, reason):
    monkeypatch.setattr("activities.lake.indexstaging.replace", lambda head, **fields: head.__replace__(**fields))
    with pytest.raises(IndexUnusable, match=reason):
        headed(tmp_path, change)


def test_bytes_that_are_no_puffin_are_not_used_case_35(tmp_path):
    pointer = IndexPointer("x", 100, "0" * 64)
    for content in (bytes(100), b"PFA1" * 25, b"PAR1" * 25, b"{" * 100):
        with pytest.raises(IndexUnusable):
            open_index(lambda _, o, n, c=content: c[o:][:n], IndexCache(tmp_path), pointer, UUID, [])


def test_an_index_keeps_what_it_has_opened_when_its_cache_is_deleted(carried):
    for path in carried.cache.directory.iterdir():
        path.unlink()
    keys = keys_of(carried.known)
    assert found_of(keys, carried.index.find(keys)) == carried.known
    carried.merge(entries_of({(7, 7): (1, 1, (9, 9))}))
    assert found_of(keys, carried.index.find(keys)) == carried.known


@pytest.fixture
def _changeable(monkeypatch):
    monkeypatch.setattr("activities.lake.indexstaging.replace", lambda head, **fields: head.__replace__(**fields))


def former(said):
    """A head as version 1 had it, with a segment in an earlier object."""
    del said["moves"], said["moved"]
    for segment in said["segments"]:
        del segment["moved"]
    elsewhere = {**said["segments"][0], "place": {**said["segments"][0]["place"], "path": "before"}}
    said.update(version=1, segments=[*said["segments"], elsewhere])


@pytest.mark.usefixtures("_changeable")
def test_objects_of_an_index_of_an_earlier_version_are_known_although_it_is_made_anew_case_35(tmp_path):
    read, cache, pointer = changed(tmp_path, former)
    pointer = replace(pointer, version=1)
    assert paths_of(read, cache, pointer) == {"head", "before"}
    with pytest.raises(IndexUnusable, match="of version 1, and this release reads 2"):
        open_index(read, cache, pointer, UUID, ["a"])


@pytest.mark.usefixtures("_changeable")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda said: said.update(version=3), "of version 3, and this release knows 2 and earlier ones"),
        (lambda said: said["files"].pop("path"), "cannot be read"),
        (lambda said: said.update(moves=None), "cannot be read"),
    ],
)
def test_objects_of_an_index_that_says_something_else_are_unknown_case_35(tmp_path, change, reason):
    with pytest.raises(IndexUnusable, match=reason):
        paths_of(*changed(tmp_path, change))

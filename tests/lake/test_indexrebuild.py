"""An index that was lost is made anew from rows and deletes, whatever their number and order, and says the same."""

import tracemalloc

import numpy as np
import pytest

from activities.core.index import joined
from activities.core.indexsort import rows_of_file, tombstones
from activities.core.mirrors import Entries, Keys, Sequences
from activities.lake.indexcache import IndexCache
from activities.lake.indexrebuild import rebuild
from activities.lake.indexstore import open_index
from support.indexes import UUID, Carried, entries_of, found_of, keys_of, pairs_of, values_of

MEGABYTE = 2**20


def opened(cache, rebuilt, files):
    with rebuilt.staged as staged:
        body = staged.path.read_bytes()
    pointer = staged.pointer("s3://bucket/head.puffin")
    return open_index(lambda _, offset, length: body[offset:][:length], cache, pointer, UUID, list(files.values()))


def mixed(rng, entries):
    order = rng.permutation(len(entries))
    return Entries(entries.keys.take(order), entries.file[order], entries.row[order], entries.sequences.take(order))


@pytest.mark.parametrize("memory", [192 * 50, 192 * 1000, 192 * 10**6])
def test_it_says_what_the_lost_one_said_however_little_memory_there_is_case_39(tmp_path, memory):
    rng, carried = np.random.default_rng(1), Carried(tmp_path / "old")
    known = {}
    for sequence in range(1, 20):
        keys = [(int(one), 0) for one in rng.integers(0, 500, 60, dtype=np.uint64) * np.uint64(2**50)]
        known |= {key: (int(rng.integers(0, 3)), row, (sequence, row)) for row, key in enumerate(keys)}
        run = {key: known[key] for key in keys}
        carried.merge(entries_of(run), new=["a", "b"] if sequence == 1 else ())
    everything = entries_of(known)
    every_delete = entries_of(dict.fromkeys(known, (0, 5, (0, 3))))  # older ones, of keys that came back or did not
    entries = joined([everything, every_delete])
    batches = [mixed(rng, _some(entries, begin, begin + 40)) for begin in range(0, len(entries), 40)]
    cache = IndexCache(tmp_path / "new")
    files = dict(carried.index.files)
    rebuilt = rebuild(cache, UUID, files, iter(batches), tombstone_cut=0, memory_bytes=memory)
    index = opened(cache, rebuilt, files)
    keys = keys_of(known)
    assert found_of(keys, index.find(keys)) == found_of(keys, carried.index.find(keys)) == known
    assert (rebuilt.entries, rebuilt.doubled) == (_spilled(batches, memory // 192), 0)
    assert {record.kind for record in index.head.segments} == {"base"}
    assert index.next_file == 3
    assert list((tmp_path / "new").glob("*.part")) == []


def _some(entries, begin, end):
    rows = slice(begin, end)
    return Entries(entries.keys.take(rows), entries.file[rows], entries.row[rows], entries.sequences.take(rows))


def test_entries_of_many_rows_take_no_more_memory_than_the_cap_case_39(tmp_path):
    count, batch = 500_000, 10_000

    def batches():
        rng = np.random.default_rng(2)
        for number in range(count // batch):
            high = rng.integers(0, 2**64, batch, dtype=np.uint64)
            zeros = np.zeros(batch, np.uint64)
            positions = np.arange(number * batch, (number + 1) * batch)
            yield rows_of_file(1, positions, Keys(high, zeros), Sequences(zeros, positions.astype(np.uint64)))

    peaks = []
    for memory in (8 * MEGABYTE, 256 * MEGABYTE):
        cache = IndexCache(tmp_path / f"{memory}")
        tracemalloc.start()
        rebuilt = rebuild(cache, UUID, {1: "a"}, batches(), tombstone_cut=0, memory_bytes=memory)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        index = opened(cache, rebuilt, {1: "a"})
        assert sum(record.rows for record in index.head.segments) == count
        for some in batches():
            order = np.argsort(some.keys.high)
            assert (index.find(some.keys.take(order)).row == some.row[order]).all()
    assert peaks[0] < 8 * MEGABYTE + 24 * MEGABYTE < peaks[1]


def test_a_delete_is_remembered_and_a_late_insert_of_its_key_is_told_case_35(tmp_path):
    keys = Keys(np.array([1, 2], np.uint64), np.zeros(2, np.uint64))
    sequences = Sequences(np.zeros(2, np.uint64), np.array([10, 20], np.uint64))
    row = rows_of_file(1, np.array([4]), keys.take([0]), sequences.take([0]))
    deleted = tombstones(keys.take([1]), sequences.take([1]), merged_at=1000)
    cache = IndexCache(tmp_path)
    index = opened(cache, rebuild(cache, UUID, {1: "a"}, [deleted, row], tombstone_cut=1000), {1: "a"})
    assert found_of(keys, index.find(keys)) == {(1, 0): (1, 4, (0, 10)), (2, 0): (0, 1000, (0, 20))}


def test_a_delete_from_before_the_horizon_is_forgotten_and_the_horizon_says_so(tmp_path):
    keys = Keys(np.array([1, 2], np.uint64), np.zeros(2, np.uint64))
    sequences = Sequences(np.array([1, 2], np.uint64), np.array([10, 20], np.uint64))
    rebuilt = rebuild(IndexCache(tmp_path), UUID, {}, [tombstones(keys, sequences, 1000)], tombstone_cut=1001)
    assert rebuilt.staged.horizon == f"{2:016x}{20:016x}"
    assert not opened(IndexCache(tmp_path), rebuilt, {}).find(keys).known.any()


def test_two_rows_of_one_key_are_counted(tmp_path):
    keys = Keys(np.array([1, 1, 1], np.uint64), np.zeros(3, np.uint64))
    sequences = Sequences(np.zeros(3, np.uint64), np.array([5, 9, 7], np.uint64))
    for memory in (192, 10**6):
        cache = IndexCache(tmp_path / f"{memory}")
        batches = [
            rows_of_file(1, np.array([place]), keys.take([place]), sequences.take([place])) for place in range(3)
        ]
        rebuilt = rebuild(cache, UUID, {1: "a"}, batches, tombstone_cut=0, memory_bytes=memory)
        assert rebuilt.doubled == 2
        found = opened(cache, rebuilt, {1: "a"}).find(keys.take([0]))
        assert (pairs_of(keys.take([0])), values_of(found)) == ([(1, 0)], [(1, 1, (0, 9))])


def test_an_index_made_anew_is_carried_on_by_merges(tmp_path):
    carried = Carried(tmp_path)
    row = entries_of({(1, 0): (1, 4, (0, 10)), (2, 0): (2, 4, (0, 10))})
    rebuilt = rebuild(carried.cache, UUID, {1: "a", 2: "b"}, [row], tombstone_cut=0, live_rows=2)
    with rebuilt.staged as staged:
        carried.store.held["head"] = staged.path.read_bytes()
        carried.pointer = staged.pointer("head")
    carried.reopen(["a", "b"], live_rows=2)
    carried.merge(entries_of({(1, 0): (3, 0, (0, 11))}), new=["c"], gone={1})
    keys = keys_of([(1, 0), (2, 0)])
    assert found_of(keys, carried.index.find(keys)) == {(1, 0): (3, 0, (0, 11)), (2, 0): (2, 4, (0, 10))}


def _spilled(batches, most):
    """How many entries are left of each spill, all together: what is given, less what a spill has twice."""
    total, held = 0, []
    for batch in [*batches, None]:
        if held and (batch is None or sum(map(len, held)) + len(batch) > most):
            total += len({key for one in held for key in pairs_of(one.keys)})
            held = []
        held.append(batch)
    return total

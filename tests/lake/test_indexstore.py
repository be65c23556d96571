"""An index that many merges carried on says what a dict says; rounds of merging into the base go on beside merges."""

import os
import resource
from pathlib import Path

import duckdb
import numpy as np
import pytest
from pyiceberg.table.puffin import PuffinFile

from activities.core import indexplan
from activities.core.index import find
from activities.core.indexmoves import moves_of
from activities.core.indexsegments import segment_of
from activities.core.mirrors import Entries, Keys
from activities.lake import indexadvance, indexstaging
from activities.lake.indexcache import IndexCache
from activities.lake.indexstore import MirrorIndex
from support.indexes import UUID, Carried, entries_of, found_of, keys_of, random_entries, rows_of


@pytest.fixture
def small(monkeypatch):
    """Everything that takes millions of entries, with dozens."""
    monkeypatch.setattr(indexplan, "FAN", 3)
    monkeypatch.setattr(indexplan, "STEP", 40)
    monkeypatch.setattr(indexplan, "AT_ONCE", 10)
    monkeypatch.setattr(indexplan, "LARGEST_FOLD", 200)
    monkeypatch.setattr(indexplan, "SMALLEST_PART", 30)
    for module in (indexadvance, indexstaging):
        monkeypatch.setattr(module, "GROUP_ROWS", 7)


class Mirror:
    """What an index must know, kept as a dict, beside the index itself."""

    def __init__(self, directory, rng):
        self.rng = rng
        self.carried = Carried(directory)
        self.known = {}
        self.universe = sorted({(int(one), 0) for one in rng.integers(0, 2**64, 400, dtype=np.uint64)})
        self.sequence = 0
        self.forgotten = 0
        self.most_moves = 0

    def some_keys(self, most):
        count = int(self.rng.integers(0, most))
        return [self.universe[place] for place in self.rng.integers(0, len(self.universe), count)]

    def merge(self, *, now, remembered):
        """Changes of some keys, which all become rows of one new file, or tombstones."""
        index, self.sequence = self.carried.index, self.sequence + 1
        number = index.next_file
        run = {
            key: (number, row, (self.sequence, row)) if self.rng.random() < 0.7 else (0, now, (self.sequence, row))
            for row, key in enumerate(set(self.some_keys(40)))
        }
        self.known |= run
        self.carried.merge(entries_of(run), new=[f"file-{number}"], cut=now - remembered)
        self.forget()

    def compact(self):
        """Rows of some files move into a new one, which keeps their numbers."""
        index = self.carried.index
        gone = {number for number in index.files if self.rng.random() < 0.5}
        number = index.next_file
        moved = [(key, value) for key, value in self.known.items() if value[0] in gone]
        moved.sort(key=lambda one: one[1][:2])
        run = {key: (number, row, value[2]) for row, (key, value) in enumerate(moved)}
        self.known |= run
        learned = {"run": entries_of(run)}
        if self.rng.random() < 0.7:  # by stretches, and not of each row
            places = [np.array([value[part] for _, value in moved], np.uint32) for part in (0, 1)]
            to_rows, parts = np.arange(len(moved), dtype=np.uint32), []
            for file in sorted(gone):
                mine = places[0] == file
                parts.append((file, places[1][mine], np.full(mine.sum(), number, np.uint32), to_rows[mine]))
            learned = {"run": entries_of({}), "moves": moves_of(parts)}
        self.carried.merge(**learned, new=[f"file-{number}"], gone=gone)
        self.most_moves = max(self.most_moves, len(self.carried.index.head.moves))
        self.forget()

    def truncate(self):
        """What is older than some number goes, and the files of which nothing is left."""
        since = self.sequence - int(self.rng.integers(0, 4))
        self.known = {key: value for key, value in self.known.items() if value[2] >= (since, 3)}
        gone = set(self.carried.index.files) - {value[0] for value in self.known.values()}
        self.carried.merge(entries_of({}), gone=gone, truncated=f"{since:016x}{3:016x}")

    def forget(self):
        """What tombstones the index may have lost by now, by what it says itself."""
        if horizon := self.carried.horizons[-1]:
            self.forgotten = max(self.forgotten, int(horizon, 16))

    def check(self):
        keys = keys_of(self.universe)
        found = found_of(keys, self.carried.index.find(keys))
        lost = {key: value for key, value in self.known.items() if key not in found}
        assert all(value[0] == 0 and (value[2][0] << 64) + value[2][1] <= self.forgotten for value in lost.values())
        assert found == {key: value for key, value in self.known.items() if key not in lost}
        return lost


@pytest.mark.parametrize("seed", range(2))
def test_whatever_merges_compactions_and_truncates_come_lookups_say_what_a_dict_says_case_38(seed, small, tmp_path):
    rng = np.random.default_rng(seed)
    mirror, kinds, lost = Mirror(tmp_path, rng), set(), {}
    for now in range(1000, 1150):
        happens = rng.random()
        if happens < 0.02:
            mirror.truncate()
        elif happens < 0.1:
            mirror.compact()
        else:
            mirror.merge(now=now, remembered=30)
        lost |= mirror.check()
        head = mirror.carried.index.head
        kinds |= {(record.kind, record.level) for record in head.segments}
        assert [one.kind for one in head.segments] == sorted((one.kind for one in head.segments), reverse=True)
        kinds |= {"between two steps"} if head.merged else set()
    assert {("run", 0), ("run", 1), ("merging", 0), ("base", 0), "between two steps"} <= kinds
    assert lost, "tombstones are forgotten in time"
    assert mirror.most_moves > 1
    assert mirror.carried.index.head.moved > mirror.most_moves, "moves that every segment knows of go"


def test_what_a_first_load_brought_goes_into_the_base_step_by_step(small, tmp_path):
    carried, rng = Carried(tmp_path), np.random.default_rng(3)
    keys = sorted({(int(one), 0) for one in rng.integers(0, 2**64, 900, dtype=np.uint64)})
    known, in_base = {}, []
    for number, start in enumerate((0, 1, 2), 1):
        run = {key: (number, row, (1, row)) for row, key in enumerate(keys[start::3])}
        known |= run
        carried.merge(entries_of(run), new=[f"file-{number}"])
    for number in range(4, 60):
        run = {keys[number]: (number, 0, (number, 0)), keys[-number]: (number, 1, (number, 1))}
        run |= {(int(one), 1): (number, 2 + row, (number, 2)) for row, one in enumerate(rng.integers(0, 2**63, 20))}
        known |= run
        carried.merge(entries_of(run), new=[f"file-{number}"])
        in_base.append(sum(record.rows for record in carried.index.head.segments if record.kind == "base"))
        every = keys_of(sorted(known))
        assert found_of(every, carried.index.find(every)) == known
    steps = np.diff([0, *in_base])
    assert max(in_base) >= 900
    assert 0 < max(steps) < 300
    assert carried.index.head.next_file == 60


def test_an_index_that_was_looked_into_stays_in_the_page_cache_and_its_directory_alone_in_the_process(tmp_path):
    carried = Carried(tmp_path)
    run = random_entries(np.random.default_rng(4), 100_000, files=1)
    carried.merge(run, new=["file-1"])
    assert np.array_equal(carried.index.find(run.keys).row, run.row)
    directories = sum(one.fences.nbytes + one.sieve.nbytes for one in carried.index.segments)
    assert resident_of(tmp_path) <= directories + 2**16
    assert carried.index.find(run.keys.take(slice(0, 20))).known.all()
    assert resident_of(tmp_path) <= directories + 2**16, "few keys are read without being mapped"


@pytest.mark.parametrize("count", [1, 20, 5000])
def test_few_keys_and_many_are_found_alike_in_memory_and_on_disk(tmp_path, count):
    cache, rng = IndexCache(tmp_path), np.random.default_rng(5)
    for number, rows in enumerate((1, 2, 3, 5, 1000, 5000)):
        entries = random_entries(rng, rows, hashed=True)
        with cache.writing(sieved=number % 2 == 0) as writer:
            writer.add(entries)
            cache.keep(writer, f"{number:064}")
        there = entries.keys.take(rng.integers(0, rows, count))
        asked = Keys(np.append(there.high, there.high + np.uint64(1)), np.append(there.low, there.low))
        on_disk, in_memory = (
            find([segment], asked) for segment in (cache.segment(f"{number:064}", rows), segment_of(entries))
        )
        assert on_disk.known.tolist() == in_memory.known.tolist() == [True] * count + [False] * count
        assert rows_found(on_disk) == rows_found(in_memory)


def rows_found(found):
    return [found.file.tolist(), found.row.tolist(), found.sequences.high.tolist(), found.sequences.low.tolist()]


def resident_of(directory):
    """Bytes of files below a directory that are mapped into this process and in its memory."""
    total, counts = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0]:
            counts = words[-1].startswith(str(directory))
        elif counts and words[0] == "Rss:":
            total += int(words[1]) * 1024
    return total


def test_no_tombstone_is_forgotten_before_its_time(small, tmp_path):
    mirror = Mirror(tmp_path, np.random.default_rng(1))
    for now in range(1000, 1050):
        mirror.merge(now=now, remembered=50)
        assert mirror.check() == {}
    assert not any(mirror.carried.horizons)


def test_a_worker_with_an_empty_cache_finds_the_same_also_in_segments_of_several_row_groups_case_41(tmp_path):
    carried = Carried(tmp_path / "here")
    entries = random_entries(np.random.default_rng(1), 300_000, hashed=True)
    carried.merge(entries, new=[f"file-{number}" for number in range(9)])
    carried.reopen(cache=IndexCache(tmp_path / "there"))
    assert found_of(entries.keys, carried.index.find(entries.keys)) == rows_of(entries)


def test_what_is_cached_is_not_read_from_the_store(tmp_path):
    carried = Carried(tmp_path)
    carried.merge(entries_of({(1, 0): (1, 5, (0, 1))}), new=["a"])
    carried.merge(entries_of({(2, 0): (1, 6, (0, 1))}))
    assert carried.store.asked == []


def test_an_empty_index_knows_nothing(tmp_path):
    found = MirrorIndex.empty(IndexCache(tmp_path), UUID).find(keys_of([(1, 0), (2, 0)]))
    assert found.known.tolist() == [False, False]


def test_a_run_in_any_order_is_sorted(tmp_path):
    carried, entries = Carried(tmp_path), random_entries(np.random.default_rng(1), 1000)
    order = np.random.default_rng(2).permutation(len(entries))
    mixed = Entries(entries.keys.take(order), entries.file[order], entries.row[order], entries.sequences.take(order))
    carried.merge(mixed, new=[f"file-{number}" for number in range(9)])
    assert found_of(entries.keys, carried.index.find(entries.keys)) == rows_of(entries)


def test_a_run_that_names_a_file_that_is_none_of_the_mirror_s_is_a_mistake(tmp_path):
    carried = Carried(tmp_path)
    with pytest.raises(ValueError, match="live data files"):
        carried.merge(entries_of({(1, 0): (2, 5, (0, 1))}), new=["a"])
    carried.merge(entries_of({(1, 0): (1, 5, (0, 1))}), new=["a"])
    with pytest.raises(ValueError, match="live data files"):
        carried.merge(entries_of({(1, 0): (1, 5, (0, 1))}), gone={1})
    assert list(tmp_path.glob("*.part")) == []


def test_pyiceberg_finds_the_blobs_and_duckdb_looks_into_a_segment(tmp_path):
    carried = Carried(tmp_path)
    carried.merge(entries_of({(7, 8): (1, 5, (3, 4)), (2**64 - 1, 2**64 - 1): (0, 6, (1, 2))}), new=["a"])
    puffin = PuffinFile(carried.store.held[carried.pointer.path])
    assert [blob.type for blob in puffin.footer.blobs] == ["icefleet-mirror-index-v1", "icefleet-mirror-files-v1"]
    for number, blob in enumerate(puffin.footer.blobs):
        (tmp_path / f"{number}.parquet").write_bytes(puffin.get_blob_payload(blob))
    rows = duckdb.sql(f"FROM '{tmp_path}/0.parquet' JOIN '{tmp_path}/1.parquet' USING (file)").fetchall()
    assert rows == [(7, 8, 1, 5, 3, 4, "a")]
    assert duckdb.sql(f"SELECT max(key_low) FROM '{tmp_path}/0.parquet'").fetchall() == [(2**64 - 1,)]


def test_the_directory_is_bounded_and_what_is_used_stays(tmp_path):
    carried = Carried(tmp_path)
    carried.cache = IndexCache(tmp_path, most_bytes=1)
    carried.index = MirrorIndex.empty(carried.cache, UUID)
    for number in range(80):
        carried.merge(entries_of({(number, 0): (1, 5, (0, number))}), new=["a"] if not number else ())
    assert len(list(tmp_path.glob("*.bytes"))) < 140
    keys = keys_of([(number, 0) for number in range(80)])
    assert carried.index.find(keys).known.all()


def test_a_few_large_segments_are_as_bounded_as_many_small_ones(tmp_path):
    cache, entries = IndexCache(tmp_path, most_bytes=2**20), random_entries(np.random.default_rng(1), 5000)
    cache.trim(())
    most = 0
    for number in range(40):
        with cache.writing(sieved=True) as writer:
            writer.add(entries)
            cache.keep(writer, f"{number:064}")
        cache.trim({f"{number:064}"})
        most = max(most, sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()))
    assert 2**19 < most < 2**20 * 5 / 4
    assert cache.segment(f"{39:064}", len(entries)) is not None


def test_the_segments_that_stay_open_leave_a_process_the_descriptors_that_it_may_have(tmp_path):
    """Many systems give it 1,024, and each merge makes a segment; one that cannot be opened would count as damaged."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = len(list(Path("/proc/self/fd").iterdir()))
    limit = 2 * held + 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        cache, entries = IndexCache(tmp_path), random_entries(np.random.default_rng(1), 100)
        for number in range(limit - held + 20):
            with cache.writing(sieved=False) as writer:
                writer.add(entries)
                cache.keep(writer, f"{number:064}")
            assert cache.segment(f"{number:064}", len(entries)) is not None
        assert len(list(Path("/proc/self/fd").iterdir())) <= held + limit // 2 + 2
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_segments_that_an_index_has_no_more_give_their_descriptors_back(tmp_path):
    """A mirror that is merged every second makes thousands of segments an hour, and has a dozen at a time."""
    carried = Carried(tmp_path)
    most = 0
    for number in range(60):
        carried.merge(entries_of({(number, 0): (1, 5, (0, number))}), new=["a"] if not number else ())
        mapped = [fd for fd in Path("/proc/self/fd").iterdir() if os.path.realpath(fd).startswith(str(tmp_path))]
        most = max(most, len(mapped) - 2 * len(carried.index.segments))
    assert most <= 2


def test_a_segment_is_the_same_in_memory_and_from_disk(tmp_path):
    cache, entries = IndexCache(tmp_path), random_entries(np.random.default_rng(1), 5000)
    with cache.writing(sieved=True) as writer:
        for begin in range(0, len(entries), 700):
            writer.add(_part(entries, begin))
        cache.keep(writer, "a" * 64)
    held, made = cache.segment("a" * 64, len(entries)), segment_of(entries)
    assert rows_of(held.entries) == rows_of(entries)
    assert (held.fences == made.fences).all()
    assert (held.sieve == made.sieve).all()


def _part(entries, begin):
    rows = slice(begin, begin + 700)
    return Entries(entries.keys.take(rows), entries.file[rows], entries.row[rows], entries.sequences.take(rows))

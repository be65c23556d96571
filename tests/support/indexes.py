"""Indexes for tests: entries from plain tuples, a store that is a dict, an index that merges carry on."""

import numpy as np

from activities.core.mirrors import Entries, IndexPointer, Keys, Sequences
from activities.lake.indexadvance import advance
from activities.lake.indexcache import IndexCache
from activities.lake.indexstaging import stage
from activities.lake.indexstore import MirrorIndex, open_index

UUID = "0b5a6f0e-0000-4000-8000-000000000001"


def entries_of(rows):
    """Entries from {(high, low): (file, row, (sequence high, sequence low))}."""
    keys = sorted(rows)
    values = [rows[key] for key in keys]
    words = lambda numbers: np.array(list(numbers), np.uint64)  # noqa: E731 - three times the same
    return Entries(
        Keys(words(high for high, _ in keys), words(low for _, low in keys)),
        np.array([value[0] for value in values], np.uint32),
        np.array([value[1] for value in values], np.uint32),
        Sequences(words(value[2][0] for value in values), words(value[2][1] for value in values)),
    )


def keys_of(pairs):
    ordered = sorted(pairs)
    return Keys(np.array([high for high, _ in ordered], np.uint64), np.array([low for _, low in ordered], np.uint64))


def rows_of(entries):
    """The reverse of `entries_of`."""
    return dict(zip(pairs_of(entries.keys), values_of(entries), strict=True))


def found_of(keys, found):
    """What was found, as `entries_of` takes it."""
    return {
        key: value for key, known, value in zip(pairs_of(keys), found.known, values_of(found), strict=True) if known
    }


def pairs_of(keys):
    return list(zip(keys.high.tolist(), keys.low.tolist(), strict=True))


def values_of(some):
    sequences = zip(some.sequences.high.tolist(), some.sequences.low.tolist(), strict=True)
    return list(zip(some.file.tolist(), some.row.tolist(), sequences, strict=True))


def random_entries(rng, count, *, files=9, sequence=1, hashed=False):
    """Sorted entries with random keys, all of one commit."""
    high = np.unique(rng.integers(0, 2**64, count, dtype=np.uint64))
    count = len(high)
    low = rng.integers(0, 2**64, count, dtype=np.uint64) if hashed else np.zeros(count, np.uint64)
    return Entries(
        Keys(high, low),
        rng.integers(1, files + 1, count, dtype=np.uint32),
        rng.integers(0, 2**20, count, dtype=np.uint32),
        Sequences(np.full(count, sequence, np.uint64), np.arange(count, dtype=np.uint64)),
    )


class Objects:
    """A store of immutable objects, as far as an index needs one."""

    def __init__(self):
        self.held = {}
        self.asked = []

    def part(self, path, offset, length):
        self.asked.append((path, offset, length))
        return self.held[path][offset : offset + length]


class Carried:
    """An index that every merge continues, as commits carry it: written, put into the store, opened again."""

    def __init__(self, directory, prefix="s3://bucket/index/"):
        self.store = Objects()
        self.prefix = prefix
        self.cache = IndexCache(directory)
        self.pointer: IndexPointer | None = None
        self.index = MirrorIndex.empty(self.cache, UUID)
        self.horizons = []

    def merge(self, run, *, new=(), gone=(), cut=0, truncated="", live_rows=None, moves=None):
        """One merge, committed; `new` are paths, which get numbers in their order."""
        numbered = {self.index.next_file + place: path for place, path in enumerate(new)}
        place = f"{self.prefix}{len(self.store.held)}.puffin"
        made = self.cache.directory / "step.part"
        ahead = advance(self.index, made=made, place=place, tombstone_cut=cut)
        if ahead.made:
            self.store.held[place] = ahead.made.read_bytes()
            ahead.made.unlink()
        staged = stage(
            ahead.index,
            run,
            new_files=numbered,
            gone_files=gone,
            truncated=truncated,
            live_rows=live_rows,
            moves=moves,
        )
        with staged:
            path = f"{self.prefix}{len(self.store.held)}.puffin"
            self.store.held[path] = staged.path.read_bytes()
            self.pointer = staged.pointer(path)
            self.horizons.append(ahead.horizon)
            files = {**self.index.files, **numbered}
        return self.reopen([path for number, path in files.items() if number not in gone])

    def reopen(self, data_files=None, *, cache=None, live_rows=None):
        """Open what the last merge wrote."""
        there = list(self.index.files.values()) if data_files is None else data_files
        self.index = open_index(self.store.part, cache or self.cache, self.pointer, UUID, there, live_rows)
        return self.index

"""An index that many merges carried on says what a dict says; one that is damaged is never believed."""

import numpy as np
import pytest
from pyiceberg.table.puffin import PuffinFile

from activities.lake.indexcache import IndexCache
from activities.lake.indexhead import IndexUnusable
from activities.lake.indexstore import MirrorIndex
from support.indexes import Carried, entries_of, found_of, keys_of, random_entries, rows_of


def test_many_merges_leave_what_a_dict_would_hold_case_38(tmp_path):
    rng = np.random.default_rng(7)
    carried, expected = Carried(tmp_path), {}
    carried.merge(entries_of({}), new=["a", "b", "c"])
    universe = [(int(high), 0) for high in rng.integers(0, 2**64, 3000, dtype=np.uint64)]
    for sequence in range(1, 150):
        keys = {universe[place] for place in rng.integers(0, len(universe), 60)}
        run = {key: (int(rng.integers(0, 4)), int(rng.integers(0, 1000)), (sequence, 5)) for key in keys}
        expected |= run
        carried.merge(entries_of(run))
        keys = keys_of(universe)
        assert found_of(keys, carried.index.find(keys)) == expected
    kinds = [record.kind for record in carried.index.head.segments]
    assert kinds.count("base") == 1
    assert kinds.count("run") < 12


def test_a_worker_with_an_empty_cache_finds_the_same(tmp_path):
    carried = Carried(tmp_path / "here")
    entries = random_entries(np.random.default_rng(1), 300_000, hashed=True)
    carried.merge(entries, new=[f"file-{number}" for number in range(9)])
    carried.reopen(cache=IndexCache(tmp_path / "there"))
    assert found_of(entries.keys, carried.index.find(entries.keys)) == rows_of(entries)


def test_an_empty_index_knows_nothing(tmp_path):
    found = MirrorIndex.empty(IndexCache(tmp_path), "uuid").find(keys_of([(1, 0), (2, 0)]))
    assert found.known.tolist() == [False, False]


def test_pyiceberg_reads_what_is_written(tmp_path):
    carried = Carried(tmp_path)
    carried.merge(entries_of({(1, 0): (1, 5, (0, 1))}), new=["a"])
    puffin = PuffinFile(carried.store.held[carried.pointer.path])
    assert [blob.type for blob in puffin.footer.blobs] == ["icefleet-mirror-index-v1", "icefleet-mirror-files-v1"]
    assert puffin.get_blob_payload(puffin.footer.blobs[0])[:4] == b"PAR1"


@pytest.mark.parametrize("there", [["a"], ["a", "b", "c"], ["a", "x"]])
def test_an_index_of_other_data_files_is_not_used_cases_36_and_37(tmp_path, there):
    carried = Carried(tmp_path)
    carried.merge(entries_of({(1, 0): (1, 5, (0, 1))}), new=["a", "b"])
    with pytest.raises(IndexUnusable, match="data files"):
        carried.reopen(there)

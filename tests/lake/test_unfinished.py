"""What is being made on a worker's disk goes when it is made, and also when whoever made it was killed."""

import os
import shutil
import time

import numpy as np

from activities.lake.indexcache import IndexCache
from activities.lake.unfinished import room
from support.indexes import random_entries


def test_what_killed_workers_left_unfinished_goes_after_a_day_and_what_is_being_made_stays(tmp_path):
    def made(name):
        with room(tmp_path) as directory:
            (directory / "rows.parquet").write_bytes(b"x")
            left = tmp_path / f"{name}.part"
            shutil.copytree(directory, left)
        assert not directory.exists()
        (tmp_path / f"{name}-segment.part").write_bytes(b"x")
        return [left, tmp_path / f"{name}-segment.part"]

    def age(paths):
        for path in paths:
            os.utime(path, (time.time() - 90_000,) * 2)

    left = {name: made(name) for name in ("before", "during", "now")}
    age(left["before"])
    cache, entries = IndexCache(tmp_path, most_bytes=1), random_entries(np.random.default_rng(1), 100)
    assert set(tmp_path.iterdir()) == {*left["during"], *left["now"]}
    age(left["during"])
    with cache.writing(sieved=False) as writer:
        writer.add(entries)
        cache.keep(writer, f"{1:064}")
    cache.trim(())
    assert set(tmp_path.iterdir()) == set(left["now"])

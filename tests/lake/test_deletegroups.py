"""Delete files about several data files: whatever comes, each deleted row is in exactly one of them."""

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.typedef import Record

from activities.lake import positiondeletes
from activities.lake.content import Files
from activities.lake.live import LiveFile, only_path, with_deletes
from activities.lake.positiondeletes import Touched, counts, delete, deleted_rows, described, write
from activities.lake.remembered import Remembered
from activities.mirror_context import timed_name
from activities.mirror_head import live_row_count

FILES = Files(PyArrowFileIO())
ROWS = 12
"""Of a data file."""


@dataclass
class Table:
    """What manifests would say of a mirror, with its delete files on this disk; and what must be deleted of it."""

    directory: Path
    data: dict[str, LiveFile] = field(default_factory=dict)
    deletes: dict[str, tuple[DataFile, int]] = field(default_factory=dict)
    gone: dict[str, set[int]] = field(default_factory=dict)
    snapshot: int = 0

    def live(self):
        return with_deletes(self.data, self.deletes.values())

    def commit(self, deleted=None, new=(), *, alone=False):
        """Take up what `delete` answers; `alone`: as releases did that wrote a file for each data file."""
        self.snapshot += 1
        for one in deleted.superseded if deleted else ():
            del self.deletes[one.file_path]
        for one in deleted.gone if deleted else ():
            del self.data[one.path]
            del self.gone[one.path]
        for made in deleted.made if deleted else ():
            parts = [write((one,)) for one in made.about] if alone else [made]
            for part in parts:
                path = str(self.directory / f"{self.snapshot}-{len(self.deletes)}.parquet")
                Path(path).write_bytes(part.body)
                self.deletes[path] = (described(part, path), self.snapshot)
        for name, partition in new:
            file = DataFile.from_args(
                content=DataFileContent.DATA,
                file_path=name,
                file_format=FileFormat.PARQUET,
                partition=Record(partition),
                record_count=ROWS,
                file_size_in_bytes=100,
            )
            file.spec_id = 0
            self.data[name], self.gone[name] = LiveFile(file, self.snapshot), set()

    def forget(self, limit=0):
        """As a worker that was just started."""
        positiondeletes._known = Remembered(limit, len)
        positiondeletes._counted = Remembered(limit, len)

    def check(self):
        live = self.live()
        expected = {path: rows for path, rows in self.gone.items() if rows}
        assert {path: set(deleted_rows(FILES, one).tolist()) for path, one in live.items()} == self.gone
        assert all(len(one.deletes) <= 1 for one in live.values())
        assert counts(FILES, live) == Counter({path: len(rows) for path, rows in expected.items()})
        held = Counter()
        for path, (entry, _) in self.deletes.items():
            file = pq.ParquetFile(path)
            rows = file.read(["file_path", "pos"])
            places = list(zip(*(column.to_pylist() for column in rows.columns), strict=True))
            assert places == sorted(places)
            assert len(places) == entry.record_count
            held.update(places)
            names = [place[0] for place in places]
            assert (entry.lower_bounds[positiondeletes.PATH_ID], entry.upper_bounds[positiondeletes.PATH_ID]) == (
                names[0].encode(),
                names[-1].encode(),
            )
            ends = [file.metadata.row_group(at).column(0).statistics for at in range(file.num_row_groups)]
            assert [(one.min, one.max) for one in ends] == [(name, name) for name in dict.fromkeys(names)]
            assert {self.data[name].partition for name in names} == {(0, tuple(entry.partition))}
            assert len(ends) == 1 or len(ends) <= positiondeletes.MOST_FILES
            assert len(ends) == 1 or len(places) <= positiondeletes.MOST_ROWS
        assert held == Counter((path, row) for path, rows in expected.items() for row in rows)


numbers = st.lists(st.tuples(st.integers(0, 40), st.integers(0, ROWS - 1)), min_size=1, max_size=20)
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["merge", "merge", "alone", "cold"]), numbers),
        st.tuples(st.just("whole"), st.lists(st.integers(0, 40), min_size=1, max_size=6)),
    ),
    max_size=8,
)


@given(st.lists(st.integers(0, 1), min_size=1, max_size=24), steps, st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_deleted_row_is_in_exactly_one_live_delete_file_after_whatever_came_case_42(
    tmp_path_factory, monkeypatch, partitions, work, chance
):
    """Merges, compactions that take some files of a group, truncates, and files as older releases wrote them."""
    with monkeypatch.context() as small:
        small.setattr(positiondeletes, "MOST_FILES", 4)
        small.setattr(positiondeletes, "MOST_ROWS", 20)
        table = Table(tmp_path_factory.mktemp("deletes"))
        table.commit(new=[(f"{chance.random()}-{number}", one) for number, one in enumerate(partitions)])
        for number, (kind, what) in enumerate(work):
            paths = sorted(table.data)
            if not paths:
                break
            new = [(f"{chance.random()}-new-{number}", partitions[0])]
            rows, whole = {}, set()
            if kind == "whole":
                whole = {paths[at % len(paths)] for at in what}
            else:
                for at, row in what:
                    rows.setdefault(paths[at % len(paths)], set()).add(row)
            if kind == "cold":
                table.forget()
            for path, some in rows.items():
                table.gone[path] |= some
            before = table.live()
            ordered = {path: np.array(sorted(some), np.uint32) for path, some in rows.items()}
            deleted = delete(FILES, before, ordered, whole)
            table.commit(deleted, alone=kind == "alone")
            assert live_row_count(table.live()) == live_row_count(before) - deleted.rows
            table.commit(new=new)
            table.forget(1000)
            table.check()


@pytest.fixture
def table(tmp_path):
    made = Table(tmp_path)
    made.commit(new=[(f"f{number:03}", 0) for number in range(60)])
    return made


def touch(table, numbers, row):
    paths = [f"f{number:03}" for number in numbers]
    for path in paths:
        table.gone[path].add(row)
    table.commit(delete(FILES, table.live(), {path: np.array([row], np.uint32) for path in paths}))
    table.check()


def spoken_of(table):
    """How many data files each delete file is about."""
    return sorted(pq.ParquetFile(path).num_row_groups for path in table.deletes)


def test_a_batch_that_touches_everything_writes_few_files_and_one_that_touches_one_file_writes_its_group(table):
    touch(table, range(60), 0)
    assert spoken_of(table) == [15, 15, 15, 15]
    before = set(table.deletes)
    touch(table, [7], 1)
    assert len(before - set(table.deletes)) == len(set(table.deletes) - before) == 1
    assert spoken_of(table) == [15, 15, 15, 15]


def test_a_group_that_has_grown_to_many_rows_is_parted(table, monkeypatch):
    touch(table, range(16), 0)
    assert spoken_of(table) == [16]
    monkeypatch.setattr(positiondeletes, "MOST_ROWS", 18)
    touch(table, range(3), 1)
    assert spoken_of(table) == [8, 8]
    assert math.fsum(entry.record_count for entry, _ in table.deletes.values()) == 19


def test_files_that_are_touched_alone_share_none_until_their_neighbours_are_touched_with_them(table):
    """Those of the release before are read, and become groups."""
    for number in (5, 3, 4):
        touch(table, [number], 0)
    assert spoken_of(table) == [1, 1, 1]
    assert {only_path(entry) for entry, _ in table.deletes.values()} == {"f003", "f004", "f005"}
    touch(table, [3, 5], 1)
    assert spoken_of(table) == [1, 1, 1]  # one of a group never reaches over another
    touch(table, [3, 4], 2)
    assert spoken_of(table) == [1, 2]


def test_what_a_compaction_leaves_of_a_group_is_written_anew(table):
    touch(table, range(8), 0)
    table.commit(delete(FILES, table.live(), {}, {"f001", "f002", "f050"}), new=[("g", 0)])
    table.check()
    assert spoken_of(table) == [6]
    assert len(table.data) == 58


def test_how_much_is_deleted_is_read_once(table, monkeypatch):
    touch(table, range(8), 0)
    table.forget(1000)
    assert counts(FILES, table.live())["f003"] == 1
    monkeypatch.setattr(positiondeletes, "_known", Remembered(0, len))
    for path in table.deletes:
        Path(path).unlink()
    assert counts(FILES, table.live()) == Counter({f"f{number:03}": 1 for number in range(8)})


def test_newer_files_between_two_of_a_group_are_none_of_it(table):
    touch(table, [0, 1], 0)
    table.commit(new=[("f000-newer", 0)])
    assert table.live()["f000-newer"].deletes == ()
    touch(table, [1], 1)
    [may] = table.live()["f000-newer"].deletes
    assert deleted_rows(FILES, table.live()["f000-newer"]).tolist() == []
    table.gone["f000-newer"].add(3)
    table.commit(delete(FILES, table.live(), {"f000-newer": np.array([3], np.uint32)}))
    table.check()
    assert spoken_of(table) == [3]
    assert may.file_path not in table.deletes
    assert Touched(table.live()["f000-newer"], np.arange(ROWS)).is_gone


def test_names_sort_by_time_so_that_data_files_of_one_age_are_neighbours():
    names = [str(timed_name(1_700_000_000_000 + number)) for number in range(300)]
    assert names == sorted(names)
    assert len({timed_name(1) for _ in range(1000)}) == 1000
    assert {timed_name(1).version for _ in range(10)} == {7}

"""Rows of a mirror on their way into files and back: each is where it was said to be."""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.typedef import Record
from pyiceberg.types import LongType, NestedField

from activities.core.faults import MirrorForeign, SchemaConflict
from activities.lake import mirrorfiles
from activities.lake.content import Files
from activities.lake.live import LiveFile
from activities.lake.mirrorfiles import MirrorWriter
from activities.lake.mirrorrows import live_rows, rows_at
from activities.lake.positiondeletes import Deleted, Touched, delete, described, read, write
from activities.lake.schema import fields_schema
from support.changelogs import kinds

SCHEMA = fields_schema(kinds({"id": "int", "name": "string", "parts": "list<struct<a: decimal(9, 2)>>"}))
BY_NAME = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "name"))
FILES = Files(PyArrowFileIO())


def table(numbers, **more):
    return pa.table({"id": pa.array(numbers, pa.int32()), "name": [f"n{number % 3}" for number in numbers], **more})


def live(path, rows, *deletes):
    """A file as manifests would describe it."""
    data = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=str(path),
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=rows,
        file_size_in_bytes=100,
    )
    data.spec_id = 0
    return LiveFile(data, 1, tuple(deletes))


def deleting(tmp_path, path, positions):
    """A delete file on this disk."""
    made = write((Touched(live(path, 1), np.array(positions, np.uint32)),))
    stored = tmp_path / f"deletes-{len(list(tmp_path.iterdir()))}.parquet"
    stored.write_bytes(made.body)
    return described(made, str(stored))


def test_every_row_lies_where_the_writer_says_in_files_that_roll(tmp_path, monkeypatch):
    monkeypatch.setattr(mirrorfiles, "FILE_ROWS", 40)
    numbers = np.random.default_rng(1).permutation(200).astype(np.int32)
    with MirrorWriter(SCHEMA, BY_NAME, 2**20, tmp_path) as writer:
        placed = [writer.add(table(part.tolist())) for part in np.split(numbers, 20)]
        files = writer.finish()
    assert len(files) == len({file.path for file in files}) > 3
    held = {file.ordinal: pq.read_table(file.path).column("id").to_pylist() for file in files}
    where = zip(np.concatenate([p.files for p in placed]), np.concatenate([p.rows for p in placed]), strict=True)
    assert [held[file][row] for file, row in where] == numbers.tolist()
    for file in files:
        assert {f"n{number % 3}" for number in held[file.ordinal]} == {file.partition[0]}
        assert (file.rows, file.size) == (len(held[file.ordinal]), file.path.stat().st_size)


@pytest.mark.parametrize(("group_bytes", "most_files"), [(mirrorfiles.GROUP_BYTES, 9), (60_000, 45), (1, 180)])
def test_rows_of_more_partitions_than_may_be_open_end_files_only_when_memory_is_full(
    tmp_path, monkeypatch, group_bytes, most_files
):
    """As old rows come when a mirror is cut anew: each batch has some of every partition."""
    monkeypatch.setattr(mirrorfiles, "MOST_OPEN", 2)
    monkeypatch.setattr(mirrorfiles, "GROUP_BYTES", group_bytes)
    numbers = list(range(180))
    placed = []
    with MirrorWriter(SCHEMA, BY_NAME, 2**20, tmp_path) as writer:
        for start in range(0, 180, 9):
            batch = numbers[start : start + 9]
            rows = pa.table({"id": pa.array(batch, pa.int32()), "name": [f"n{number % 9}" for number in batch]})
            placed.append(writer.add(rows))
            opened = [path for path in Path("/proc/self/fd").iterdir() if path.resolve().is_relative_to(tmp_path)]
            assert len(opened) <= 2
        files = writer.finish()
    assert 9 <= len(files) <= most_files
    held = {file.ordinal: pq.read_table(file.path).column("id").to_pylist() for file in files}
    where = zip(np.concatenate([p.files for p in placed]), np.concatenate([p.rows for p in placed]), strict=True)
    assert [held[file][row] for file, row in where] == numbers
    assert {file.partition[0]: {number % 9 for number in held[file.ordinal]} for file in files} == {
        f"n{number}": {number} for number in range(9)
    }


def test_a_file_that_reached_its_size_is_followed_by_another(tmp_path, monkeypatch):
    monkeypatch.setattr(mirrorfiles, "GROUP_BYTES", 1)
    with MirrorWriter(SCHEMA, UNPARTITIONED_PARTITION_SPEC, 1, tmp_path) as writer:
        placed = [writer.add(table(range(3))) for _ in range(3)]
        assert len(writer.made()) == 3
        assert writer.finish() == []
    assert [p.files.tolist() for p in placed] == [[0] * 3, [1] * 3, [2] * 3]


def test_whole_numbers_are_written_as_differences_and_what_repeats_by_a_dictionary(tmp_path):
    with MirrorWriter(SCHEMA, UNPARTITIONED_PARTITION_SPEC, 2**20, tmp_path) as writer:
        writer.add(table(range(100)))
        [made] = writer.finish()
    columns = [made.metadata.row_group(0).column(place) for place in range(3)]
    assert "DELTA_BINARY_PACKED" in columns[0].encodings
    assert "RLE_DICTIONARY" in columns[1].encodings
    # Differences are packed as they are.
    assert [column.compression for column in columns] == ["UNCOMPRESSED", "ZSTD", "ZSTD"]
    assert pq.read_table(made.path).column("id").to_pylist() == list(range(100))


def test_texts_that_do_not_repeat_are_written_with_their_lengths_ahead(tmp_path):
    rows = mirrorfiles.GROUP_ROWS
    names = [None, "", *(f"n{number} ä" for number in range(2, rows))]
    with MirrorWriter(SCHEMA, UNPARTITIONED_PARTITION_SPEC, 2**30, tmp_path) as writer:
        writer.add(pa.table({"id": pa.array(range(rows), pa.int32()), "name": names}))
        [made] = writer.finish()
    assert "DELTA_LENGTH_BYTE_ARRAY" in made.metadata.row_group(0).column(1).encodings
    assert pq.read_table(made.path).column("name").to_pylist() == names
    with duckdb.connect() as duck:
        path = str(made.path)
        found = duck.execute("SELECT max(name), count(name) FROM read_parquet(?)", [path]).fetchone()
    assert found == (max(names[1:]), rows - 1)


def test_rows_that_do_not_fit_the_mirror_are_refused(tmp_path):
    with MirrorWriter(SCHEMA, UNPARTITIONED_PARTITION_SPEC, 1, tmp_path) as writer:
        with pytest.raises(SchemaConflict, match="other, which the mirror's schema lacks"):
            writer.add(table([1], other=["a"]))
        with pytest.raises(SchemaConflict, match="do not fit"):
            writer.add(pa.table({"id": [2**40]}))
        assert writer.add(table([])).files.tolist() == []


def wider():
    """The schema later: id is long, name is called label, a column is new."""
    return Schema(
        NestedField(1, "id", LongType(), required=False),
        SCHEMA.find_field("name").model_copy(update={"name": "label"}),
        SCHEMA.find_field("parts"),
        NestedField(9, "more", LongType(), required=False),
    )


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """A file of ten row groups of ten rows each."""
    monkeypatch.setattr(mirrorfiles, "GROUP_ROWS", 10)
    with MirrorWriter(SCHEMA, UNPARTITIONED_PARTITION_SPEC, 2**20, tmp_path) as writer:
        writer.add(table(range(100)))
        [made] = writer.finish()
    assert made.metadata.num_row_groups == 10
    return str(made.path)


def test_positions_are_right_in_files_of_several_row_groups_of_which_one_is_deleted_cases_40_41(tmp_path, groups):
    gone = [3, *range(20, 30), 99]
    file = live(groups, 100, deleting(tmp_path, groups, gone[:4]), deleting(tmp_path, groups, gone[3:]))
    found = list(live_rows(FILES, wider(), file))
    positions = np.concatenate([one.positions for one in found])
    assert positions.tolist() == [row for row in range(100) if row not in gone]
    rows = pa.Table.from_batches([one.rows for one in found])
    assert rows.column("id").to_pylist() == positions.tolist()
    assert [str(kind) for kind in rows.schema.types][:2] == ["int64", "large_string"]
    assert rows.column_names == ["id", "label", "parts", "more"]
    [names] = {tuple(one.rows.schema.names) for one in live_rows(FILES, wider(), file, ["more", "id"])}
    assert names == ("id", "more")


def test_rows_are_read_back_by_their_positions(groups):
    wanted = np.array([0, 9, 10, 55, 99], np.uint32)
    found = rows_at(FILES, wider(), groups, wanted, ["id", "label"])
    assert found.to_pydict() == {"id": [0, 9, 10, 55, 99], "label": ["n0", "n0", "n1", "n1", "n0"]}
    nothing = rows_at(FILES, wider(), groups, wanted[:0])
    assert (nothing.num_rows, nothing.schema.names) == (0, [*found.schema.names, "parts", "more"])
    assert pa.concat_tables([rows_at(FILES, wider(), groups, wanted), nothing]).num_rows == 5
    assert rows_at(FILES, wider(), groups, wanted, ["more"]).to_pydict() == {"more": [None] * 5}


def test_a_file_without_field_ids_is_named_as_what_it_is(tmp_path):
    path = tmp_path / "theirs.parquet"
    pq.write_table(pa.table({"id": [1]}), path)
    with pytest.raises(MirrorForeign, match="has no field ids"):
        list(live_rows(FILES, SCHEMA, live(path, 1)))


def test_deletes_of_several_files_in_one_are_taken_up_at_the_next_touch(tmp_path):
    """Another writer's delete file for a whole partition: all that it is about is written anew, and it goes."""
    shared = tmp_path / "shared.parquet"
    pq.write_table(pa.table({"file_path": ["a", "b", "a", "gone"], "pos": [5, 1, 2, 0]}), shared)
    entry = live(shared, 4).data
    own = deleting(tmp_path, "b", [7])
    held = {"a": live("a", 10, entry), "b": live("b", 10, entry, own), "c": live("c", 10, entry)}
    deleted = delete(FILES, held, {"a": np.array([9], np.uint32)})
    [made] = deleted.made
    assert [(one.live.path, one.positions.tolist()) for one in made.about] == [("a", [2, 5, 9]), ("b", [1, 7])]
    assert (deleted.superseded, deleted.gone, deleted.rows) == ((entry, own), (), 0)
    assert read(FILES, own)["b"].tolist() == [7]
    assert delete(FILES, held, {}) == Deleted((), (), ())

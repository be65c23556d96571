"""Files that PyArrow reads and writes are seen in traces, one span each; where nobody traces they are Arrow's own."""

from concurrent.futures import wait

import pyarrow as pa
import pytest
from pyiceberg.utils.concurrent import ExecutorFactory

from activities.core.faults import ObjectRefused
from activities.lake.content import Files
from activities.lake.fileio import SharedFileIO
from support.recorded import recorded


@pytest.fixture
def activity():
    """In an activity: answers what was read and written as name, path, and what it ended with."""
    with recorded() as below:
        yield lambda: [(one.name, one.attributes["icefleet.object"], one.status.description) for one in below()]


def test_every_file_is_a_span_from_when_it_is_opened_until_it_is_closed(activity, tmp_path):
    io, path = SharedFileIO(), f"{tmp_path}/manifest.avro"
    with io.new_output(path).create() as sink:
        sink.write(b"12345")
        assert activity() == []
    source = io.new_input(path).open()
    assert (source.read(2), source.tell(), source.seek(4), source.read()) == (b"12", 2, 4, b"5")
    source.close()
    source.close()
    assert activity() == [("objectstore write", path, None), ("objectstore read", path, None)]
    with pytest.raises(FileNotFoundError):
        io.new_input(f"{path}x").open()
    with pytest.raises(KeyError), io.new_input(path).open():
        raise KeyError
    assert activity()[2:] == [
        ("objectstore read", f"{path}x", "FileNotFoundError"),
        ("objectstore read", path, "KeyError"),
    ]


def test_what_arrow_reads_by_itself_is_a_span_too_and_its_own_stream(activity, tmp_path):
    files, path = Files(SharedFileIO()), f"{tmp_path}/a.bin"
    files.create(path, b"12345")
    assert files.part(path, 1, 3) == b"234"
    with pytest.raises(ObjectRefused), files.open(path):
        pass
    assert activity() == [
        ("objectstore write", path, None),
        ("objectstore read", path, None),
        ("objectstore read", path, "ArrowInvalid"),
    ]


def test_threads_of_pyiceberg_work_on_behalf_of_whoever_asked(activity, tmp_path):
    io = SharedFileIO()
    paths = [f"{tmp_path}/{number}" for number in range(3)]
    wait([ExecutorFactory.get_or_create().submit(Files(io).create, path, b"") for path in paths])
    assert sorted(path for _, path, _ in activity()) == paths


def test_where_nothing_is_recorded_streams_are_arrows_own(tmp_path):
    io, path = SharedFileIO(), f"{tmp_path}/a"
    with io.new_output(path).create() as sink:
        assert isinstance(sink, pa.NativeFile)
    with io.new_input(path).open() as source:
        assert isinstance(source, pa.NativeFile)

"""What is inside Parquet files: opened where they lie, and read in batches that stay small."""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO

from activities.core.credentials import is_tls_trouble, tls_advice
from activities.core.faults import ObjectRefused, StoreRefused, StoreUnavailable
from activities.lake.storage import is_refusal
from activities.lake.tracedfiles import reading, writing

BATCH_ROWS = 8192
BUFFER_BYTES = 2**20
"""Read at once of each column; a file is never held whole, nor is one of its row groups."""
WHOLE_BYTES = 16 * 2**20
"""An object up to this size is fetched with one request, when somebody wants most of it."""
GROUP_BYTES = 256 * 2**20
"""Bytes of a row group, not compressed, of which columns are fetched at once."""
_OF_THE_STORE = "AWS Error"
"""What the library below PyArrow puts before everything that the store, and not the file, did wrong."""


class Files:
    """Files of an object store, by the paths that Iceberg holds. Methods block."""

    def __init__(self, io: FileIO) -> None:
        self._io = io

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[pq.ParquetFile]:
        """One Parquet file, its footer read.

        Raises:
            ObjectRefused: it is gone, or no Parquet file.
            StoreRefused: there is no right to it.
            StoreUnavailable: the store does not answer as it should.
        """
        with named(path), reading(self._io, path) as source, open_parquet(source) as file:
            yield file

    @contextlib.contextmanager
    def open_most(self, path: str, size: int) -> Iterator[pq.ParquetFile]:
        """The same for a file of `size` bytes of which most will be read: with few requests, and more memory.

        An object of up to WHOLE_BYTES is fetched at once, of a larger one the columns of a row group that are read. Row
        groups of more than GROUP_BYTES are read bit by bit.
        """
        with named(path), reading(self._io, path) as source:
            if size <= WHOLE_BYTES:
                whole: Any = source
                with _prefetched(pa.BufferReader(whole.read_buffer())) as file:
                    yield file
                return
            footer = pq.read_metadata(source)
            groups = [footer.row_group(number).total_byte_size for number in range(footer.num_row_groups)]
            is_wide = max(groups, default=0) > GROUP_BYTES
            with open_parquet(source, footer) if is_wide else _prefetched(source, footer) as file:
                yield file

    def part(self, path: str, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset` on; fewer only at the end of the object.

        Raises:
            ObjectRefused: it is gone, or shorter than `offset`.
            StoreRefused: there is no right to it.
            StoreUnavailable: the store does not answer as it should.
        """
        with named(path), reading(self._io, path) as source:
            source.seek(offset)
            return bytes(source.read(length))

    def create(self, path: str, body: bytes) -> None:
        """Write an object under a path that nobody else would use: what lies there is replaced.

        Raises:
            StoreRefused: there is no right to do so, or no bucket.
            StoreUnavailable: the store does not answer as it should; the object may be there all the same.
        """
        try:
            with writing(self._io, path) as sink:
                sink.write(body)
        except OSError as wrong:
            if is_refusal(wrong):
                raise StoreRefused(f"object {path} cannot be written: {wrong}; grant the rights") from wrong
            raise StoreUnavailable(f"object {path} cannot be written: {wrong}") from wrong


@contextlib.contextmanager
def open_parquet(source: Any, footer: pq.FileMetaData | None = None) -> Iterator[pq.ParquetFile]:
    """A Parquet file read through a file object of Python's or Arrow's own kind; `footer` if it was read already."""
    with pq.ParquetFile(
        source, metadata=footer, buffer_size=BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
    ) as file:
        yield file


@contextlib.contextmanager
def _prefetched(source: Any, footer: pq.FileMetaData | None = None) -> Iterator[pq.ParquetFile]:
    """The same with all that is read of a row group fetched at once."""
    with pq.ParquetFile(source, metadata=footer, pre_buffer=True, page_checksum_verification=True) as file:
        yield file


def batches(file: pq.ParquetFile, columns: Sequence[str]) -> Iterable[pa.RecordBatch]:
    """Some columns of all rows."""
    names = file.schema_arrow.names
    chosen = None if set(columns) == set(names) else list(columns)
    found: Iterable[pa.RecordBatch] = file.iter_batches(BATCH_ROWS, columns=chosen, use_threads=False)
    return found


def until(stopped: threading.Event, found: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same, until somebody does not want them any more: a thread cannot be interrupted."""
    for batch in found:
        if stopped.is_set():
            return
        yield batch


@contextlib.contextmanager
def named(path: str) -> Iterator[None]:
    """Turn what goes wrong while a file is read into a fault that names the file."""
    try:
        yield
    except FileNotFoundError as gone:
        raise ObjectRefused(f"object {path} is not there") from gone
    except (pa.ArrowInvalid, OSError) as wrong:
        if is_tls_trouble(wrong):
            said = f"object {path} cannot be read: no connection by TLS: {wrong}; {tls_advice('storage')}"
            raise StoreRefused(said) from wrong
        if is_refusal(wrong):
            raise StoreRefused(f"object {path} cannot be read: {wrong}; grant the rights") from wrong
        if _OF_THE_STORE in str(wrong):
            raise StoreUnavailable(f"object {path} cannot be read: {wrong}") from wrong
        raise ObjectRefused(f"object {path} is no whole Parquet file: {wrong}") from wrong

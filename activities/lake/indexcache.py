"""Segments of indexes on this worker's disk, decoded: arrays that are mapped into memory, so that looking up takes page
cache and no heap. Whatever is here may be deleted at any time, and what is damaged is as good as deleted.
"""  # noqa: D205 - two sentences that belong together

import hashlib
import json
import mmap
import os
import resource
import threading
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from activities.core.indexsegments import Segment, fences_of, sieve_of
from activities.core.mirrors import Entries, Keys, Sequences
from activities.lake.unfinished import PART, drop_abandoned

MOST_BYTES = 12 * 2**30
MOST_HELD = 2**29
"""Bytes of files, programs and libraries among them, that this process may have in its own memory."""
_MOST_OPEN = 2048
"""Segments that stay mapped, at most: each of them takes two file descriptors."""
_KEPT_PER_LOOK = 64
_LOOKS = 16
"""The directory is looked at again at the latest when so large a part of what it may hold was written."""
_HEADER_BYTES = 4096
_LAYOUT = 2
"""Files of another one are as good as damaged."""
_WORDS = np.dtype(np.uint64)
_REST = np.dtype([("sequence_low", np.uint64), ("file", np.uint32), ("row", np.uint32)])
"""What is looked at of a key that was found, in one place: then one page has it."""
_COLUMNS = (_WORDS, _WORDS, _WORDS, _REST)
"""The keys' words, the higher one of the sequence numbers, and the rest."""
_SEGMENT, _BYTES = ".entries", ".bytes"
_WORD = 2**64


def most_open() -> int:
    """How many segments may stay mapped: with half of the descriptors that the process may have, and no more."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_OPEN if allowed == resource.RLIM_INFINITY else min(_MOST_OPEN, allowed // 4)


def files_in_memory() -> int:
    """Bytes of files that are mapped, and in this process's memory; where nobody tells, too many."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[2]) * resource.getpagesize()
    except FileNotFoundError:
        return MOST_HELD + 1


class IndexCache:
    """What one directory holds, by the SHA-256 of what it was made from. Methods block; any thread may call them."""

    def __init__(self, directory: Path, most_bytes: int = MOST_BYTES) -> None:
        self.directory = directory
        self._most_bytes = most_bytes
        self._most_open = most_open()
        self._open: OrderedDict[str, tuple[Segment, mmap.mmap]] = OrderedDict()
        self._of_heads: dict[str, frozenset[str]] = {}
        """Table → segments of its index, as it was opened last."""
        self._lock = threading.Lock()
        self._kept = _KEPT_PER_LOOK
        """Files that were written since the directory was last looked at."""
        self._kept_bytes = 0
        directory.mkdir(parents=True, exist_ok=True)
        drop_abandoned(directory)

    def segment(self, sha256: str, rows: int) -> Segment | None:
        """A segment of so many entries; None when it is not here, or not whole."""
        path = self._path(sha256, _SEGMENT)
        with self._lock:
            held = self._open.get(sha256)
        if held is None:
            try:
                held = _mapped(path, rows)
            except FileNotFoundError:
                return None
            except (OSError, ValueError, LookupError, TypeError):
                path.unlink(missing_ok=True)
                return None
            held[1].madvise(mmap.MADV_DONTNEED)
        with suppress(FileNotFoundError):  # what is mapped stays, also when its name has gone
            os.utime(path)
        with self._lock:
            self._open[sha256] = held
            self._open.move_to_end(sha256)
            while len(self._open) > self._most_open:
                self._open.popitem(last=False)
        return held[0]

    def let_go(self, *sha256s: str) -> None:
        """Have this process hold no segments in memory until they are looked at again, unless it holds little.

        It stays in the page cache, which is the machine's. Else all of a large index would be in the worker's own
        memory after a few lookups, and count as if nobody else could have it. To look at it again takes several times
        as long as at what is held: so what every lookup goes through, which is small, is always held.
        """
        if files_in_memory() <= MOST_HELD:
            return
        with self._lock:
            held = [self._open[sha256] for sha256 in sha256s if sha256 in self._open]
        for segment, pages in held:
            small = segment.fences.nbytes + segment.sieve.nbytes
            pages.madvise(mmap.MADV_DONTNEED, 0, (len(pages) - small) // mmap.PAGESIZE * mmap.PAGESIZE)

    def follow(self, table_uuid: str, segments: Collection[str]) -> None:
        """The index of a table has come to consist of these: what it had before and has no more does not stay mapped.

        Whoever still looks into one of those keeps it until that is over.
        """
        now = frozenset(segments)
        with self._lock:
            before = self._of_heads.get(table_uuid, frozenset())
            self._of_heads[table_uuid] = now
            for sha256 in before - now:
                self._open.pop(sha256, None)

    @contextmanager
    def writing(self, capacity: int, *, sieved: bool) -> Iterator["SegmentWriter"]:
        """Make a segment of at most so many entries; it is here once it is kept."""
        with self.scratch() as path, path.open("wb") as file:
            yield SegmentWriter(file, capacity, sieved=sieved)

    def keep(self, writer: "SegmentWriter", sha256: str) -> None:
        """Let a segment that has been written be here."""
        self._kept += 1
        path = Path(writer.finish())
        self._kept_bytes += path.stat().st_blocks * 512
        path.replace(self._path(sha256, _SEGMENT))

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A path in the directory for a file that goes at the end, if it is still there."""
        path = self.directory / f"{uuid.uuid4().hex}{PART}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def content(self, sha256: str) -> bytes | None:
        """Bytes that were kept as they are; None when they are not here, or not whole."""
        path = self._path(sha256, _BYTES)
        try:
            found = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return found if hashlib.sha256(found).hexdigest() == sha256 else None

    def keep_content(self, content: bytes, sha256: str) -> None:
        """Keep bytes as they are."""
        self._kept += 1
        with self.scratch() as path:
            path.write_bytes(content)
            path.replace(self._path(sha256, _BYTES))

    def trim(self, needed: Collection[str]) -> None:
        """Delete what was not used for longest until the rest is small enough; never what is needed.

        It looks once in a while only.
        """
        if self._kept < _KEPT_PER_LOOK and self._kept_bytes < self._most_bytes / _LOOKS:
            return
        kept, left, self._kept, self._kept_bytes = 0, [], 0, 0
        drop_abandoned(self.directory)
        for path in self.directory.iterdir():
            with suppress(FileNotFoundError):  # another process tidies too
                if path.suffix == PART:
                    continue
                status = path.stat()
                kept += status.st_blocks * 512
                left.append((status.st_mtime, status.st_blocks * 512, path))
        for _, size, path in sorted(left):
            if kept <= self._most_bytes:
                return
            if path.stem not in needed:
                path.unlink(missing_ok=True)
                kept -= size
                with self._lock:
                    self._open.pop(path.stem, None)

    def _path(self, sha256: str, suffix: str) -> Path:
        return self.directory / f"{sha256}{suffix}"


@lru_cache(maxsize=64)
def cache_at(directory: Path, most_bytes: int = MOST_BYTES) -> IndexCache:
    """The cache of a directory, one for all who ask: what was checked once is not checked again."""
    return IndexCache(directory, most_bytes)


class SegmentWriter:
    """Writes arrays beside each other whose length is not known yet: each has room for `capacity` entries.

    A column that holds one value only takes no room; what is not written of the others is a hole.
    """

    def __init__(self, file: BinaryIO, capacity: int, *, sieved: bool) -> None:
        self._file = file
        self._capacity = capacity
        self._rows = 0
        self._sums = [0] * len(_COLUMNS)
        self._constants: list[int | None] = [None] * len(_COLUMNS)
        self._sieved = sieved

    def add(self, entries: Entries) -> None:
        """Append entries."""
        if not len(entries):
            return
        for number, column in enumerate(_columns(entries)):
            self._add_column(number, column)
        self._rows += len(entries)

    def _add_column(self, number: int, column: npt.NDArray[Any]) -> None:
        value = self._constants[number]
        if not self._rows and column.dtype != _REST:
            value = int(column[0])
        if value is not None and not np.all(column == column.dtype.type(value)):
            self._write(number, 0, np.full(self._rows, value, column.dtype))
            value = None
        self._constants[number] = value
        if value is None:
            self._write(number, self._rows, column)

    def _write(self, number: int, row: int, column: npt.NDArray[Any]) -> None:
        self._file.seek(_offsets(self._capacity)[number] + row * column.itemsize)
        self._file.write(np.ascontiguousarray(column).data)
        self._sums[number] += _sum(column)

    def finish(self) -> str:
        """End the file; answers its path."""
        self._file.flush()
        high = _column(self._file.name, self._rows, _offsets(self._capacity)[0], self._constants[0])
        fences = fences_of(high)
        sieve = sieve_of(high) if self._sieved else np.empty(0, np.uint8)
        self._file.seek(_offsets(self._capacity)[-1])
        self._file.write(fences.data)
        self._file.write(sieve.data)
        said = {
            "rows": self._rows,
            "capacity": self._capacity,
            "constants": self._constants,
            "sums": [total % _WORD for total in self._sums],
            "fences": [len(fences), _sum(fences)],
            "sieve": [len(sieve), _sum(sieve)],
            "layout": _LAYOUT,
        }
        text = json.dumps(said, separators=(",", ":")).encode()
        self._file.seek(0)
        self._file.write(f"{zlib.crc32(text):08x}".encode() + text + b"\n")
        self._file.flush()
        return str(self._file.name)


def _mapped(path: Path, rows: int) -> tuple[Segment, mmap.mmap]:
    """A file of `SegmentWriter`'s, checked; and what it is mapped by.

    Raises:
        ValueError, LookupError, TypeError: it is not whole.
    """
    read = _Reader(os.open(path, os.O_RDONLY))
    pages = mmap.mmap(read.descriptor, 0, access=mmap.ACCESS_READ)
    mapped = np.frombuffer(pages, np.uint8)
    read.begin = _address(mapped)
    header = mapped[:_HEADER_BYTES].tobytes().partition(b"\n")[0]
    if int(header[:8], 16) != zlib.crc32(header[8:]):
        raise ValueError("the header is damaged")
    said = json.loads(header[8:])
    if said["rows"] != rows:
        raise ValueError(f"it holds {said['rows']} entries and not {rows}")
    if said["layout"] != _LAYOUT:
        raise ValueError(f"its layout is {said['layout']} and not {_LAYOUT}")
    offsets = _offsets(said["capacity"])
    columns = []
    for kind, offset, constant, total in zip(_COLUMNS, offsets[:-1], said["constants"], said["sums"], strict=True):
        if constant is not None:
            columns.append(np.broadcast_to(np.array(constant, kind), rows))
            continue
        column = np.frombuffer(mapped, kind, rows, offset)
        if _sum(column) != total:
            raise ValueError("a column is damaged")
        columns.append(column)
    (count, fences_sum), (slots, sieve_sum) = said["fences"], said["sieve"]
    fences = np.frombuffer(mapped, np.uint64, count, offsets[-1])
    sieve = mapped[offsets[-1] + fences.nbytes :][:slots]
    if _sum(fences) != fences_sum or _sum(sieve) != sieve_sum:
        raise ValueError("the directory is damaged")
    high, low, sequence_high, rest = columns
    sequences = Sequences(sequence_high, rest["sequence_low"])
    entries = Entries(Keys(high, low), rest["file"], rest["row"], sequences)
    return Segment(entries, fences, sieve, read), pages


class _Reader:
    """Reads single items of arrays that are mapped from a file, which it keeps open."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        """Is closed with this."""
        self.begin = 0
        """Address to which the file is mapped."""

    def __del__(self) -> None:
        os.close(self.descriptor)

    def __call__(self, items: npt.NDArray[Any], rows: npt.NDArray[np.int64], width: int) -> npt.NDArray[Any]:
        """Of an array, for each row, `width` items from there on: an array of shape (rows, width)."""
        file, size = self.descriptor, width * items.itemsize
        places = (_address(items) - self.begin + rows * items.strides[0]).tolist()
        for place in places:  # what is not in memory is fetched at once, and not one page after the other
            os.posix_fadvise(file, place, size, os.POSIX_FADV_WILLNEED)
        found = b"".join([os.pread(file, size, place) for place in places])
        return np.frombuffer(found, items.dtype).reshape(len(rows), width)


def _address(items: npt.NDArray[Any]) -> int:
    return int(items.__array_interface__["data"][0])


def _column(path: str, rows: int, offset: int, constant: int | None) -> npt.NDArray[np.uint64]:
    if constant is not None:
        return np.full(rows, constant, np.uint64)
    return np.asarray(np.memmap(path, np.uint64, "r", offset, (rows,)))


def _columns(entries: Entries) -> tuple[npt.NDArray[Any], ...]:
    keys, sequences = entries.keys, entries.sequences
    rest = np.empty(len(entries), _REST)
    rest["sequence_low"], rest["file"], rest["row"] = sequences.low, entries.file, entries.row
    return keys.high, keys.low, sequences.high, rest


def _offsets(capacity: int) -> list[int]:
    """Where the columns begin, and then the directory."""
    offsets = [_HEADER_BYTES]
    for kind in _COLUMNS:
        end = offsets[-1] + capacity * kind.itemsize
        offsets.append(-(-end // _HEADER_BYTES) * _HEADER_BYTES)
    return offsets


def _sum(column: npt.NDArray[Any]) -> int:
    """What no flipped bit, no lost page and no hole leaves as it was."""
    words = column.view(np.uint64) if column.dtype == _REST else column
    return int(words.sum(dtype=np.uint64))

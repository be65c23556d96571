"""A segment of an index as a file on this worker's disk: columns that are mapped into memory, and the directory."""

import json
import mmap
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from activities.core.indexsegments import REST, Segment, fences_of, sieve_of
from activities.core.mirrors import Entries, Keys, Sequences

_HEADER_BYTES = 4096
_LAYOUT = 3
"""Files of another one are as good as damaged."""
_WORDS = np.dtype(np.uint64)
_COLUMNS = (_WORDS, _WORDS, REST)
"""The higher words of the keys and of the sequence numbers, and the rest."""
_WORD = 2**64


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
        if not self._rows and column.dtype != REST:
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


def mapped(path: Path, rows: int) -> tuple[Segment, mmap.mmap]:
    """A file of `SegmentWriter`'s, checked; and what it is mapped by.

    Raises:
        ValueError, LookupError, TypeError: it is not whole.
    """
    read = _Reader(os.open(path, os.O_RDONLY))
    pages = mmap.mmap(read.descriptor, 0, access=mmap.ACCESS_READ)
    content = np.frombuffer(pages, np.uint8)
    read.begin = _address(content)
    header = content[:_HEADER_BYTES].tobytes().partition(b"\n")[0]
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
        column = np.frombuffer(content, kind, rows, offset)
        if _sum(column) != total:
            raise ValueError("a column is damaged")
        columns.append(column)
    (count, fences_sum), (slots, sieve_sum) = said["fences"], said["sieve"]
    fences = np.frombuffer(content, np.uint64, count, offsets[-1])
    sieve = content[offsets[-1] + fences.nbytes :][:slots]
    if _sum(fences) != fences_sum or _sum(sieve) != sieve_sum:
        raise ValueError("the directory is damaged")
    high, sequence_high, rest = columns
    sequences = Sequences(sequence_high, rest["sequence_low"])
    entries = Entries(Keys(high, rest["key_low"]), rest["file"], rest["row"], sequences)
    return Segment(entries, fences, sieve, read, rest), pages


class _Reader:
    """Reads single items of arrays that are mapped from a file, which it keeps open."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        """Is closed with this."""
        self.begin = 0
        """Address to which the file is mapped."""

    def __del__(self) -> None:
        os.close(self.descriptor)

    def ahead(self, items: npt.NDArray[Any], rows: npt.NDArray[np.int64], width: int) -> None:
        """Have what is not in memory be fetched, all of it at once and not one page after the other."""
        for place in self._places(items, rows):
            os.posix_fadvise(self.descriptor, place, width * items.itemsize, os.POSIX_FADV_WILLNEED)

    def __call__(self, items: npt.NDArray[Any], rows: npt.NDArray[np.int64], width: int) -> npt.NDArray[Any]:
        """Of an array, for each row, `width` items from there on: an array of shape (rows, width)."""
        file, size = self.descriptor, width * items.itemsize
        found = b"".join([os.pread(file, size, place) for place in self._places(items, rows)])
        return np.frombuffer(found, items.dtype).reshape(len(rows), width)

    def _places(self, items: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> list[int]:
        """Where items lie in the file."""
        places: list[int] = (_address(items) - self.begin + rows * items.strides[0]).tolist()
        return places


def _address(items: npt.NDArray[Any]) -> int:
    return int(items.__array_interface__["data"][0])


def _column(path: str, rows: int, offset: int, constant: int | None) -> npt.NDArray[np.uint64]:
    if constant is not None:
        return np.full(rows, constant, np.uint64)
    return np.asarray(np.memmap(path, np.uint64, "r", offset, (rows,)))


def _columns(entries: Entries) -> tuple[npt.NDArray[Any], ...]:
    rest = np.empty(len(entries), REST)
    rest["key_low"], rest["sequence_low"] = entries.keys.low, entries.sequences.low
    rest["file"], rest["row"] = entries.file, entries.row
    return entries.keys.high, entries.sequences.high, rest


def _offsets(capacity: int) -> list[int]:
    """Where the columns begin, and then the directory."""
    offsets = [_HEADER_BYTES]
    for kind in _COLUMNS:
        end = offsets[-1] + capacity * kind.itemsize
        offsets.append(-(-end // _HEADER_BYTES) * _HEADER_BYTES)
    return offsets


def _sum(column: npt.NDArray[Any]) -> int:
    """What no flipped bit, no lost page and no hole leaves as it was."""
    words = column.view(np.uint64) if column.dtype == REST else column
    return int(words.sum(dtype=np.uint64))

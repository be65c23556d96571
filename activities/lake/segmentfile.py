"""A segment of an index as a file on this worker's disk: items that are mapped into memory, and the directory."""

import json
import mmap
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from activities.core.indexsegments import ENTRY, Segment, fences_of, items_of, sieve_of
from activities.core.mirrors import Entries

_HEADER_BYTES = 4096
_LAYOUT = 4
"""Files of another one are as good as damaged."""
_WORD = 2**64


class SegmentWriter:
    """Writes entries whose number is not known yet."""

    def __init__(self, file: BinaryIO, *, sieved: bool) -> None:
        self._file = file
        self._rows = 0
        self._sum = 0
        self._sieved = sieved
        file.seek(_HEADER_BYTES)

    def add(self, entries: Entries) -> None:
        """Append entries."""
        items = items_of(entries)
        self._file.write(items.data)
        self._rows += len(items)
        self._sum += _sum(items)

    def finish(self) -> str:
        """End the file; answers its path. There must be entries."""
        self._file.flush()
        high = np.memmap(self._file.name, ENTRY, "r", _HEADER_BYTES, (self._rows,))["key_high"]
        fences = fences_of(high)
        sieve = sieve_of(high) if self._sieved else np.empty(0, np.uint8)
        self._file.write(fences.data)
        self._file.write(sieve.data)
        said = {
            "rows": self._rows,
            "sum": self._sum % _WORD,
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
    header = content[:_HEADER_BYTES].tobytes().partition(b"\n")[0]
    if int(header[:8], 16) != zlib.crc32(header[8:]):
        raise ValueError("the header is damaged")
    said = json.loads(header[8:])
    if said["layout"] != _LAYOUT:
        raise ValueError(f"its layout is {said['layout']} and not {_LAYOUT}")
    if said["rows"] != rows:
        raise ValueError(f"it holds {said['rows']} entries and not {rows}")
    items = np.frombuffer(content, ENTRY, rows, _HEADER_BYTES)
    if _sum(items) != said["sum"]:
        raise ValueError("its entries are damaged")
    (count, fences_sum), (slots, sieve_sum) = said["fences"], said["sieve"]
    directory = content[_HEADER_BYTES + items.nbytes :]
    fences = np.frombuffer(directory, np.uint64, count)
    sieve = directory[fences.nbytes :][:slots]
    if _sum(fences) != fences_sum or _sum(sieve) != sieve_sum:
        raise ValueError("the directory is damaged")
    return Segment(items, fences, sieve, read), pages


class _Reader:
    """Reads single items from a file, which it keeps open."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        """Is closed with this."""

    def __del__(self) -> None:
        os.close(self.descriptor)

    def __call__(self, rows: npt.NDArray[np.int64], width: int) -> npt.NDArray[Any]:
        """For each row, `width` items from there on: an array of shape (rows, width)."""
        file, size = self.descriptor, width * ENTRY.itemsize
        places: list[int] = (_HEADER_BYTES + rows * ENTRY.itemsize).tolist()
        for place in places:  # what is not in memory is fetched all at once, and not one page after the other
            os.posix_fadvise(file, place, size, os.POSIX_FADV_WILLNEED)
        found = b"".join([os.pread(file, size, place) for place in places])
        return np.frombuffer(found, ENTRY).reshape(len(rows), width)


def _sum(items: npt.NDArray[Any]) -> int:
    """What no flipped bit, no lost page and no hole leaves as it was."""
    words = items.view(np.uint64) if items.dtype == ENTRY else items
    return int(words.sum(dtype=np.uint64))

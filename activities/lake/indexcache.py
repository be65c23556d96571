"""Segments of indexes on this worker's disk, decoded: arrays that are mapped into memory, so that looking up takes page
cache and no heap. Whatever is here may be deleted at any time, and what is damaged is as good as deleted.
"""  # noqa: D205 - two sentences that belong together

import hashlib
import mmap
import os
import resource
import threading
import uuid
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from activities.core.indexsegments import Segment
from activities.lake.segmentfile import SegmentWriter, mapped
from activities.lake.unfinished import PART, drop_abandoned

MOST_BYTES = 12 * 2**30
_MOST_OPEN = 2048
"""Segments that stay mapped, at most: each of them takes two file descriptors."""
_KEPT_PER_LOOK = 64
_LOOKS = 16
"""The directory is looked at again at the latest when so large a part of what it may hold was written."""
_SEGMENT, _BYTES = ".entries", ".bytes"


def most_open() -> int:
    """How many segments may stay mapped: with half of the descriptors that the process may have, and no more."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_OPEN if allowed == resource.RLIM_INFINITY else min(_MOST_OPEN, allowed // 4)


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
                held = mapped(path, rows)
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
        """Have this process hold no segments in memory until they are looked at again, but for their directories.

        It stays in the page cache, which is the machine's. Else all of a large index would be in the worker's own
        memory after a few lookups, and count as if nobody else could have it. What every lookup goes through is small,
        and stays.
        """
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
    def writing(self, *, sieved: bool) -> Iterator[SegmentWriter]:
        """Make a segment; it is here once it is kept."""
        with self.scratch() as path, path.open("wb") as file:
            yield SegmentWriter(file, sieved=sieved)

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

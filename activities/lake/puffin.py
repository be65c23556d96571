"""Puffin files: blobs one behind the other, and a footer that says what they are.

PyIceberg reads them and writes none. https://iceberg.apache.org/puffin-spec/
"""

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

MAGIC = b"PFA1"
_TRAILER = 12
"""Bytes behind the footer's payload: its length, flags, the magic."""
SHORTEST_FOOTER = len(MAGIC) + _TRAILER
_NO_SNAPSHOT = -1
"""What the specification has for blobs that are written before their snapshot is."""


@dataclass(frozen=True)
class Blob:
    """Where a blob lies in its file."""

    type: str
    offset: int
    length: int
    sha256: str


@dataclass(frozen=True)
class Footer:
    """A footer, parsed."""

    blobs: tuple[Blob, ...]
    properties: dict[str, str]


class PuffinWriter:
    """Writes a Puffin file from its beginning."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._blobs: list[Blob] = []
        self._file.write(MAGIC)
        self._size = len(MAGIC)

    @contextmanager
    def blob(self, kind: str) -> Iterator["BlobSink"]:
        """A file object whose bytes become the next blob; `written` tells it once the context has ended well."""
        sink = BlobSink(self._file)
        yield sink
        self._blobs.append(Blob(kind, self._size, sink.tell(), sink.sha256))
        self._size += sink.tell()

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Those that are whole, in order."""
        return tuple(self._blobs)

    def finish(self, properties: dict[str, str]) -> bytes:
        """End the file; answers the footer, from its magic to the end of the file."""
        footer = _footer(self._blobs, properties)
        self._file.write(footer)
        self._size += len(footer)
        self.close()
        return footer

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._size


class BlobSink(io.RawIOBase):
    """Takes the bytes of one blob, whose own count begins at 0."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._digest = hashlib.sha256()
        self._length = 0

    def writable(self) -> bool:
        """It is all that one can do with it."""
        return True

    def write(self, piece: Any, /) -> int:
        """Append bytes."""
        self._digest.update(piece)
        written = self._file.write(piece)
        self._length += written
        return written

    def tell(self) -> int:
        """Bytes so far."""
        return self._length

    @property
    def sha256(self) -> str:
        """Of the bytes so far."""
        return self._digest.hexdigest()


def _footer(blobs: list[Blob], properties: dict[str, str]) -> bytes:
    described = [
        {
            "type": blob.type,
            "fields": [],
            "snapshot-id": _NO_SNAPSHOT,
            "sequence-number": _NO_SNAPSHOT,
            "offset": blob.offset,
            "length": blob.length,
            "properties": {"sha256": blob.sha256},
        }
        for blob in blobs
    ]
    payload = json.dumps({"blobs": described, "properties": properties}, separators=(",", ":")).encode()
    return MAGIC + payload + len(payload).to_bytes(4, "little") + bytes(4) + MAGIC


def footer_length(tail: bytes) -> int:
    """Bytes of the footer, with its magic, at the end of a file whose last bytes are `tail` (12 or more).

    Raises:
        ValueError: this is not the end of a Puffin file.
    """
    if len(tail) < _TRAILER or tail[-4:] != MAGIC:
        raise ValueError("its last bytes are not those of a Puffin file")
    return int.from_bytes(tail[-_TRAILER:-8], "little") + SHORTEST_FOOTER


def read_footer(footer: bytes) -> Footer:
    """A footer from its magic to the end of the file.

    Raises:
        ValueError: it is none, is compressed, or was not written by `PuffinWriter`.
    """
    if footer_length(footer) != len(footer) or not footer.startswith(MAGIC):
        raise ValueError("the footer of the Puffin file is not whole")
    if any(footer[-8:-4]):
        raise ValueError("the footer of the Puffin file is compressed")
    try:
        said = json.loads(footer[len(MAGIC) : -_TRAILER])
        blobs = tuple(
            Blob(str(one["type"]), int(one["offset"]), int(one["length"]), str(one["properties"]["sha256"]))
            for one in said["blobs"]
        )
        return Footer(blobs, dict(said["properties"]))
    except (LookupError, TypeError) as wrong:
        raise ValueError(f"the footer of the Puffin file lacks {wrong}") from wrong

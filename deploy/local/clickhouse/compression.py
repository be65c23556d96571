"""Content codings of request and response bodies, as streams."""

import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

import lz4.frame  # type: ignore[import-untyped] # it has no stubs
import zstandard

from deploy.local.clickhouse.faults import EngineError


class Encoder(Protocol):
    """Compresses piece by piece."""

    def compress(self, data: bytes, /) -> bytes:
        """What is ready after one more piece."""

    def flush(self) -> bytes:
        """The end of the stream."""


class Decoder(Protocol):
    """Decompresses piece by piece."""

    def decompress(self, data: bytes, /) -> bytes:
        """What is ready after one more piece."""


class _Lz4Encoder:
    """An LZ4 frame; its header comes with the first piece."""

    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameCompressor()
        self._started = False

    def compress(self, data: bytes, /) -> bytes:
        header = b"" if self._started else self._frame.begin()
        self._started = True
        return bytes(header + self._frame.compress(data))

    def flush(self) -> bytes:
        return bytes((b"" if self._started else self._frame.begin()) + self._frame.flush())


class _Identity:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def decompress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


_ENCODERS: Mapping[str, Callable[[], Encoder]] = {
    "lz4": _Lz4Encoder,
    "zstd": lambda: zstandard.ZstdCompressor(level=1).compressobj(),
    "gzip": lambda: zlib.compressobj(3, zlib.DEFLATED, 31),
    "deflate": lambda: zlib.compressobj(3),
}
_DECODERS: Mapping[str, Callable[[], Decoder]] = {
    "": _Identity,
    "identity": _Identity,
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
    "gzip": lambda: zlib.decompressobj(31),
    "deflate": zlib.decompressobj,
}


def encoder(accept: str, *, enabled: bool) -> tuple[str, Encoder]:
    """The response's coding and encoder: the first one in Accept-Encoding that is known, when the query allows it."""
    for offered in accept.split(",") if enabled else ():
        name = offered.split(";")[0].strip().lower()
        if name in _ENCODERS:
            return name, _ENCODERS[name]()
    return "", _Identity()


def decoder(content_encoding: str) -> Decoder:
    """The decoder of a request's body.

    Raises:
        EngineError: a coding that is not served (48, status 501).
    """
    make = _DECODERS.get(content_encoding.strip().lower())
    if make is None:
        known = ", ".join(name for name in _DECODERS if name)
        raise EngineError(
            48, f"Content-Encoding {content_encoding} is not served, use one of {known}. (NOT_IMPLEMENTED)"
        )
    return make()

"""The storage of a table's metadata, kept open: each load of a table would open connections of its own."""

from functools import lru_cache
from typing import Any

from pyarrow.fs import S3FileSystem
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO

_KEPT = 16


class _StoreIO(PyArrowFileIO):
    """Small files are written with one request, where the library takes three."""

    def _initialize_s3_fs(self, netloc: str | None) -> Any:
        _, (options,) = super()._initialize_s3_fs(netloc).__reduce__()
        return S3FileSystem(**{**options, "allow_delayed_open": True})


def lasting(io: FileIO) -> FileIO:
    """What reads and writes as `io` does, one for all tables with the same properties."""
    if type(io) is not PyArrowFileIO:
        return io
    return _opened(frozenset((name, str(value)) for name, value in io.properties.items()))


@lru_cache(maxsize=_KEPT)
def _opened(properties: frozenset[tuple[str, str]]) -> FileIO:
    return _StoreIO(dict(properties))

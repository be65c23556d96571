"""PyIceberg's way to files, with one client of the object store for all tables, and one request for a small file.

PyIceberg makes a client (and its connections) for each table that is loaded, and PyArrow begins an upload in parts for
each file, be it as small as manifests are: three requests where one does.
"""

from functools import lru_cache

from pyarrow.fs import FileSystem, S3FileSystem
from pyiceberg.io import S3_RETRY_STRATEGY_IMPL
from pyiceberg.io.pyarrow import PyArrowFileIO


class SharedFileIO(PyArrowFileIO):
    """Name it as `py-io-impl`."""

    def _initialize_s3_fs(self, netloc: str | None) -> FileSystem:
        return _client(tuple(sorted(self.properties.items())), netloc)


@lru_cache(maxsize=16)
def _client(properties: tuple[tuple[str, str], ...], netloc: str | None) -> FileSystem:
    usual = PyArrowFileIO(dict(properties))._initialize_s3_fs(netloc)  # noqa: SLF001 - it knows what properties mean
    if not isinstance(usual, S3FileSystem) or S3_RETRY_STRATEGY_IMPL in dict(properties):
        return usual  # a strategy cannot be carried over
    _, (options,) = usual.__reduce__()
    return S3FileSystem(**{**options, "allow_delayed_open": True})

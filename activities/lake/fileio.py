"""PyIceberg's way to files, with one client of the object store for all tables, and one request for a small file.

PyIceberg makes a client (and its connections) for each table that is loaded, and PyArrow begins an upload in parts for
each file, be it as small as manifests are: three requests where one does.
"""

from collections.abc import Callable
from functools import lru_cache

from pyarrow.fs import FileSystem, S3FileSystem
from pyiceberg.io import (
    S3_ACCESS_KEY_ID,
    S3_RETRY_STRATEGY_IMPL,
    S3_SECRET_ACCESS_KEY,
    S3_SESSION_TOKEN,
)
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.typedef import EMPTY_DICT, Properties

from activities.lake.tracedfiles import TracedFile, trace_threads, traced

KEYS = "icefleet.s3-keys"
"""Property: answers access key, secret key and session token as they are just now. Those of the catalog go before."""
CA_FILE = "icefleet.s3-ca-file"
"""Property: who may have signed the store's certificate."""
OF_STORES = ("s3.", "client.", "icefleet.")


class SharedFileIO(PyArrowFileIO):
    """Name it as `py-io-impl`."""

    def __init__(self, properties: Properties = EMPTY_DICT) -> None:
        super().__init__(properties)
        # PyIceberg would keep a client for as long as the table is loaded, and keys may be replaced meanwhile.
        self.fs_by_scheme = self._initialize_fs

    def new_input(self, location: str) -> TracedFile:
        """A file to be read."""
        return traced(super().new_input(location))

    def new_output(self, location: str) -> TracedFile:
        """A file to be written."""
        return traced(super().new_output(location))

    def _initialize_s3_fs(self, netloc: str | None) -> FileSystem:
        properties: dict[str, object] = dict(self.properties)
        ask: Callable[[], tuple[str, str, str]] | None = properties.pop(KEYS, None)  # type: ignore[assignment]
        if ask is not None and S3_ACCESS_KEY_ID not in properties:
            keys = zip((S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY, S3_SESSION_TOKEN), ask(), strict=True)
            properties |= {name: key for name, key in keys if key}
        # What else the table and the catalog say would only keep tables from sharing a client.
        told = {name: str(value) for name, value in properties.items() if name.startswith(OF_STORES)}
        return _client(tuple(sorted(told.items())), netloc)


@lru_cache(maxsize=16)
def _client(properties: tuple[tuple[str, str], ...], netloc: str | None) -> FileSystem:
    usual = PyArrowFileIO(dict(properties))._initialize_s3_fs(netloc)  # noqa: SLF001 - it knows what properties mean
    if not isinstance(usual, S3FileSystem) or S3_RETRY_STRATEGY_IMPL in dict(properties):
        return usual  # a strategy cannot be carried over
    _, (options,) = usual.__reduce__()
    authorities = dict(properties).get(CA_FILE)
    return S3FileSystem(**{**options, "allow_delayed_open": True, "tls_ca_file_path": authorities})


trace_threads()

"""Files that anyone may read over HTTP: asked for one by one, since no server lists them, and read by ranges."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from activities.core.faults import ObjectRefused, StoreRefused, StoreUnavailable

TIMEOUT_SECONDS = 30
CONNECTIONS = 32
ABSENT = frozenset({404, 410})
_PARTIAL = 206


@dataclass(frozen=True)
class WebObject:
    """A file that is there; its tag tells one that took its place from it."""

    url: str
    size: int
    tag: str


class Web:
    """HTTP, with the patience that a public server may need. Methods block and may be called by many threads."""

    def __init__(self) -> None:
        self._session = requests.Session()
        retry = Retry(total=4, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=retry))

    def head(self, url: str) -> WebObject | None:
        """What is there; None when nothing is.

        Raises:
            StoreRefused: the server does not let us look.
            StoreUnavailable: it does not answer as it should.
        """
        with _named(url):
            # Identity: the length of a compressed answer would not be the file's.
            headers = {"Accept-Encoding": "identity"}
            answer = self._session.head(url, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=True)
        if answer.status_code in ABSENT:
            return None
        _check(url, answer)
        if "Content-Length" not in answer.headers:
            raise StoreRefused(f"{url}: the server does not say how long the file is, so its end cannot be asked for")
        return WebObject(url, int(answer.headers["Content-Length"]), answer.headers.get("ETag", ""))

    def read(self, file: WebObject, offset: int, length: int) -> bytes:
        """Some bytes of a file.

        Raises:
            ObjectRefused: another file has taken its place.
            StoreRefused: the server does not let us read, or serves no ranges.
            StoreUnavailable: it does not answer as it should.
        """
        wanted = {"Range": f"bytes={offset}-{offset + length - 1}", "Accept-Encoding": "identity"}
        with _named(file.url):
            answer = self._session.get(file.url, headers=wanted, timeout=TIMEOUT_SECONDS, stream=True)
            with answer:
                if answer.status_code in ABSENT or answer.headers.get("ETag", "") != file.tag:
                    raise ObjectRefused(f"{file.url} was replaced while it was read")
                _check(file.url, answer)
                if answer.status_code != _PARTIAL:
                    raise StoreRefused(f"{file.url}: the server serves whole files only, and no ranges")
                body = bytes(answer.content)
        if len(body) != length:
            raise StoreUnavailable(f"{file.url}: {len(body)} bytes came where {length} were asked for")
        return body

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()


class WebFile(io.RawIOBase):
    """A file on the web as a file object, for whoever reads a piece here and a piece there."""

    def __init__(self, web: Web, file: WebObject) -> None:
        super().__init__()
        self._web = web
        self._file = file
        self._position = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, which is answered."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill as much of `buffer` as the file has; 0 at the end."""
        length = min(len(buffer), self._file.size - self._position)
        if length <= 0:
            return 0
        buffer[:length] = self._web.read(self._file, self._position, length)
        self._position += length
        return length


def _check(url: str, answer: requests.Response) -> None:
    if answer.ok:
        return
    said = f"{url}: the server answers {answer.status_code} {answer.reason}"
    if answer.status_code < 500 and answer.status_code != 429:  # noqa: PLR2004 - HTTP's own numbers
        raise StoreRefused(said)
    raise StoreUnavailable(said)


@contextlib.contextmanager
def _named(url: str) -> Iterator[None]:
    try:
        yield
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as wrong:
        raise StoreRefused(f"{url} is no address: {wrong}") from wrong
    except requests.RequestException as away:
        raise StoreUnavailable(f"{url} cannot be read: {away}") from away

"""The cache in front of the bucket: telling it which URLs have new content."""

from collections.abc import Iterator, Sequence

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from activities.core.credentials import Secret, reveal

URLS_AT_ONCE = 30
"""URLs of one request, as many as common services take."""
TIMEOUT_SECONDS = 10
TRIES = 3
PASSING = (429, 500, 502, 503, 504)


class Purge:
    """A service that is told by POST: `{"files": [URL, …]}`, with a bearer token if there is one."""

    def __init__(self, url: str, token: Secret = "") -> None:
        self._url = url
        self._session = requests.Session()
        again = Retry(
            total=TRIES, backoff_factor=0.5, status_forcelist=PASSING, allowed_methods=None, raise_on_status=False
        )
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=again))
        self._token = token

    def __repr__(self) -> str:
        return f"Purge({self._url})"

    def tell(self, urls: Sequence[str]) -> tuple[int, str]:
        """Tell the cache of so many URLs as it takes; answers how many those were, and why not all. This blocks."""
        told = 0
        for some in _batches(urls):
            try:
                answer = self._session.post(
                    self._url, json={"files": list(some)}, headers=self._login(), timeout=TIMEOUT_SECONDS
                )
            except requests.RequestException as away:
                return told, f"cache at {self._url} cannot be told: {away}"
            if not answer.ok:
                return told, f"cache at {self._url} answered {answer.status_code}: {answer.text[:200]}"
            told += len(some)
        return told, ""

    def _login(self) -> dict[str, str]:
        token = reveal(self._token)
        return {"Authorization": f"Bearer {token}"} if token else {}


def _batches(urls: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(urls), URLS_AT_ONCE):
        yield urls[first : first + URLS_AT_ONCE]

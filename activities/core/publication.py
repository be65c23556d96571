"""Where the public copy of a table's metadata lies, and what it says to whom has nothing but a URL."""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from activities.core.faults import BadConfig
from activities.core.objectkeys import table_prefix
from activities.core.tables import TableConfig

CATALOG_KEY = "xatu/catalog.json"
METADATA = "metadata/"
"""Below a table's prefix; no partition lies there."""
FIRST_VERSION = 1_000_000_000
"""Versions count from here. A reader that asks for the hint's size first, and then for so many bytes of a hint that
has changed meanwhile, must never get a part of a number: all of them have ten digits."""
_FORMAT = 1
"""Part of every copy's name: to be counted up when copies are made in another way."""
_S3 = re.compile(r"s3[an]?://([^/]+)/(.+)", re.DOTALL)
_VERSION = re.compile(r"v(\d{10})\.metadata\.json", re.ASCII)

ABOUT = (
    "Apache Iceberg tables, readable with nothing but the URL of each. What is published is the newest snapshot of a "
    "table, seconds after its commit. DuckDB: INSTALL iceberg; LOAD iceberg; then the query in 'scan'. Filter on the "
    "partition column to read few files. Others: <url>/metadata/version-hint.text holds a number N, and "
    "<url>/metadata/v<N>.metadata.json is the table; nothing but the hint ever changes."
)


@dataclass(frozen=True)
class Place:
    """One table's public place."""

    table: str
    """`<network>.<table>`, for messages."""
    bucket: str
    public_url: str
    """Where the bucket's objects are public, without a slash at its end."""
    prefix: str
    """What every key of the table begins with; it ends with a slash."""

    @property
    def url(self) -> str:
        """The table's own URL."""
        return self.at(self.prefix.rstrip("/"))

    @property
    def hint(self) -> str:
        """Key of the object that names the newest version."""
        return f"{self.prefix}{METADATA}version-hint.text"

    def version(self, number: int) -> str:
        """Key of one version's metadata."""
        return f"{self.prefix}{METADATA}v{number}.metadata.json"

    def copy(self, path: str) -> str:
        """Key of the copy of a manifest or manifest list; that of another source, or for another URL, is another."""
        digest = hashlib.sha256("\n".join((str(_FORMAT), self.bucket, self.public_url, path)).encode()).hexdigest()
        return f"{self.prefix}{METADATA}{digest[:32]}.avro"

    def at(self, key: str) -> str:
        """The URL of an object of the bucket."""
        return f"{self.public_url}/{key}"

    def public(self, path: str) -> str:
        """The URL of a data file.

        Raises:
            BadConfig: it lies where the public cannot get it.
        """
        found = _S3.fullmatch(path)
        if found is None or found[1] != self.bucket:
            raise BadConfig(
                f"table {self.table}: {path} lies outside bucket {self.bucket!r}, which `storage.public_url` serves, "
                "so the table cannot be published; move the file there and replace it in the table"
            )
        return self.at(found[2])


def place_of(config: TableConfig, network: str, bucket: str, public_url: str, key_prefix: str) -> Place:
    """Where a table is public; `key_prefix` stands before every key of the bucket."""
    prefix = table_prefix(config, network)
    return Place(
        f"{network}.{config.name}", bucket, public_url.rstrip("/"), f"{key_prefix}/{prefix}" if key_prefix else prefix
    )


def version_of(key: str) -> int | None:
    """The version whose metadata an object is; None for any other object."""
    found = _VERSION.fullmatch(key.rpartition("/")[2])
    return int(found[1]) if found else None


def version_in(hint: bytes | None) -> int | None:
    """The version that a hint names; None when there is no hint, or none of ours."""
    return int(hint) if hint is not None and re.fullmatch(rb"\d{10}", hint) else None


def expired(made: dict[int, int], current: int, before: int) -> set[int]:
    """Versions that nobody reads any more: their successor has been there since before a time.

    `made` says of every version when it was made; both times are in seconds since the epoch. What is newer than the
    current one is about to be published.
    """
    return {number for number, successor in pairwise(sorted(made)) if number < current and made[successor] < before}


@dataclass(frozen=True)
class Shown:
    """The snapshots that readers of a table's public versions may be with, or may soon be."""

    snapshots: frozenset[int] = frozenset()
    newest: int | None = None
    """Sequence number of the one that is published. None: none is."""

    def keeps(self, snapshot_id: int, sequence_number: int) -> bool:
        """Whether a snapshot must stay: it is shown, or newer than what is, and somebody may be about to show it."""
        return snapshot_id in self.snapshots or (self.newest is not None and sequence_number > self.newest)


def snapshot_in(metadata: bytes) -> tuple[int, int]:
    """Id and sequence number of the snapshot that a public version shows.

    Raises:
        ValueError, LookupError, TypeError: it is no version of ours.
    """
    [snapshot] = json.loads(metadata)["snapshots"]
    return int(snapshot["snapshot-id"]), int(snapshot.get("sequence-number") or 0)


def catalog_entry(config: TableConfig, network: str, place: Place) -> dict[str, Any]:
    """What the catalog says of one table. Nothing of it changes with a commit, so that writers rarely meet."""
    rule = config.partition
    entry: dict[str, Any] = {
        "name": place.table,
        "network": network,
        "database": config.database,
        "table": config.name,
        "url": place.url,
        "partition": {"column": rule.column, "kind": rule.kind},
        "scan": f"SELECT * FROM iceberg_scan('{place.url}') LIMIT 10",  # noqa: S608 - for people to copy
    }
    if rule.kind == "integer":
        entry["partition"]["values_per_file"] = rule.chunk_size
    return entry


def with_entry(catalog: bytes | None, entry: dict[str, Any]) -> bytes:
    """The catalog with one table's entry in it, whatever it said of that table before."""
    tables = [known for known in _tables(catalog) if known.get("name") != entry["name"]]
    tables.append(entry)
    tables.sort(key=lambda one: str(one.get("name")))
    return (json.dumps({"about": ABOUT, "tables": tables}, indent=1, ensure_ascii=False) + "\n").encode()


def _tables(catalog: bytes | None) -> Iterable[dict[str, Any]]:
    """The entries that are there; a catalog that is none is made anew."""
    if catalog is None:
        return []
    try:
        held = json.loads(catalog)
        tables = held["tables"]
    except (ValueError, KeyError, TypeError):
        return []
    return [one for one in tables if isinstance(one, dict)] if isinstance(tables, list) else []

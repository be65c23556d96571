"""The two sides of a comparison: an Iceberg table, a tree in a bucket, or a tree that the public reads over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import pyarrow.parquet as pq

from activities.clients.objectstore import ObjectStore
from activities.clients.web import Web, WebFile
from activities.contracts.export import table_identifier
from activities.core.faults import BadRequest
from activities.core.objectkeys import index_of_key, public_key, table_prefix
from activities.core.partitions import Span
from activities.core.tables import TableConfig
from activities.lake.content import Files, named, open_parquet
from activities.lake.holdings import held_files
from worker.config import Settings
from worker.lake import open_lake
from worker.parts import open_store

EVERYTHING = Span(0, 2**63)
FORMS = (
    "write <environment>:<network>.<table> for an Iceberg table, <environment>: for the public layout in the "
    "environment's bucket, s3://<bucket>/<what stands before xatu/> for another bucket of the same store, or "
    "https://<what stands before xatu/>"
)


@dataclass(frozen=True)
class SideSpec:
    """A side as it was typed, understood."""

    text: str
    kind: str
    """`table`, `tree` or `web`."""
    environment: str = ""
    network: str = ""
    table: str = ""
    root: str = ""
    """Of trees: bucket and prefix, or the address, before `xatu/`; empty for the environment's own bucket."""


def parse_side(text: str, environment: str) -> SideSpec:
    """Understand a side; `environment` is the one whose store and config are used where none is named.

    Raises:
        BadRequest: it has none of the known forms.
    """
    where = urlsplit(text)
    if where.scheme in {"http", "https"} and where.netloc:
        return SideSpec(text, "web", environment, root=text.rstrip("/"))
    if where.scheme == "s3" and where.netloc:
        return SideSpec(text, "tree", environment, root=text.removeprefix("s3://").rstrip("/"))
    named_environment, colon, rest = text.partition(":")
    if colon and named_environment and not rest:
        return SideSpec(text, "tree", named_environment)
    network, dot, table = rest.partition(".")
    if colon and named_environment and network and dot and table:
        return SideSpec(text, "table", named_environment, network, table)
    raise BadRequest(f"{text!r} is no side of a comparison: {FORMS}")


@dataclass(frozen=True)
class Piece:
    """A file that holds a partition on one side."""

    path: str
    """What to show, and to open it by."""
    handle: Any = None


class Side(Protocol):
    """One side: which file holds which partition, and what is in it."""

    async def listed(self) -> dict[int, list[Piece]] | None:
        """Partition → its files, of everything that is there; None where nobody can list."""

    async def ask(self, index: int) -> list[Piece]:
        """The files of one partition, of a side that cannot be listed."""

    def open(self, piece: Piece) -> Any:
        """A context manager that opens a file; it blocks."""


class TableSide:
    """The head of an Iceberg table."""

    def __init__(self, table: Any, config: TableConfig) -> None:
        self._table = table
        self._config = config

    async def listed(self) -> dict[int, list[Piece]]:
        """What the manifests say."""
        held = await asyncio.to_thread(held_files, self._table, self._config.partition, "", EVERYTHING)
        return {index: [Piece(file.path) for file in files] for index, files in held.items()}

    async def ask(self, index: int) -> list[Piece]:
        """Never needed: it is listed."""
        return (await self.listed()).get(index, [])

    @contextmanager
    def open(self, piece: Piece) -> Iterator[pq.ParquetFile]:
        """A file, wherever the manifest says that it lies."""
        with Files(self._table.io).open(piece.path) as file:
            yield file


class TreeSide:
    """The public layout below a place in a bucket; files that replace others under keys of their own are left out."""

    def __init__(self, store: ObjectStore, files: Files, prefix: str, config: TableConfig, network: str) -> None:
        self._store = store
        self._files = files
        self._prefix = f"{prefix}/" if prefix else ""
        self._config = config
        self._network = network

    async def listed(self) -> dict[int, list[Piece]]:
        """What lies under public keys."""
        found: dict[int, list[Piece]] = {}
        place = self._prefix + table_prefix(self._config, self._network)
        async with aclosing(self._store.objects(place)) as pages:
            async for page in pages:
                for entry in page:
                    index = index_of_key(self._config, self._network, entry.key.removeprefix(self._prefix))
                    if index is not None:
                        found[index] = [Piece(self._store.path(entry.key))]
        return found

    async def ask(self, index: int) -> list[Piece]:
        """Never needed: it is listed."""
        return (await self.listed()).get(index, [])

    @contextmanager
    def open(self, piece: Piece) -> Iterator[pq.ParquetFile]:
        """One object."""
        with self._files.open(piece.path) as file:
            yield file


class WebSide:
    """The public layout below an address."""

    def __init__(self, web: Web, root: str, config: TableConfig, network: str) -> None:
        self._web = web
        self._root = root
        self._config = config
        self._network = network

    async def listed(self) -> None:
        """Nobody can list it."""

    async def ask(self, index: int) -> list[Piece]:
        """Whether the file is there."""
        url = f"{self._root}/{public_key(self._config, self._network, index)}"
        found = await asyncio.to_thread(self._web.head, url)
        return [] if found is None else [Piece(url, found)]

    @contextmanager
    def open(self, piece: Piece) -> Iterator[pq.ParquetFile]:
        """One file, of which only what is needed is fetched."""
        with named(piece.path), WebFile(self._web, piece.handle) as source, open_parquet(source) as file:
            yield file


@asynccontextmanager
async def open_side(settings: Settings, spec: SideSpec, config: TableConfig, network: str) -> AsyncIterator[Side]:
    """Open one side.

    Raises:
        BadRequest: the catalog has no such table.
    """
    async with AsyncExitStack() as stack:
        if spec.kind == "web":
            web = Web()
            stack.callback(web.close)
            yield WebSide(web, spec.root, config, network)
            return
        environment = settings.environment(spec.environment)
        lake = open_lake(environment)
        if spec.kind == "table":
            identifier = table_identifier(spec.network, spec.table)
            table = await asyncio.to_thread(lake.load, identifier)
            if table is None:
                raise BadRequest(f"the catalog of environment {spec.environment} has no table {identifier}")
            yield TableSide(table, config)
            return
        store = await stack.enter_async_context(open_store(environment))
        bucket, _, prefix = spec.root.partition("/") if spec.root else (store.name, "", environment.storage.prefix)
        files = await asyncio.to_thread(lake.files)
        yield TreeSide(store.bucket(bucket), files, prefix, config, network)

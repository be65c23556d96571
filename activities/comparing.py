"""Whether a file holds the values that the source holds: both read once, in batches, and their checksums compared."""

import asyncio
import contextlib
import io
import threading
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import pyarrow as pa

from activities.abreast import seen_through
from activities.clients.clickhouse import ARROW_END, ClickHouse
from activities.clients.clickhouse_faults import FAILURE_BYTES
from activities.context import ExportContext
from activities.contracts.verify import LISTED_FINDINGS, Finding, ReadInput, ReadReport
from activities.core.columns import ExportColumn, export_columns
from activities.core.evolution import Types
from activities.core.faults import Fault, ObjectRefused, UnsupportedType
from activities.core.partitions import Ranges, Span, index_of
from activities.core.query import content_query, versions_query
from activities.core.verdicts import MOVED, HeldFile, Verdict
from activities.lake.checksums import Checksum, checksum
from activities.lake.content import Files, batches, until
from activities.lake.schema import shape_of
from activities.verifying import Subject, subject_of

T = TypeVar("T")
BUFFER_BYTES = 2**18


async def compare_partitions(context: ExportContext, read: ReadInput, doing: dict[str, str]) -> ReadReport:
    """Compare the values of partitions that have one sound file each; `doing` is told what is being done."""
    subject = await subject_of(context, read.environment, read.table, read.network)
    indices = [index_of(subject.rule, partition) for partition in read.partitions]
    before = await _state(subject, indices)
    reader = _Reader(subject, await subject.load(), doing)
    found = {index: await _compared(reader, index, before[index][0]) for index in indices}
    after = await _state(subject, indices)
    verdicts = {index: verdict if before[index] == after[index] else MOVED for index, verdict in found.items()}
    findings = [
        Finding(verdict.kind, subject.label(index), verdict.message)
        for index, verdict in verdicts.items()
        if not verdict.is_sound
    ]
    counts = Counter(verdict.kind for verdict in verdicts.values())
    return ReadReport(dict(counts), findings[:LISTED_FINDINGS], dict(reader.not_compared))


_State = tuple[tuple[HeldFile, ...], int | None]


async def _state(subject: Subject, indices: list[int]) -> dict[int, _State]:
    """What must not change while values are read: the partition's file, and the newest version at the source."""
    held = await subject.held(await subject.load(), Span(min(indices), max(indices) + 1))
    query = versions_query(subject.config, subject.facts, subject.network, Ranges.from_indices(indices))
    rows = await subject.clickhouse.rows(query, comment=f"icefleet versions of {subject.identifier}")
    versions = {int(row["partition"]): None if row["version"] is None else int(row["version"]) for row in rows}
    return {index: (tuple(held.get(index, ())), versions.get(index)) for index in indices}


async def _compared(reader: "_Reader", index: int, files: tuple[HeldFile, ...]) -> Verdict:
    if len(files) != 1:
        return MOVED  # there was one when it was looked at
    path = files[0].path
    try:
        ours, types = await reader.of_file(index, path)
    except (ObjectRefused, UnsupportedType) as wrong:
        return Verdict("unreadable", f"{path}: {wrong}; export it again, with force")
    try:
        theirs = await reader.of_source(index, types)
    except UnsupportedType as wrong:
        return Verdict("unreadable", f"the source's rows do not fit the table any more: {wrong}")
    if ours == theirs:
        return Verdict("proved")
    return Verdict(
        "checksum",
        f"{path} holds {ours.rows} rows with the checksum {ours}, the source {theirs.rows} with {theirs}; export it "
        "again, with force",
    )


class _Reader:
    """Both sides of one table, column by column under the table's types."""

    def __init__(self, subject: Subject, table: Any, doing: dict[str, str]) -> None:
        self.not_compared: Counter[str] = Counter()
        self._subject = subject
        self._table = table
        self._doing = doing
        shape = shape_of(table)
        self._types = shape.types
        columns = export_columns(subject.config, subject.facts.columns, shape)
        self._columns = {column.name: column for column in columns}

    async def of_file(self, index: int, path: str) -> tuple[Checksum, Types]:
        """The checksum of a file, and the columns that it has in common with the source.

        Raises:
            ObjectRefused: the file cannot be read.
            UnsupportedType: its values cannot be read under the table's types.
        """
        self._doing |= {"partition": self._subject.label(index), "reads": "the file"}
        return await _in_thread(lambda stopped: self._of_file(path, stopped))

    def _of_file(self, path: str, stopped: threading.Event) -> tuple[Checksum, Types]:
        with Files(self._table.io).open(path) as file:
            there = set(file.schema_arrow.names)
            types = {name: kind for name, kind in self._types.items() if name in there and name in self._columns}
            # A file from before a column was added, or a source that has dropped one.
            self.not_compared.update((there | set(self._columns)) - set(types))
            return checksum(until(stopped, batches(file, list(types))), types), types

    async def of_source(self, index: int, types: Types) -> Checksum:
        """The checksum of the source's rows, redacted and cast as they are exported.

        Raises:
            UnsupportedType: a value cannot be cast, or read under the table's type.
        """
        self._doing |= {"partition": self._subject.label(index), "reads": "the source"}
        subject = self._subject
        columns: list[ExportColumn] = [self._columns[name] for name in types]
        query = content_query(subject.config, subject.facts, columns, subject.network, index)
        query_id = f"icefleet-{uuid.uuid4()}"
        comment = f"icefleet verify {subject.identifier} partition {subject.label(index)}"
        chunks = subject.clickhouse.arrow(query, query_id=query_id, comment=comment)
        try:
            return await arrow_checksum(subject.clickhouse, chunks, types)
        except asyncio.CancelledError:
            # What cannot be killed the server ends itself, when it notices that nobody reads.
            with contextlib.suppress(Fault, TimeoutError):
                await asyncio.shield(subject.clickhouse.kill(query_id))
            raise


async def arrow_checksum(clickhouse: ClickHouse, chunks: AsyncGenerator[bytes], types: Types) -> Checksum:
    """The checksum of an Arrow stream as it comes; memory holds a batch of it.

    Raises:
        ResultIncomplete: the stream ended early.
    """
    async with aclosing(chunks):
        pulled = _Pulled(chunks, asyncio.get_running_loop())

        def work(stopped: threading.Event) -> Checksum:
            # Buffered: Arrow takes a read that is short for the end of the stream.
            with pa.ipc.open_stream(pa.PythonFile(io.BufferedReader(pulled, BUFFER_BYTES), mode="r")) as reader:
                return checksum(until(stopped, reader), types)

        try:
            found = await _in_thread(work, pulled.stop)
        except (pa.ArrowException, OSError) as broken:
            what = f"the result is no whole Arrow stream after {pulled.size} bytes ({broken})"
            raise clickhouse.broken(what, pulled.tail) from broken
        finally:
            await pulled.settled()
        if not pulled.tail.endswith(ARROW_END):
            raise clickhouse.broken(f"the result ended after {pulled.size} bytes, and is not whole", pulled.tail)
        return found


class _Pulled(io.RawIOBase):
    """An asynchronous stream as a file that a thread reads: a chunk is asked for when it is needed."""

    def __init__(self, chunks: AsyncGenerator[bytes], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.size = 0
        self.tail = b""
        """The last bytes that came: how the stream ended."""
        self._chunks = chunks
        self._loop = loop
        self._rest = memoryview(b"")
        self._asking: asyncio.Task[Any] | None = None
        """What asks for a chunk. Only the loop's own thread looks at it: else one that has just begun is overlooked."""
        self._stopped = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill some of `buffer`; 0 at the end."""
        if not self._rest:
            self._rest = memoryview(self._pull())
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def stop(self) -> None:
        """Let whoever reads fail as soon as nothing is asked of the stream; called in the loop's own thread."""
        self._stopped = True
        if self._asking is not None:
            self._asking.cancel()

    async def settled(self) -> None:
        """Wait until nothing is asked of the stream: it cannot be closed while a chunk is on its way."""
        if self._asking is not None:
            await asyncio.wait([self._asking])

    def _pull(self) -> bytes:
        chunk = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
        self.size += len(chunk)
        self.tail = (self.tail + chunk)[-FAILURE_BYTES:]
        return chunk

    async def _next(self) -> bytes:
        if self._stopped:
            return b""
        self._asking = asyncio.current_task()
        return await anext(self._chunks, b"")


async def _in_thread(work: Callable[[threading.Event], T], stop: Callable[[], None] | None = None) -> T:
    """Run work that looks at its event between two batches; cancelling this waits until it has stopped."""
    stopped = threading.Event()

    def hurry() -> None:
        stopped.set()
        if stop is not None:
            stop()

    return await seen_through(asyncio.to_thread(work, stopped), hurry)

"""Following a source's log into the buffer: committed transactions, in order, each once.

What makes it exact: the position moves in the transaction that writes the events, and only from where this capture
believed it to be; the slot is told of positions that the buffer holds, and of no other.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

from opentelemetry import metrics

from activities import failpoints
from activities.abreast import first_of
from activities.cdc_context import CaptureFrom, CdcContext, PipelineConfig
from activities.clients.capture_room import Held, held
from activities.clients.capture_sink import Progress, Sink, open_sink
from activities.clients.lineage import Known
from activities.clients.replication import LogStream, open_log
from activities.clients.slots import open_slots
from activities.clients.waits import waiting_for
from activities.contracts.cdc import CaptureInput, CaptureReport
from activities.contracts.findings import RETAINED
from activities.core.capture import SCHEMA_PREFIX, Shape, Transaction
from activities.core.changelogs import lsn_text
from activities.core.faults import PostgresUnavailable, SlotLost
from activities.core.pgoutput import Begin, Commit, Delete, Insert, Message, Relation, Truncate, Update, decode
from activities.following import Follower
from activities.slotfindings import PipelineFindings
from activities.slotwatching import watch_without_buffer
from activities.watching import Watch

TAKEN_AT_ONCE = 1000
LINGER_SECONDS = 0.005
"""How long a transaction waits for company before it goes into the buffer alone."""
FLUSH_SECONDS = 0.05
FLUSH_BYTES = 1024 * 1024
FEEDBACK_SECONDS = 5.0
IDLE_SECONDS = 10.0
"""How often the position moves over log that holds nothing of ours."""
ROOM_SECONDS = 0.5
"""How often a full buffer is looked at."""

_EVENTS = metrics.get_meter("icefleet").create_counter(
    "icefleet.cdc.captured_events",
    unit="{event}",
    description="Events that a pipeline's capture brought into its buffer",
)


async def capture_changes(context: CdcContext, capture: CaptureInput) -> CaptureReport:
    """Bring what the source commits into the buffer for `seconds`, and at least all that was committed before.

    So a transaction that takes long to be read arrives however short the turns are. A buffer that is full ends a turn.

    Raises:
        BadRequest: no such pipeline, or one without a source.
        PostgresRefused: a database says no, or nothing is installed.
        PostgresUnavailable: a database is away; what was in hand comes again.
        LockTaken: another capture reads the slot, or wrote into the buffer.
        SlotLost: slot or publication are gone, and changes with them.
    """
    pipeline = context.pipeline(capture.environment, capture.pipeline)
    source = pipeline.captured_from()
    findings = PipelineFindings(context, pipeline)
    try:
        return await _capture(pipeline, source, findings, capture.seconds)
    except SlotLost as lost:
        await findings.end(RETAINED, {source.slot: str(lost)})
        raise
    except PostgresUnavailable:
        await watch_without_buffer(pipeline, source, findings)
        raise
    finally:
        await findings.close()


async def _capture(
    pipeline: PipelineConfig, source: CaptureFrom, findings: PipelineFindings, seconds: float
) -> CaptureReport:
    async with AsyncExitStack() as stack:
        beside = await stack.enter_async_context(open_sink(pipeline.buffer, pipeline.buffer_schema))
        progress = await beside.progress()
        if progress.ended:
            await findings.end(RETAINED, {progress.slot: progress.ended})
            return CaptureReport(0, 0, lsn_text(progress.captured_lsn or 0), 0, ended=progress.ended)
        slots = await stack.enter_async_context(open_slots(source.database))
        watch = Watch(pipeline, source, slots, progress, findings)
        slot = await watch.check_start(beside)
        follower = Follower(pipeline.name, source.slot, slots, beside.tables)
        await follower.start()
        async with open_sink(pipeline.buffer, pipeline.buffer_schema) as sink:
            turn = _Turn(pipeline, sink, beside, follower, progress.captured_lsn, slot.flushed_lsn)
            async with open_log(source.database) as turn.stream:
                await _begin(turn.stream, sink, progress)
                await turn.stream.start(source.slot, source.publication, turn.start)
                await first_of(turn.work(seconds), turn.no_room(), turn.keep_in_touch(), watch.run(beside))
        if watch.danger:
            # Not by the sink, which may have been left in the middle of a COPY: it would wait for the COPY's end.
            await watch.give_up(beside)
            turn.ended = watch.danger
        return turn.report(watch.retained_bytes)


async def _begin(stream: LogStream, sink: Sink, progress: Progress) -> None:
    """Make sure that the log is the one that the buffer was filled from, or a standby's that goes on with it."""
    try:
        lineage = await stream.lineage(Known(progress.lineage, progress.captured_lsn or 0))
    except SlotLost as lost:
        # Positions alone would not tell an installation.
        await sink.end(str(lost))
        raise
    await sink.begin(progress.captured_lsn, lineage)


class _Turn:
    """One turn of a capture, from stream to buffer."""

    stream: LogStream

    def __init__(
        self, pipeline: PipelineConfig, sink: Sink, beside: Sink, follower: Follower, captured: int | None, target: int
    ) -> None:
        self._pipeline = pipeline
        self._sink = sink
        self._beside = beside
        self._follower = follower
        self._captured = captured
        self._target = target
        """What was committed before it comes in this turn, however long that takes."""
        self._seen = self.start = captured or 0
        """Everything before it was received, and is in the buffer or in hand."""
        self._transaction: Transaction | None = None
        self._lines: list[str] = []
        self._size = 0
        self._since = self._advanced = time.monotonic()
        self._in_hand = [0, 0]
        self._done = [0, 0]
        """Events and transactions."""
        self._room = 0
        """Events that may come before the buffer is looked at again."""
        self._room_until = 0.0
        self._held = Held()
        self._no_room = asyncio.Event()
        self._waiting = ""
        self.ended = ""

    def report(self, retained_bytes: int) -> CaptureReport:
        """What came of it."""
        events, transactions = self._done
        return CaptureReport(
            events, transactions, lsn_text(self._captured or 0), retained_bytes, self._waiting, self.ended
        )

    async def keep_in_touch(self) -> None:
        """Tell the server every few seconds how far we are: it cuts off whoever is silent for a minute."""
        while True:
            await asyncio.sleep(FEEDBACK_SECONDS)
            if self._captured is not None:
                self.stream.confirm(self._captured)

    async def work(self, seconds: float) -> None:
        """Bring over what comes until the time is up and no transaction is half received."""
        self._until = time.monotonic() + seconds
        while True:
            pieces = self.stream.take(TAKEN_AT_ONCE)
            if pieces:
                await self._receive(pieces)
                if self._transaction is None and self._is_over():
                    await self._flush_rest()
                    return
            elif not await self._idle():
                return

    async def no_room(self) -> None:
        """Wait until the time is up while the buffer is full: what is in hand is let go then, and comes again."""
        await self._no_room.wait()

    async def _idle(self) -> bool:
        """Wait for more; False: the time is up. What is in hand is brought into the buffer first."""
        between = self._transaction is None
        if between and self._in_hand[1]:
            late = time.monotonic() - self._since > FLUSH_SECONDS
            if late or not await self.stream.wait(LINGER_SECONDS, self._captured or 0):
                await self._flush()
            return True
        left = self._until - time.monotonic()
        if between:
            await self._move_on()
            if self._is_over():
                return False
        # A transaction that was begun comes to its end: it was committed long ago.
        await self.stream.wait(min(left, 1.0) if between and left > 0 else 1.0, self._captured or 0)
        return True

    def _is_over(self) -> bool:
        return time.monotonic() >= self._until and self._seen >= self._target

    async def _receive(self, pieces: Sequence[bytes | int]) -> None:
        for piece in pieces:
            if isinstance(piece, int):
                if self._transaction is None:
                    self._seen = max(self._seen, piece)
                continue
            event = decode(piece)
            transaction = self._transaction
            if transaction is None:
                if type(event) is Begin:
                    self._transaction = Transaction(event)
                    if not self._in_hand[1]:
                        self._since = time.monotonic()
            elif type(event) is Commit:
                await self._end_transaction(transaction, event)
            else:
                await self._add(event, transaction)

    async def _add(self, event: object, transaction: Transaction) -> None:
        if isinstance(event, Insert | Update | Delete):
            shape = self._follower.shapes.get(event.relid) or await self._look(event.relid, transaction)
            if shape is not None:
                self._take(_row_lines(shape, event, transaction))
        elif isinstance(event, Truncate):
            for relid in event.relids:
                shape = self._follower.shapes.get(relid) or await self._look(relid, transaction)
                if shape is not None:
                    self._take([shape.truncated(transaction.place())])
        elif isinstance(event, Relation):
            self._take(await self._follower.relation(event, transaction))
        elif isinstance(event, Message) and event.transactional and event.prefix == SCHEMA_PREFIX:
            self._take(await self._follower.message(event, transaction))
        if self._size >= FLUSH_BYTES:
            await self._spill()

    async def _look(self, relid: int, transaction: Transaction) -> Shape | None:
        self._take(await self._follower.unknown(relid, transaction))
        return self._follower.shapes.get(relid)

    def _take(self, lines: Sequence[str]) -> None:
        self._lines += lines
        self._size += sum(map(len, lines))

    async def _end_transaction(self, transaction: Transaction, commit: Commit) -> None:
        self._transaction = None
        self._seen = max(self._seen, commit.end_lsn)
        if not transaction.events:
            return
        self._in_hand[0] += transaction.events
        self._in_hand[1] += 1
        if self._sink.is_open or time.monotonic() - self._since > FLUSH_SECONDS:
            await self._flush()

    async def _spill(self) -> None:
        """Write what is in hand where nobody sees it yet: a transaction may be larger than memory."""
        if not self._sink.is_open:
            await self._wait_for_room()
            await failpoints.reach("cdc-before-buffer")
        await self._sink.write(self._lines)
        self._lines, self._size = [], 0
        await failpoints.reach("cdc-during-buffer")

    async def _flush_rest(self) -> None:
        if self._in_hand[1]:
            await self._flush()

    async def _flush(self) -> None:
        """Make visible what is in hand, and let the source forget it."""
        await self._spill()
        await self._commit()
        self._done = [done + more for done, more in zip(self._done, self._in_hand, strict=True)]
        self._room -= self._in_hand[0]
        _EVENTS.add(self._in_hand[0], {"pipeline": self._pipeline.name})
        self._in_hand = [0, 0]

    async def _commit(self) -> None:
        tables, stops = self._follower.take_changes()
        await self._sink.commit(self._captured, self._seen, tables, stops)
        await failpoints.reach("cdc-after-buffer")
        self._captured, self._advanced = self._seen, time.monotonic()
        await failpoints.reach("cdc-before-feedback")
        self.stream.confirm(self._captured)

    async def _move_on(self) -> None:
        """Let the source forget log that holds nothing of ours: now and then, and when it asks."""
        moved = self._captured is None or self._seen > self._captured
        if moved and (self.stream.answer_wanted or time.monotonic() - self._advanced > IDLE_SECONDS):
            await self._commit()
        elif self.stream.answer_wanted and self._captured is not None:
            self.stream.confirm(self._captured)

    async def _wait_for_room(self) -> None:
        """Wait while the buffer is full, if need be until the turn is ended by `no_room`."""
        self._waiting = ""
        if self._room > 0 and time.monotonic() < self._room_until:
            return
        while not await self._has_room():
            self._waiting = (
                f"room in the buffer: it holds {self._held.events} events and {self._held.bytes} bytes, and "
                f"max_events is {self._pipeline.buffer_max_events}, max_bytes {self._pipeline.buffer_max_bytes}"
            )
            if self._held.copying:
                self._waiting += f"; {self._held.copying} of these events stay until their tables are copied"
            if time.monotonic() >= self._until:
                self._no_room.set()
            with waiting_for(self._waiting):
                await asyncio.sleep(ROOM_SECONDS)
        self._waiting = ""

    async def _has_room(self) -> bool:
        """Whether tables that go on hold less than the limits; events of those that are stopped have their own."""
        now = self._held = await held(self._beside)
        self._room = (self._pipeline.buffer_max_events - now.events) // 10
        self._room_until = time.monotonic() + 1.0
        return now.events < self._pipeline.buffer_max_events and now.bytes < self._pipeline.buffer_max_bytes


def _row_lines(shape: Shape, event: Insert | Update | Delete, transaction: Transaction) -> list[str]:
    if isinstance(event, Insert):
        return [shape.line(shape.inserted(event.new), transaction.place())]
    if isinstance(event, Update):
        return [shape.line(change, transaction.place()) for change in shape.updated(event)]
    return [shape.line(shape.deleted(event.old), transaction.place())]

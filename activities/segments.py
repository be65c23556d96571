"""The rows of a batch: read from the buffer segment by segment, each with the columns that held then, into files."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from activities.clients.buffer_claims import ClaimedTable, SchemaEvent
from activities.clients.buffer_letters import add_letters, hold_back
from activities.clients.pieces import Tally
from activities.core.changelogs import lsn_number
from activities.core.drift import ChangelogColumns, Drift
from activities.core.eventquery import SegmentEvents, misfits_query, quick_query, segment_query
from activities.core.faults import ResultIncomplete, UnsupportedType
from activities.core.sourcetables import SourceTable
from activities.lake.rows import ChangelogFiles
from activities.readying import Work
from activities.storing import undisturbed


@dataclass(frozen=True)
class Segment:
    """Events of a table that have the same columns: `first_id < id <= last_id`."""

    first_id: int
    last_id: int
    columns: ChangelogColumns


def segments_of(drift: Drift, told: Sequence[SchemaEvent], after_id: int, last_id: int) -> Iterator[Segment]:
    """The segments of a claim behind `after_id`; schema events that change no column make no border."""
    columns = drift.start
    for event, step in zip(told, drift.steps, strict=True):
        if step.columns != columns.columns or step.key != columns.key:
            if event.id - 1 > after_id:
                yield Segment(after_id, event.id - 1, columns)
            after_id, columns = event.id, step
    if last_id > after_id:
        yield Segment(after_id, last_id, columns)


class SegmentRows:
    """Brings the rows of a claim into files."""

    def __init__(self, work: Work, table: ClaimedTable, drift: Drift, segments: Sequence[Segment]) -> None:
        self.letters = 0
        """Events that became dead letters here, or wait behind one."""
        self._work = work
        self._table = table
        self._drift = drift
        self._segments = segments
        self._query = quick_query
        """How events are read: as they usually are, until some turn out to be otherwise."""

    async def write(self, files: ChangelogFiles) -> bool:
        """Write every row; False when it is to begin anew, without events that are dead letters now, or more slowly.

        Raises:
            UnsupportedType: an event cannot be written, and nobody can say which.
            ResultIncomplete: PostgreSQL sent another number of rows than were read.
            PostgresUnavailable: the buffer is gone.
        """
        for segment in self._segments:
            try:
                await self._write(segment, files)
            except UnsupportedType:
                if await self._bury(segment):
                    return False
                if self._query is segment_query:
                    raise
                self._query = segment_query
                return False
            if self._query is not segment_query and not files.in_order:
                self._query = segment_query
                return False
        return True

    async def _write(self, segment: Segment, files: ChangelogFiles) -> None:
        query = self._query(self._events(segment))
        tally, rows = Tally(), 0
        adding: asyncio.Task[int] | None = None
        try:
            async with aclosing(self._work.holder.stream(query.sql, tally)) as pieces:
                async for piece in pieces:
                    rows += await adding if adding else 0
                    # The next piece is read while this one is converted.
                    adding = asyncio.create_task(undisturbed(files.add, piece, query.columns))
            rows += await adding if adding else 0
        finally:
            if adding:
                await asyncio.gather(adding, return_exceptions=True)
        if rows != tally.rows:
            raise ResultIncomplete(
                f"source table {self._table.identifier}: PostgreSQL sent {tally.rows} events, and {rows} were read"
            )

    async def _bury(self, segment: Segment) -> bool:
        """Make dead letters of the events of a segment that cannot be written; False when there are none."""
        found = await self._work.holder.ask(misfits_query(self._events(segment)))
        new = await add_letters(self._work.holder, self._table, dict(found))
        self.letters += new
        if new:
            self.letters += await hold_back(self._work.holder, self._table, self._segments[0].first_id)
        return new > 0

    def _events(self, segment: Segment) -> SegmentEvents:
        return SegmentEvents(
            self._work.holder.schema,
            self._source(segment),
            segment.columns,
            self._drift.types,
            self._work.pipeline.rules,
            segment.first_id,
            segment.last_id,
            self._copied_lsn,
        )

    def _source(self, segment: Segment) -> SourceTable:
        columns = tuple(column.source for column in segment.columns.live)
        return SourceTable(self._table.schema, self._table.name, columns, segment.columns.key)

    @property
    def _copied_lsn(self) -> int | None:
        return lsn_number(self._table.copied_lsn) if self._table.copied_lsn else None

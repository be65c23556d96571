"""One source table's part of a batch: from the buffer into its changelog, each event once."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from typing import Any, Self

from activities import failpoints
from activities.batches import Batch
from activities.clients.buffer_claims import (
    ClaimedTable,
    as_known_now,
    count_written,
    mark,
    schema_events,
    set_sent,
)
from activities.clients.buffer_letters import hold_back, letters_wait
from activities.committing import snapshot_summary, to_its_end
from activities.contracts.cdc import TableBatch
from activities.core.changelogkeys import batch_keys
from activities.core.changelogs import changelog_name
from activities.core.drift import ChangelogColumns, Drift, plan_drift
from activities.core.faults import Fault, UnsupportedType
from activities.lake import changelog
from activities.lake.changelog import ChangelogState, Committed, StoredFile
from activities.lake.rows import ChangelogFiles, MadeFile
from activities.readying import Work, ready_changelog
from activities.segments import SegmentRows, segments_of
from activities.storing import store_file, undisturbed


async def carry(work: Work, table: ClaimedTable, batch: Batch[Any]) -> TableBatch:
    """Bring a table's part of a claim into its changelog, as far as it is not there, and mark it.

    It is read as soon as what the batch before leaves is known, and lands when that batch has landed.

    Raises:
        Fault: what stands in the way. Nothing is lost by it, and what has landed is found by the next try.
    """
    identifier = changelog_name(work.pipeline.rules, table.schema, table.name)
    expected = batch.expected(table)
    with ExitStack() as held:

        async def read(state: ChangelogState) -> _Carrying:
            carrying = held.enter_context(_Carrying(work, table, identifier, state))
            await carrying.read()
            return carrying

        try:
            carrying = await read(expected or await ready_changelog(work, table, identifier))
        except Fault:
            if batch.before is None:
                raise
            carrying = None  # what is wrong is said in its turn, if it is wrong then
        batch.table_read(table, carrying.leaves if carrying else None)
        await batch.turn()
        if expected is not None or carrying is None:
            state = await ready_changelog(work, await as_known_now(work.holder, table), identifier)
            if carrying is None or batch.expected(table) is not expected or not carrying.follows(state):
                carrying = await read(state)
                batch.table_read_again(table, carrying.leaves)
        return await carrying.land()


class _Carrying:
    """A batch of one table, planned against one state of its changelog. What the state does not hold goes on.

    Its files are on this machine until it is left as a context manager.
    """

    def __init__(self, work: Work, table: ClaimedTable, identifier: str, state: ChangelogState) -> None:
        self.leaves: ChangelogState | None = None
        """The changelog after it, as far as reading what comes next depends on it; None if its schema moves."""
        self._work = work
        self._table = table
        self._identifier = identifier
        self._state = state
        self._after_id = max(state.position, table.first_id - 1)
        self._position = state.position
        """That of the changelog, as far as it is known."""
        self._held = ExitStack()
        self._drift: Drift | None = None
        self._made: list[MadeFile] = []
        self._letters = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    async def read(self) -> None:
        """Write files of the rows that the changelog does not hold."""
        table, holder = self._table, self._work.holder
        if self._state.position >= table.last_id:
            return
        some_wait = await _check_letters(self._work, table)
        told = await schema_events(holder, table, self._after_id) if table.schema_events else []
        now = ChangelogColumns.load(self._state.columns)
        drift = self._drift = plan_drift(now, self._state.types, [(event.sequence, event.table) for event in told])
        schema = changelog.schema_after(self._state, drift.changes)
        letters = await hold_back(holder, table, self._after_id) if some_wait else 0
        segments = list(segments_of(drift, told, self._after_id, table.last_id))
        rows = SegmentRows(self._work, table, drift, segments)
        while True:
            files = self._held.enter_context(ChangelogFiles(schema, self._work.pipeline.rules.system))
            if await rows.write(files):
                break
            self._held.close()
        self._made = await undisturbed(files.finish)
        self._letters = letters + rows.letters
        if not _moves_schema(drift):
            self.leaves = replace(self._state, columns=drift.columns.dump(), position=table.last_id)

    def follows(self, state: ChangelogState) -> bool:
        """Whether what was read is what comes next in a changelog that is found so, and lands there."""
        found = (state.uuid, state.columns, state.types, state.schema_id, state.last_field_id)
        before = self._state
        known = (before.uuid, before.columns, before.types, before.schema_id, before.last_field_id)
        if found != known or max(state.position, self._table.first_id - 1) != self._after_id:
            return False
        self._state, self._position = state, state.position
        return True

    async def land(self) -> TableBatch:
        """Upload, commit and mark."""
        table, work = self._table, self._work
        there = 0
        if self._state.position >= table.first_id:
            there = await count_written(work.holder, table, self._state.position)
        report = TableBatch(table.identifier, self._identifier, 0, already_there=there)
        if self._drift is not None:
            done = await self._commit(self._drift, self._made)
            written = sum(file.rows for file in self._made)
            report = TableBatch(
                table.identifier,
                self._identifier,
                written if done.landed else 0,
                str(done.snapshot_id or ""),
                already_there=there if done.landed else there + written,
                dead_letters=self._letters,
            )
        await mark(work.holder, table, report.already_there + report.events, self._position)
        await failpoints.reach("cdc-after-mark")
        return report

    async def _commit(self, drift: Drift, made: Sequence[MadeFile]) -> Committed:
        """What became of it; without a snapshot when there was nothing to commit.

        A schema that moves makes one without rows: a commit that was sent before it, and is late, cannot land any more.
        """
        if not made and not _moves_schema(drift):
            return Committed(None, landed=True)
        await failpoints.reach("cdc-before-upload")
        stored = await self._store(made)
        await failpoints.reach("cdc-after-upload")
        await set_sent(self._work.holder, self._table)
        await failpoints.reach("cdc-before-commit")
        done = await to_its_end(
            changelog.commit,
            self._work.context.lake,
            self._identifier,
            self._state,
            changes=drift.changes,
            columns_text=drift.columns.dump(),
            position=self._table.last_id,
            files=stored,
            buffer_id=self._work.holder.buffer_id,
            pipeline=self._work.pipeline.name,
            summary=self._summary(made),
        )
        self._position = self._table.last_id
        await failpoints.reach("cdc-after-commit")
        return done

    async def _store(self, made: Sequence[MadeFile]) -> list[StoredFile]:
        keys: dict[date, Iterator[str]] = {}
        stored = []
        for file in made:
            if file.day not in keys:
                keys[file.day] = batch_keys(
                    self._identifier, file.day, self._after_id + 1, self._table.last_id, self._work.holder.epoch
                )
            stored.append(await store_file(self._work.context, keys[file.day], file))
        return stored

    def _summary(self, made: Sequence[MadeFile]) -> dict[str, str]:
        first, last = sequence_bounds(made, self._work.pipeline.rules.system.sequence)
        return {
            **snapshot_summary(len(made)),
            "icefleet.cdc.source-table": self._table.identifier,
            "icefleet.cdc.batch": f"{self._after_id + 1}-{self._table.last_id}-{self._work.holder.epoch}",
            "icefleet.cdc.events": str(sum(file.rows for file in made)),
            "icefleet.cdc.first-sequence": first,
            "icefleet.cdc.last-sequence": last,
        }


async def _check_letters(work: Work, table: ClaimedTable) -> bool:
    """Whether dead letters of a table wait; it is stopped before it fills the buffer with what nobody can write.

    Raises:
        UnsupportedType: too many of its events wait as dead letters already.
    """
    most = work.pipeline.buffer_max_dead_letters
    some_wait, are_too_many = await letters_wait(work.holder, table, most)
    if are_too_many:
        raise UnsupportedType(
            f"source table {table.identifier}: more than {most} events wait as dead letters, or behind them "
            f"(buffer.max_dead_letters); mend their cause (`icefleet cdc dead-letters --table {table.identifier}`), "
            f"requeue or drop them, then say `icefleet cdc resume --table {table.identifier}`; or have it copied anew, "
            f"which drops them (`icefleet cdc install --tables {table.identifier} --again`)"
        )
    return some_wait


def _moves_schema(drift: Drift) -> bool:
    """Whether the columns are others than before; replays of schema events change nothing."""
    before, after = drift.start, drift.columns
    return bool(drift.changes) or (before.columns, before.key) != (after.columns, after.key)


def sequence_bounds(made: Sequence[MadeFile], column: str) -> tuple[str, str]:
    """The least and the greatest sequence number of some files, from their footers; empty when there are no rows."""
    found: list[str] = []
    for file in made:
        place = file.metadata.schema.names.index(column)
        groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
        bounds = [group.column(place).statistics for group in groups]
        found += [end for one in bounds for end in (one.min, one.max)]
    return (min(found), max(found)) if found else ("", "")

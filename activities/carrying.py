"""One source table's part of a batch: from the buffer into its changelog, each event once."""

from collections.abc import Iterator, Sequence
from datetime import date

from activities import failpoints
from activities.clients.buffer_claims import ClaimedTable, count_written, mark, schema_events, set_sent
from activities.clients.buffer_letters import hold_back
from activities.committing import snapshot_summary, to_its_end
from activities.contracts.cdc import TableBatch
from activities.core.changelogkeys import batch_keys
from activities.core.changelogs import changelog_name
from activities.core.drift import ChangelogColumns, Drift, plan_drift
from activities.lake import changelog
from activities.lake.changelog import ChangelogState, Committed, StoredFile
from activities.lake.rows import ChangelogFiles, MadeFile
from activities.readying import Work, ready_changelog
from activities.segments import SegmentRows, segments_of
from activities.storing import store_file, undisturbed


async def carry(work: Work, table: ClaimedTable) -> TableBatch:
    """Bring a table's part of a claim into its changelog, as far as it is not there, and mark it.

    Raises:
        Fault: what stands in the way. Nothing is lost by it, and what has landed is found by the next try.
    """
    identifier = changelog_name(work.pipeline.rules, table.schema, table.name)
    state = await ready_changelog(work, table, identifier)
    there = await count_written(work.holder, table, state.position) if state.position >= table.first_id else 0
    report, position = TableBatch(table.identifier, identifier, 0, already_there=there), state.position
    if position < table.last_id:
        carrying = _Carrying(work, table, identifier, state)
        report, position = await carrying.run(there), carrying.position
    await mark(work.holder, table, report.already_there + report.events, position)
    await failpoints.reach("cdc-after-mark")
    return report


class _Carrying:
    """A batch of one table, planned against one state of its changelog. What the state does not hold goes on."""

    def __init__(self, work: Work, table: ClaimedTable, identifier: str, state: ChangelogState) -> None:
        self._work = work
        self._table = table
        self._identifier = identifier
        self._state = state
        self._after_id = max(state.position, table.first_id - 1)
        self.position = state.position
        """That of the changelog, as far as it is known."""

    async def run(self, there: int) -> TableBatch:
        """Write, upload and commit."""
        table, holder = self._table, self._work.holder
        told = await schema_events(holder, table, self._after_id) if table.schema_events else []
        now = ChangelogColumns.load(self._state.columns)
        drift = plan_drift(now, self._state.types, [(event.sequence, event.table) for event in told])
        schema = changelog.schema_after(self._state, drift.changes)
        letters = await hold_back(holder, table, self._after_id)
        segments = list(segments_of(drift, told, self._after_id, table.last_id))
        rows = SegmentRows(self._work, table, drift, segments)
        while True:
            with ChangelogFiles(schema, self._work.pipeline.rules.system) as files:
                if await rows.write(files):
                    made = await undisturbed(files.finish)
                    done = await self._commit(drift, made)
                    break
        written = sum(file.rows for file in made)
        return TableBatch(
            table.identifier,
            self._identifier,
            written if done.landed else 0,
            str(done.snapshot_id or ""),
            already_there=there if done.landed else there + written,
            dead_letters=letters + rows.letters,
        )

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
        self.position = self._table.last_id
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

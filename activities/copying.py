"""First copies: a table's rows, as they are at one position of the log, in one snapshot of its changelog.

Whatever was committed before that position is in the copy, and what comes from it on is in the buffer, whose older
events are dropped. A copy does not pass through the buffer, and is there as a whole or not at all.
"""

import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from datetime import date

from temporalio import activity

from activities import failpoints
from activities.cdc_context import CaptureFrom, CdcContext, PipelineConfig
from activities.clients.buffer import Buffer
from activities.clients.buffer_copies import FollowedTable
from activities.clients.tablecopy import TableView, table_view
from activities.committing import snapshot_summary, to_its_end
from activities.contracts.cdc import CopyInput, CopyReport
from activities.core.changelogkeys import copy_keys
from activities.core.changelogs import changelog_name, lsn_text, sequence_number
from activities.core.copyquery import copy_query
from activities.core.drift import ChangelogColumns, Drift, first_columns, plan_drift, types_of
from activities.core.faults import (
    BadConfig,
    BadRequest,
    ChangelogForeign,
    Fault,
    PostgresRefused,
    SchemaConflict,
    UnsupportedType,
)
from activities.lake import changelog
from activities.lake.changelog import ChangelogState, StoredFile
from activities.lake.rows import ChangelogFiles, MadeFile
from activities.storing import store_file, undisturbed

OF_THE_TABLE = (UnsupportedType, SchemaConflict, ChangelogForeign, BadConfig, BadRequest, PostgresRefused)
"""What keeps one table from being copied, until a person has done something about it."""
EVENTS = changelog.PREFIX + "events"
LAST_ORDINAL = 2**63 - 1


@dataclass(frozen=True)
class _Subject:
    """The table that is copied."""

    context: CdcContext
    pipeline: PipelineConfig
    source: CaptureFrom
    buffer: Buffer
    followed: FollowedTable
    changelog: str

    @property
    def table(self) -> str:
        return f"{self.followed.schema}.{self.followed.name}"


@dataclass(frozen=True)
class _Copied:
    """What a copy brought."""

    lsn: int
    rows: int = 0
    bytes: int = 0
    snapshot_id: int | None = None


async def copy_table(context: CdcContext, copy: CopyInput) -> CopyReport:
    """Bring a table that waits for it into its changelog, and let it be followed from there on.

    A copy that landed before is recognised, whatever became of its worker. What keeps this table from being copied
    stops it, with the cause in the report.

    Raises:
        BadRequest: the pipeline has no source, or nobody asked for this table.
        StoreUnavailable, CatalogUnavailable, PostgresUnavailable and the like: what may pass.
    """
    pipeline = context.pipeline(copy.environment, copy.pipeline)
    if pipeline.source is None:
        raise BadRequest(
            f"pipeline {copy.pipeline} has no source to copy {copy.table} from: its buffer is filled by others"
        )
    buffer = Buffer(pipeline.buffer, pipeline.buffer_schema)
    followed = await buffer.followed(copy.table)
    name = changelog_name(pipeline.rules, followed.schema, followed.name)
    subject = _Subject(context, pipeline, pipeline.source, buffer, followed, name)
    if followed.state != "copying":
        return _report(subject, _Copied(followed.copied_lsn or 0))
    await pipeline.source.database.check()  # what is wrong with the login is wrong for every table
    try:
        copied = await _landed(subject) or await _copied(subject)
    except OF_THE_TABLE as wrong:
        cause = f"{type(wrong).__name__}: {wrong}"
        await buffer.set_stopped(followed.schema, followed.name, cause)
        return _report(subject, _Copied(0), failed=cause)
    await failpoints.reach("cdc-after-copy-commit")
    await buffer.set_copied(followed.schema, followed.name, copied.lsn)
    return _report(subject, copied)


def _report(subject: _Subject, copied: _Copied, failed: str = "") -> CopyReport:
    snapshot = "" if copied.snapshot_id is None else str(copied.snapshot_id)
    lsn = lsn_text(copied.lsn) if copied.lsn else ""
    return CopyReport(subject.table, subject.changelog, copied.rows, copied.bytes, lsn, snapshot, failed)


async def _landed(subject: _Subject) -> _Copied | None:
    """The copy that the changelog holds and the buffer has not heard of; None when there is none."""
    state = await undisturbed(changelog.read_state, subject.context.lake, subject.changelog)
    if state is None:
        return None
    _check_owner(subject, state)
    return _found(subject, state)


def _found(subject: _Subject, state: ChangelogState) -> _Copied | None:
    """The same of one state: whichever copy was sent since it was asked for, also one that came late."""
    known, lsn = subject.followed, state.copied_lsn
    if state.rolled_back or state.buffer_id != known.buffer_id or lsn is None:
        return None
    if not known.sent_lsn or lsn < known.sent_lsn:
        return None
    # Nothing but the copy is committed while the table waits for it.
    rows, size = (int(state.last_summary.get(name, 0)) for name in (EVENTS, "added-files-size"))
    return _Copied(lsn, rows, size, state.snapshot_id)


def _check_owner(subject: _Subject, state: ChangelogState) -> None:
    if (state.pipeline, state.source_table) != (subject.pipeline.name, subject.table):
        raise ChangelogForeign(
            f"table {subject.changelog} is the changelog of {state.source_table} in pipeline {state.pipeline}, not of "
            f"{subject.table} in {subject.pipeline.name}; give the pipeline another namespace or name template"
        )


async def _copied(subject: _Subject) -> _Copied:
    known = subject.followed
    slot = f"icefleet_copy_{uuid.uuid4().hex[:16]}"
    async with AsyncExitStack() as unless_sent:
        async with table_view(
            subject.source.database, known.schema, known.name, slot, subject.source.publication
        ) as view:
            state = await undisturbed(_ready, subject, view)
            if landed := _found(subject, state):
                return landed
            drift = _drift(state, view)
            files, rows = await _stored(subject, view, state, drift, unless_sent)
        await failpoints.reach("cdc-before-copy-commit")
        await subject.buffer.set_copy_sent(known.schema, known.name, view.lsn, view.memberships, asked=known.asked)
        # From here on a commit may hold the files, whatever the answer to it.
        unless_sent.pop_all()
    await failpoints.reach("cdc-after-copy-sent")
    is_ours = state.buffer_id == known.buffer_id and state.position <= known.sent_id
    position = state.position if is_ours else 0
    done = await to_its_end(
        changelog.commit,
        subject.context.lake,
        subject.changelog,
        state,
        changes=drift.changes,
        columns_text=drift.columns.dump(),
        position=position,
        files=files,
        buffer_id=known.buffer_id,
        pipeline=subject.pipeline.name,
        summary=_summary(view, rows, files),
        copied_lsn=view.lsn,
    )
    return _Copied(view.lsn, rows, sum(file.size for file in files), done.snapshot_id)


def _ready(subject: _Subject, view: TableView) -> ChangelogState:
    """The changelog, which is made if there is none."""
    lake, rules = subject.context.lake, subject.pipeline.rules
    state = changelog.read_state(lake, subject.changelog)
    if state is None:
        columns = first_columns(view.table, rules, _at(view))
        said = changelog.first_properties(
            subject.pipeline.name, subject.table, subject.followed.buffer_id, columns.dump()
        )
        changelog.create(lake, subject.changelog, types_of(columns), rules.system, said)
        state = changelog.read_state(lake, subject.changelog)
    if state is None:
        raise ChangelogForeign(f"changelog {subject.changelog} was dropped as soon as it was made; resume the table")
    _check_owner(subject, state)
    told = ChangelogColumns.load(state.columns).at
    if (state.copied_lsn or 0) > view.lsn or max(told, state.last_sequence) > _at(view):
        raise ChangelogForeign(
            f"changelog {subject.changelog} holds what comes after {lsn_text(view.lsn)}, where the log of the source "
            "is now: it is another source, or was restored. Put the changelog aside (rename or drop it), then resume "
            "the table"
        )
    return state


def _at(view: TableView) -> str:
    """The last sequence number before the position: the table looks as it was left by then."""
    return sequence_number(view.lsn - 1, LAST_ORDINAL)


def _drift(state: ChangelogState, view: TableView) -> Drift:
    return plan_drift(ChangelogColumns.load(state.columns), state.types, [(_at(view), view.table)])


async def _stored(
    subject: _Subject, view: TableView, state: ChangelogState, drift: Drift, unless_sent: AsyncExitStack
) -> tuple[list[StoredFile], int]:
    """The rows in the store, and how many they are; `unless_sent` takes the objects away again."""
    rules, attempt = subject.pipeline.rules, uuid.uuid4().hex[:8]
    query = copy_query(view.table, drift.steps[-1], drift.types, rules, view.lsn, view.taken_at)
    schema = changelog.schema_after(state, drift.changes)
    stored, keys, rows = list[StoredFile](), dict[date, Iterator[str]](), 0

    async def keep(made: list[MadeFile]) -> None:
        if made:
            await _check_wanted(subject)
        for file in made:
            own = keys.setdefault(file.day, copy_keys(subject.changelog, file.day, view.lsn, attempt))
            stored.append(await store_file(subject.context, own, file))
            unless_sent.push_async_callback(_delete, subject.context, stored[-1])
            file.path.unlink()

    with ChangelogFiles(schema, rules.system) as files:
        if state.holds_rows or state.last_sequence:  # whoever follows may have what somebody took away here
            files.add(_truncation(view), query.columns[: len(rules.system.names)])
        async with aclosing(view.rows(query)) as pieces:
            async for piece in pieces:
                rows += await undisturbed(files.add, piece, query.columns)
                await keep(files.rolled())
                await failpoints.reach("cdc-during-copy")
        await keep(await undisturbed(files.finish))
    return stored, rows


async def _check_wanted(subject: _Subject) -> None:
    """End a copy that its table does not wait for any more, instead of spending hours on it."""
    known, now = subject.followed, await subject.buffer.followed(subject.table)
    if (now.state, now.asked) != ("copying", known.asked):
        raise subject.buffer.unwanted(known.schema, known.name)


def _truncation(view: TableView) -> bytes:
    """The event after which nothing counts that the changelog held before."""
    before = view.lsn - 1
    return f"truncate,{sequence_number(before, 0)},{lsn_text(before)},{view.taken_at},\n".encode()


async def _delete(context: CdcContext, file: StoredFile) -> None:
    """Take an object away that no commit ever named."""
    try:
        await context.store.delete(context.store.key(file.path))
    except Fault as left:
        # Why the copy failed must be told, and not this.
        activity.logger.warning("an object of a copy that failed is left behind: %s", left)


def _summary(view: TableView, rows: int, files: list[StoredFile]) -> dict[str, str]:
    before = view.lsn - 1
    return {
        **snapshot_summary(len({file.day for file in files})),
        "icefleet.cdc.first-sequence": sequence_number(before, 0),
        "icefleet.cdc.last-sequence": sequence_number(before, rows),
        EVENTS: str(rows),
        "icefleet.cdc.batch": f"copy at {lsn_text(view.lsn)}",
    }

"""How far a pipeline is: its source, its buffer, its loops, each as far as it can be asked."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

from temporalio.client import Client

from activities.cdc_context import CaptureFrom, PipelineConfig
from activities.clients import buffer_status
from activities.clients.buffer import Buffer
from activities.clients.buffer_status import DeadLetter, TableStatus
from activities.clients.slots import open_slots
from activities.contracts.cdc import CAPTURE, INGEST, LOOPS, copy_id
from activities.core.changelogs import changelog_name, lsn_text
from activities.core.faults import BadConfig, Fault
from worker.config import Environment
from worker.loop_status import UNKNOWN, LoopStatus, look_at_loop, why_it_fails
from worker.temporal import connect_temporal
from worker.wiring_cdc import pipeline_config

STARTS = "`icefleet cdc install` or `icefleet cdc resume` starts it"
RESUMES = "`icefleet cdc resume` starts it"


@dataclass(frozen=True)
class SourceStatus:
    """The source's log, and what the slot keeps of it."""

    slot: str
    problem: str = ""
    """Why the rest is not known."""
    active: bool = False
    """Whether somebody reads from the slot just now."""
    log_lsn: str = ""
    """Where the log ends."""
    confirmed_lsn: str = ""
    """What was committed before it is safe in the buffer."""
    lag_bytes: int = 0
    """Log that the buffer has not got."""
    retained_bytes: int = 0
    warn_retained_bytes: int = 0
    max_retained_bytes: int = 0
    asked: bool = True
    """Whether it could be asked at all."""
    note: str = ""
    """What an installation that did not end, or another name in config, has left of it."""


@dataclass(frozen=True)
class TableLine:
    """How far one table is. What is behind is what waits in the buffer, dead letters aside."""

    table: str
    changelog: str
    state: str
    """`copying`, `active` or `stopped`."""
    cause: str
    """Why it is stopped, or cannot go on just now."""
    source_lsn: str
    """The table's last commit that has been captured."""
    written_lsn: str
    """Its last commit that is in the changelog."""
    written: int
    """Events that were written since the buffer was made."""
    buffered: int
    lag_events: int
    lag_bytes: int
    lag_seconds: float
    dead_letters: int
    waiting_behind: int


@dataclass(frozen=True)
class PipelineReport:
    """Everything that is known of one pipeline."""

    pipeline: str
    loops: dict[str, LoopStatus]
    source: SourceStatus | None
    """None when others fill the buffer."""
    problem: str = ""
    """Why the buffer could not be asked."""
    captured_lsn: str = ""
    ended: str = ""
    """Why nothing can be captured any more."""
    tables: list[TableLine] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether source, buffer and loops could all be asked."""
        source = self.source is None or self.source.asked
        return source and not self.problem and all(loop.state != UNKNOWN for loop in self.loops.values())


async def look_at(environment: Environment, name: str) -> PipelineReport:
    """One pipeline as it is; what cannot be asked says why, and the rest is told."""
    pipeline = pipeline_config(environment.name, name, environment.cdc[name])
    (source, buffer), (loops, copies) = await asyncio.gather(look_at_databases(pipeline), _loops(environment, pipeline))
    report = PipelineReport(pipeline=name, loops=loops, source=source, **buffer)
    troubles = copies | _troubles(loops[INGEST].progress)
    lines = [replace(line, cause=line.cause or troubles.get(line.table, "")) for line in report.tables]
    return replace(report, tables=lines)


async def dead_letters(
    environment: Environment, name: str, table: tuple[str, str] | None, *, every: bool, limit: int
) -> list[DeadLetter]:
    """A pipeline's dead letters, oldest first.

    Raises:
        PostgresRefused, PostgresUnavailable: the buffer cannot be asked.
    """
    pipeline = pipeline_config(environment.name, name, environment.cdc[name])
    return await buffer_status.letters(Buffer(pipeline.buffer, pipeline.buffer_schema), table, every=every, limit=limit)


async def look_at_databases(pipeline: PipelineConfig) -> tuple[SourceStatus | None, dict[str, Any]]:
    """The source, and those fields of a report that the buffer knows."""
    source, buffer = await asyncio.gather(_source(pipeline.source), _buffer(pipeline))
    filled_from = buffer.pop("slot", "")
    if source is not None and "problem" not in buffer:
        source = replace(source, note=_left(source, filled_from, buffer["captured_lsn"]))
    return source, buffer


async def _source(source: CaptureFrom | None) -> SourceStatus | None:
    if source is None:
        return None
    try:
        async with open_slots(source.database) as slots:
            state = await slots.state(source.slot)
            is_published = state is None and await slots.publication_id(source.publication) is not None
    except Fault as fault:
        return SourceStatus(source.slot, problem=_words(fault), asked=False)
    if state is None:
        left = f", though there is its publication {source.publication}" if is_published else ""
        return SourceStatus(source.slot, problem=f"there is no such slot{left}; `icefleet cdc install` makes it")
    return SourceStatus(
        slot=source.slot,
        active=state.active,
        log_lsn=lsn_text(state.log_lsn),
        confirmed_lsn=lsn_text(state.confirmed_lsn),
        lag_bytes=max(0, state.log_lsn - state.confirmed_lsn),
        retained_bytes=state.retained_bytes,
        warn_retained_bytes=source.warn_retained_wal_bytes,
        max_retained_bytes=source.max_retained_wal_bytes,
    )


def _left(source: SourceStatus, filled_from: str, captured_lsn: str) -> str:
    if filled_from and filled_from != source.slot:
        return (
            f"the buffer was filled from slot {filled_from}, for which the source keeps its log while it is there; "
            "`icefleet cdc install --again` or `icefleet cdc uninstall` drop it"
        )
    if not source.problem and not captured_lsn:
        return "whoever made this slot did not come to an end; `icefleet cdc install` again"
    return ""


async def _buffer(pipeline: PipelineConfig) -> dict[str, Any]:
    try:
        whole, tables = await buffer_status.status(Buffer(pipeline.buffer, pipeline.buffer_schema))
    except Fault as fault:
        return {"problem": _words(fault)}
    return {
        "slot": (whole and whole.slot) or "",
        "captured_lsn": (whole and whole.captured_lsn) or "",
        "ended": (whole and whole.ended) or "",
        "tables": [_line(pipeline, table) for table in tables],
    }


def _line(pipeline: PipelineConfig, table: TableStatus) -> TableLine:
    try:
        changelog = changelog_name(pipeline.rules, table.schema, table.name)
    except BadConfig:
        changelog = ""  # its cause says so
    return TableLine(
        table=f"{table.schema}.{table.name}",
        changelog=changelog,
        state=table.state,
        cause=table.cause,
        source_lsn=table.buffered_lsn or "",
        written_lsn=table.written_lsn or "",
        written=table.written,
        buffered=table.buffered_events,
        lag_events=table.buffered_events,
        lag_bytes=table.buffered_bytes,
        lag_seconds=round(table.lag_seconds, 3),
        dead_letters=table.dead_letters,
        waiting_behind=table.waiting_behind,
    )


def _troubles(progress: dict[str, Any]) -> dict[str, str]:
    """Table → what keeps it from going on though it is not stopped, such as a catalog that refuses its name."""
    failing = {one["table"]: one["failed"] for one in progress.get("failing") or ()}
    copies = (progress.get("copies") or {}).get("failed") or {}
    return failing | {table: f"its copy failed: {why}" for table, why in copies.items()}


async def _loops(environment: Environment, pipeline: PipelineConfig) -> tuple[dict[str, LoopStatus], dict[str, str]]:
    """The loops, and what `failing_copies` says."""
    wanted = [CAPTURE, INGEST] if pipeline.source is not None else [INGEST]
    identities = {loop: LOOPS[loop][1](environment.name, pipeline.name) for loop in wanted}
    try:
        client = await connect_temporal(environment)
    except RuntimeError as away:  # what the SDK raises when it cannot connect
        cause = f"Temporal {away}"
        return {loop: LoopStatus(identity, UNKNOWN, cause) for loop, identity in identities.items()}, {}
    loops = {loop: await look_at_loop(client, identity, STARTS, RESUMES) for loop, identity in identities.items()}
    return loops, await failing_copies(client, environment.name, pipeline.name, loops[INGEST].progress)


async def failing_copies(client: Client, environment: str, pipeline: str, progress: dict[str, Any]) -> dict[str, str]:
    """Table → why its copy fails, though it is still tried; `progress` is what the pipeline's ingest says."""
    under_way = (progress.get("copies") or {}).get("under_way") or ()
    found = {table: await why_it_fails(client, copy_id(environment, pipeline, table)) for table in under_way}
    return {table: f"its copy fails and is tried again: {why}" for table, why in found.items() if why}


def _words(fault: Fault) -> str:
    return f"{type(fault).__name__}: {fault}"

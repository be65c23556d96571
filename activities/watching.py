"""Watching a slot while it is read: what it keeps on the source's disk, and that nothing slips past it."""

import asyncio
import time
from dataclasses import dataclass

import structlog

from activities.cdc_context import CaptureFrom, PipelineConfig
from activities.clients.capture_room import beyond, forget_needless, gone, held, let_go
from activities.clients.capture_sink import Progress, Sink, Stop
from activities.clients.slots import INSTALL, Slots, SlotState
from activities.contracts.findings import LET_GO, RETAINED
from activities.core.changelogs import lsn_text
from activities.core.faults import PostgresRefused, SlotLost
from activities.gauges import FORGET_SECONDS, Lately
from activities.slotfindings import PipelineFindings

WATCH_SECONDS = 5.0

log = structlog.get_logger("icefleet.capture")


# That a slot is gone is told for longer than what others saw of it before, which else would be the last word.
_RETAINED = Lately(
    "icefleet.cdc.retained_wal",
    "Log that the source keeps for a pipeline's slot",
    unit="By",
    zero_seconds=2 * FORGET_SECONDS,
)
_BEHIND = Lately("icefleet.cdc.capture_lag", "Log that a pipeline's capture has not brought into the buffer", unit="By")
_WARNED = Lately(
    "icefleet.cdc.retained_wal_finding",
    "1 while a slot keeps more of the source's log than warn_retained_wal_bytes",
)


def gone_told(pipeline: str, slot: str) -> None:
    """Report that a slot was dropped: nobody looks at it any more, and nobody has to."""
    _RETAINED.set(0, {"pipeline": pipeline, "slot": slot})


@dataclass
class Watch:
    """What the last look at a slot found."""

    pipeline: PipelineConfig
    source: CaptureFrom
    slots: Slots
    progress: Progress
    findings: PipelineFindings
    retained_bytes: int = 0
    log_lsn: int = 0
    """Where the source's log ended."""
    danger: str = ""
    """Why the slot is to be given up; empty while it is not."""
    warned: bool = False

    async def check_start(self, buffer: Sink) -> SlotState:
        """Make sure that everything after what was captured will come; the slot as it is.

        Raises:
            SlotLost: the slot is gone, or not where the buffer is: what is between is lost.
            PostgresRefused: the server logs nothing of use, or the buffer belongs to another slot.
            LockTaken: another capture moves both on just now.
        """
        await self.slots.check_server()
        if not self.progress.slot:
            raise PostgresRefused(
                f"pipeline {self.pipeline.name}: nothing is installed to capture; use `icefleet cdc install --tables`"
            )
        if self.progress.slot != self.source.slot:
            raise PostgresRefused(
                f"pipeline {self.pipeline.name}: config names slot {self.source.slot}, and the buffer was filled from "
                f"{self.progress.slot}; set `slot` back, or `icefleet cdc install --again` copies all tables anew with "
                "the other one"
            )
        state = await self._state()
        captured = self.progress.captured_lsn or state.confirmed_lsn
        if state.confirmed_lsn > captured:
            # Whose worker Temporal does not hear any more goes on for the rest of its turn.
            if (await buffer.progress()).captured_lsn != self.progress.captured_lsn:
                raise buffer.overtaken()
            raise SlotLost(
                f"{self.slots.name}: slot {self.source.slot} stands at {lsn_text(state.confirmed_lsn)}, and the buffer "
                f"has everything before {lsn_text(captured)}: somebody advanced the slot or made it anew, and the "
                f"changes between are lost; {INSTALL}"
            )
        if captured > state.log_lsn:
            raise SlotLost(
                f"{self.slots.name}: its log ends at {lsn_text(state.log_lsn)}, before {lsn_text(captured)}, up to "
                f"which the buffer is filled: this is another server, or one that was restored; {INSTALL}"
            )
        await self._check_publication(buffer)
        return state

    async def run(self, buffer: Sink) -> None:
        """Look every few seconds, until the slot is to be given up; `buffer` is a session of its own.

        Raises:
            SlotLost: the slot, or the publication, is gone.
        """
        while True:
            much = await self._look()
            if self.danger:
                return
            self.findings.tell(RETAINED, {self.source.slot: much} if much else {})
            await self._check_publication(buffer)
            await self._check_tables(buffer)
            await self._let_go(buffer)
            await asyncio.sleep(WATCH_SECONDS)

    async def look_aside(self) -> None:
        """Look once, while nobody captures. What was found before is left to stand: a capture says when it has gone.

        Raises:
            SlotLost: the slot is gone.
        """
        much = await self._look()
        if much and not self.danger:
            await self.findings.end(RETAINED, {self.source.slot: much})

    async def give_up(self, buffer: Sink) -> None:
        """Drop the slot, and say so wherever it is looked for."""
        await self.slots.drop(self.source.slot)
        gone_told(self.pipeline.name, self.source.slot)
        await buffer.end(self.danger)
        await self.findings.end(RETAINED, {self.source.slot: self.danger})

    async def _look(self) -> str:
        """What is to be said of the slot; empty while it holds back little."""
        state = await self._state()
        self.retained_bytes, self.log_lsn = state.retained_bytes, state.log_lsn
        about = {"pipeline": self.pipeline.name, "slot": self.source.slot}
        _RETAINED.set(state.retained_bytes, about)
        _BEHIND.set(max(0, state.log_lsn - state.confirmed_lsn), about)
        if state.retained_bytes >= self.source.max_retained_wal_bytes:
            self.danger = (
                f"slot {self.source.slot} held back {state.retained_bytes} bytes of the source's log, and "
                f"max_retained_wal_bytes is {self.source.max_retained_wal_bytes}: it was dropped before the source's "
                f"disk fills; {INSTALL}"
            )
        high = state.retained_bytes >= self.source.warn_retained_wal_bytes
        _WARNED.set(int(high), about)
        if high and not self.warned:
            log.warning(
                "finding: a slot holds back much of the source's log",
                **about,
                retained_bytes=state.retained_bytes,
                warn_retained_wal_bytes=self.source.warn_retained_wal_bytes,
                max_retained_wal_bytes=self.source.max_retained_wal_bytes,
                way_out="see what the capture waits for; at the maximum the slot is dropped",
            )
        self.warned = high
        # Without the bytes, which are others at every look: it is said once.
        much = (
            f"slot {self.source.slot} holds back more than warn_retained_wal_bytes, "
            f"{self.source.warn_retained_wal_bytes} bytes, of the source's log; see what the capture waits for: at "
            f"max_retained_wal_bytes, {self.source.max_retained_wal_bytes}, the slot is dropped"
        )
        return much if high else ""

    async def _state(self) -> SlotState:
        state = await self.slots.state(self.source.slot)
        if state is None:
            raise SlotLost(
                f"{self.slots.name}: there is no slot {self.source.slot}: it was dropped, or the server was replaced, "
                f"and changes that were not captured are lost; {INSTALL}"
            )
        return state

    async def _check_publication(self, buffer: Sink) -> None:
        found = await self.slots.publication_id(self.source.publication)
        if found is None or found != (self.progress.publication_id or found):
            what = "there is no publication" if found is None else "somebody made anew the publication"
            raise SlotLost(
                f"{self.slots.name}: {what} {self.source.publication}, and changes made without it are not sent; "
                f"{INSTALL}"
            )
        if left_out := await self.slots.left_out(self.source.publication):
            lost = (
                f"{self.slots.name}: somebody changed publication {self.source.publication}, which leaves out "
                f"{left_out}: what was made of these since is missing; {INSTALL}"
            )
            # Once it is set back, nobody else knows.
            await buffer.end(lost)
            raise SlotLost(lost)

    async def _check_tables(self, buffer: Sink) -> None:
        """Stop what is not in the publication, or was not all the time: changes of it were not logged meanwhile."""
        followed = {
            table.captured.relid: (name, table.memberships)
            for name, table in (await buffer.tables()).items()
            if table.captured is not None and table.state == "active"
        }
        published = await self.slots.published(self.source.publication)
        for relid in await self.slots.existing(list(followed.keys() - published.keys())):
            name = ".".join(followed[relid][0])
            cause = (
                f"{name} is no longer in publication {self.source.publication}, so its changes are not captured; "
                f"`icefleet cdc install --tables {name}` copies it anew and goes on"
            )
            await self._stop(buffer, Stop(*followed[relid][0], self.log_lsn, cause))
        for relid in followed.keys() & published.keys():
            known, name = followed[relid][1], ".".join(followed[relid][0])
            if known is None or known & published[relid]:
                continue
            cause = (
                f"{name} was taken out of publication {self.source.publication} and put in again, or its row filter or "
                "columns there were changed, so changes of it may be missing; "
                f"`icefleet cdc install --tables {name} --again` copies it anew and goes on"
            )
            await self._stop(buffer, Stop(*followed[relid][0], self.log_lsn, cause, anew=True))

    async def _stop(self, buffer: Sink, stop: Stop) -> None:
        log.warning(
            "a table is no longer followed",
            pipeline=self.pipeline.name,
            table=f"{stop.schema}.{stop.name}",
            cause=stop.cause,
        )
        await buffer.stop(stop)

    async def _let_go(self, buffer: Sink) -> None:
        """Let go of events of stopped tables: where they are too many, and where a copy brings what they say."""
        most_events, most_bytes = self.pipeline.buffer_max_stopped_events, self.pipeline.buffer_max_stopped_bytes
        stopped = (await held(buffer)).stopped
        for table in beyond(stopped, most_events, most_bytes):
            name = ".".join(table)
            why = (
                f"its events in the buffer were let go, since those of stopped tables were more than "
                f"max_stopped_events, {most_events}, or max_stopped_bytes, {most_bytes}; mend what stopped it, and "
                f"`icefleet cdc resume --table {name}` copies it anew, after a truncate row. It was stopped by: "
            )
            if cause := await let_go(buffer, table, why):
                log.warning(
                    "finding: a table's events are let go", pipeline=self.pipeline.name, table=name, cause=cause
                )
        until = time.monotonic() + WATCH_SECONDS
        while await forget_needless(buffer) and time.monotonic() < until:
            pass
        self.findings.tell(LET_GO, await gone(buffer))

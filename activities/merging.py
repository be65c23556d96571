"""Merging: what a changelog has beyond its mirror's watermark, piece by piece, each in one commit.

    look (mirror, changelog, what is pending) → take a piece → fold → index → decide → write → store → commit

A piece is prepared for one head. When the head has moved, everything is planned anew: the commit that moved it may
have been of the very same piece.
"""

import asyncio
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from activities import failpoints
from activities.abreast import both
from activities.committing import to_its_end
from activities.contracts.mirrors import MergeInput, MergeReport
from activities.core.faults import CommitConflict, MirrorForeign, WatermarkLost
from activities.core.mirrors import MirrorConfig, Watermark
from activities.heartbeats import heartbeats
from activities.lake import mirror as mirrors
from activities.lake.changepieces import Taken, left_of, take
from activities.lake.changes import Pending
from activities.lake.changescan import WAY_OUT, pending
from activities.lake.mergebatch import Batch, batch_of, following_of, wanted_columns
from activities.lake.mirror import Mirror
from activities.lake.rowdelta import Committed, HeadMoved, commit
from activities.lake.sending import TRIES
from activities.merge_metrics import MergeTimings, turn_told
from activities.merge_piece import Counts, PieceMerge, Prepared
from activities.mirror_context import MirrorContext
from activities.mirror_head import Head, head_of


async def merge_mirror(context: MirrorContext, merge: MergeInput) -> MergeReport:
    """Merge what the changelog has, until it has no more or the time is up.

    Raises:
        WatermarkLost: what is not merged yet cannot be told any more.
        MirrorForeign: the mirror is not as merges left it.
        SchemaConflict: its columns cannot follow the changelog's, or must not.
        ChangeInvalid: a change cannot be understood.
        CommitConflict: other writers won every try.
    """
    config = context.mirror(merge.environment, merge.mirror)
    with turn_told(config.mirror) as reports:
        async with heartbeats({"mirror": config.mirror}):
            reports.append(await _Turn(context, config, merge).run())
    return reports[0]


@dataclass(frozen=True)
class _Looked:
    """The mirror as it is, and what it lacks."""

    mirror: Mirror
    pending: Pending

    @property
    def watermark(self) -> Watermark:
        return self.mirror.watermark or self.pending.before


class _Turn:
    """One turn of a mirror."""

    def __init__(self, context: MirrorContext, config: MirrorConfig, merge: MergeInput) -> None:
        self._context = context
        self._config = config
        self._until = time.monotonic() + merge.seconds
        self._pieces = merge.pieces
        self._report = MergeReport()
        self._counts = Counts()
        self._lost = 0
        """Races in a row."""

    async def run(self) -> MergeReport:
        await failpoints.reach("merge-before-read")
        looked = await self._look()
        if looked is None:
            return replace(self._report, waiting_for=f"changelog {self._config.changelog} is not in the catalog yet")
        while self._may_go_on() and (taken := await self._take(looked)):
            try:
                mirror = await self._merge(looked, taken)
            except HeadMoved as moved:
                self._lost += 1
                if self._lost > TRIES:
                    raise CommitConflict(
                        f"mirror {self._config.mirror}: {TRIES} commits in a row lost against other writers; look for "
                        "who else writes to it, and have only its loop do so"
                    ) from moved
                looked = await self._look()
                if looked is None:
                    return self._report
            else:
                self._lost = 0
                looked = replace(looked, mirror=mirror)
        return self._told(looked)

    async def _look(self) -> _Looked | None:
        """Load both tables; the mirror is made when there is none. None while there is no changelog to begin with."""
        mirror, changelog = await both(
            asyncio.to_thread(self._read_or_none), asyncio.to_thread(self._context.lake.load, self._config.changelog)
        )
        if changelog is None:
            if mirror is None or mirror.watermark is None:
                return None
            raise WatermarkLost(
                f"mirror {self._config.mirror}: its changelog {self._config.changelog} is not in the catalog any more; "
                f"{WAY_OUT}"
            )
        if mirror is None:
            await asyncio.to_thread(mirrors.create, self._context.lake, self._config, changelog)
            mirror = await asyncio.to_thread(self._read)
        await asyncio.to_thread(mirrors.check_keys, self._config, mirror, changelog.schema())
        return _Looked(mirror, await asyncio.to_thread(pending, changelog, mirror.watermark, self._config))

    def _read_or_none(self) -> Mirror | None:
        return mirrors.read(self._context.lake, self._config)

    def _read(self) -> Mirror:
        mirror = self._read_or_none()
        if mirror is None:
            raise MirrorForeign(
                f"mirror {self._config.mirror} was dropped meanwhile; it is made anew with the next merge"
            )
        return mirror

    def _may_go_on(self) -> bool:
        if self._pieces and self._report.commits >= self._pieces:
            return False
        return self._report.commits == 0 or time.monotonic() < self._until

    async def _take(self, looked: _Looked) -> Taken | None:
        """The next piece, read."""
        changelog = looked.pending.table
        columns = wanted_columns(self._config, changelog)
        return await asyncio.to_thread(take, looked.pending, looked.watermark, self._context.lake.files(), columns)

    async def _merge(self, looked: _Looked, taken: Taken) -> Mirror:
        """Bring one piece into the mirror; answers what it is then.

        Raises:
            HeadMoved: somebody else was faster; nothing of the piece is there, or all of it.
        """
        timings = MergeTimings()
        with timings.phase("read"):
            batch, head = await both(
                asyncio.to_thread(self._batch, looked, taken),
                head_of(self._context, looked.mirror, looked.watermark),
            )
        following = following_of(self._config, looked.pending.table, looked.mirror)
        work = PieceMerge(self._context, self._config, head, following, timings)
        with tempfile.TemporaryDirectory(prefix="icefleet-merge-") as directory:
            prepared = await work.prepare(batch, Path(directory))
        await failpoints.reach("merge-before-commit")
        with timings.phase("commit"):
            done = await to_its_end(commit, self._context.lake, looked.mirror.table, prepared.delta)
        await failpoints.reach("merge-after-commit")
        timings.told(self._config.mirror)
        self._count(prepared, done, head)
        return mirrors.state_of(self._config, done.table)

    def _batch(self, looked: _Looked, taken: Taken) -> Batch:
        return batch_of(self._config, taken, looked.watermark.truncated)

    def _count(self, prepared: Prepared, done: Committed, head: Head) -> None:
        self._counts += prepared.counts
        self._report = replace(
            self._report,
            snapshot_id=str(done.snapshot_id),
            commits=self._report.commits + 1,
            index_rebuilt=self._report.index_rebuilt or head.rebuilt,
            **vars(self._counts),
        )

    def _told(self, looked: _Looked) -> MergeReport:
        """The report of the turn, with how far the mirror is now."""
        at, left = looked.watermark, left_of(looked.pending, looked.watermark)
        oldest = next((one.committed_ms for one in left if one.files), 0)
        return replace(
            self._report,
            more=bool(oldest),
            watermark="" if at.snapshot_id is None else str(at.snapshot_id),
            watermark_sequence=at.newest,
            watermark_time_ms=at.committed_ms,
            lag_events=sum(one.rows for one in left),
            lag_seconds=max(0.0, time.time() - oldest / 1000) if oldest else 0.0,
        )

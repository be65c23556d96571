"""Merging: what a changelog has beyond its mirror's watermark, piece by piece, each in one commit.

    look (mirror, changelog, what is pending) → take a piece → fold → index → decide → write → store → commit

A piece is prepared for one head. When the head has moved, everything is planned anew: the commit that moved it may
have been of the very same piece. A mirror that somebody drops meanwhile is made anew, and merged from the beginning.
"""

import asyncio
import time
from dataclasses import replace

from activities import failpoints
from activities.abreast import both
from activities.committing import to_its_end
from activities.contracts.mirrors import MergeInput, MergeReport
from activities.core.faults import CommitConflict, WatermarkLost
from activities.core.mirrors import MirrorConfig
from activities.lake import mirror as mirrors
from activities.lake.changepieces import left_of, waits_since
from activities.lake.changes import Pending
from activities.lake.changescan import WAY_OUT, pending
from activities.lake.compaction import compaction_due
from activities.lake.live import live_files
from activities.lake.mergebatch import following_of
from activities.lake.mirror import Mirror
from activities.lake.mirrormade import check_made, check_partition
from activities.lake.rowdelta import Committed, HeadMoved, commit
from activities.lake.sending import TRIES
from activities.merge_gathering import Gathering
from activities.merge_metrics import MergeTimings, turn_told
from activities.merge_piece import Counts, Prepared
from activities.merge_work import MergeWork
from activities.mirror_context import MirrorContext
from activities.mirror_head import Head
from activities.mirror_lag import at_work


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
        async with at_work(context, config):
            reports.append(await _Turn(context, config, merge).run())
    return reports[0]


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
        work = await self._look()
        if work is None:
            missing = f"changelog {self._config.changelog} is not in the catalog"
            said = f"{missing}; if it is called otherwise, mend `changelog_table` in mirrors.yaml"
            return replace(self._report, waiting_for=said)
        while self._may_go_on():
            try:
                mirror = await self._merge(work)
            except HeadMoved as moved:
                self._lost += 1
                if self._lost > TRIES:
                    raise CommitConflict(
                        f"mirror {self._config.mirror}: {TRIES} commits in a row lost against other writers; look for "
                        "who else writes to it, and have only its loop do so"
                    ) from moved
                work = await self._look()
                if work is None:
                    return self._report
            else:
                if mirror is None:
                    break
                self._lost = 0
                work = self._work(mirror, work.pending)
        return self._told(work, await asyncio.to_thread(self._compaction_due, work.mirror))

    async def _look(self) -> MergeWork | None:
        """Load both tables; the mirror is made when there is none. None while there is no changelog to begin with."""
        mirror, changelog = await both(
            asyncio.to_thread(self._read_or_none), asyncio.to_thread(self._context.lake.load, self._config.changelog)
        )
        if changelog is None:
            if mirror is None or mirror.watermark is None:
                return None
            raise WatermarkLost(
                f"mirror {self._config.mirror}: its changelog {self._config.changelog} is not in the catalog any more; "
                "put it back under that name, such as by renaming it, and have the mirror go on (icefleet mirrors "
                f"resume); once there is another one of that name, {WAY_OUT}"
            )
        if mirror is None:
            await asyncio.to_thread(mirrors.create, self._context.lake, self._config, changelog)
            mirror = await asyncio.to_thread(self._read)
        left = await asyncio.to_thread(pending, changelog, mirror.watermark, self._config)
        check_made(self._config, mirror.table, changelog.schema())
        check_partition(self._config, mirror.table, mirror.columns, changelog.schema())
        return self._work(mirror, left)

    def _work(self, mirror: Mirror, left: Pending) -> MergeWork:
        following = following_of(self._config, left.table, mirror)
        return MergeWork(self._context, self._config, mirror, left, following)

    def _read_or_none(self) -> Mirror | None:
        return mirrors.read(self._context.lake, self._config)

    def _read(self) -> Mirror:
        mirror = self._read_or_none()
        if mirror is None:
            raise CommitConflict(f"mirror {self._config.mirror} was dropped just after it was made; it is made anew")
        return mirror

    def _may_go_on(self) -> bool:
        if self._pieces and self._report.commits >= self._pieces:
            return False
        return self._report.commits == 0 or time.monotonic() < self._until

    async def _merge(self, work: MergeWork) -> Mirror | None:
        """Bring one piece into the mirror; answers what it is then. None: there is none left.

        Raises:
            HeadMoved: somebody else was faster; nothing of the piece is there, or all of it.
        """
        timings = MergeTimings()
        first = await work.first(timings)
        if first is None:
            return None
        prepared, head = first
        delta, counts = prepared.delta, prepared.counts
        if not prepared.alone:
            gathered = await self._gather(work, head, prepared, timings)
            delta, counts = await asyncio.to_thread(gathered.delta, head.mirror.table), gathered.counts
        await failpoints.reach("merge-before-commit")
        with timings.phase("commit"):
            done = await to_its_end(commit, self._context.lake, work.mirror.table, delta)
        await failpoints.reach("merge-after-commit")
        timings.told(self._config.mirror)
        self._count(counts, done, head)
        return mirrors.state_of(self._config, done.table)

    async def _gather(self, work: MergeWork, head: Head, prepared: Prepared, timings: MergeTimings) -> Gathering:
        """Everything of a snapshot behind its truncate: readers see the old rows until all that follows is there."""
        gathered = Gathering(self._context, self._config, head)
        await asyncio.to_thread(gathered.add, prepared)
        while gathered.head.watermark.partial and (taken := await work.take(gathered.head.watermark)):
            await asyncio.to_thread(gathered.add, await work.next(taken, gathered.head, timings))
        return gathered

    def _count(self, counts: Counts, done: Committed, head: Head) -> None:
        counts.told(self._config.mirror)
        self._counts += counts
        self._report = replace(
            self._report,
            snapshot_id=str(done.snapshot_id),
            commits=self._report.commits + 1,
            index_rebuilt=self._report.index_rebuilt or head.rebuilt,
            **vars(self._counts),
        )

    def _compaction_due(self, mirror: Mirror) -> str:
        return compaction_due(self._context.lake.files(), live_files(mirror.table), self._config)

    def _told(self, work: MergeWork, compaction: str) -> MergeReport:
        """The report of the turn, with how far the mirror is now."""
        at, left = work.watermark, left_of(work.pending, work.watermark)
        oldest = waits_since(work.pending, at)
        return replace(
            self._report,
            more=any(one.files for one in left),
            watermark="" if at.snapshot_id is None else str(at.snapshot_id),
            watermark_sequence=at.newest,
            watermark_time_ms=at.committed_ms,
            lag_events=sum(one.rows for one in left),
            lag_seconds=max(0.0, time.time() - oldest / 1000) if oldest else 0.0,
            compaction_due=compaction,
        )

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
from typing import Any

from activities import failpoints
from activities.abreast import both
from activities.committing import to_its_end
from activities.contracts.mirrors import MergeInput, MergeReport
from activities.core.faults import BadConfig, CommitConflict, WatermarkLost
from activities.core.mirrors import MirrorConfig, Watermark
from activities.heartbeats import heartbeats
from activities.lake import mirror as mirrors
from activities.lake.changepieces import Taken, take
from activities.lake.changes import Pending
from activities.lake.changescan import pending
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
        while self._may_go_on() and (taken := await self._take(looked)):
            try:
                await self._merge(looked, taken)
            except HeadMoved as moved:
                self._lost += 1
                if self._lost > TRIES:
                    raise CommitConflict(
                        f"mirror {self._config.mirror}: {TRIES} commits in a row lost against other writers; look for "
                        "who else writes to it, and have only its loop do so"
                    ) from moved
                looked = await self._look()
            else:
                self._lost = 0
                looked = replace(looked, mirror=await asyncio.to_thread(self._read))
        return self._told(looked)

"""The activities of mirrors: thin methods over the rooms that do the work."""

from dataclasses import replace

from temporalio import activity

from activities.bootstrapping import bootstrap_mirror
from activities.compacting import compact_mirror
from activities.contracts.mirrors import (
    CompactReport,
    MergeInput,
    MergeOnceRequest,
    MergeReport,
    MirrorActivities,
    MirrorInput,
    MirrorLag,
    MirrorTrouble,
    TidyReport,
    VerifyMirrorInput,
    VerifyMirrorReport,
)
from activities.errors import faults_named
from activities.handover import until_worker_stops
from activities.heartbeats import heartbeats
from activities.merging import merge_mirror
from activities.mirror_context import MirrorContext
from activities.mirror_index import rebuild_index
from activities.mirror_lag import watch_mirror
from activities.steering_mirrors import signal_mirror, tell_trouble
from activities.tidying import tidy_mirror
from activities.verifymirror import verify_mirror

PIECE_GRACE_SECONDS = 3.0
"""How long a merge may go on when its worker is told to stop: most end within it."""


class Mirrors(MirrorActivities):
    """Implements `MirrorActivities` for one environment."""

    def __init__(self, context: MirrorContext) -> None:
        self._context = context

    @activity.defn(name="merge_mirror")
    @faults_named
    async def merge_mirror(self, merge: MergeInput) -> MergeReport:
        """Bring what the changelog has beyond the watermark into the mirror, piece by piece, each in one commit."""
        config = self._context.mirror(merge.environment, merge.mirror)
        report = await until_worker_stops(merge_mirror(self._context, merge), grace=PIECE_GRACE_SECONDS)
        return replace(report, interval_seconds=config.merge_interval_seconds)

    @activity.defn(name="rebuild_index")
    @faults_named
    async def rebuild_index(self, asked: MirrorInput) -> MergeReport:
        """Make the mirror's index anew from the mirror and its changelog."""
        return await until_worker_stops(rebuild_index(self._context, asked), grace=PIECE_GRACE_SECONDS)

    @activity.defn(name="bootstrap_mirror")
    @faults_named
    async def bootstrap_mirror(self, asked: MirrorInput) -> MergeReport:
        """Begin again from the changelog as it is now; readers see the old rows until the new ones are there."""
        return await until_worker_stops(bootstrap_mirror(self._context, asked), grace=PIECE_GRACE_SECONDS)

    @activity.defn(name="tell_trouble")
    @faults_named
    async def tell_trouble(self, trouble: MirrorTrouble) -> bool:
        """Publish what is wrong with a mirror, or that nothing is any more; whether that was news."""
        async with heartbeats("telling"):
            return await tell_trouble(self._context, trouble)

    @activity.defn(name="watch_mirror")
    @faults_named
    async def watch_mirror(self, trouble: MirrorTrouble) -> MirrorLag:
        """Tell lag and trouble of a mirror that does not merge now."""
        async with heartbeats("watching a mirror"):
            return await watch_mirror(self._context, trouble)

    @activity.defn(name="signal_mirror")
    @faults_named
    async def signal_mirror(self, asked: MergeOnceRequest) -> str:
        """Send an order to the mirror's loop, with start; answers its workflow id."""
        return await signal_mirror(self._context, asked)

    @activity.defn(name="compact_mirror")
    @faults_named
    async def compact_mirror(self, asked: MirrorInput) -> CompactReport:
        """Rewrite files that are small or mostly deleted, in one commit."""
        return await until_worker_stops(compact_mirror(self._context, asked), grace=PIECE_GRACE_SECONDS)

    @activity.defn(name="verify_mirror")
    @faults_named
    async def verify_mirror(self, asked: VerifyMirrorInput) -> VerifyMirrorReport:
        """Compare the mirror with the fold of its changelog up to the watermark."""
        return await until_worker_stops(verify_mirror(self._context, asked), grace=0.0)

    @activity.defn(name="tidy_mirror")
    @faults_named
    async def tidy_mirror(self, asked: MirrorInput) -> TidyReport:
        """Announce new snapshots, let old ones expire, delete what none names any more, tag the changelog."""
        return await until_worker_stops(tidy_mirror(self._context, asked), grace=PIECE_GRACE_SECONDS)

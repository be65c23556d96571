"""The activities of mirrors: thin methods over the rooms that do the work."""

from temporalio import activity

from activities.compacting import compact_mirror
from activities.contracts.mirrors import (
    CompactReport,
    MergeInput,
    MergeReport,
    MirrorActivities,
    MirrorInput,
    TidyReport,
)
from activities.errors import faults_named
from activities.merging import merge_mirror
from activities.mirror_context import MirrorContext
from activities.tidying import tidy_mirror


class Mirrors(MirrorActivities):
    """Implements `MirrorActivities` for one environment."""

    def __init__(self, context: MirrorContext) -> None:
        self._context = context

    @activity.defn(name="merge_mirror")
    @faults_named
    async def merge_mirror(self, merge: MergeInput) -> MergeReport:
        """See `activities.merging.merge_mirror`."""
        return await merge_mirror(self._context, merge)

    @activity.defn(name="compact_mirror")
    @faults_named
    async def compact_mirror(self, asked: MirrorInput) -> CompactReport:
        """See `activities.compacting.compact_mirror`."""
        return await compact_mirror(self._context, asked)

    @activity.defn(name="tidy_mirror")
    @faults_named
    async def tidy_mirror(self, asked: MirrorInput) -> TidyReport:
        """See `activities.tidying.tidy_mirror`."""
        return await tidy_mirror(self._context, asked)

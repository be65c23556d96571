"""The activities of mirrors: thin methods over the rooms that do the work."""

from temporalio import activity

from activities.contracts.mirrors import (
    MergeInput,
    MergeReport,
    MirrorActivities,
    VerifyMirrorInput,
    VerifyMirrorReport,
)
from activities.errors import faults_named
from activities.merging import merge_mirror
from activities.mirror_context import MirrorContext
from activities.verifymirror import verify_mirror


class Mirrors(MirrorActivities):
    """Implements `MirrorActivities` for one environment."""

    def __init__(self, context: MirrorContext) -> None:
        self._context = context

    @activity.defn(name="merge_mirror")
    @faults_named
    async def merge_mirror(self, merge: MergeInput) -> MergeReport:
        """See `activities.merging.merge_mirror`."""
        return await merge_mirror(self._context, merge)

    @activity.defn(name="verify_mirror")
    @faults_named
    async def verify_mirror(self, asked: VerifyMirrorInput) -> VerifyMirrorReport:
        """Compare the mirror with the fold of its changelog up to the watermark."""
        return await verify_mirror(self._context, asked)

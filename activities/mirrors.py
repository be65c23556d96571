"""The activities of mirrors: thin methods over the rooms that do the work."""

from temporalio import activity

from activities.contracts.mirrors import MergeOnceRequest, MirrorActivities, MirrorTrouble
from activities.errors import faults_named
from activities.heartbeats import heartbeats
from activities.mirror_context import MirrorContext
from activities.steering_mirrors import signal_mirror, tell_trouble


class Mirrors(MirrorActivities):
    """Implements `MirrorActivities` for one environment."""

    def __init__(self, context: MirrorContext) -> None:
        self._context = context

    @activity.defn(name="tell_trouble")
    @faults_named
    async def tell_trouble(self, trouble: MirrorTrouble) -> bool:
        """Publish why a mirror cannot go on, or that it can again; whether that was news."""
        async with heartbeats("telling"):
            return await tell_trouble(self._context, trouble)

    @activity.defn(name="signal_mirror")
    @faults_named
    async def signal_mirror(self, asked: MergeOnceRequest) -> str:
        """Send an order to the mirror's loop, with start; answers its workflow id."""
        return await signal_mirror(self._context, asked)

"""The activities of mirrors: thin methods over the rooms that do the work."""

from activities.contracts.mirrors import MirrorActivities
from activities.mirror_context import MirrorContext


class Mirrors(MirrorActivities):
    """Implements `MirrorActivities` for one environment."""

    def __init__(self, context: MirrorContext) -> None:
        self._context = context

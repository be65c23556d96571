"""The activities that hold a table against its source: thin methods over the rooms that do the work."""

from temporalio import activity

from activities.comparing import compare_partitions
from activities.context import ExportContext
from activities.contracts.verify import Looked, LookInput, ReadInput, ReadReport, VerifyActivities
from activities.errors import faults_named
from activities.heartbeats import heartbeats
from activities.verifying import look_at_page


class Verify(VerifyActivities):
    """Implements `VerifyActivities` for one environment."""

    def __init__(self, context: ExportContext) -> None:
        self._context = context

    @activity.defn(name="look_at_partitions")
    @faults_named
    async def look_at_partitions(self, look: LookInput) -> Looked:
        """Hold the files of a page of partitions against the source's counts and the objects in the store."""
        async with heartbeats("looking"):
            return await look_at_page(self._context, look)

    @activity.defn(name="compare_values")
    @faults_named
    async def compare_values(self, read: ReadInput) -> ReadReport:
        """Read the values of partitions at the source and in their files, and compare the checksums."""
        doing: dict[str, str] = {}
        async with heartbeats(doing):
            return await compare_partitions(self._context, read, doing)

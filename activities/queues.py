"""The activity that tells loops where work waits: only config knows."""

from collections.abc import Callable

from temporalio import activity

from activities.contracts.queues import QueueActivities, Queues, QueuesInput
from activities.core.queues import QueueNames
from activities.core.tables import TableConfig
from activities.errors import faults_named
from activities.serving import check_environment


class FindQueues(QueueActivities):
    """Implements `QueueActivities` for one environment."""

    def __init__(self, names: QueueNames, find_table: Callable[[str, str], TableConfig] | None = None) -> None:
        """`find_table` says what config has of a table and network; None where nobody asks for tables."""
        self._names = names
        self._find_table = find_table

    @activity.defn(name="find_queues")
    @faults_named
    async def find_queues(self, asked: QueuesInput) -> Queues:
        """The queues in which work of a table, or of mirrors, waits for workers."""
        check_environment(self._names.environment, asked.environment)
        names = self._names
        export = ""
        if asked.table and self._find_table is not None:
            export = names.export(self._find_table(asked.table, asked.network).source)
        return Queues(export=export, upkeep=names.upkeep, verify=names.verify, mirrors=names.mirrors)

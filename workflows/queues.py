"""Where work waits that a loop sends away: `activities.contracts.queues` says which work that is."""

from temporalio import workflow

from activities.contracts.queues import QueueActivities, Queues, QueuesInput
from workflows.policies import DELIVER


async def queues_of(environment: str, table: str = "", network: str = "") -> Queues:
    """The queues of a table's work, or of mirrors' if no table is named.

    Raises:
        ActivityError: config does not have that table and network.
    """
    return await workflow.execute_activity_method(
        QueueActivities.find_queues, QueuesInput(environment, table, network), summary="which queues", **DELIVER
    )

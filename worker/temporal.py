"""The client of Temporal, in a module of its own: what only asks Temporal need not load drivers and a lake library."""

from temporalio.client import Client

from worker.config import Environment
from worker.interceptors import FleetInterceptor


async def connect_temporal(environment: Environment) -> Client:
    """A client of the environment's Temporal."""
    temporal = environment.temporal
    return await Client.connect(
        temporal.address,
        namespace=temporal.namespace,
        tls=temporal.tls,
        api_key=temporal.api_key.get_secret_value() if temporal.api_key else None,
        interceptors=[FleetInterceptor()],
    )

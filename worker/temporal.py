"""The client of Temporal, in a module of its own: what only asks Temporal need not load drivers and a lake library."""

from temporalio.client import Client
from temporalio.contrib.opentelemetry import TracingInterceptor
from temporalio.runtime import Runtime

from worker.config import Environment


async def connect_temporal(environment: Environment, *, runtime: Runtime | None = None) -> Client:
    """A client of the environment's Temporal; a worker's `runtime` tells what the SDK does (`worker.metrics`)."""
    temporal = environment.temporal
    return await Client.connect(
        temporal.address,
        namespace=temporal.namespace,
        tls=temporal.tls,
        api_key=temporal.api_key.get_secret_value() if temporal.api_key else None,
        interceptors=[TracingInterceptor()],
        runtime=runtime,
    )

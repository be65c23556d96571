"""Making one version of the workers the current one: the one that is given work."""

from datetime import timedelta

from temporalio.api.deployment.v1 import WorkerDeploymentVersion as WireVersion
from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    DescribeWorkerDeploymentVersionRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_fixed

from activities.core.faults import BadConfig

LOOK_AGAIN = timedelta(seconds=2)
_NOT_YET = (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION)
"""Temporal has heard of no such deployment or version, or misses a queue of it that has work waiting."""


class _UnservedError(Exception):
    """No worker of the new version has come to queues that those of the current one serve."""


async def promote(client: Client, version: WorkerDeploymentVersion, *, patience: timedelta) -> bool:
    """Make a version current as soon as its workers have come to every queue that those of the current one serve.

    Temporal itself misses a queue only while work waits there.

    Returns:
        Whether it was not current already.

    Raises:
        BadConfig: its workers did not come within `patience`.
        RPCError: Temporal refuses.
    """
    attempts = AsyncRetrying(
        retry=retry_if_exception(_is_not_yet),
        stop=stop_after_delay(patience),
        wait=wait_fixed(LOOK_AGAIN),
        reraise=True,
    )
    try:
        return bool(await attempts(_promote, client, version.deployment_name, version.build_id))
    except (RPCError, _UnservedError) as refused:
        if not _is_not_yet(refused):
            raise
        why = refused.message if isinstance(refused, RPCError) else str(refused)
        raise BadConfig(
            f"build {version.build_id} of {version.deployment_name} did not become current within "
            f"{patience.total_seconds():g} s: {why}; look whether its workers run, and whether some serve every queue"
        ) from refused


async def _promote(client: Client, deployment: str, build: str) -> bool:
    service, namespace = client.workflow_service, client.namespace
    described = await service.describe_worker_deployment(
        DescribeWorkerDeploymentRequest(namespace=namespace, deployment_name=deployment)
    )
    current = described.worker_deployment_info.routing_config.current_deployment_version.build_id
    if current == build:
        return False
    served = await _queues(client, deployment, build)
    if unserved := (await _queues(client, deployment, current) if current else set()) - served:
        raise _UnservedError(
            f"no worker of it has come to {', '.join(sorted(unserved))}, where those of {current} work"
        )
    await service.set_worker_deployment_current_version(
        SetWorkerDeploymentCurrentVersionRequest(namespace=namespace, deployment_name=deployment, build_id=build)
    )
    return True


async def _queues(client: Client, deployment: str, build: str) -> set[str]:
    """The task queues that workers of a version have polled."""
    answer = await client.workflow_service.describe_worker_deployment_version(
        DescribeWorkerDeploymentVersionRequest(
            namespace=client.namespace,
            deployment_version=WireVersion(deployment_name=deployment, build_id=build),
        )
    )
    return {queue.name for queue in answer.version_task_queues}


def _is_not_yet(problem: BaseException) -> bool:
    return isinstance(problem, _UnservedError) or (isinstance(problem, RPCError) and problem.status in _NOT_YET)

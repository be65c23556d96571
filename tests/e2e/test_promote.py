"""`icefleet temporal promote`: a build of the workers becomes the current one when its workers are there."""

import functools

from temporalio import activity
from temporalio.api.workflowservice.v1 import DescribeWorkerDeploymentRequest
from temporalio.common import WorkerDeploymentVersion
from temporalio.worker import Worker, WorkerDeploymentConfig
from typer.testing import CliRunner

from starter.main import build
from support.fleet import Fleet, eventually


@activity.defn
async def nothing() -> None:
    """What no test calls: workers only have to poll."""


def worker(fleet: Fleet, deployment: str, build: str, queue: str) -> Worker:
    version = WorkerDeploymentVersion(deployment_name=deployment, build_id=build)
    return Worker(
        fleet.temporal,
        task_queue=f"{deployment}-{queue}",
        activities=[nothing],
        deployment_config=WorkerDeploymentConfig(version=version, use_worker_versioning=True),
    )


async def current(fleet: Fleet, deployment: str) -> str:
    answer = await fleet.temporal.workflow_service.describe_worker_deployment(
        DescribeWorkerDeploymentRequest(namespace=fleet.temporal.namespace, deployment_name=deployment)
    )
    return answer.worker_deployment_info.routing_config.current_deployment_version.build_id


async def test_a_build_becomes_current_once_its_workers_serve_every_queue_of_the_one_before(fleet):
    deployment = f"deployment-{fleet.name}"

    async def promote(build: str, seconds: float) -> tuple[int, str, str]:
        return await fleet.command(
            "temporal", "promote", "--deployment", deployment, "--build", build, "--wait", str(seconds)
        )

    async def refused(why: str) -> bool:
        code, said, errors = await promote("2", 0)
        assert (code, said) == (1, "")
        return why in errors

    code, said, errors = await promote("1", 0)
    assert (code, said) == (1, "")
    assert f"build 1 of {deployment} did not become current" in errors
    assert "look whether its workers run" in errors
    assert "Traceback" not in errors

    async with worker(fleet, deployment, "1", "exports"), worker(fleet, deployment, "1", "merges"):
        assert await promote("1", 60) == (0, f"1 is now the current build of {deployment}\n", "")
        assert await promote("1", 60) == (0, f"1 was already the current build of {deployment}\n", "")
        async with worker(fleet, deployment, "2", "exports"):
            # Temporal hears of a version some time after its workers
            await eventually(functools.partial(refused, f"come to {deployment}-merges, where those of 1 work"))
            assert await current(fleet, deployment) == "1"
            async with worker(fleet, deployment, "2", "merges"):
                assert await promote("2", 60) == (0, f"2 is now the current build of {deployment}\n", "")
                assert await current(fleet, deployment) == "2"


def test_workers_without_versions_need_no_promotion(monkeypatch):
    monkeypatch.delenv("ICEFLEET_DEPLOYMENT", raising=False)
    said = CliRunner().invoke(build(["temporal"]), ["temporal", "promote"])
    assert (said.exit_code, said.stdout.split(":")[0]) == (0, "workers have no versions")

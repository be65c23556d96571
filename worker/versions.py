"""Which build of which deployment a worker is."""

from importlib.metadata import version

from temporalio.common import WorkerDeploymentVersion


def deployment_version(deployment: str, build: str = "") -> WorkerDeploymentVersion | None:
    """The version of a worker of a deployment; none when workers are not versioned. The default is the package's."""
    if not deployment:
        return None
    return WorkerDeploymentVersion(deployment_name=deployment, build_id=build or version("icefleet"))

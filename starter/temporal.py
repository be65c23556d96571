"""`icefleet temporal …`: what a Temporal namespace needs before workflows can run in it."""

from datetime import timedelta
from typing import Annotated

import typer

from starter.common import EnvironmentOption, load, run, say
from worker.promotion import promote as make_current
from worker.search_attributes import register_attributes
from worker.temporal import connect_temporal
from worker.versions import deployment_version

app = typer.Typer(help="Prepare a Temporal namespace.", no_args_is_help=True)


@app.callback()
def temporal() -> None:
    """Prepare a Temporal namespace."""


@app.command()
def init(environment: EnvironmentOption = "local") -> None:
    """Register the search attributes by which workflows are found. Safe to repeat.

    Example: icefleet temporal init -e production
    """

    async def register() -> list[str]:
        return await register_attributes(await connect_temporal(load().environment(environment, "temporal")))

    added = run(register())
    say(f"registered {', '.join(added)}" if added else "all search attributes are registered")


@app.command()
def promote(
    environment: EnvironmentOption = "local",
    deployment: Annotated[
        str, typer.Option(envvar="ICEFLEET_DEPLOYMENT", metavar="NAME", help="The Temporal Worker Deployment.")
    ] = "",
    build: Annotated[
        str, typer.Option(envvar="APP_VERSION", metavar="VERSION", help="Which build; by default the package's.")
    ] = "",
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long its workers may take until they are there.")
    ] = 600,
) -> None:
    """Make one build of the workers the current one, which is given the work; loops go over to it by themselves.

    Waits until its workers serve every queue that the current build's do. Safe to repeat. Without a deployment workers
    have no versions, and nothing is done.

    Example: icefleet temporal promote -e production --deployment icefleet-production --build 0.2.0
    """
    version = deployment_version(deployment, build)
    if version is None:
        say("workers have no versions: neither --deployment nor ICEFLEET_DEPLOYMENT names a deployment")
        return

    async def work() -> bool:
        client = await connect_temporal(load().environment(environment, "temporal"))
        return await make_current(client, version, patience=timedelta(seconds=wait))

    changed = run(work())
    say(f"{version.build_id} {'is now' if changed else 'was already'} the current build of {version.deployment_name}")

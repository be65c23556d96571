"""`icefleet temporal …`: what a Temporal namespace needs before workflows can run in it."""

import typer

from starter.common import EnvironmentOption, load, run, say
from worker.search_attributes import register_attributes
from worker.temporal import connect_temporal

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

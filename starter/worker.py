"""`icefleet worker`: run a worker in the foreground."""

from typing import Annotated

import typer

from starter.common import EnvironmentOption, load, run
from worker.telemetry import set_up_logs, set_up_traces


def worker(
    environment: EnvironmentOption = "local",
    failpoint: Annotated[
        list[str] | None, typer.Option(hidden=True, help="Die by SIGKILL here: `name`, or `name:n`; for crash tests.")
    ] = None,
) -> None:
    """Take work off the task queue until SIGTERM; what is in flight then is finished or handed back.

    Example: icefleet worker -e production
    """
    from worker.main import run_worker  # noqa: PLC0415 - loads every client: 200 MB that no other command needs

    set_up_logs()
    set_up_traces(environment)
    run(run_worker(load(), environment, failpoints=failpoint or ()))

"""`icefleet worker`: run a worker in the foreground."""

from typing import Annotated

import typer

from starter.common import EnvironmentOption, load, one_line, run
from worker.secrets import secrets_of
from worker.telemetry import flush_telemetry, set_up_telemetry, watched


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

    settings = load()
    with one_line():
        set_up_telemetry(environment, service="icefleet-worker", secrets=secrets_of(settings))
    try:
        run(watched(run_worker(settings, environment, failpoints=failpoint or ())))
    finally:
        flush_telemetry()

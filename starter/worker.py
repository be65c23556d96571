"""`icefleet worker`: run a worker in the foreground."""

from datetime import timedelta
from typing import Annotated

import typer

from starter.common import EnvironmentOption, load, one_line, run
from worker.leaving import flush_all
from worker.secrets import secrets_of
from worker.telemetry import set_up_telemetry, watched


def worker(
    environment: EnvironmentOption = "local",
    serve: Annotated[
        list[str] | None,
        typer.Option(
            envvar="ICEFLEET_SERVE",
            metavar="KIND",
            help="Only this kind of work: control, export (or export.<cluster>), cdc, merge, upkeep. May be repeated.",
        ),
    ] = None,
    grace: Annotated[
        float,
        typer.Option(
            envvar="ICEFLEET_GRACE",
            min=0,
            metavar="SECONDS",
            help="How long what runs may go on when the worker is told to stop.",
        ),
    ] = 10,
    failpoint: Annotated[
        list[str] | None, typer.Option(hidden=True, help="Die by SIGKILL here: `name`, or `name:n`; for crash tests.")
    ] = None,
) -> None:
    """Take work off the task queues until SIGTERM; what is in flight then is finished or handed over.

    A second signal ends it at once.

    Examples: icefleet worker -e production · icefleet worker --serve control --serve export.default
    """
    from worker.main import run_worker  # noqa: PLC0415 - loads clients: 100 MB and more that no other command needs

    settings = load()
    with one_line():
        set_up_telemetry(environment, service="icefleet-worker", secrets=secrets_of(settings))
    kinds = [kind.strip() for word in serve or () for kind in word.split(",") if kind.strip()]
    work = run_worker(settings, environment, kinds=kinds, grace=timedelta(seconds=grace), failpoints=failpoint or ())
    try:
        run(watched(work))
    finally:
        flush_all()

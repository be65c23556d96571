"""`icefleet worker`: run a worker in the foreground."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Annotated, Any

import structlog
import typer

from starter.common import FAILED, EnvironmentOption, load, one_line
from worker.leaving import before_leaving, end_when_told, flush_all, leave_now
from worker.metrics import set_up_metrics
from worker.secrets import secrets_of
from worker.telemetry import flush_telemetry, set_up_telemetry, watched

log = structlog.get_logger("icefleet.worker")


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
    listen: Annotated[
        str,
        typer.Option(
            envvar="ICEFLEET_LISTEN",
            metavar="HOST:PORT",
            help="Answer /livez, /readyz and /metrics here; without a host on loopback. By default nothing listens.",
        ),
    ] = "",
    deployment: Annotated[
        str,
        typer.Option(
            envvar="ICEFLEET_DEPLOYMENT",
            metavar="NAME",
            help="Version this worker as a part of that Temporal Worker Deployment.",
        ),
    ] = "",
    build: Annotated[
        str,
        typer.Option(envvar="APP_VERSION", metavar="VERSION", help="Which build this is; by default the package's."),
    ] = "",
    failpoint: Annotated[
        list[str] | None, typer.Option(hidden=True, help="Die by SIGKILL here: `name`, or `name:n`; for crash tests.")
    ] = None,
) -> None:
    """Take work off the task queues until SIGTERM; what is in flight then is finished or handed over.

    A second signal ends it at once.

    Examples: icefleet worker -e production · icefleet worker --serve control --serve export.default
    """
    end_when_told()  # before anything that takes long: what is loaded here, and the look around
    from worker.main import Serving, run_worker  # noqa: PLC0415 - what no other command needs takes a second to load
    from worker.versions import deployment_version  # noqa: PLC0415

    settings = load()
    with one_line():
        set_up_telemetry(environment, service="icefleet-worker", secrets=secrets_of(settings))
        metrics = set_up_metrics(environment, scraped=bool(listen))
    before_leaving(metrics.close)
    before_leaving(flush_telemetry)
    how = Serving(
        kinds=[kind.strip() for word in serve or () for kind in word.split(",") if kind.strip()],
        listen=listen,
        grace=timedelta(seconds=grace),
        version=deployment_version(deployment, build),
        metrics=metrics,
        failpoints=failpoint or (),
    )
    try:
        asyncio.run(_work(run_worker(settings, environment, how)))
    finally:
        flush_all()


async def _work(working: Coroutine[Any, Any, None]) -> None:
    """Work, and leave the process with the exit code that says how it ended."""
    code = 0
    try:
        with one_line():
            await watched(working)
    except typer.Exit as said:
        code = said.exit_code
    except Exception:
        log.exception("worker has failed")
        code = FAILED
    # Here and not behind the loop, which would wait for the threads of attempts that were given up.
    flush_all()
    leave_now(code)

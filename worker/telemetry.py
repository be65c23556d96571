"""What a process says of itself: logs, traces and crashes, by the standard environment variables."""

import os
from collections.abc import Awaitable, Collection, Mapping
from typing import TypeVar

from temporalio.runtime import Runtime, TelemetryConfig
from temporalio.service import RPCError

from activities.core.faults import BadConfig, Fault
from worker.crashes import flush_crashes, report, set_up_crashes
from worker.hidden import SECRETS
from worker.logs import core_logging, problems_of_logs, set_up_logs
from worker.traces import flush_traces, problems_of_traces, set_up_traces

T = TypeVar("T")


def set_up_telemetry(
    environment: str, *, service: str, secrets: Collection[str] = (), variables: Mapping[str, str] = os.environ
) -> None:
    """Set up logs, traces and crash reports of a process that serves one environment.

    `service` names what it is (`service.name`), `secrets` are never written or sent anywhere, nor are those
    that are read from now on. `APP_VERSION` is its version.

    Raises:
        BadConfig: every variable that cannot be understood, at once.
    """
    wrong = [*problems_of_logs(variables), *problems_of_traces(variables)]
    version = variables.get("APP_VERSION", "")
    if not wrong:
        set_up_logs(variables, secrets=secrets, service=service)
    place = {"environment": environment, "service": service, "version": version}
    try:
        # After the logs, which take every handler away that is there.
        set_up_crashes(variables.get("SENTRY_DSN", ""), **place, hide=SECRETS.hide)
    except ValueError as none:
        wrong.append(f"SENTRY_DSN is none: {none}")
    if wrong:
        raise BadConfig("\n".join(wrong))
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=core_logging())), error_if_already_set=False)
    said = {"service.name": service, "service.version": version, "deployment.environment.name": environment}
    set_up_traces(variables, {name: value for name, value in said.items() if value})


async def watched(work: Awaitable[T]) -> T:
    """What a process is there for: a mistake of ours that ends it is a crash. What people must mend is not."""
    try:
        return await work
    except (Fault, RPCError, OSError, RuntimeError):  # the SDK raises a bare RuntimeError when it cannot connect
        raise
    except Exception as wrong:
        report(wrong, {})
        raise


def flush_telemetry() -> None:
    """Send what is still here, for some seconds at most: a process of ours leaves by `os._exit`."""
    flush_traces()
    flush_crashes()

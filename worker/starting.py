"""The look around with which a worker starts: everything that is missing is named at once, with the way out."""

from collections.abc import Sequence

import structlog
from temporalio.client import Client
from temporalio.runtime import Runtime
from temporalio.service import RPCError

from activities.core.faults import BadConfig
from worker.config import Environment
from worker.dependencies import Dependency, missing, stops_everything
from worker.kinds import Served
from worker.search_attributes import missing_attributes
from worker.temporal import connect_temporal

log = structlog.get_logger("icefleet.worker")


async def find_temporal(environment: Environment, *, runtime: Runtime | None = None) -> tuple[Client | None, str]:
    """A client of a Temporal in which workflows can run; or none, and what is wrong, and what to do.

    `runtime` is that of a worker whose metrics somebody asks for.
    """
    temporal = environment.temporal
    where = f"Temporal {temporal.address}, namespace {temporal.namespace}"
    try:
        client = await connect_temporal(environment, runtime=runtime)
        lacking = await missing_attributes(client)
    except RuntimeError as away:  # the SDK raises a bare one when it cannot connect
        return None, f"{where} cannot be reached: {away}; mend `temporal` in environments.yaml, or look at that server"
    except RPCError as refused:
        return None, f"{where}: {refused.message}; mend `temporal` in environments.yaml, or grant the rights"
    if lacking:
        return None, f"{where} lacks the search attributes {', '.join(lacking)}; run `icefleet temporal init` once"
    return client, ""


async def look_around(
    environment: str, dependencies: Sequence[Dependency], serving: Sequence[Served], trouble: str
) -> None:
    """Say what is missing. A worker that could do nothing of what it serves does not start; another one only warns.

    `trouble` is what is wrong with Temporal, without which nothing can be done.

    Raises:
        BadConfig: with everything that is missing, a line each.
    """
    found = await missing(dependencies)
    lines = [*([trouble] if trouble else []), *(one.why for one in found)]
    if trouble or stops_everything(found, serving):
        raise BadConfig("\n".join([f"a worker of {environment} cannot start; what it needs is missing:", *lines]))
    for one in found:
        log.warning("what some work needs is missing; that work waits", missing=one.dependency.name, cause=one.why)

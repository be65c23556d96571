"""The one place where a fault becomes a Temporal failure.

What can go wrong, who must act and whether trying again can help is said by the classes of `activities.core.faults`;
here they only get Temporal's form, so that the UI shows their name, their message and who must act.
"""

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.core.faults import Fault

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")


def to_application_error(fault: Fault) -> ApplicationError:
    """The failure that Temporal records for a fault."""
    return ApplicationError(
        str(fault),
        {"who must act": fault.actor},
        type=type(fault).__name__,
        non_retryable=not fault.retryable,
        # A source that moved or a race that was lost is everyday life: no alarm, no stack in the log.
        category=ApplicationErrorCategory.BENIGN if fault.actor == "nobody" else ApplicationErrorCategory.UNSPECIFIED,
    )


def faults_named(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Let an activity raise faults; Temporal sees application errors. Anything else is a bug and stays what it is."""

    @functools.wraps(method)
    async def call(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(self, *args, **kwargs)
        except Fault as fault:
            raise to_application_error(fault) from fault

    return cast(Callable[Concatenate[S, P], Coroutine[Any, Any, R]], call)

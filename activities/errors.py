"""The one place where a fault becomes a Temporal failure.

What can go wrong, who must act and whether trying again can help is said by the classes of `activities.core.faults`;
here they only get Temporal's form, so that the UI shows their name, their message and who must act. Whatever else
comes out of an activity is a mistake of ours, and is called a `Bug`.
"""

import asyncio
import contextlib
import errno
import functools
import platform
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory, FailureError
from temporalio.service import RPCError

from activities.contracts.export import WHO_MUST_ACT
from activities.core.faults import DiskFull, Fault, TemporalUnavailable
from activities.tries import most_tries

BUG = "Bug"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
AGAIN_AFTER = timedelta(minutes=1)
"""When what a person must mend is tried again that nobody else would try again."""

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")


def to_application_error(fault: Fault, *, again_after: timedelta | None = None) -> ApplicationError:
    """The failure that Temporal records for a fault; with a time it is tried again after that, whatever it is."""
    return ApplicationError(
        str(fault),
        {WHO_MUST_ACT: fault.actor},
        type=type(fault).__name__,
        non_retryable=not fault.retryable and again_after is None,
        next_retry_delay=again_after,
        # A source that moved or a race that was lost is everyday life: no alarm, no stack in the log.
        category=ApplicationErrorCategory.BENIGN if fault.actor == "nobody" else ApplicationErrorCategory.UNSPECIFIED,
    )


@contextlib.contextmanager
def mended_by_people() -> Iterator[None]:
    """Have an activity whose tries have no end try again, a minute later each time, what an operator must mend.

    Nobody waits for it: else it would be left undone until something else asks for it, and nobody would be told.
    """
    try:
        yield
    except Fault as fault:
        if fault.retryable or fault.actor != "operator" or most_tries():
            raise
        raise to_application_error(fault, again_after=AGAIN_AFTER) from fault


def to_bug(wrong: Exception) -> ApplicationError:
    """The failure that Temporal records for an exception that nobody foresaw: tried again, as the policy says."""
    return ApplicationError(
        f"{type(wrong).__name__}: {wrong}; please report this with the stack trace below",
        {WHO_MUST_ACT: "us"},
        type=BUG,
    )


def unforeseen(wrong: Exception) -> ApplicationError:
    """The failure that Temporal records for whatever is no fault: that a disk is full may come up anywhere."""
    if isinstance(wrong, OSError) and wrong.errno in FULL:
        return to_application_error(
            DiskFull(
                f"no room is left on a disk of worker {platform.node()}: {wrong}; make room there, or give it a larger "
                "one (on Kubernetes the volume `tmp`)"
            )
        )
    return to_bug(wrong)


def faults_named(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Let an activity raise faults; Temporal sees application errors, also of what is no fault but a bug."""

    @functools.wraps(method)
    async def call(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(self, *args, **kwargs)
        except Fault as fault:
            raise to_application_error(fault) from fault
        except FailureError:
            raise  # in Temporal's form already: an input that was refused, or a cancellation
        except asyncio.CancelledError:
            if _stopped_with_its_worker():
                raise handed_over() from None
            raise
        except Exception as wrong:  # everything that can go wrong is a fault, so this is ours
            raise unforeseen(wrong) from wrong

    return cast(Callable[Concatenate[S, P], Coroutine[Any, Any, R]], call)


def _stopped_with_its_worker() -> bool:
    """Whether this attempt ends only since its worker does: nobody has cancelled the activity."""
    details = activity.cancellation_details() if activity.in_activity() else None
    return details is not None and details.worker_shutdown and not details.cancel_requested


@contextlib.contextmanager
def temporal_named() -> Iterator[None]:
    """Name what goes wrong while an activity talks to Temporal itself."""
    try:
        yield
    except RPCError as away:
        raise TemporalUnavailable(f"Temporal does not take the message ({away.status.name}): {away.message}") from away


def handed_over() -> ApplicationError:
    """The failure of an attempt whose worker was told to stop: another worker goes on at once."""
    return ApplicationError(
        "this worker was told to stop; another one goes on",
        {WHO_MUST_ACT: "nobody"},
        type="WorkerStopped",
        next_retry_delay=timedelta(milliseconds=100),
        category=ApplicationErrorCategory.BENIGN,
    )

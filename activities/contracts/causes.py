"""On whose behalf a workflow does what it does: so that a trace holds together within loops that serve many.

Temporal's headers bring a trace to a workflow and to a signal. Which of the requests that a loop has heard is being
served, only the loop knows: it keeps what `cause` says when a request arrives, beside the request, and serves it within
`acting_for`. The worker's interceptor reads and sets what is meant here; without one all of it is empty.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

Cause = dict[str, str]
"""A trace's context as W3C writes it in headers (`traceparent` …): plain JSON. Empty: nobody's.

Whatever is begun under an empty one begins a trace, which everything else under the same one then belongs to.
"""

_CAUSE: ContextVar[Cause | None] = ContextVar("icefleet_cause", default=None)


def cause() -> Cause:
    """On whose behalf the current task acts: to be kept beside what is done for it later."""
    return dict(_CAUSE.get() or {})


def current() -> Cause:
    """The same as it is shared by all tasks that act on this behalf: what an interceptor fills in when it is empty."""
    shared = _CAUSE.get()
    return {} if shared is None else shared


@contextlib.contextmanager
def acting_for(one: Cause) -> Iterator[None]:
    """Whatever is done inside, and by tasks that begin inside, is done on this behalf."""
    token = _CAUSE.set(dict(one))
    try:
        yield
    finally:
        # Coroutines of a run that left the worker's cache are closed elsewhere, where there is nothing to be set back.
        with contextlib.suppress(ValueError):
            _CAUSE.reset(token)

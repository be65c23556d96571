"""What an activity waits for just now, so that its heartbeats can say so: a free slot, or a source that is full."""

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

_WAITS: ContextVar[list[str] | None] = ContextVar("waits", default=None)


def watch_waits() -> Sequence[str]:
    """Everything that this task and those it starts wait for from now on: a list that changes as they do."""
    waits = _WAITS.get()
    if waits is None:
        waits = []
        _WAITS.set(waits)
    return waits


@contextlib.contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Say what is waited for until the end of the block; nobody is told when nobody watches."""
    waits = _WAITS.get()
    if waits is None:
        yield
        return
    waits.append(f"waits for {what}")
    try:
        yield
    finally:
        waits.remove(f"waits for {what}")

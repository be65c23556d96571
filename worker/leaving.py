"""How a process leaves: what it was told, what is still to be sent, and the end of it.

The first SIGTERM or SIGINT asks it to stop; the second one ends it at once, as does a first one while it still starts.
A process that used a client of Temporal can abort while the interpreter shuts down, so it flushes and leaves without
that.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import structlog

SIGNALS = (signal.SIGTERM, signal.SIGINT)
LEFT_BEHIND = 1
"""Exit code of a worker that had to leave something running."""

_flushes: list[Callable[[], None]] = []

log = structlog.get_logger("icefleet.worker")


def before_leaving(flush: Callable[[], None]) -> None:
    """Have something sent when the process leaves in order, such as spans; it must end within seconds."""
    _flushes.append(flush)


def within(seconds: float, work: Callable[[], object]) -> None:
    """Do what sends something, and leave it behind when it takes longer: nobody waits for a collector that is away."""
    doing = threading.Thread(target=work, daemon=True)
    doing.start()
    doing.join(seconds)


def flush_all() -> None:
    """Send what is still to be sent. What cannot be sent is said, and keeps nothing else from being sent."""
    while _flushes:
        flush = _flushes.pop(0)
        try:
            flush()
        except Exception:
            log.exception("something could not be sent before the process left")


def leave_now(code: int) -> NoReturn:
    """End the process with what it has printed, and nothing else."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def end_when_told() -> None:
    """Let SIGTERM end the process at once until `told_to_stop` is called: it has begun nothing yet.

    The first process of a container is not ended by a signal for which it has no handler. Python has one for SIGINT.
    """

    def end(number: int, _: FrameType | None) -> None:
        leave_now(128 + number)

    signal.signal(signal.SIGTERM, end)


def told_to_stop() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; the second ends the process, with 128 + its number.

    Call it in the main thread, in the loop that waits for the event.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    heard = False

    def hear(number: int, _: FrameType | None) -> None:
        # Not by the loop's own handler: the second signal must be heard while something blocks the loop.
        nonlocal heard
        if heard:
            leave_now(128 + number)
        heard = True
        loop.call_soon_threadsafe(told.set)

    for number in SIGNALS:
        signal.signal(number, hear)
    return told

"""`python -m deploy.local.supervisor DIRECTORY`: owns a stack, and ends with it.

SIGTERM ends the stack and the supervisor, SIGHUP makes it read a new request. A part that dies is noted in the state
file and not started again: whoever looks shall see it.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from deploy.local.ports import PortInUse
from deploy.local.process import identity
from deploy.local.stack import Stack, StartFailed
from deploy.local.state import PartState, Phase, State, read_request, write_state

TICK_SECONDS = 0.2


class Supervisor:
    """Serves requests for the stack of one directory until it is told to end."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._identity = identity(os.getpid()) or ""
        self._request = read_request(directory)
        self._stack = Stack(directory, parts=(), preferred=self._request.preferred)
        self._error = ""
        self._written: State | None = None
        self._wake = threading.Event()

    def run(self) -> None:
        """Serve, and leave nothing behind."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _leave)
        signal.signal(signal.SIGHUP, lambda *_: self._wake.set())
        self._wake.set()
        try:
            while self._serve() if self._wake.is_set() else True:
                self._tell("failed" if self._error else "up")
                self._wake.wait(TICK_SECONDS)
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            self._stack.stop()
            self._tell("stopped")

    def _serve(self) -> bool:
        """Start what the newest request names; whether there is anything to look after then.

        A failure is told to whoever asked, and what ran before goes on.
        """
        self._wake.clear()
        self._request, self._error = read_request(self._directory), ""
        self._tell("starting")
        try:
            self._stack.start(self._request.parts, self._request.ports)
        except (PortInUse, StartFailed, FileNotFoundError) as why:
            self._error = str(why)
        return any(map(self._stack.is_running, self._stack.children))

    def _tell(self, phase: Phase) -> None:
        parts = {
            name: PartState(child.pid, child.identity, child.exit_code, child.log_start)
            for name, child in self._stack.children.items()
        }
        state = State(os.getpid(), self._identity, self._request.token, phase, self._error, self._stack.ports, parts)
        if state != self._written:
            write_state(self._directory, state)
            self._written = state


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    Supervisor(Path(sys.argv[1])).run()

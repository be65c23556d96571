"""Child processes: started on a leash, recognised again, and ended within a bounded time."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

LEASH = Path(__file__).with_name("leash.py")
LOG_LIMIT = 16 * 2**20
"""Bytes after which a log is set aside (as `.log.1`) when its part starts."""
STOP_SECONDS = 10.0


def identity(pid: int) -> str | None:
    """What tells a live process from a later one with the same pid: when it started. None when there is none."""
    if Path("/proc/self/stat").exists():
        try:
            # The name in field 2 may hold blanks and brackets: what counts begins after the last bracket.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, ticks = fields[0], fields[19]
        return None if state in "ZX" else f"{boot}/{ticks}"
    answer = subprocess.run(
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = answer.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def end(pid: int, known_as: str, seconds: float, number: signal.Signals = signal.SIGTERM) -> bool:
    """End a process if it still is the one that was known, with SIGKILL after `seconds`; whether there was one."""
    if identity(pid) != known_as:
        return False
    os.kill(pid, number)
    deadline = time.monotonic() + seconds
    while identity(pid) == known_as and time.monotonic() < deadline:
        time.sleep(0.02)
    if identity(pid) == known_as:
        os.kill(pid, signal.SIGKILL)
    return True


def ending(code: int | None) -> str:
    """How a process ended, in words: `exit code 3`, `SIGKILL`."""
    if code is None:
        return "an unknown exit code"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


class Child:
    """One child process in a session of its own, with its output appended to a log; `stop` ends it in good order."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        log: Path,
        stop: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.stop = stop
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        self.log = log
        with log.open("ab") as out:
            self.log_start = out.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *command],
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self.identity = identity(self.pid) or "ended"

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number when a signal ended it."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Signal the process and its own children, unless it has ended."""
        if self.exit_code is None:
            os.killpg(self.pid, number)

    def pause(self) -> None:
        """Stop the process's clock, and return when it stands still: a signal takes a moment to be heard."""
        self.send(signal.SIGSTOP)
        if sys.platform == "linux" and self.exit_code is None:
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def wait(self, seconds: float) -> bool:
        """Whether the process has ended, after waiting at most so long."""
        try:
            self._process.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            return False
        return True


def stop(children: Iterable[Child], seconds: float = STOP_SECONDS) -> None:
    """End all of them at once in good order, and with SIGKILL for those that are still there after `seconds`."""
    children = list(children)
    for child in children:
        child.send(child.stop)
        child.send(signal.SIGCONT)  # a paused process hears of nothing else
    deadline = time.monotonic() + seconds
    for child in children:
        if not child.wait(deadline - time.monotonic()):
            child.send(signal.SIGKILL)
            child.wait(STOP_SECONDS)


def tail(log: Path, lines: int, start: int = 0) -> list[str]:
    """The last lines of a log, of what was written after byte `start`; none when there is no log."""
    if not log.exists():
        return []
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - 400 * lines - 4096) if size > start else 0)
        return file.read().decode("utf-8", "replace").splitlines()[-lines:]

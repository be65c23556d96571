"""`icefleet …` in a process of its own that begins with everything loaded: a fork of one that imported it all.

To load its libraries costs a command or worker a second and more of a core, and tests start hundreds of them. A fork
has arguments, variables, output, signals and an exit code of its own, as any process. What it does not show is that a
command finds its modules by itself: `tests/starter/test_loading.py` looks at that, and the demo, the users' guide, the
stack's own worker and whoever reads output as it comes run the program itself.

So does this where forks are not to be trusted (not Linux), and for a `PYTHONPATH` that is not the tests' own.
"""

import asyncio
import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from importlib import import_module
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[2]
PATHS = os.pathsep.join([str(ROOT), str(ROOT / "proto")])
PROGRAM = str(Path(sys.executable).with_name("icefleet"))
LOADED = (
    *("worker.main", "worker.versions", "worker.wiring", "worker.wiring_cdc", "worker.wiring_mirrors"),
    *("worker.mirror_wakes", "worker.bus", "opentelemetry.sdk.trace", "opentelemetry.sdk.metrics"),
)
"""What commands and workers load on their way, beside what the help of all of them does."""
ORDER_BYTES = 2**18
START_SECONDS = 60


class Running:
    """A command that runs, or has ended; a `subprocess.Popen` as far as tests ask."""

    def __init__(self) -> None:
        self.started: Future[int] = Future()
        """The process id."""
        self.ended: Future[int] = Future()

    @property
    def pid(self) -> int:
        """The process id; waits for it while the first of all commands loads everything."""
        return self.started.result(START_SECONDS)

    @property
    def returncode(self) -> int | None:
        """Exit code, minus the signal's number when one ended it; None while it runs."""
        return self.ended.result() if self.ended.done() else None

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended; raises TimeoutError."""
        return self.ended.result(timeout)

    def send_signal(self, number: int) -> None:
        """Signal it, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has, and the news is on its way
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Tell it to leave."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.send_signal(signal.SIGKILL)


Process = Running | subprocess.Popen[bytes]


def start(words: Sequence[str], variables: Mapping[str, str], output: IO[bytes], errors: IO[bytes]) -> Process:
    """Start `icefleet <words>`, with exactly these variables; what it prints goes into the two files."""
    if sys.platform != "linux" or variables.get("PYTHONPATH") != os.environ.get("PYTHONPATH"):
        return subprocess.Popen([PROGRAM, *words], env=variables, stdout=output, stderr=errors)
    return _FORKS.start(words, variables, output.fileno(), errors.fileno())


async def run(words: Sequence[str], variables: Mapping[str, str], seconds: float) -> tuple[int, str, str]:
    """Exit code, output and errors of `icefleet <words>`; it is killed when nobody waits for it any more."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = start(words, variables, output, errors)
        try:
            async with asyncio.timeout(seconds):
                code = await _end_of(process)
        except BaseException:
            process.kill()
            raise
        output.seek(0)
        errors.seek(0)
        return code, output.read().decode(), errors.read().decode()


async def _end_of(process: Process) -> int:
    if isinstance(process, Running):
        # Shielded: whoever gives up waiting leaves it to be told to others.
        return await asyncio.shield(asyncio.wrap_future(process.ended))
    return await asyncio.to_thread(process.wait)


class _Forks:
    """The process that forks, started by the first command; it ends with this one, and its forks with it."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket
        self._turn = threading.Lock()
        self._asked: deque[Running] = deque()
        self._living: dict[int, Running] = {}

    def start(self, words: Sequence[str], variables: Mapping[str, str], output: int, errors: int) -> Running:
        order = json.dumps({"words": list(words), "variables": dict(variables)}).encode()
        asked = Running()
        with self._turn:
            if self._server is None:
                self._open()
            self._asked.append(asked)
            socket.send_fds(self._orders, [order], [output, errors])
        return asked

    def _open(self) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": PATHS},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        threading.Thread(target=self._listen, daemon=True, name="forks").start()

    def _listen(self) -> None:
        """Hear of each fork twice: that it runs, in the order in which they were asked for, and how it ended."""
        while told := self._orders.recv(ORDER_BYTES):
            pid, code = json.loads(told)
            if code is None:
                self._living[pid] = self._asked.popleft()
                self._living[pid].started.set_result(pid)
            else:
                self._living.pop(pid).ended.set_result(code)
        gone = RuntimeError("the process that forks commands has died")
        for one in self._asked:
            one.started.set_exception(gone)
        for one in (*self._asked, *self._living.values()):
            one.ended.set_exception(gone)


_FORKS = _Forks()


# --- the process that forks -----------------------------------------------------------------------------------


def _main() -> None:
    from starter.main import build  # noqa: PLC0415 - whoever only asks for forks loads none of it

    build([])
    for module in LOADED:
        import_module(module)
    with socket.socket(fileno=int(sys.argv[1])) as orders, selectors.PollSelector() as waiting:
        waiting.register(orders, selectors.EVENT_READ)
        living: dict[int, int] = {}
        while True:
            for key, _ in waiting.select():
                if key.fd in living:
                    waiting.unregister(key.fd)
                    os.close(key.fd)
                    pid, status = os.waitpid(living.pop(key.fd), 0)
                    orders.send(json.dumps([pid, os.waitstatus_to_exitcode(status)]).encode())
                    continue
                order, files, *_ = socket.recv_fds(orders, ORDER_BYTES, 2)
                if not order:  # the tests are over
                    for pid in living.values():
                        os.kill(pid, signal.SIGKILL)
                    return
                pid = _fork(json.loads(order), files, [orders.fileno(), *living])
                orders.send(json.dumps([pid, None]).encode())
                running = os.pidfd_open(pid)
                living[running] = pid
                waiting.register(running, selectors.EVENT_READ)


def _fork(order: dict[str, object], files: list[int], not_theirs: list[int]) -> int:
    """The child's process id; the child itself never comes back from here."""
    pid = os.fork()
    if not pid:
        try:
            _become(order["words"], order["variables"], files, not_theirs)  # type: ignore[arg-type]
        except BaseException:  # noqa: BLE001 - said as the interpreter would
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(1)
    for file in files:
        os.close(file)
    return pid


def _become(words: list[str], variables: dict[str, str], files: list[int], not_theirs: list[int]) -> None:
    from starter.main import main  # noqa: PLC0415

    for number, file in enumerate(files, 1):
        os.dup2(file, number)
    for file in (*files, *not_theirs):
        os.close(file)
    os.environ.clear()
    os.environ.update(variables)
    time.tzset()
    sys.argv = [PROGRAM, *words]
    main()


if __name__ == "__main__":
    _main()

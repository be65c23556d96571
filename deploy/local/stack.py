"""The stack as an object: parts that are children of this process and end with it."""

import signal
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local import environment
from deploy.local.parts import ALL, PARTS, STANDARD_PORTS, Launch, address, check_names, log_path, sweep_sockets
from deploy.local.ports import Ports, variable
from deploy.local.process import Child, ending, stop, tail
from deploy.local.readiness import NotReady

LOST_PORT = ("address already in use", "bind:", "port allocation failed")
STARTS = 3
"""How often a part is started when it keeps losing ports that nobody asked for by number."""
POLL_SECONDS = 0.05
TAIL_LINES = 12


class StartFailed(Exception):  # noqa: N818 - what happened
    """A part ended, or was not ready in time; what this start had begun has been stopped again."""


class Stack:
    """Temporal, NATS, SeaweedFS, ClickHouse and PostgreSQL on loopback, with all they write below one directory.

    `ports` are asked for by number: one that is in use is an error. For the others the first free one of `preferred`
    is taken, or any free port. Ports stay the same as long as the object lives. Use it as a context manager, or call
    `start` and `stop`; if neither happens, the kernel ends the parts with this process.
    """

    def __init__(
        self,
        directory: Path,
        ports: Mapping[str, int] | None = None,
        parts: Sequence[str] = ALL,
        *,
        preferred: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self.environment: dict[str, str] = {}
        """What `.local/env` holds; empty before the first start."""
        self.children: dict[str, Child] = {}
        """The newest start of every part, also of parts that have ended."""
        self._parts = tuple(parts)
        self._ports = Ports(ports or {}, preferred or {})
        self._cwd = Path.cwd()
        self._spawner: ThreadPoolExecutor | None = None
        check_names(parts, ports or {})

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, parts: Sequence[str] | None = None, ports: Mapping[str, int] | None = None) -> None:
        """Start whatever is not running, side by side, and return when all of it is ready.

        Raises PortInUse or StartFailed; the parts that this call started are stopped then, others are left alone.
        """
        check_names(parts or (), ports or {})
        self._ports.ask(ports or {})
        wanted = [name for name in parts or self._parts if not self.is_running(name)]
        # A worker finds nothing to work with before the rest is ready.
        for wave in ([n for n in wanted if n != "worker"], [n for n in wanted if n == "worker"]):
            if wave:
                self._start(wave)

    def stop(self) -> None:
        """End all parts and return when they are gone. The data stay."""
        self._end(("worker",))  # while it can still say goodbye to the others
        self._end(self.children)
        if self._spawner is not None:
            self._spawner.shutdown()
            self._spawner = None

    def restart(self, part: str) -> None:
        """Stop a part, if it runs, and start it again on its ports and data."""
        self._end((part,))
        self.start([part])

    def kill(self, part: str) -> None:
        """End a part with SIGKILL, and return when it is gone."""
        self.children[part].send(signal.SIGKILL)
        self.children[part].wait(float("inf"))

    def pause(self, part: str) -> None:
        """Stop a part's clock (SIGSTOP): its port stays open, and nobody answers."""
        self.children[part].pause()

    def resume(self, part: str) -> None:
        """Let a paused part go on."""
        self.children[part].send(signal.SIGCONT)

    def is_running(self, part: str) -> bool:
        """Whether the part's process lives."""
        return part in self.children and self.children[part].exit_code is None

    def is_ready(self, part: str) -> bool:
        """Whether the part lives and answers."""
        # Looked at again afterwards: a stranger on a lost port may have answered for a part that was ending.
        return self.is_running(part) and self._complaint(part) is None and self.is_running(part)

    @property
    def ports(self) -> dict[str, int]:
        """Name → port, of everything that was started, private ports included."""
        return dict(self._ports.given)

    def address(self, name: str) -> str:
        """How to reach `temporal`, `temporal-ui`, `nats`, `s3`, `catalog`, `clickhouse` or `postgres`."""
        return address(name, self.ports[name])

    def log(self, part: str) -> Path:
        """Where the part's output goes."""
        return log_path(self.directory, part)

    def _start(self, parts: Sequence[str]) -> None:
        for folder in ("data", "logs", "run/home"):
            (self.directory / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        # Ports of a part that ran before are known to others: they are not given up.
        known = set(self.children)
        self._end(parts)  # what died of itself is tidied up, too
        for part in parts:
            self._choose_ports(part, keep=part in known)
        try:
            for part in parts:
                self._spawn(part)
            self._wait_until_ready(parts, known)
        except BaseException:
            self._end(parts)
            raise

    def _choose_ports(self, part: str, *, keep: bool) -> None:
        spec = PARTS[part]
        for name in spec.ports:
            self._ports.give_public(name, keep=keep)
        for name in (*spec.private, *spec.paired):
            self._ports.give_private(name, pair=name in spec.paired)

    def _wait_until_ready(self, parts: Sequence[str], known: Collection[str]) -> None:
        again = dict.fromkeys(parts, STARTS - 1)
        deadline = time.monotonic() + max(PARTS[part].seconds for part in parts)
        pending = list(parts)
        while pending:
            if time.monotonic() > deadline:
                raise StartFailed(self._epitaph(pending[0]))
            for part in [part for part in pending if not self.is_running(part)]:
                if not again[part] or not self._lost_a_port(part):
                    raise StartFailed(self._epitaph(part))
                again[part] -= 1
                self._end((part,))  # what it left behind is told by the ports that it gives up here
                self._choose_ports(part, keep=part in known)
                self._spawn(part)
            pending = [part for part in pending if not self.is_ready(part)]
            time.sleep(POLL_SECONDS if pending else 0)

    def _spawn(self, part: str) -> None:
        """Start a part's process from a thread that lives as long as the stack.

        The kernel ends a leashed child when the *thread* that started it ends, whoever may be calling here.
        """
        known = environment.with_credentials(environment.read(self.directory))
        named = {variable(name): str(port) for name, port in self.ports.items() if name in STANDARD_PORTS}
        self.environment = known | named
        environment.write(self.directory, self.environment)
        if self._spawner is None:
            self._spawner = ThreadPoolExecutor(1, thread_name_prefix="stack")
        self._spawner.submit(self._spawn_here, part).result()

    def _spawn_here(self, part: str) -> None:
        launch = self._launch(part)
        launch.data.mkdir(mode=0o700, exist_ok=True)
        spec = PARTS[part]
        cwd = launch.cwd if part == "worker" else launch.home
        self.children[part] = Child(
            spec.command(launch), cwd=cwd, env=spec.environment(launch), log=launch.log, stop=spec.stop
        )

    def _launch(self, part: str) -> Launch:
        child = self.children.get(part)
        return Launch(
            root=self.directory,
            data=self.directory / "data" / part,
            cwd=self._cwd,
            log=self.log(part),
            log_start=child.log_start if child else 0,
            ports=dict(self.ports),
            values=self.environment,
        )

    def _complaint(self, part: str) -> str | None:
        try:
            PARTS[part].probe(self._launch(part))
        except NotReady as why:
            return str(why)
        return None

    def _lost_a_port(self, part: str) -> bool:
        child = self.children[part]
        words = "\n".join(tail(child.log, TAIL_LINES * 4, child.log_start)).lower()
        return any(word in words for word in LOST_PORT)

    def _epitaph(self, part: str) -> str:
        child = self.children[part]
        what = f"{part}: it ended with {ending(child.exit_code)} while it started"
        if child.exit_code is None:
            what = f"{part}: not ready after {PARTS[part].seconds:.0f} s ({self._complaint(part)})"
        last = "".join(f"\n  | {line}" for line in tail(child.log, TAIL_LINES, child.log_start))
        return f"{what}; its log is {child.log}{last}"

    def _end(self, parts: Iterable[str]) -> None:
        if self._spawner is not None:
            self._spawner.submit(int).result()  # a start that was interrupted has finished behind this
        gone = [part for part in parts if part in self.children]
        stop(self.children[part] for part in gone)
        if "s3" in gone:
            sweep_sockets(self.ports)

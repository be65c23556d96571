"""What the commands do: bring a directory's stack up, ask how it is, take it down, forget its data."""

import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deploy.local import environment
from deploy.local.parts import PARTS, STANDARD_PORTS, Launch, address, check_names, log_path, sweep_sockets
from deploy.local.ports import variable
from deploy.local.process import STOP_SECONDS, end, ending, identity, tail
from deploy.local.readiness import NotReady
from deploy.local.state import Request, State, read_state, write_request

UP_SECONDS = 120.0
DOWN_SECONDS = 3 * STOP_SECONDS
POLL_SECONDS = 0.03
OURS = ("data", "logs", "run", "env", "lock")
"""All that a stack keeps in its directory."""


class UpFailed(Exception):  # noqa: N818 - what happened
    """The stack, or what was missing of it, could not be started."""


@dataclass(frozen=True)
class PartStatus:
    """How one part is."""

    name: str
    state: Literal["ready", "not answering", "dead"]
    detail: str
    """Why it is not ready; empty when it is."""
    pid: int
    addresses: Mapping[str, str]
    """Port name → address."""
    log: str


def up(directory: Path, parts: Sequence[str], ports: Mapping[str, int]) -> bool:
    """Start whatever of `parts`, and of earlier calls, does not run, and wait for it; whether there was any.

    `ports` are insisted on; the others are the ones of last time, or the standard ones, or free ones. Raises UpFailed
    with the part, the reason and the way out; parts that ran before are left as they are, all others are gone again.
    """
    check_names(parts, ports)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(directory):
        state = _supervised(directory)
        running = [name for name, part in state.parts.items() if identity(part.pid) == part.identity] if state else []
        for part in running:
            for name in PARTS[part].ports:
                if state and ports.get(name, state.ports[name]) != state.ports[name]:
                    raise UpFailed(
                        f"{name}: it already runs on port {state.ports[name]}; "
                        f"`icefleet local down` first to move it to {ports[name]}"
                    )
        missing = [part for part in dict.fromkeys([*parts, *(state.parts if state else ())]) if part not in running]
        if not missing:
            return False
        needed = {name: port for part in missing for name, port in ports.items() if name in PARTS[part].ports}
        token = secrets.token_hex(8)
        (directory / "run").mkdir(mode=0o700, exist_ok=True)
        write_request(directory, Request(token, missing, needed, _preferred(directory)))
        if state:
            os.kill(state.pid, signal.SIGHUP)
            _wait_for(directory, token, state.pid)
        else:
            _end_leftovers(directory)
            supervisor = _spawn_supervisor(directory)
            try:
                _wait_for(directory, token, supervisor)
            except KeyboardInterrupt:
                end(supervisor, identity(supervisor) or "", DOWN_SECONDS)
                raise
    return True


def status(directory: Path) -> list[PartStatus]:
    """How every part is that was started and not taken down; each is asked itself. Empty when nothing runs."""
    state = read_state(directory)
    if state is None or state.phase == "stopped":
        return []
    orphaned = identity(state.pid) != state.identity
    values = environment.read(directory)
    with ThreadPoolExecutor(len(PARTS)) as pool:
        names = [name for name in PARTS if name in state.parts]
        return list(pool.map(lambda name: _part_status(directory, state, values, name, orphaned=orphaned), names))


def down(directory: Path) -> bool:
    """End what `up` started, nothing else, and return when it is gone; whether anything ran."""
    if not directory.exists():
        return False
    with _alone(directory):
        state = _supervised(directory)
        if state:
            end(state.pid, state.identity, DOWN_SECONDS)
        return _end_leftovers(directory) or state is not None


def reset(directory: Path) -> None:
    """Take the stack down and delete its data, logs, ports and credentials."""
    down(directory)
    for name in OURS:
        path = directory / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if directory.exists() and not any(directory.iterdir()):
        directory.rmdir()


def _part_status(directory: Path, state: State, values: Mapping[str, str], name: str, *, orphaned: bool) -> PartStatus:
    part, spec = state.parts[name], PARTS[name]
    log = log_path(directory, name)
    verdict: Literal["ready", "not answering", "dead"] = "ready"
    detail = ""
    if orphaned or identity(part.pid) != part.identity:
        verdict = "dead"
        # The supervisor looks a few times a second: a death may be newer than what it wrote.
        now = state if orphaned else _look_again(directory, name) or state
        detail = "ended with its supervisor" if orphaned else f"ended with {ending(now.parts[name].exit_code)}"
    else:
        launch = Launch(directory, directory / "data" / name, directory, log, part.log_start, state.ports, values)
        try:
            spec.probe(launch)
        except NotReady as why:
            verdict, detail = "not answering", str(why)
    addresses = {port: address(port, state.ports[port]) for port in spec.ports}
    return PartStatus(name, verdict, detail, part.pid, addresses, str(log))


def _look_again(directory: Path, name: str) -> State | None:
    """The state as soon as it tells how a part ended, or what there is after a second."""
    deadline = time.monotonic() + 1
    state = read_state(directory)
    while state and state.parts[name].exit_code is None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        state = read_state(directory)
    return state


def _preferred(directory: Path) -> dict[str, list[int]]:
    known = environment.read(directory)
    return {
        name: [int(known[variable(name)]), standard] if variable(name) in known else [standard]
        for name, standard in STANDARD_PORTS.items()
    }


def _supervised(directory: Path) -> State | None:
    """The state, if there is a supervisor that keeps it."""
    state = read_state(directory)
    return state if state and identity(state.pid) == state.identity else None


def _spawn_supervisor(directory: Path) -> int:
    (directory / "logs").mkdir(mode=0o700, exist_ok=True)
    with log_path(directory, "supervisor").open("wb") as log:
        command = [sys.executable, "-m", "deploy.local.supervisor", str(directory)]
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        ).pid


def _wait_for(directory: Path, token: str, supervisor: int) -> None:
    """Wait until the supervisor has dealt with a request; raises UpFailed if it could not."""
    deadline = time.monotonic() + UP_SECONDS
    while time.monotonic() < deadline:
        alive = identity(supervisor) is not None
        state = read_state(directory)
        settled = not alive if state and state.phase == "stopped" else state and state.phase != "starting"
        if state and state.token == token and settled:
            if state.error:
                raise UpFailed(state.error)
            return
        if not alive:
            log = log_path(directory, "supervisor")
            last = "".join(f"\n  | {line}" for line in tail(log, 12))
            raise UpFailed(f"the supervisor ended while it started the parts; its log is {log}{last}")
        time.sleep(POLL_SECONDS)
    raise UpFailed(f"the supervisor has not answered for {UP_SECONDS:.0f} s; `icefleet local down` ends it")


def _end_leftovers(directory: Path) -> bool:
    """End children whose supervisor is gone (where the kernel does not do it), and tidy up; whether there were any."""
    state = read_state(directory)
    if state is None:
        return False
    ended = [end(part.pid, part.identity, STOP_SECONDS, PARTS[name].stop) for name, part in state.parts.items()]
    sweep_sockets(state.ports)
    (directory / "run" / "state.json").unlink()
    return any(ended)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep two commands from changing one stack at once: the second waits."""
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

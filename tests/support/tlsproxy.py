"""A forwarder that ends TLS before a part that speaks plain text, as a load balancer or a sidecar does.

It runs in threads with blocking sockets: asyncio drops the alert by which a server says why it lets nobody in.
"""

import contextlib
import select
import socket
import ssl
import threading
from typing import Self

HOST = "127.0.0.1"
CHUNK = 64 * 1024
POSTGRES_ASKS = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""PostgreSQL's clients ask in plain text whether there is TLS."""


class TlsProxy:
    """Use as a context manager; clients find it at `port`. `context` may be replaced at any time."""

    def __init__(self, target_port: int, context: ssl.SSLContext, *, postgres: bool = False) -> None:
        self._target = target_port
        self._postgres = postgres
        self.context = context
        self._open: list[socket.socket] = []
        self.port = 0

    def __enter__(self) -> Self:
        self._server = socket.create_server((HOST, 0), backlog=64)
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        # A thread that waits in `accept` hears of a shutdown, not of a close.
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        # Who does not take the other's certificate leaves; the client says why.
        with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
            opened.enter_context(client)
            if self._postgres and client.recv(len(POSTGRES_ASKS), socket.MSG_WAITALL) == POSTGRES_ASKS:
                client.sendall(b"S")
            tls = opened.enter_context(self.context.wrap_socket(client, server_side=True))
            self._open.append(tls)
            behind = opened.enter_context(socket.create_connection((HOST, self._target)))
            _shuttle(tls, behind)


def _shuttle(tls: ssl.SSLSocket, behind: socket.socket) -> None:
    """Carry bytes both ways until one side has gone."""
    poll = select.poll()  # `select` knows no descriptors from 1024 on, and a process of tests may have so many
    for one in (tls, behind):
        poll.register(one, select.POLLIN)
    while True:
        ready = {number for number, _ in poll.poll()}
        if tls.fileno() in ready:
            chunk = tls.recv(CHUNK)
            while tls.pending():
                chunk += tls.recv(CHUNK)
            if not chunk:
                return
            behind.sendall(chunk)
        if behind.fileno() in ready:
            chunk = behind.recv(CHUNK)
            if not chunk:
                return
            tls.sendall(chunk)

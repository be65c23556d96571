"""Ports on loopback: which are free, and which to take."""

import secrets
import socket
from collections.abc import Collection, Mapping, Sequence

HOST = "127.0.0.1"

# Free ports come from below the range that the kernel gives to outgoing connections (32768 and up), so that no client
# can sit on one by chance; `PAIR` above a port lies below that range, too.
FIRST, COUNT = 10_000, 12_000
PAIR = 10_000
"""Where SeaweedFS expects a component's gRPC port: this far above its HTTP port."""


class PortInUse(Exception):  # noqa: N818 - named like the faults of this project, for what happened
    """A port that was asked for by number belongs to somebody else."""


def variable(name: str) -> str:
    """The environment variable that holds the port called `name`: `temporal-ui` → ICEFLEET_LOCAL_TEMPORAL_UI_PORT."""
    return f"ICEFLEET_LOCAL_{name.upper().replace('-', '_')}_PORT"


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback address now."""
    with socket.socket() as probe:
        # As servers do: connections that linger after their server's end do not keep the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(taken: Collection[int], *, pair: bool = False) -> int:
    """A free port that is not in `taken`; with `pair`, the one `PAIR` above it is free as well."""
    for _ in range(COUNT):
        port = FIRST + secrets.randbelow(COUNT)
        if all(p not in taken and is_free(p) for p in ([port, port + PAIR] if pair else [port])):
            return port
    raise PortInUse(f"no free port between {FIRST} and {FIRST + COUNT}; stop some of the servers on this machine")


class Ports:
    """Which port has which name, in one stack: no port is given twice, and a name keeps its port.

    `asked`: ports that must be the ones named, by name. `preferred`: for the other names, what to try first.
    """

    def __init__(self, asked: Mapping[str, int], preferred: Mapping[str, Sequence[int]]) -> None:
        self.given: dict[str, int] = {}
        """Name → port, also of the ports that lie `PAIR` above another (`<name>-grpc`)."""
        self._asked: dict[str, int] = {}
        self._preferred = preferred
        self.ask(asked)

    def ask(self, asked: Mapping[str, int]) -> None:
        """Further ports that must be the ones named; PortInUse when two names want the same one."""
        wanted = self._asked | dict(asked)
        for name, port in wanted.items():
            twin = next((other for other in wanted if other != name and wanted[other] == port), None)
            if twin:
                raise PortInUse(f"{name}: port {port} is also asked for by {twin}; choose another for one of them")
        self._asked = wanted

    def give_public(self, name: str, *, keep: bool) -> None:
        """Give `name` the port it was asked to have, or with `keep` still has; else a preferred one, else any."""
        must = self._asked.get(name) or (self.given.get(name) if keep else None)
        held = self._held(name)
        choice = [must] if must else self._preferred.get(name, ())
        port = next((p for p in choice if p not in held and is_free(p)), None)
        if port is None and must:
            raise PortInUse(
                f"{name}: port {must} is in use; stop what listens there, or choose another with "
                f"`--port {name}=PORT` or {variable(name)}"
            )
        self.given[name] = port or free_port(held)

    def give_private(self, name: str, *, pair: bool) -> None:
        """Give `name` any free port, and with `pair` the one above it to `<name>-grpc`."""
        self.given[name] = free_port(self._held(name), pair=pair)
        if pair:
            self.given[f"{name}-grpc"] = self.given[name] + PAIR

    def _held(self, name: str) -> set[int]:
        others = {port for other, port in self.given.items() if other not in (name, f"{name}-grpc")}
        return others | {port for other, port in self._asked.items() if other != name}

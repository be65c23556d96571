"""Connecting to NATS: how we log in, and by which certificates."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nats.aio.client import Client, RawCredentials

from activities.core.credentials import NO_TLS, Secret, Tls, reveal
from activities.core.faults import BusRefused


@dataclass(frozen=True)
class BusSettings:
    """How to reach NATS, and the stream that holds our events."""

    url: str
    stream: str
    replicas: int
    subjects: tuple[str, ...] = ("icefleet.*.snapshot.>", "icefleet.*.finding.>")
    login: Mapping[str, Secret] = field(default_factory=dict)
    """How to log in: `user` and `password`, `token`, `credentials` (the text of a `.creds` file) or `nkey` (a seed)."""
    tls: Tls = NO_TLS
    inbox: str = "_INBOX"
    """What the subjects begin with to which answers come."""

    def __repr__(self) -> str:
        return f"BusSettings({self.url}, {self.stream})"


class BusClient(Client):
    """NATS begins in plain text and says itself whether TLS follows: who asked for TLS must not go on without."""

    async def reach(self, url: str, **options: Any) -> None:
        """Connect, or leave nothing behind. Closing in the usual way would wait for ever after a failed handshake."""
        try:
            await self.connect(url, **options)
        except BaseException:
            transport: Any = self._transport
            if transport is not None:
                transport.close()
            raise

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT001, FBT002 - as the library calls it
        at = self._current_server
        if initial_connection and at is not None and at.uri.scheme == "tls" and not info.get("tls_required"):
            raise BusRefused(
                f"NATS {at.uri.netloc} speaks no TLS, which the address in environments.yaml demands; nobody logs in "
                "in plain text: let the server demand TLS, or mend nats.url"
            )
        await super()._process_info(info, initial_connection)


def login_of(settings: BusSettings) -> dict[str, Any]:
    """How the library is told who is there, and by which certificates."""
    told: dict[str, Any] = {name: reveal(secret) for name, secret in settings.login.items()}
    if "credentials" in told:
        told["user_credentials"] = RawCredentials(told.pop("credentials"))
    if "nkey" in told:
        told["nkeys_seed_str"] = told.pop("nkey")
    tls = settings.tls
    if tls != NO_TLS:
        context = ssl.create_default_context(cafile=tls.ca_file or None)
        if tls.cert_file:
            context.load_cert_chain(tls.cert_file, tls.key_file)
        told |= {"tls": context, **({"tls_hostname": tls.server_name} if tls.server_name else {})}
    return told

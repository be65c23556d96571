"""The client of Temporal, in a module of its own: what only asks Temporal need not load drivers and a lake library."""

import asyncio
import weakref
from pathlib import Path

import structlog
from temporalio.client import Client
from temporalio.runtime import Runtime
from temporalio.service import TLSConfig

from activities.core.credentials import is_tls_trouble, tls_advice
from activities.core.faults import BadConfig
from worker.config import Environment, Temporal
from worker.config_secrets import FileSecret, unreadable
from worker.hidden_failures import HIDING
from worker.interceptors import FleetInterceptor

KEY_SECONDS = 60
"""How often a key that a file holds is read again."""
_followed: set[asyncio.Task[None]] = set()

log = structlog.get_logger("icefleet.temporal")


async def connect_temporal(environment: Environment, *, runtime: Runtime | None = None) -> Client:
    """A client of the environment's Temporal; a worker's `runtime` tells what the SDK does (`worker.metrics`).

    Raises:
        RuntimeError: it cannot be reached, or one side does not take the other's certificate or key; names the address.
        BadConfig: a file that config names cannot be read.
    """
    temporal = environment.temporal
    try:
        client = await Client.connect(
            temporal.address,
            namespace=temporal.namespace,
            tls=tls_config(temporal),
            api_key=temporal.api_key.get_secret_value() if temporal.api_key else None,
            interceptors=[FleetInterceptor()],
            data_converter=HIDING,
            runtime=runtime,
        )
    except RuntimeError as away:
        # A server that does not take our certificate may just leave: that is all that a client then sees.
        way_out = f"; {tls_advice('temporal')}" if temporal.tls is not None or is_tls_trouble(away) else ""
        raise RuntimeError(
            f"{temporal.address} (namespace {temporal.namespace}) cannot be reached: {away}{way_out}"
        ) from away
    if isinstance(temporal.api_key, FileSecret):
        _follow(client, temporal.api_key)
    return client


def tls_config(temporal: Temporal) -> TLSConfig | bool:
    """How Temporal is to be reached by TLS, with what the files hold; False: in plain text.

    Raises:
        BadConfig: one of them cannot be read.
    """
    if temporal.tls is None:
        return False
    files = temporal.tls.files()
    return TLSConfig(
        server_root_ca_cert=_read(files.ca_file),
        client_cert=_read(files.cert_file),
        client_private_key=_read(files.key_file),
        domain=files.server_name or None,
    )


def _read(path: str) -> bytes | None:
    if path and (wrong := unreadable(path)):
        raise BadConfig(wrong)
    return Path(path).read_bytes() if path else None


def _follow(client: Client, key: FileSecret) -> None:
    """Let a client that lives long use the key that is in the file by then."""
    task = asyncio.create_task(_renew(weakref.ref(client), key))
    _followed.add(task)
    task.add_done_callback(_followed.discard)


async def _renew(client: "weakref.ref[Client]", key: FileSecret) -> None:
    while True:
        await asyncio.sleep(KEY_SECONDS)
        known = client()
        if known is None:
            return
        try:
            known.api_key = key.get_secret_value()
        except BadConfig as wrong:  # such as a file that is just being written
            log.warning("the key of Temporal was not renewed, and is looked at again", cause=str(wrong))
        del known

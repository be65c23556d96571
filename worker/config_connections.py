"""What must hold of an environment's connections: one way to log in, certificates in use, a store that will do."""

from collections.abc import Iterator
from typing import Any

from activities.core.destinations import refusal
from worker.config_files import Node, Problem

_LOGINS = {
    "catalog": ("credential_env", "token_env"),
    "nats": ("password_env", "token_env", "credentials_env", "nkey_env"),
}
"""Secrets of one part of which one at most is given."""
_CHECKED = ("verify-ca", "verify-full")
_HTTPS = "https://"


def connection_problems(node: Node) -> Iterator[Problem]:
    """The problems of one environment; secrets that files hold stand at their `_env` keys."""
    for part, keys in _LOGINS.items():
        given = [found for key in keys if (found := _given(node, part, key)) is not None]
        yield from (other.problem(f"given beside `{_last(given[0])}`; choose one of the two") for other in given[1:])
    yield from _clickhouse_problems(node)
    yield from _nats_problems(node)
    yield from _temporal_problems(node)
    yield from _storage_problems(node)
    if _given(node, "catalog", "tls") is not None:
        yield from _needs(node.get("catalog") or node, "uri", _HTTPS)
    for pipeline in _below(node, "cdc"):
        for part in ("source", "buffer"):
            if (database := pipeline.get(part)) is not None:
                yield from _postgres_problems(database)


def _clickhouse_problems(node: Node) -> Iterator[Problem]:
    for cluster in _below(node, "clickhouse"):
        yield from _pair(cluster.get("tls"), "cert_file", "key_file")
        tls, secure = _given(cluster, "tls"), cluster.get("secure")
        if tls is not None and (secure is None or secure.value is not True):
            yield tls.problem("certificates are used over TLS alone: set `secure: true`, and the port of HTTPS")


def _nats_problems(node: Node) -> Iterator[Problem]:
    nats = node.get("nats") or Node(None)
    yield from _pair(nats.get("tls"), "cert_file", "key_file")
    yield from _pair(nats, "user", "password_env")
    if _given(nats, "tls") is not None:
        yield from _needs(nats, "url", "tls://")


def _temporal_problems(node: Node) -> Iterator[Problem]:
    temporal = node.get("temporal") or Node(None)
    tls, key = temporal.get("tls"), _given(temporal, "api_key_env")
    yield from _pair(tls, "cert_file", "key_file")
    if key is not None and (tls is None or tls.value is None or tls.value is False):
        yield key.problem("the key would travel in plain text: set `tls: true`")


def _storage_problems(node: Node) -> Iterator[Problem]:
    storage = node.get("storage") or Node(None)
    yield from _pair(storage, "access_key_env", "secret_key_env")
    token = _given(storage, "session_token_env")
    if token is not None and _given(storage, "access_key_env") is None:
        yield token.problem("a session token belongs to keys: give `access_key` and `secret_key` too")
    endpoint = storage.get("endpoint")
    if endpoint is not None and isinstance(endpoint.value, str) and (why := refusal(endpoint.value)):
        yield endpoint.problem(why)
    elif _given(storage, "tls") is not None:
        yield from _needs(storage, "endpoint", _HTTPS)


def _postgres_problems(database: Node) -> Iterator[Problem]:
    yield from _pair(database.get("tls"), "cert_file", "key_file")
    mode, authorities = database.get("sslmode"), _given(database, "tls", "ca_file")
    said = mode.value if mode is not None else "prefer"
    if authorities is not None and said not in _CHECKED:
        yield authorities.problem(f"nobody looks at it with sslmode {said}: set `sslmode: verify-full`")


def _pair(node: Node | None, one: str, other: str) -> Iterator[Problem]:
    """Two keys of which neither means anything alone."""
    if node is None:
        return
    for given, lacking in ((one, other), (other, one)):
        found = _given(node, given)
        if found is not None and _given(node, lacking) is None:
            yield found.problem(f"means nothing without `{lacking}`")


def _needs(part: Node, key: str, scheme: str) -> Iterator[Problem]:
    address, tls = part.get(key), part.get("tls")
    if address is not None and tls is not None and not str(address.value).startswith(scheme):
        yield tls.problem(f"certificates are used over TLS alone: `{key}` begins with {scheme} then")


def _below(node: Node, key: str) -> list[Node]:
    return [below for _, below in (node.get(key) or Node(None)).items()]


def _given(node: Node, *path: str) -> Node | None:
    """What is there and is not nothing."""
    found = node.get(*path)
    value: Any = None if found is None else found.value
    return None if value is None else found


def _last(node: Node) -> str:
    return node.key.rpartition(".")[2]

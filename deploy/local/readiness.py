"""Is a part ready? Asked of the part itself, in its own protocol."""

import http.client
import json
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

from deploy.local.ports import HOST

SECONDS = 3.0
"""How long a part may take to answer one question."""
NATS_ANSWER = 64 * 1024


class NotReady(Exception):  # noqa: N818 - an answer, not an error
    """Why a part cannot be used yet."""


def temporal(program: Path, port: int, attributes: Mapping[str, str], env: Mapping[str, str]) -> None:
    """The frontend serves the default namespace, and our search attributes are known."""
    with _connect(port):
        pass  # cheap to ask often while the server starts; the program below is not
    command = [str(program), "operator", "search-attribute", "list", "--output", "json", "--address", f"{HOST}:{port}"]
    try:
        answer = subprocess.run(command, env=dict(env), capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise NotReady("the frontend does not answer") from None
    if answer.returncode:
        raise NotReady(answer.stderr.strip() or f"`temporal operator` left with {answer.returncode}")
    missing = sorted(set(attributes) - set(json.loads(answer.stdout)["customAttributes"]))
    if missing:
        raise NotReady(f"search attributes are missing: {', '.join(missing)}")


def nats(port: int) -> None:
    """The server greets with JetStream, and JetStream's own API answers."""
    with _connect(port) as server, server.makefile("rb") as lines:
        try:
            greeting = lines.readline(NATS_ANSWER)
            if not greeting.startswith(b"INFO ") or not json.loads(greeting[5:]).get("jetstream"):
                raise NotReady("the server runs without JetStream")
            server.sendall(
                b'CONNECT {"verbose":false}\r\nSUB _INBOX.ready 1\r\nPUB $JS.API.INFO _INBOX.ready 0\r\n\r\n'
            )
            header, answer = lines.readline(NATS_ANSWER), lines.readline(NATS_ANSWER)
        except OSError as why:
            raise NotReady(f"no answer: {why}") from why
    if not header.startswith(b"MSG _INBOX.ready") or "error" in json.loads(answer):
        raise NotReady(f"JetStream refuses: {answer.decode(errors='replace').strip()}")


def s3(port: int, key: str, secret: str, buckets: tuple[str, ...]) -> None:
    """Every bucket answers a signed HEAD."""
    # A tenth of a second of imports that no other command should pay for.
    from botocore.auth import S3SigV4Auth  # noqa: PLC0415
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    for bucket in buckets:
        request = AWSRequest("HEAD", f"http://{HOST}:{port}/{bucket}")
        S3SigV4Auth(Credentials(key, secret), "s3", "us-east-1").add_auth(request)
        status, _ = _http(port, "HEAD", f"/{bucket}", dict(request.headers.items()))
        if status != http.HTTPStatus.OK:
            raise NotReady(f"bucket `{bucket}` answers {status}")


def catalog(port: int, credential: str, warehouse: str) -> None:
    """A token can be had, and opens the warehouse's configuration."""
    key, _, secret = credential.partition(":")
    form = {"grant_type": "client_credentials", "client_id": key, "client_secret": secret, "scope": "catalog"}
    content = {"Content-Type": "application/x-www-form-urlencoded"}
    status, body = _http(port, "POST", "/v1/oauth/tokens", content, urlencode(form))
    if status != http.HTTPStatus.OK:
        raise NotReady(f"no token from the catalog: it answers {status}")
    bearer = {"Authorization": f"Bearer {json.loads(body)['access_token']}"}
    status, _ = _http(port, "GET", f"/v1/config?{urlencode({'warehouse': warehouse})}", bearer)
    if status != http.HTTPStatus.OK:
        raise NotReady(f"warehouse `{warehouse}` answers {status}")


def clickhouse(port: int) -> None:
    """The endpoint answers a ping."""
    status, body = _http(port, "GET", "/ping", {})
    if status != http.HTTPStatus.OK or body.strip() != b"Ok.":
        raise NotReady(f"/ping answers {status}: {body[:200].decode(errors='replace').strip()}")


def postgres(port: int, user: str, password: str, database: str) -> None:
    """The database answers a query."""
    with _connect(port):
        pass  # cheap to ask often while the server starts
    import psycopg  # noqa: PLC0415 - an import that no other command should pay for

    try:
        with psycopg.connect(
            host=HOST, port=port, user=user, password=password, dbname=database, connect_timeout=int(SECONDS)
        ) as asked:
            asked.execute("SELECT 1")
    except psycopg.Error as why:
        raise NotReady(str(why).strip().splitlines()[-1]) from why


def says(log: Path, start: int, words: str) -> None:
    """A program without a port of its own has written `words` to its log since it started, at byte `start`."""
    with log.open("rb") as file:
        file.seek(start)
        if words.encode() not in file.read().lower():
            raise NotReady(f"its log does not say `{words}`")


def _connect(port: int) -> socket.socket:
    try:
        return socket.create_connection((HOST, port), SECONDS)
    except OSError as why:
        raise NotReady(f"port {port}: {why.strerror or why}") from why


def _http(port: int, method: str, path: str, headers: Mapping[str, str], body: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=SECONDS)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as why:
        raise NotReady(f"port {port}: {getattr(why, 'strerror', None) or why or type(why).__name__}") from why
    finally:
        connection.close()

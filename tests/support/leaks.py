"""The secrets of a fleet in every form in which they might be left somewhere, and the search for them."""

import asyncio
import base64
import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from support.fleet import Fleet
from support.planted import Piece
from support.traces import announced, histories
from worker.secrets import secrets_of


def forms_of(fleet: Fleet, *more: str) -> dict[str, bytes]:
    """What it is → the bytes: every secret that config has resolved, in whole and in its halves, and in disguises.

    `more` says which it has beside ClickHouse's password, the store's two keys and the catalog's credential.
    """
    values = secrets_of(fleet.settings())
    assert len(values) == 4 + len(more)
    pieces = {piece for value in values for piece in (value, *value.split(":"))}
    assert all(len(piece) >= 8 for piece in pieces)
    found = {}
    for number, piece in enumerate(sorted(pieces)):
        found[f"secret {number}"] = piece.encode()
        found[f"secret {number} in a URL"] = quote(piece, safe="").encode()
        found[f"secret {number} in JSON"] = json.dumps(piece)[1:-1].encode()
        found[f"secret {number} in base64"] = base64.b64encode(piece.encode()).rstrip(b"=")
    return found


def leaks(secrets: dict[str, bytes], pieces: Iterable[Piece]) -> Iterator[str]:
    """Where which of them is, with what stands before it."""
    for piece in pieces:
        for name, secret in secrets.items():
            if secret in piece.data:
                at = piece.data.index(secret)
                yield f"{name} in {piece.kind} {piece.where}: {piece.data[max(0, at - 60) : at]!r}…"


async def left_behind(fleet: Fleet) -> list[Piece]:
    """What workers, which are processes, have logged, what histories hold, and what was published."""
    logs = await asyncio.to_thread(
        lambda: [(log.name, log.read_bytes()) for log in fleet.directory.glob("worker-*.log")]
    )
    return [*(Piece("log", *log) for log in logs), *await histories(fleet), *await announced(fleet)]

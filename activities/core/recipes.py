"""What makes an object what it is: two exports of one recipe hold the same rows, so one may stand for the other."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from activities.core.query import Query

IDS = 16
"""Keys that one partition may try: each is taken by an attempt that crashed after its upload and was then outdated."""


def recipe_of(query: Query, settings: Mapping[str, Any], state: int | None, nonce: str = "") -> str:
    """Digest of everything that decides an object's rows and bytes.

    Args:
        query: What is asked.
        settings: The pinned settings that shape the file.
        state: The newest version at the source (without a version column: the rows) when it was asked.
        nonce: Says which request forced the export; empty when none did.
    """
    parts = [query.text, dict(query.parameters), dict(settings), state, nonce]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def short_ids(recipe: str) -> tuple[str, ...]:
    """The part of a replacement's key that tells it from its predecessors: the first that is free is taken."""
    return _ids(recipe)


def forced_ids(request_id: str, label: str) -> tuple[str, ...]:
    """The same for a forced export: they follow from request and partition, so that a retry finds its own work."""
    return _ids(f"{request_id}\n{label}")


def _ids(seed: str) -> tuple[str, ...]:
    return tuple(hashlib.sha256(f"{seed}\n{number}".encode()).hexdigest()[:8] for number in range(IDS))

"""What makes an object what it is: two exports of one recipe hold the same rows, so one may stand for the other."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from activities.core.query import Query


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


def short_id(recipe: str) -> str:
    """The part of a replacement's key that tells it from its predecessors."""
    return recipe[:8]


def forced_id(request_id: str, label: str) -> str:
    """The same for a forced export: it follows from request and partition, so that a retry finds its own work."""
    return hashlib.sha256(f"{request_id}\n{label}".encode()).hexdigest()[:8]

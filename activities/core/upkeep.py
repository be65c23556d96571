"""Marks of upkeep: what an object at a public key is a copy of, and until when the cache was told of copies."""

from collections.abc import Mapping

PURGED_PROPERTY = "icefleet.purged-before"
"""Table property: seconds since the epoch. The cache has heard of every copy that was made before."""
EXPIRED_PROPERTY = "icefleet.expired-at"
"""Table property: seconds since the epoch. Snapshots were let go last then; readers may be with them for a while."""
_COPY = "copy of "


def copy_mark(key: str) -> str:
    """The recipe of a copy of the object `key`: what no export can have made, so that none adopts it."""
    return f"{_COPY}{key}"


def is_copy(recipe: str) -> bool:
    """Whether an object of that recipe is a copy that upkeep made."""
    return recipe.startswith(_COPY)


def readers_left(properties: Mapping[str, str], now: int, grace_seconds: int) -> int:
    """For how many seconds more somebody may be with a snapshot that has expired; 0: nobody is."""
    return max(0, int(properties.get(EXPIRED_PROPERTY, "0")) + grace_seconds - now)


def purged_before(properties: Mapping[str, str]) -> int:
    """When the copies were made, at the latest, that the cache has heard of; 0 when it was told nothing yet."""
    return int(properties.get(PURGED_PROPERTY, "0"))

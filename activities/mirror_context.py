"""What the activities of mirrors have at hand."""

import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from temporalio.client import Client

from activities.clients.bus import Bus
from activities.clients.objectstore import ObjectStore
from activities.core.faults import BadRequest
from activities.core.mirrors import MirrorConfig
from activities.core.names import folder_of, near
from activities.core.queues import QueueNames
from activities.lake.catalog import Lake
from activities.lake.indexcache import IndexCache, cache_at
from activities.serving import check_environment


@dataclass(frozen=True)
class MirrorContext:
    """One environment's mirrors, as a worker serves them."""

    environment: str
    mirrors: Mapping[str, MirrorConfig]
    """By Iceberg identifier."""
    store: ObjectStore
    lake: Lake
    bus: Bus
    temporal: Client
    queues: QueueNames
    key_prefix: str
    """What stands before every object key; usually nothing."""
    cache_directory: Path
    """Where this worker keeps segments of indexes; whatever is there may be deleted at any time, all but
    `*.part`, which are being written."""
    cache_bytes: int
    """How much of that may be there before what was not used for longest goes."""

    @property
    def index_cache(self) -> IndexCache:
        """The segments of indexes that are here."""
        return cache_at(self.cache_directory, self.cache_bytes)

    def mirror(self, environment: str, name: str) -> MirrorConfig:
        """What config says of a mirror.

        Raises:
            BadRequest: another environment, or a mirror that config does not have.
        """
        check_environment(self.environment, environment)
        if name not in self.mirrors:
            raise BadRequest(
                f"no mirror {name!r} of environment {environment!r} in mirrors.yaml{near(name, self.mirrors)}"
            )
        return self.mirrors[name]

    def prefix(self, mirror: MirrorConfig) -> str:
        """Under which prefix of the bucket the objects of a mirror lie, ending in a slash."""
        own = f"mirrors/{folder_of(mirror.mirror)}/"
        return f"{self.key_prefix}/{own}" if self.key_prefix else own

    def new_key(self, mirror: MirrorConfig, kind: str, ending: str) -> str:
        """A key that nothing else ever has, for an object of a mirror: `data`, `deletes` or `index`.

        Keys sort by time, more or less: delete files are about neighbours, and files of one age are touched together.
        """
        return f"{self.prefix(mirror)}{kind}/{timed_name(time.time_ns() // 1_000_000)}.{ending}"


def timed_name(milliseconds: int) -> uuid.UUID:
    """A UUID of version 7: when it was made, and 74 random bits."""
    version, variant = 7 << 76, 2 << 62
    return uuid.UUID(int=milliseconds << 80 | version | secrets.randbits(12) << 64 | variant | secrets.randbits(62))

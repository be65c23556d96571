"""A mirror's head as merges need it: its table, its live files, its index; whatever is wrong with the index is mended."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from activities.core.mirrors import MirrorConfig, Watermark
from activities.lake.indexcache import cache_at
from activities.lake.indexstore import MirrorIndex
from activities.lake.live import LiveFile
from activities.lake.mirror import Mirror


@dataclass(frozen=True)
class Head:
    """A mirror at one head."""

    mirror: Mirror
    watermark: Watermark
    """The mirror's; that of a new one when nothing was merged yet."""
    live: Mapping[str, LiveFile]
    """Path → data file."""
    index: MirrorIndex
    rebuilt: str = ""
    """Why the index had to be made anew; empty: it had not."""


def live_row_count(live: Mapping[str, LiveFile]) -> int:
    """Rows that are not deleted, as far as manifests can tell."""
    deletes = {one.file_path: one.record_count for file in live.values() for one in file.deletes}
    return sum(file.rows for file in live.values()) - sum(deletes.values())

"""A mirror's head as merges need it: its table, its live files, its index."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from activities.core.mirrors import IndexPointer, Watermark
from activities.lake.indexhead import IndexUnusable
from activities.lake.indexstore import MirrorIndex, open_index
from activities.lake.live import LiveFile, live_files
from activities.lake.mirror import Mirror
from activities.mirror_context import MirrorContext


@dataclass(frozen=True)
class Head:
    """A mirror at one head."""

    mirror: Mirror
    watermark: Watermark
    """The mirror's; that of a new one when nothing was merged yet."""
    live: Mapping[str, LiveFile]
    """Path → data file."""
    index: MirrorIndex
    pointer: IndexPointer | None
    """Where that is; None: it is empty, and nowhere."""
    rebuilt: str = ""
    """Why the index had to be made anew; empty: it had not."""


async def head_of(context: MirrorContext, mirror: Mirror, watermark: Watermark) -> Head:
    """Open a mirror's head.

    Raises:
        IndexUnusable: its index is not there, is damaged, or does not belong to this head.
    """
    return await asyncio.to_thread(_open, context, mirror, watermark)


def _open(context: MirrorContext, mirror: Mirror, watermark: Watermark) -> Head:
    live = live_files(mirror.table)
    cache, uuid = context.index_cache, str(mirror.table.metadata.table_uuid)
    if mirror.head is None:
        return Head(mirror, watermark, live, MirrorIndex.empty(cache, uuid), None)
    if mirror.foreign_since:
        raise IndexUnusable("others wrote to the mirror after its last merge")
    return Head(mirror, watermark, live, opened_index(context, mirror, mirror.index, live), mirror.index)


def opened_index(
    context: MirrorContext, mirror: Mirror, pointer: IndexPointer | None, live: Mapping[str, LiveFile]
) -> MirrorIndex:
    """Open the index of some live files of a mirror. Blocks.

    Raises:
        IndexUnusable: it is not there, is damaged, or does not belong to these files.
    """
    cache, uuid = context.index_cache, str(mirror.table.metadata.table_uuid)
    return open_index(context.lake.files().part, cache, pointer, uuid, live, live_row_count(live))


def live_row_count(live: Mapping[str, LiveFile]) -> int:
    """Rows that are not deleted, as far as manifests can tell."""
    deletes = {one.file_path: one.record_count for file in live.values() for one in file.deletes}
    return sum(file.rows for file in live.values()) - sum(deletes.values())

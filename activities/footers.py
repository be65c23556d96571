"""Footers of objects that are there."""

import asyncio
from dataclasses import replace

from activities.context import ExportContext
from activities.core.faults import ObjectRefused
from activities.core.upkeep import is_copy
from activities.lake.footers import Footer, footer_bytes, read_footer

SMALL_TAIL = 64 * 1024


async def stored_footer(context: ExportContext, key: str, size: int) -> Footer:
    """The footer of an object of `size` bytes, in one request when it is small.

    Raises:
        ObjectRefused: the object does not end as a Parquet file does, or another one has taken its place.
    """
    tail, stored = await context.store.dated_tail(key, min(SMALL_TAIL, size))
    needed = footer_bytes(key, tail)
    if needed > len(tail):
        tail, stored = await context.store.dated_tail(key, min(needed, size))
    if stored.size != size or is_copy(stored.recipe):
        raise ObjectRefused(
            f"object {key} is not the one that was made: another one of {stored.size} bytes has taken its place; ask "
            "for the partition again, and it is exported anew"
        )
    footer = await asyncio.to_thread(read_footer, key, tail, size)
    return replace(footer, made=stored.made, ours=bool(stored.recipe))

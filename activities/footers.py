"""Footers of objects that are there."""

import asyncio
from dataclasses import replace

from activities.context import ExportContext
from activities.lake.footers import Footer, footer_bytes, read_footer

SMALL_TAIL = 64 * 1024


async def stored_footer(context: ExportContext, key: str, size: int) -> Footer:
    """The footer of an object of `size` bytes, in one request when it is small.

    Raises:
        ObjectRefused: the object does not end as a Parquet file does.
    """
    tail, stored = await context.store.described_tail(key, min(SMALL_TAIL, size))
    needed = footer_bytes(key, tail)
    if needed > len(tail):
        tail, stored = await context.store.described_tail(key, min(needed, size))
    footer = await asyncio.to_thread(read_footer, key, tail, stored.size)
    return replace(footer, made=stored.made, ours=bool(stored.recipe))

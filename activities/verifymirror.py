"""Holding a mirror against the fold of its changelog, and its index against the mirror."""

import asyncio
import tempfile
import threading
from pathlib import Path
from typing import Any

from activities.abreast import seen_through
from activities.contracts.mirrors import VerifyMirrorInput, VerifyMirrorReport
from activities.core.faults import BadRequest, WatermarkLost
from activities.core.mirrors import MirrorConfig
from activities.heartbeats import heartbeats
from activities.lake import mirror as mirrors
from activities.lake.changestate import history_gap
from activities.lake.indexhead import IndexUnusable
from activities.lake.indexstore import MirrorIndex
from activities.lake.mirror import Mirror
from activities.lake.mirrorcheck import Asked, check
from activities.lake.mirrorcompare import RangeFound
from activities.lake.mirrormade import check_made, check_source
from activities.mirror_context import MirrorContext
from activities.mirror_head import head_of


async def verify_mirror(context: MirrorContext, asked: VerifyMirrorInput) -> VerifyMirrorReport:
    """Compare the mirror, as it is now, with the fold of what it has merged: whole, or in some ranges of keys.

    Raises:
        BadRequest: there is no such mirror, the numbers make no sense, or this machine's disk has no room for the rows.
        BadConfig: config says other keys or sequence numbers than it was made with, or takes its changelog otherwise
            than that is written.
        WatermarkLost: what it has merged cannot be told any more.
        MirrorForeign, ChangeInvalid: it is not as merges left it; a change cannot be understood.
    """
    config = context.mirror(asked.environment, asked.mirror)
    if asked.ranges < 1 or not 0 <= asked.samples <= asked.ranges:
        raise BadRequest(
            f"mirror {config.mirror}: {asked.samples} samples of {asked.ranges} ranges cannot be compared; ask for "
            "at least one range, and at most as many samples"
        )
    async with heartbeats({"mirror": config.mirror, "doing": "verify"}):
        mirror, changelog = await asyncio.to_thread(_load, context, config)
        index, unusable = await _index(context, mirror)
        found = await _check(context, config, mirror, changelog, index, asked)
        gap = await asyncio.to_thread(history_gap, changelog) if found.unspoken else ""
    return _report(mirror, found, unusable, asked.samples or asked.ranges, gap)


def _load(context: MirrorContext, config: MirrorConfig) -> tuple[Mirror, Any]:
    mirror = mirrors.read(context.lake, config)
    if mirror is None:
        raise BadRequest(f"mirror {config.mirror} is not there yet: nothing was ever merged into it")
    # After the mirror: it has whatever the mirror has merged.
    changelog = context.lake.load(config.changelog)
    if changelog is None:
        raise WatermarkLost(f"mirror {config.mirror}: its changelog {config.changelog} is not in the catalog any more")
    check_made(config, mirror.table, changelog.schema())
    check_source(config, changelog)
    return mirror, changelog


async def _index(context: MirrorContext, mirror: Mirror) -> tuple[MirrorIndex | None, str]:
    """The index, or why there is none."""
    if mirror.head is None or mirror.watermark is None:
        return None, ""
    try:
        return (await head_of(context, mirror, mirror.watermark)).index, ""
    except IndexUnusable as wrong:
        return None, f"unusable: {wrong}; the next merge makes it anew"


async def _check(
    context: MirrorContext,
    config: MirrorConfig,
    mirror: Mirror,
    changelog: Any,
    index: MirrorIndex | None,
    asked: VerifyMirrorInput,
) -> RangeFound:
    stopped = threading.Event()
    with tempfile.TemporaryDirectory(prefix="icefleet-verify-") as directory:
        how = Asked(asked.ranges, asked.samples, asked.seed, Path(directory), stopped)
        work = asyncio.to_thread(check, config, mirror, changelog, context.lake.files(), index, how)
        return await seen_through(work, stopped.set)


def _report(mirror: Mirror, found: RangeFound, unusable: str, ranges: int, gap: str) -> VerifyMirrorReport:
    equal = not found.differing and found.mirror == found.expected
    status = "different" if not equal else "index" if found.index else "equal"
    at = mirror.watermark
    return VerifyMirrorReport(
        status=status,
        message=_message(mirror.identifier, status, found, gap),
        rows=found.mirror.rows,
        expected=found.expected.rows,
        checksum=str(found.mirror),
        expected_checksum=str(found.expected),
        ranges=ranges,
        watermark="" if at is None or at.snapshot_id is None else str(at.snapshot_id),
        examples=list(found.examples),
        index=unusable or "; ".join(found.index) or "whole",
    )


def _message(mirror: str, status: str, found: RangeFound, gap: str) -> str:
    refused = (
        f"; {found.refused} further keys have only changes from before the horizon, which may have been refused"
        if found.refused
        else ""
    )
    if status == "equal":
        return f"all {found.mirror.rows} rows are what the changelog says{refused}"
    if status == "index":
        return (
            f"all {found.mirror.rows} rows are what the changelog says{refused}; but the index is not that of the "
            "rows, so that later merges may leave rows that they should replace: have it made anew (icefleet mirrors "
            f"rebuild-index {mirror}), and report what it showed"
        )
    rows = f"the mirror has {found.mirror.rows} rows of {found.expected.rows}"
    differs = f"{found.differing} keys differ: {rows}{refused}"
    if gap:
        return (
            f"{differs}; {found.unspoken} of its rows no change brought that the changelog has, and {gap}: to begin "
            "again (icefleet mirrors merge --bootstrap) would take those rows away; leave the mirror as it is, or "
            "bring their changes back into the changelog first"
        )
    return f"{differs}; have the mirror begin again (icefleet mirrors merge --bootstrap), and report what it showed"

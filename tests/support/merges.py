"""Changes that wait to be merged, and what must be there once they were merged, however often somebody tried."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from activities.contracts.mirrors import MergeReport
from support.fleet import Fleet
from support.mirrors import Mirror, gone, opened, put, update


@asynccontextmanager
async def begun(fleet: Fleet, **config: Any) -> AsyncIterator[Mirror]:
    """A mirror with three rows, and changes that are not merged yet."""
    async with opened(fleet, **config) as mirror:
        await mirror.write(put(1, name="a"), put(2, name="b"), put(3, name="c"))
        await mirror.merge()
        await mirror.write(update(1, name="d"), gone(2), put(4, name="e"))
        yield mirror


def commit_of(mirror: Mirror) -> dict[str, str]:
    """The requests that commit to a mirror."""
    namespace, _, name = mirror.config.mirror.rpartition(".")
    return {"method": "POST", "path": rf"/namespaces/{namespace}/tables/{name}$"}


def assert_merged_once(mirror: Mirror, report: MergeReport | None = None) -> None:
    """The changes that waited are in the mirror, by one commit, which is what the report tells if there is one."""
    if report is not None:
        assert (report.commits, report.upserted, report.deleted) == (1, 2, 1)
    assert len(mirror.snapshots()) == 2
    mirror.check()
    mirror.check_index()

"""Pieces that become visible together: each is prepared as if the ones before it had been committed.

So a mirror that begins again, and a table that is copied anew behind a truncate, go from their old rows to all of the
new ones in one commit, though no more than a piece of them is ever in memory.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from activities.core.mirrors import MirrorConfig
from activities.lake.live import LiveFile, held_files, with_deletes
from activities.lake.rowdelta import RowDelta
from activities.merge_piece import Counts, Prepared
from activities.mirror_context import MirrorContext
from activities.mirror_head import Head, opened_index
from activities.mirror_lag import tell_lag
from activities.mirror_summary import mirror_summary


class Gathering:
    """A head that does not exist yet: what `begin` is once everything that was gathered is committed. Methods block."""

    def __init__(self, context: MirrorContext, config: MirrorConfig, begin: Head) -> None:
        self.head = begin
        self.counts = Counts()
        self.pieces = 0
        self._context = context
        self._config = config
        self._last: RowDelta | None = None

    def add(self, prepared: Prepared) -> None:
        """Take up a piece that was prepared for `head`, and tell how much waits, since nothing is committed for long.

        Raises:
            IndexUnusable: its index cannot be opened.
        """
        before, live = self.head, _after(self.head.live, prepared.delta)
        if prepared.index is None or prepared.index == before.pointer:
            index = before.index
        else:
            index = opened_index(self._context, before.mirror, prepared.index, live)
        pointer = prepared.index or before.pointer
        self.head = replace(before, watermark=prepared.watermark, live=live, index=index, pointer=pointer)
        self.counts += prepared.counts
        self.pieces += 1
        self._last = prepared.delta
        tell_lag(self._context, self._config)

    def delta(self, table: Any, properties: Mapping[str, str] | None = None) -> RowDelta:
        """What makes a table hold what was gathered and nothing else, whatever it holds now.

        Raises:
            StoreUnavailable: its manifests cannot be read.
        """
        live, there = self.head.live, held_files(table)
        deletes = {one.file_path: one for file in live.values() for one in file.deletes}
        counts = {**vars(self.counts), "pieces": self.pieces}
        summary = mirror_summary(self.head.watermark, self.head.pointer, counts)
        last = self._last or RowDelta({})
        return RowDelta(
            summary,
            add=[one.data for path, one in live.items() if path not in there.data],
            remove=[one for path, one in there.data.items() if path not in live],
            add_deletes=[one for path, one in deletes.items() if path not in there.deletes],
            remove_deletes=[one for path, one in there.deletes.items() if path not in deletes],
            schema=last.schema,
            properties={**last.properties, **(properties or {})},
        )


def _after(live: Mapping[str, LiveFile], delta: RowDelta) -> dict[str, LiveFile]:
    """The live files once a delta is committed."""
    gone = {one.file_path for one in delta.remove}
    superseded = {one.file_path for one in delta.remove_deletes}
    after = {
        path: replace(file, deletes=tuple(one for one in file.deletes if one.file_path not in superseded))
        for path, file in live.items()
        if path not in gone
    }
    after |= {one.file_path: LiveFile(one, 0) for one in delta.add}
    newest = max((file.sequence for file in after.values()), default=0)
    return with_deletes(after, [(one, newest) for one in delta.add_deletes])

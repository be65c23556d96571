"""An index made anew, from the mirror's rows and the deletes that its changelog remembers, under a cap of memory."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from activities.core.index import forgetful, merge
from activities.core.indexplan import part_rows
from activities.core.indexsort import Ordering
from activities.core.mirrors import Entries, Keys, Sequences
from activities.lake.indexcache import IndexCache
from activities.lake.indexentries import GROUP_ROWS
from activities.lake.indexhead import Head
from activities.lake.indexstaging import StagedIndex, Staging

MEMORY_BYTES = 256 * 2**20
_ENTRY_BYTES = 192
"""What sorting takes of memory for each entry: itself, its copy in order, the order."""
_WIDTHS = (8, 8, 8, 8, 4, 4)


@dataclass(frozen=True)
class Rebuilt:
    """An index that was made anew."""

    staged: StagedIndex
    entries: int
    """Rows and tombstones that were given."""
    doubled: int
    """Rows whose key another row of the mirror has; of these the index knows the one with the greatest sequence number
    only, so that merges would leave the others as they are: whoever sees this has to stop."""


def rebuild(
    cache: IndexCache,
    table_uuid: str,
    files: Mapping[int, str],
    entries: Iterable[Entries],
    *,
    tombstone_cut: int,
    truncated: str = "",
    live_rows: int | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> Rebuilt:
    """Write an index from nothing; disk takes 40 bytes for each entry while it runs. Blocks.

    Args:
        cache: This worker's, where the segments are from then on.
        table_uuid: The mirror's.
        files: Number (from 1) → path of all data files of the snapshot.
        entries: In any order and in batches that are small against `memory_bytes`, as `indexsort` makes them: each live
            row, and the deletes that are to be remembered. Of a key that has a row no delete counts.
        tombstone_cut: As for `advance`; the horizon says what was forgotten.
        truncated: As for `stage`.
        live_rows: As for `stage`.
        memory_bytes: What sorting may hold; some megabytes come on top.
    """
    most = max(1, memory_bytes // _ENTRY_BYTES)
    ordering = Ordering()
    with ExitStack() as held, Staging(cache) as staging:
        spills, total = [], 0
        for spill in _spills(entries, most, ordering):
            total += len(spill)
            spills.append(_on_disk(held.enter_context(cache.scratch()), spill))
        forgetting = _Forgetting(tombstone_cut)
        pieces = merge(spills, min(GROUP_ROWS, most), lambda parts: ordering.together(list(parts)))
        parts = staging.parts(forgetting.kept(pieces), total, part_rows(total))
        head = Head(
            table_uuid,
            next_file=max(files, default=0) + 1,
            live_rows=live_rows,
            truncated=truncated,
            segments=tuple(parts),
        )
        return Rebuilt(staging.finish(head, files, forgetting.forgotten), total, ordering.doubled)


class _Forgetting:
    def __init__(self, cut: int) -> None:
        self.forgotten = (0, 0)
        self._cut = cut

    def kept(self, pieces: Iterable[Entries]) -> Iterator[Entries]:
        for piece in pieces:
            kept = forgetful(piece, self._cut)
            self.forgotten = max(self.forgotten, kept.forgotten or (0, 0))
            yield kept.entries


def _spills(entries: Iterable[Entries], most: int, ordering: Ordering) -> Iterator[Entries]:
    """Sorted segments of about `most` entries each."""
    held, count = list[Entries](), 0
    for some in entries:
        if held and count + len(some) > most:
            yield ordering.together(held)
            held, count = [], 0
        held.append(some)
        count += len(some)
    if count:
        yield ordering.together(held)


def _on_disk(path: Path, spill: Entries) -> Entries:
    """The same entries, in memory no more."""
    columns = (
        *(spill.keys.high, spill.keys.low, spill.sequences.high, spill.sequences.low),
        *(spill.file, spill.row),
    )
    with path.open("wb") as file:
        for column in columns:
            file.write(np.ascontiguousarray(column).data)
    mapped, begins = np.asarray(np.memmap(path, np.uint8, "r")), np.cumsum([0, *_WIDTHS]) * len(spill)
    words = [np.frombuffer(mapped, np.uint64, len(spill), begin) for begin in begins[:4]]
    file_numbers, rows = (np.frombuffer(mapped, np.uint32, len(spill), begin) for begin in begins[4:6])
    return Entries(Keys(words[0], words[1]), file_numbers, rows, Sequences(words[2], words[3]))

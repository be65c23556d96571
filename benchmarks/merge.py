"""`make bench-merge`: changes merged into mirrors of 1 and 10 million rows, and the mirrors read afterwards.

The engine merges batches of 1,000 and of 100,000 changes from a changelog, beside DuckDB, a full rewrite and
PyIceberg's upsert, which are given the same batches and tables of the same rows in the same catalog. Our seconds are
means over merges with everything that belongs to them: index runs folded, the steps by which they are merged into the
base (one of them in the 72 merges of 1,000 changes; where 100 million rows are among them in 720, which one pays for),
and the compaction that these merges bring about. Mirrors of several sizes take turns. DuckDB's are means over the same
batches, without a compaction, which it has none of; each takes it longer than the one before, so the median of its
first three stands beside that. The others take about as long each time and are given one or two. Each begins when the
machine has come to rest: what a store still does for the one before is not the next one's time.
Then a worker's `MergeMirror` does the same, and its memory is measured as growth over what it took at rest; so is that
of each peer in a process of its own. What was read and written are bytes of objects as the store counts them; what the
catalog is asked and answers is not in them. Single rows are followed from COMMIT at a PostgreSQL to the mirror; and
DuckDB and ClickHouse read a mirror after 1, 10 and 50 merges that nothing compacted, and after a compaction, beside a
table that was written at once.

`LARGE=1` adds mirrors of 100 million rows, which take some twenty minutes and 20 GB; with `--only large`, nothing else
but the million rows that they are held against.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from harness import Figure, chosen_parts, report, told
from mirrorlatency import latency_figures
from mirrorread import read_figures
from mirrorspeed import speed_figures
from mirrorworld import World, opened

COMMAND = "make bench-merge"
PARTS = ("speed", *(["large"] if os.environ.get("LARGE") else []), "reads", "latency")
OF_PARTS = {"speed": ("1m", "10m"), "large": ("1m", "100m")}
"""Sizes of mirrors that parts are about."""
AIMS = {
    "merge.10m.100k.speedup_vs_duckdb_merge": 3,
    "merge.10m.100k.speedup_vs_upsert": 100,
    "merge.10m.100k.speedup_vs_rewrite": 20,
    "merge.growth_1m_to_10m": 1.5,
    "merge.growth_1m_to_100m": 1.5,
    "mirror.read_ratio_after_50_merges.duckdb": 2,
    "mirror.read_ratio_after_50_merges.clickhouse": 2,
    "mirror.read_ratio_after_compaction.duckdb": 1.1,
    "mirror.read_ratio_after_compaction.clickhouse": 1.1,
    "cdc.latency_p50_seconds": 3,
}


def main() -> None:
    """Measure, print, write."""
    chosen = chosen_parts(__doc__, PARTS)
    with tempfile.TemporaryDirectory(prefix="icefleet-bench-") as directory, opened(Path(directory)) as world:
        figures = measure(world, chosen)
    report("merge", figures, whole=len(chosen) == len(PARTS))
    sys.stdout.flush()
    os._exit(0)


def measure(world: World, chosen: Sequence[str]) -> list[Figure]:
    """Every chosen part in turn."""
    figures = []
    if sizes := list(dict.fromkeys(size for part, sizes in OF_PARTS.items() if part in chosen for size in sizes)):
        figures += [figure(*one) for one in speed_figures(world, sizes)]
    if "reads" in chosen:
        figures += [figure(*one) for one in read_figures(world)]
    if "latency" in chosen:
        figures += [figure(*one) for one in latency_figures(world)]
    return figures


def figure(name: str, value: float, unit: str, better: Literal["lower", "higher"]) -> Figure:
    return told(name, value, unit, better, AIMS, f"LARGE=1 {COMMAND}" if "100m" in name else COMMAND)


if __name__ == "__main__":
    main()

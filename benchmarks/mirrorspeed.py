"""Merges of the engine and of the whole loop, beside what else does the same."""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa
from harness import MEGABYTE, Memory, median, scale, timed
from mirrorchanges import Batch, Rows
from mirrorpeers import Apply, attached, copied, duckdb_merge, make_table, rewrite, upsert
from mirrorworld import World, moved
from pyiceberg.table import Table

Found = tuple[str, float, str, Literal["lower", "higher"]]
SIZES = {"1m": 1_000_000, "10m": 10_000_000} | ({"100m": 100_000_000} if os.environ.get("LARGE") else {})
CHANGES = {"1k": (1_000, 72), "100k": (100_000, 15)}
"""Changes of a batch, and how many batches are merged.

A change owes the index's base 2.8 entries, and a step into it is made when 131,072 are owed (`core/indexplan.py`): so
merges of 1,000 changes come to one after a dozen, which begin a round, and some 50 more. Fewer would hold none.
"""
COMPARED = "10m"
TURNS = {"duckdb_merge": 3, "rewrite": 2, "upsert": 1}
"""Batches that a peer is given; it takes its time."""
LOOP_MERGES = 5
PIECE_ROWS = 1_000_000


@dataclass
class Spent:
    """What merges of one size took."""

    merges: int = 0
    seconds: float = 0
    compacting: float = 0
    compactions: int = 0
    moved: int = 0
    phases: dict[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Seconds of a merge with its part of everything."""
        return (self.seconds + self.compacting) / self.merges


def speed_figures(world: World) -> Iterator[Found]:
    """Every size of mirror in turn."""
    means: dict[str, dict[str, float]] = {}
    for label, full in SIZES.items():
        name, count = f"m{label}", max(10_000, int(full * scale()))
        changelog, rows = world.filled(name, count)
        means[label] = {}
        for size in CHANGES:
            spent, peers = merged(world, name, size, changelog, rows, with_peers=label == COMPARED)
            means[label][size] = spent.mean
            yield from told(f"merge.{label}.{size}", spent, peers)
        check(world.table(name), rows, name)
        if label == COMPARED:
            yield from loop_figures(world, name, changelog, rows)
    for label in list(SIZES)[1:]:
        yield f"merge.growth_1m_to_{label}", means[label]["1k"] / means["1m"]["1k"], "times", "lower"
        yield f"merge.growth_1m_to_{label}_by_100k", means[label]["100k"] / means["1m"]["100k"], "times", "lower"


def told(prefix: str, spent: Spent, peers: dict[str, tuple[float, float]]) -> Iterator[Found]:
    """Figures of merges of one size."""
    yield f"{prefix}.seconds", spent.mean, "s", "lower"
    for phase, seconds in sorted(spent.phases.items()):
        if phase:
            yield f"{prefix}.{phase}_seconds", seconds / spent.merges, "s", "lower"
    yield f"{prefix}.compaction_seconds", spent.compacting / spent.merges, "s", "lower"
    yield f"{prefix}.moved_mb", spent.moved / spent.merges / MEGABYTE, "MB", "lower"
    for peer, (seconds, carried) in peers.items():
        yield f"{prefix}.{peer}_seconds", seconds, "s", "lower"
        yield f"{prefix}.{peer}_moved_mb", carried / MEGABYTE, "MB", "lower"
        yield f"{prefix}.speedup_vs_{peer}", seconds / spent.mean, "times", "higher"


def merged(
    world: World, name: str, size: str, changelog: Table, rows: Rows, *, with_peers: bool
) -> tuple[Spent, dict[str, tuple[float, float]]]:
    """Batches of one size by the engine, and some of them in turn by the peers; peer → seconds and bytes of a batch."""
    changes, merges = CHANGES[size]
    changes = max(100, int(changes * scale()))
    spent, others = Spent(), {}
    if not with_peers:
        for _ in range(merges):
            own_turn(world, name, changelog, rows.batch(changes), spent)
        return spent, {}
    with attached(world.environment) as duck:
        for peer in TURNS:
            others[peer] = make_table(world.catalog, f"peers.{peer}_{name}_{size}", pieces(copied(world.table(name))))
        apply: dict[str, Apply] = {
            "duckdb_merge": duckdb_merge(duck, f"peers.duckdb_merge_{name}_{size}"),
            "rewrite": rewrite(others["rewrite"]),
            "upsert": upsert(others["upsert"]),
        }
        took: dict[str, list[tuple[float, float]]] = {peer: [] for peer in TURNS}
        for turn in range(merges):
            batch = rows.batch(changes)
            own_turn(world, name, changelog, batch, spent)
            for peer, turns in TURNS.items():
                if turn < turns:
                    took[peer].append(_peer_turn(apply[peer], batch))
    return spent, {peer: (median([s for s, _ in found]), median([b for _, b in found])) for peer, found in took.items()}


def _peer_turn(apply: Apply, batch: Batch) -> tuple[float, float]:
    before = moved()
    seconds = timed(lambda: apply(batch))
    return seconds, float(moved() - before)


def own_turn(world: World, name: str, changelog: Table, batch: Batch, spent: Spent) -> None:
    """A batch is appended, which is nobody's time, and merged, and what is due then is compacted."""
    changelog.append(batch.changes)
    before, carried = world.phases(), moved()
    started = time.perf_counter()
    report = world.merge(name)
    spent.seconds += time.perf_counter() - started
    spent.merges += 1
    for phase, seconds in world.phases().items():
        spent.phases[phase] = spent.phases.get(phase, 0.0) + seconds - before.get(phase, 0.0)
    if report.compaction_due:
        spent.compacting += timed(lambda: compact_all(world, name))
        spent.compactions += 1
    spent.moved += moved() - carried


def compact_all(world: World, name: str, *, thorough: bool = False) -> None:
    """Compactions until there is nothing more to do."""
    while world.compact(name, thorough=thorough).more:
        pass


def pieces(rows: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of a million or so: each becomes a file."""
    held: list[pa.Table] = []
    for one in rows:
        held.append(one)
        if sum(table.num_rows for table in held) >= PIECE_ROWS:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def check(table: Table, rows: Rows, name: str) -> None:
    """Refuse figures of a mirror that is wrong."""
    found = table.scan(selected_fields=("balance",)).to_arrow()["balance"]
    held = (len(found), sum(int(chunk.to_numpy().sum()) for chunk in found.chunks))
    if held != rows.expected():
        raise RuntimeError(f"mirror.{name} holds {held} rows and balances, and not {rows.expected()}")


def loop_figures(world: World, name: str, changelog: Table, rows: Rows) -> Iterator[Found]:
    """The same batches through the workflow, and what its worker grows by."""
    changes = max(100, int(100_000 * scale()))
    seconds: list[float] = []
    with Memory(world.worker_pid) as memory:
        for _ in range(LOOP_MERGES):
            changelog.append(rows.batch(changes).changes)
            seconds.append(timed(lambda: world.merge_by_workflow(name)))
    check(world.table(name), rows, name)
    yield f"merge.{COMPARED}.100k.workflow_seconds", median(seconds), "s", "lower"
    yield f"merge.{COMPARED}.100k.worker_growth_mb", (memory.peak - memory.idle) / MEGABYTE, "MB", "lower"

"""Merges of the engine and of the whole loop, beside what else does the same."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa
from harness import MEGABYTE, Memory, at_rest, median, scale, timed
from mirrorchanges import Batch, Rows
from mirrorpeers import PEERS, Peer, Turn, copied, make_table
from mirrorworld import ENVIRONMENT, Carried, World
from pyiceberg.table import Table

from activities.lake.compaction import compaction_due
from activities.lake.live import live_files

Found = tuple[str, float, str, Literal["lower", "higher"]]
SIZES = {"1m": 1_000_000, "10m": 10_000_000, "100m": 100_000_000}
"""Rows of mirrors; growth is over those of the first."""
CHANGES = {"1k": (1_000, 72), "100k": (100_000, 15)}
"""Changes of a batch, and how many batches are merged.

A change owes the index's base 2.8 entries, and a step into it is made when 131,072 are owed (`core/indexplan.py`): so
merges of 1,000 changes come to one after a dozen, which begin a round, and some 50 more. Fewer would hold none.
"""
LONGER = {("100m", "1k"): 720}
"""Size of the largest mirror and of batches → how many are merged instead. Of a mirror of 100 million rows the smallest
step is a part of the base of a million entries with what is above it: it pays for so many merges, and is one of them.
"""
SETTLING = 12
"""Batches of 1,000 changes after a fill that are not counted: with them the index's base gets what the fill owes it."""
UPKEEP = 72
"""Merges after which old snapshots go, as upkeep lets them: metadata are no longer than where fewer are merged."""
COMPARED = "10m"
TURNS = {"rewrite": 2, "upsert": 1}
"""Batches that are enough for a peer of which each takes as long; DuckDB, whose deletes pile up, is given all that we
are, and its mean is held against ours."""
AT_FIRST = 3
"""Batches before which hardly anything has piled up."""
COMPACTION_SECONDS = 120
LOOP_MERGES = {"1k": 33, "100k": 21}
"""Merges by the workflow, among them those after which small files are compacted. Before the first one the worker
fetches the index, as it does once in its life, which is not counted."""
PIECE_ROWS = 1_000_000


@dataclass
class Spent:
    """What merges of one size took."""

    merges: int = 0
    seconds: float = 0
    compacting: float = 0
    compactions: int = 0
    carried: Carried = field(default_factory=Carried)
    phases: dict[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Seconds of a merge with its part of everything."""
        return (self.seconds + self.compacting) / self.merges


@dataclass(frozen=True)
class PeerSpent:
    """What a batch took a peer: means, and its largest growth."""

    seconds: float
    at_first: float
    """The median of the first ones."""
    carried: Carried
    growth: float


@dataclass(frozen=True)
class Measured:
    """A mirror, with what it is made of and what merges into it took."""

    label: str
    name: str
    changelog: Table
    rows: Rows
    spent: dict[str, Spent] = field(default_factory=lambda: {size: Spent() for size in CHANGES})


def speed_figures(world: World, labels: Sequence[str]) -> Iterator[Found]:
    """Of all SIZES that are named, in turn: what slows this machine down for a while slows all of them down.

    The first of SIZES is to be among them.
    """
    mirrors = [_filled(world, label) for label in labels]
    for size in CHANGES:
        peers = merged(world, mirrors, size)
        for one in mirrors:
            yield from told(f"merge.{one.label}.{size}", one.spent[size], peers if one.label == COMPARED else {})
    for one in mirrors:
        check(world.table(one.name), one.rows, one.name)
        contents = world.table(one.name).inspect.files()["content"].to_pylist()
        yield f"merge.{one.label}.data_files", contents.count(0), "files", "lower"
        yield f"merge.{one.label}.delete_files", len(contents) - contents.count(0), "files", "lower"
        if one.label == COMPARED:
            idle = Memory(world.worker_pid).idle
            for size in CHANGES:
                yield from loop_figures(world, one.name, size, one.changelog, one.rows, idle)
    first, *larger = mirrors
    for one in larger:
        for size, suffix in (("1k", ""), ("100k", "_by_100k")):
            grown = one.spent[size].mean / first.spent[size].mean
            yield f"merge.growth_1m_to_{one.label}{suffix}", grown, "times", "lower"


def _filled(world: World, label: str) -> Measured:
    name = f"m{label}"
    changelog, rows = world.filled(name, max(10_000, int(SIZES[label] * scale())))
    # What a fill leaves of small files and of history is no part of what merges cost: loops and upkeep let it go.
    for _ in range(SETTLING):
        changelog.append(rows.batch(max(100, int(CHANGES["1k"][0] * scale()))).changes)
        world.merge(name)
    compact_all(world, name)
    world.forget(name)
    return Measured(label, name, changelog, rows)


def told(prefix: str, spent: Spent, peers: dict[str, PeerSpent]) -> Iterator[Found]:
    """Figures of merges of one size."""
    yield f"{prefix}.seconds", spent.mean, "s", "lower"
    for phase, seconds in sorted(spent.phases.items()):
        if phase:
            yield f"{prefix}.{phase}_seconds", seconds / spent.merges, "s", "lower"
    yield f"{prefix}.compaction_seconds", spent.compacting / spent.merges, "s", "lower"
    yield f"{prefix}.compactions", spent.compactions, "compactions", "lower"
    yield f"{prefix}.read_mb", spent.carried.read / spent.merges / MEGABYTE, "MB", "lower"
    yield f"{prefix}.written_mb", spent.carried.written / spent.merges / MEGABYTE, "MB", "lower"
    for peer, took in peers.items():
        yield f"{prefix}.{peer}_seconds", took.seconds, "s", "lower"
        yield f"{prefix}.{peer}_read_mb", took.carried.read / MEGABYTE, "MB", "lower"
        yield f"{prefix}.{peer}_written_mb", took.carried.written / MEGABYTE, "MB", "lower"
        yield f"{prefix}.{peer}_growth_mb", took.growth / MEGABYTE, "MB", "lower"
        yield f"{prefix}.speedup_vs_{peer}", took.seconds / spent.mean, "times", "higher"
        if peer not in TURNS:
            yield f"{prefix}.{peer}_seconds_at_first", took.at_first, "s", "lower"
            yield f"{prefix}.speedup_vs_{peer}_at_first", took.at_first / spent.mean, "times", "higher"


def merged(world: World, mirrors: Sequence[Measured], size: str) -> dict[str, PeerSpent]:
    """Batches of one size by the engine, into each mirror in turn; by the peers beside the one that is compared."""
    changes, merges = CHANGES[size]
    changes, merges = max(100, int(changes * scale())), LONGER.get((mirrors[-1].label, size), merges)
    took: dict[str, list[tuple[Turn, Carried]]] = {}
    with ExitStack() as stack:
        ready: dict[str, Peer] = {}
        for one in (one for one in mirrors if one.label == COMPARED):
            for peer in PEERS:
                table = f"peers.{peer}_{one.name}_{size}"
                make_table(world.catalog, table, pieces(copied(world.table(one.name))))
                ready[peer] = stack.enter_context(Peer(ENVIRONMENT, peer, table))
        for turn in range(merges):
            for one in mirrors:
                if turn and turn % UPKEEP == 0:
                    world.forget(one.name)
                batch = one.rows.batch(changes)
                own_turn(world, one.name, one.changelog, batch, one.spent[size])
                if one.label == COMPARED:
                    still = {name: peer for name, peer in ready.items() if turn < TURNS.get(name, merges)}
                    peers_turn(world, batch, still, took)
    return {peer: _together(turns) for peer, turns in took.items()}


def peers_turn(
    world: World, batch: Batch, peers: Mapping[str, Peer], took: dict[str, list[tuple[Turn, Carried]]]
) -> None:
    """The same batch by each of them; what it took is added to `took`."""
    for name, peer in peers.items():
        at_rest()
        before = world.carried()
        took.setdefault(name, []).append((peer.apply(batch), world.carried() - before))


def _together(turns: list[tuple[Turn, Carried]]) -> PeerSpent:
    seconds = [turn.seconds for turn, _ in turns]
    return PeerSpent(
        sum(seconds) / len(turns),
        median(seconds[:AT_FIRST]),
        Carried(sum(one.read for _, one in turns) / len(turns), sum(one.written for _, one in turns) / len(turns)),
        max(turn.growth for turn, _ in turns),
    )


def own_turn(world: World, name: str, changelog: Table, batch: Batch, spent: Spent) -> None:
    """A batch is appended, which is nobody's time, and merged, and what is due then is compacted."""
    changelog.append(batch.changes)
    at_rest()
    before, carried = world.phases(), world.carried()
    started = time.perf_counter()
    report = world.merge(name)
    spent.seconds += time.perf_counter() - started
    spent.merges += 1
    for phase, seconds in world.phases().items():
        spent.phases[phase] = spent.phases.get(phase, 0.0) + seconds - before.get(phase, 0.0)
    if report.compaction_due:
        spent.compacting += timed(lambda: compact_all(world, name))
        spent.compactions += 1
    spent.carried += world.carried() - carried


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


def loop_figures(world: World, name: str, size: str, changelog: Table, rows: Rows, idle: int) -> Iterator[Found]:
    """The same batches through the workflow, compactions included, and what its worker takes beyond `idle` bytes.

    That is the engine's memory: the worker has nothing else to do, and had done nothing yet.
    """
    changes = max(100, int(CHANGES[size][0] * scale()))
    seconds: list[float] = []
    with Memory(world.worker_pid) as memory:
        for _ in range(LOOP_MERGES[size]):
            changelog.append(rows.batch(changes).changes)
            seconds.append(_loop_turn(world, name))
    check(world.table(name), rows, name)
    prefix = f"merge.{COMPARED}.{size}"
    yield f"{prefix}.workflow_seconds", sum(seconds[1:]) / len(seconds[1:]), "s", "lower"
    yield f"{prefix}.workflow_median_seconds", median(seconds[1:]), "s", "lower"
    yield f"{prefix}.worker_growth_mb", (memory.peak - idle) / MEGABYTE, "MB", "lower"


def _loop_turn(world: World, name: str) -> float:
    """Seconds of a merge and, when one is due after it, of the compaction that the loop begins by itself."""
    started = time.perf_counter()
    world.merge_by_workflow(name)
    merged_after = time.perf_counter() - started
    if not _is_due(world, name):
        return merged_after
    while _is_due(world, name):
        if time.perf_counter() - started > COMPACTION_SECONDS:
            # What a compaction leaves may be due at once, and has its turn after the next merge.
            raise RuntimeError(f"mirror.{name}: a compaction that is due has not begun; take another number of merges")
        time.sleep(0.02)
    return time.perf_counter() - started


def _is_due(world: World, name: str) -> bool:
    config = world.context.mirrors[f"mirror.{name}"]
    return bool(compaction_due(world.context.lake.files(), live_files(world.table(name)), config))

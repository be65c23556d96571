"""A run: everything is asked for, everything goes wrong, everything calms down; then the world is looked at."""

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from activities.contracts.export import ExportReport
from activities.failpoints import NAMES
from chaos.aftermath import Cleaning, TableState, clean, look_at
from chaos.freeing import free_loops
from chaos.parts import troubles
from chaos.wire import PATIENT, SHORT
from chaos.world import AT_ONCE, World, open_world
from support.aftermath import activity_failures, processes_of
from support.leaks import forms_of, leaks, left_behind
from support.troubles import conduct
from support.workerpool import Pool

WORKERS = 3
CHAOS_SECONDS = 480
"""After so long a run of size 1 calms down, whatever has not happened yet."""
CALM_SECONDS = 480
"""How long an answer may take then: a request whose loop was terminated reminds it after four minutes at most."""
REPEATS = 8
"""How often a table may be asked for again until nothing is left to do."""
LATEST = {"before-upload": 12, "after-upload": 12, "before-delete": 1}
"""A worker dies at the n-th time at most that it reaches a point: 3, unless it comes by often, or rarely."""


@dataclass
class Run:
    """What a run was, and what was there at its end."""

    seed: str
    size: float
    expected_troubles: list[str]
    troubles: Counter[str] = field(default_factory=Counter)
    """Name → how often it struck."""
    kills: Counter[str] = field(default_factory=Counter)
    exits: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    words: dict[str, str] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)
    """Why activities were tried again."""
    lost: list[str] = field(default_factory=list)
    """Requests that nobody could make or see the end of."""
    swept: int = 0
    """Orphans that were deleted while everything else went on."""
    freed: int = 0
    """Loops that were terminated, since they waited for the deletions of a dead worker."""
    late: int = 0
    last_exits: Counter[str] = field(default_factory=Counter)
    """How the workers ended that were told to at the end."""
    reports: dict[str, ExportReport] = field(default_factory=dict)
    """Table → the report of the last request."""
    running: list[str] = field(default_factory=list)
    """Workflows that were still there when nobody wanted anything any more."""
    tables: dict[str, TableState] = field(default_factory=dict)
    cleaning: Cleaning = field(default_factory=Cleaning)
    leaks: list[str] = field(default_factory=list)
    """Where a secret was said: in logs of workers, histories or events."""
    left: list[str] = field(default_factory=list)
    """Processes that outlived the run."""
    story: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    """Phase → how long it took."""

    def summary(self) -> str:
        """The evidence, in a few lines."""
        partitions = sum(len(table.source) for table in self.tables.values())
        rows = sum(rows for table in self.tables.values() for rows, _ in table.source.values())
        snapshots = sum(len(table.snapshots) for table in self.tables.values())
        lines = [
            f"chaos, seed {self.seed}, size {self.size:g}",
            f"  {len(self.tables)} tables, {partitions} partitions, {rows:,} rows, {snapshots} snapshots",
            f"  rows came late {self.late} times",
            f"  requests: {_counts(self.outcomes)}; failures by cause: {_counts(self.causes)}",
            f"  activities tried again: {_counts(Counter({name: len(said) for name, said in self.failures.items()}))}",
            f"  workers killed: {_counts(self.kills)}; otherwise ended: {_counts(self.exits)}",
            f"  orphans deleted: {self.swept} meanwhile, {len(self.cleaning.listed)} at the end",
            f"  objects that snapshots name: {len(self.cleaning.named)}; loops freed: {self.freed}",
            f"  time: {', '.join(f'{phase} {seconds:.0f} s' for phase, seconds in self.seconds.items())}",
            "  troubles (requests struck, or times):",
            *(f"    {count:4}  {name}" for name, count in sorted(self.troubles.items())),
        ]
        return "\n".join(lines)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common()) or "none"


async def run_chaos(directory: Path, seed: str, size: float) -> Run:
    """The whole run."""
    run = Run(seed, size, [])
    began = time.monotonic()
    async with open_world(directory, seed, size) as world:
        run.story = world.story
        world.say(f"seed {seed}, size {size:g}: {sum(s.partitions for s in world.sources)} partitions expected")
        pool = Pool(world.fleet, _deaths(Random(f"{seed} deaths"), size), size=WORKERS, say=world.say)
        calm = Pool(world.fleet, (), size=WORKERS, say=world.say)
        run.kills, run.exits, run.last_exits, run.outcomes = pool.kills, pool.exits, calm.exits, world.outcomes
        run.causes, run.words, run.lost = world.causes, world.words, world.lost
        freeing = asyncio.create_task(free_loops(world, pool))
        try:
            await _rage_with(run, world, pool, began)
            await calm.start()
            await _calm(run, world)
            _note_time(run, "calm", began)
            for source in world.sources:
                run.tables[source.name] = await look_at(world.fleet, source)
            run.failures = await activity_failures(world.fleet.temporal, world.fleet.queue)
            run.cleaning = await clean(world, run.tables)
            run.leaks = list(leaks(forms_of(world.fleet), await left_behind(world.fleet)))
            _note_time(run, "evidence", began)
        finally:
            await calm.stop()
            freeing.cancel()
            await asyncio.gather(freeing, return_exceptions=True)
        run.late, run.swept, run.freed = world.late, world.swept, world.freed
    run.left = processes_of(directory)
    return run


async def _rage_with(run: Run, world: World, pool: Pool, began: float) -> None:
    await pool.start()
    try:
        _note_time(run, "start", began)
        await _rage(run, world, pool)
    finally:
        await pool.stop()
        _note_time(run, "chaos", began)


def _note_time(run: Run, phase: str, began: float) -> None:
    run.seconds[phase] = time.monotonic() - began - sum(run.seconds.values())


def _deaths(rng: Random, size: float) -> list[str]:
    """Every failpoint, more than once, each at another time that it is reached."""
    points = sorted(NAMES) * max(1, round(2 * size))
    rng.shuffle(points)
    points.sort(key=lambda point: point != "before-delete")  # it takes longest to be reached
    return [f"{point}:{rng.randint(1, LATEST.get(point, 3))}" for point in points]


async def _rage(run: Run, world: World, pool: Pool) -> None:
    """Everything goes wrong, three things at a time, until everything has."""
    parts = troubles(pool) * max(1, round(2 * world.size))
    wires = SHORT * max(1, round(world.size))
    run.expected_troubles = sorted({trouble.name for trouble in (*parts, *wires, *PATIENT)})
    for source in world.sources:
        world.ask(source, from_=source.label(0), to=source.label(source.partitions - 1))
    deadline = time.monotonic() + CHAOS_SECONDS * max(1, world.size)
    stirring = asyncio.create_task(_stir(world, pool))
    try:
        await asyncio.gather(
            conduct(world, Random(f"{run.seed} parts"), parts, deadline, run.troubles),
            conduct(world, Random(f"{run.seed} wires"), wires, deadline, run.troubles),
            conduct(world, Random(f"{run.seed} patience"), PATIENT, deadline, run.troubles),
        )
        await _died(pool, deadline)
    finally:
        stirring.cancel()
        await asyncio.gather(stirring, return_exceptions=True)


async def _died(pool: Pool, deadline: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
            await pool.done.wait()


async def _stir(world: World, pool: Pool) -> None:
    """Keep the workers busy, and most of all with what brings one to its failpoint."""
    while True:
        if world.under_way < AT_ONCE + len(world.sources):
            world.stir()
            if "during-upload" in pool.dying:
                world.stir("bulky")
            if "before-delete" in pool.dying:
                world.litter()
        await asyncio.sleep(1)


async def _calm(run: Run, world: World) -> None:
    """No trouble any more: what was asked for is answered, and what is left is asked for again."""
    world.say("calm")
    try:
        async with asyncio.timeout(CALM_SECONDS * max(1, world.size)):
            await world.answered()
    except TimeoutError:
        world.lost += [f"{name}: not answered {CALM_SECONDS} s after everything was mended" for name in world.waiting]
        world.say(f"{world.under_way} requests were not answered")
    else:
        world.say("every request has been answered")
    for source in world.sources:
        for _ in range(REPEATS):
            report = await world.result(source, from_=source.label(0), to=source.label(source.partitions - 1))
            if report is not None:
                run.reports[source.name] = report
                if report.status == "nothing_to_do":
                    break
        await world.fleet.loop_ended(source.name, seconds=60)
    query = f"TaskQueue = '{world.fleet.queue}' AND ExecutionStatus = 'Running'"
    run.running = [running.id async for running in world.fleet.temporal.list_workflows(query)]

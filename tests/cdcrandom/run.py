"""A run: people write, everything goes wrong, everything calms down; then the world is looked at."""

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from activities.core.changelogs import lsn_text
from cdcrandom.deaths import tell_of_deaths
from cdcrandom.expected import Expected, expect
from cdcrandom.lake import Changelog, look_at
from cdcrandom.letters import Letter, settle_letters
from cdcrandom.oracle import SLOT, Shape, Transaction, final_rows, last_commit, read_log
from cdcrandom.plan import Plan
from cdcrandom.tables import TABLES, Table
from cdcrandom.trouble import CATALOG, PATIENT, STORE, parts
from cdcrandom.world import World, open_world
from support.aftermath import activity_failures, processes_of
from support.fleet import eventually
from support.leaks import forms_of, leaks, left_behind
from support.troubles import conduct
from support.workerpool import Pool

WORKERS = 2
CALM_SECONDS = 900
"""How long it may take then until everything has been carried over."""
APART_SECONDS = 12
"""Between two installations."""
MOVE_SECONDS = 10
POISON = 6


@dataclass
class Run:
    """What a run was, and what was there at its end."""

    seed: str
    size: float
    title: str
    expected_troubles: list[str] = field(default_factory=list)
    troubles: Counter[str] = field(default_factory=Counter)
    """Name → how often it struck."""
    kills: Counter[str] = field(default_factory=Counter)
    exits: Counter[str] = field(default_factory=Counter)
    last_exits: Counter[str] = field(default_factory=Counter)
    """How the workers ended that were told to at the end."""
    steps: Counter[str] = field(default_factory=Counter)
    """What people did → how often it was committed."""
    transactions: int = 0
    rolled_back: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Why PostgreSQL refused transactions."""
    failures: dict[str, list[str]] = field(default_factory=dict)
    """Why activities were tried again."""
    lost: list[str] = field(default_factory=list)
    """Commands that never succeeded."""
    states: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Table → its state in the buffer, and why it is stopped."""
    letters: list[Letter] = field(default_factory=list)
    """What was dropped."""
    status: Any = None
    """What `icefleet cdc status` says at the end."""
    buffered: int = -1
    slot_lag: int = -1
    """Bytes of log behind the last transaction that the slot has not let go."""
    log: dict[str, list[Transaction]] = field(default_factory=dict)
    final: dict[str, tuple[Shape, list[str]]] = field(default_factory=dict)
    """Table → its columns and rows at the end, as PostgreSQL shows them."""
    changelogs: dict[str, Changelog] = field(default_factory=dict)
    """By the source's table."""
    expected: dict[str, Expected] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)
    """Where a secret was said: in logs of workers, histories or events."""
    left: list[str] = field(default_factory=list)
    """Processes that outlived the run."""
    story: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    """What is to be said of what goes beyond changelogs."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Phase → how long it took."""

    def summary(self) -> str:
        """The evidence, in a few lines."""
        events = sum(len(one.events) for one in self.expected.values())
        copied = sum(len(one.copied) for one in self.expected.values())
        snapshots = sum(len(one.snapshots) for one in self.changelogs.values())
        lines = [
            f"{self.title} at random, seed {self.seed}, size {self.size:g}",
            f"  {self.transactions} transactions, {self.rolled_back} rolled back; refused: {_counts(self.refused)}",
            f"  {len(self.changelogs)} changelogs, {copied} rows copied, {events} events, {snapshots} snapshots",
            f"  dead letters: {len(self.letters)}",
            *self.lines,
            f"  steps: {_counts(self.steps)}",
            f"  activities tried again: {_counts(Counter({name: len(said) for name, said in self.failures.items()}))}",
            f"  workers killed: {_counts(self.kills)}; otherwise ended: {_counts(self.exits)}",
            f"  time: {', '.join(f'{phase} {seconds:.0f} s' for phase, seconds in self.seconds.items())}",
            "  troubles (requests struck, or times):",
            *(f"    {count:4}  {name}" for name, count in sorted(self.troubles.items())),
        ]
        return "\n".join(lines)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common()) or "none"


async def run_at_random(directory: Path, seed: str, size: float, plan: Plan) -> Run:
    """The whole run."""
    run = Run(seed, size, plan.title)
    clock = _Clock(run)
    async with open_world(directory, seed) as world:
        run.story, run.lost = world.story, world.lost
        writing = world.writing
        run.steps, run.refused = writing.committed, writing.refused
        world.say(f"seed {seed}, size {size:g}")
        plan.prepare(world)
        pool = Pool(world.fleet, plan.deaths(Random(f"{seed} deaths"), size), size=WORKERS, say=world.say)
        calm = Pool(world.fleet, (), size=WORKERS, say=world.say)
        run.kills, run.exits, run.last_exits = pool.kills, pool.exits, calm.exits
        world.begin_writing()
        telling = asyncio.create_task(tell_of_deaths(world, pool.dead))
        try:
            await _rage(run, world, pool, calm, clock, plan)
            await _calm(run, world, clock, plan)
            await _look(run, world)
            await plan.look(world)
            run.leaks = list(leaks(forms_of(world.fleet, "PostgreSQL's password"), await left_behind(world.fleet)))
            clock.note("evidence")
        finally:
            await world.end_writing()
            await calm.stop()
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        run.transactions, run.rolled_back = writing.transactions, writing.rolled_back
    run.left = processes_of(directory)
    run.lines = plan.lines()
    return run


class _Clock:
    """Notes how long each phase took."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._last = time.monotonic()

    def note(self, phase: str) -> None:
        now = time.monotonic()
        self._run.seconds[phase], self._last = now - self._last, now


async def _rage(run: Run, world: World, pool: Pool, calm: Pool, clock: _Clock, plan: Plan) -> None:
    """Everything goes wrong, four things at a time, until everything has; then other workers take over."""
    await pool.start()
    clock.note("start")
    try:
        deadline = time.monotonic() + plan.chaos_seconds * max(1, run.size)
        times = max(1, round(run.size))
        rows = {"parts": parts(pool) * times, "store": STORE * times, "catalog": CATALOG * times, "patience": PATIENT}
        rows |= {name: list(row) * times for name, row in plan.troubles().items()}
        run.expected_troubles = sorted({trouble.name for row in rows.values() for trouble in row})
        await asyncio.gather(
            _install(world, plan),
            _poison(world, plan),
            *(conduct(world, Random(f"{run.seed} {name}"), row, deadline, run.troubles) for name, row in rows.items()),
        )
        await _died(pool, deadline)
        await calm.start()
    finally:
        await pool.stop()
        clock.note("chaos")


async def _died(pool: Pool, deadline: float) -> None:
    """Wait until every death has happened.

    Temporal gives what one worker does to the same one again and again. Where that is not what it is to die of, nobody
    dies, so one worker after the other has to leave.
    """
    while time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(MOVE_SECONDS):
                await pool.done.wait()
                return
        pool.retire()


async def _install(world: World, plan: Plan) -> None:
    """First most tables, then one after the other, while their columns change, what comes later."""
    await world.install([table for table in TABLES if not table.later])
    for table in [table for table in TABLES if table.later]:
        world.writing.favourites = (table.identifier,)
        await asyncio.sleep(APART_SECONDS)
        await world.install([table])
    await world.copied(table.identifier, plan.chaos_seconds)
    world.writing.favourites = ()


async def _poison(world: World, plan: Plan) -> None:
    """Rows that no table can hold, once the first copy is there, which they would stop."""
    [table] = [table for table in TABLES if table.poisoned]
    await eventually(lambda: table.identifier in world.installed, seconds=plan.chaos_seconds)
    await world.copied(table.identifier, plan.chaos_seconds)
    world.writing.poison = POISON


async def _calm(run: Run, world: World, clock: _Clock, plan: Plan) -> None:
    """No trouble any more: everything is carried over, what cannot be is settled, and everything is announced."""
    world.say("calm")
    await asyncio.sleep(1)
    await world.end_writing()
    last = await last_commit(world.source)
    try:
        await world.carried(last, CALM_SECONDS * max(1, run.size))
        world.say("everything is carried over")
        run.letters = await settle_letters(world, last)
        await plan.calm(world, CALM_SECONDS * max(1, run.size))
    except AssertionError as never:
        run.lost.append(f"in the calm: {never}")
        world.say(run.lost[-1])
    run.status = await world.told("status")
    run.states = await world.states()
    run.buffered = await world.buffered()
    run.slot_lag = await _let_go(world, last)
    clock.note("calm")


async def _let_go(world: World, last: int) -> int:
    """Wait until the slot holds back nothing of what was carried over; answers the bytes that it still does."""

    async def lag() -> int:
        [(behind,)] = await world.source.rows(
            "SELECT %s::text::pg_lsn - confirmed_flush_lsn FROM pg_replication_slots "
            f"WHERE slot_name <> '{SLOT}' AND NOT temporary AND database = %s",
            lsn_text(last),
            world.source.database,
        )
        return int(behind)

    async def gone() -> bool:
        return await lag() <= 0

    with contextlib.suppress(AssertionError):
        await eventually(gone, seconds=CALM_SECONDS)
    return await lag()


async def _look(run: Run, world: World) -> None:
    run.log = await read_log(world.source)
    run.final = await final_rows(world.source, TABLES)
    found = await asyncio.to_thread(look_at, world.fleet, [table.changelog for table in TABLES])
    run.changelogs = {table.identifier: found[table.changelog] for table in TABLES}
    for table in TABLES:
        changelog = run.changelogs[table.identifier]
        changelog.events = await _announced(world, table, len(changelog.snapshots))
    queues = (world.fleet.queue, world.fleet.cdc_queue, world.fleet.merge_queue)
    run.failures = await activity_failures(world.fleet.temporal, *queues)
    run.expected = {
        table.identifier: expect(table, run.log[table.identifier], copied_lsn(run.changelogs[table.identifier]))
        for table in TABLES
    }


async def _announced(world: World, table: Table, snapshots: int) -> list[dict[str, Any]]:
    """What the stream holds of a changelog, once it has heard of all; less if it never does."""

    async def heard() -> list[dict[str, Any]]:
        events = await world.fleet.events(table.changelog.partition(".")[2], network="cdc")
        return events if len(events) >= snapshots else []

    with contextlib.suppress(AssertionError):
        return list(await eventually(heard, seconds=60, every=1))
    return await world.fleet.events(table.changelog.partition(".")[2], network="cdc")


def copied_lsn(changelog: Changelog) -> int:
    """The position of the source's log at which a changelog's first copy was made."""
    return int(changelog.properties["icefleet.cdc.copied-lsn"])

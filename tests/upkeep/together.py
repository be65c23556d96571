"""Exports, ingest, merges, upkeep and readers at once, while workers die; and what must be there afterwards."""

import asyncio
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from activities.clients.buffer import Buffer
from activities.contracts.cdc import INSTALL_WORKFLOW
from activities.contracts.maintain import MAINTAIN_WORKFLOW, MaintainReport
from activities.failpoints import CHANGELOG_UPKEEP_NAMES, INGEST_NAMES, MERGE_NAMES, MIRROR_UPKEEP_NAMES
from activities.lake.changelogupkeep import RULES
from deploy.local.stack import Stack
from support.buffers import SCHEMA, Event, Producer, delete, insert, schema_event, update
from support.evidence import source_rows, table_rows
from support.fleet import Fleet, eventually
from support.mirrors import same_by_all_readers
from support.ownpostgres import OwnPostgres, fresh_database

GRACE = 4
"""Seconds for which a reader may hold on to what it began with."""
LONGEST_READ = 1.5
PIPELINE = "shop"
DAYS = ("2024-03-18", "2024-03-19", "2024-03-20")
KEYS = 200
POINTS = sorted(
    {"before-expire", "after-expire", "before-manifests", "after-manifests", "before-commit", "after-commit"}
    | INGEST_NAMES
    | MERGE_NAMES
    | MIRROR_UPKEEP_NAMES
    | CHANGELOG_UPKEEP_NAMES
)
"""Where workers die."""


@dataclass
class World:
    """What runs, and what has been seen."""

    fleet: Fleet
    own: OwnPostgres
    producer: Producer
    random: Random
    namespace: str
    rows: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Key → name and amount that the mirror must have in the end."""
    changes: int = 0
    done: Counter[str] = field(default_factory=Counter)
    reports: list[MaintainReport] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    """What readers could not read in their time."""
    deaths: list[str] = field(default_factory=list)

    @property
    def changelog(self) -> str:
        return f"{self.namespace}.public_orders_changelog"

    @property
    def mirror(self) -> str:
        return f"{self.namespace}.orders"

    @property
    def exported(self) -> str:
        return f"{self.fleet.network}.events"

    # --- what goes on -------------------------------------------------------------------------------------------

    async def change(self) -> None:
        """A transaction of the source of the changelog."""
        events = [self._event() for _ in range(self.random.randint(1, 8))]
        await self.producer.transaction(*events)
        self.changes += len(events)
        self.done["transactions"] += 1

    def _event(self) -> Event:
        key = self.random.randrange(KEYS)
        if key in self.rows and self.random.random() < 0.3:
            del self.rows[key]
            return delete(key)
        name, amount = f"n{self.random.randrange(10**6)}", f"{self.random.randrange(1000)}.50"
        made = update if key in self.rows else insert
        self.rows[key] = (name, amount)
        return made(key, name, amount)

    async def late(self) -> None:
        """Late rows of an exported day, which replace its file."""
        self.done["late"] += 1
        day, number = self.random.choice(DAYS), self.done["late"]
        updated = f"2024-05-01 {number // 60 % 24:02}:{number % 60:02}:00"
        await self.fleet.insert(
            "events", f"toDateTime('{day} 12:00:00', 'UTC')", 3, updated=updated, offset=1000 * number
        )
        await self.export(day)

    async def export(self, day: str) -> None:
        """Ask until it is there: a worker may die."""
        report = await self.fleet.request(from_=day, to=day)
        while report.status not in {"complete", "nothing_to_do"}:
            report = await self.fleet.request(from_=day, to=day)
        self.done["exports"] += 1

    async def maintain(self, **fields: Any) -> MaintainReport:
        """All tables, as the schedule would."""
        report: MaintainReport = await self.fleet.temporal.execute_workflow(
            MAINTAIN_WORKFLOW,
            {"environment": self.fleet.name, **fields},
            id=f"maintain-{uuid.uuid4()}",
            task_queue=self.fleet.queue,
            result_type=MaintainReport,
        )
        self.reports.append(report)
        return report

    async def read(self) -> None:
        """Begin to read a table, look away for a while, and read on."""
        name = self.random.choice([self.exported, self.changelog, self.mirror])
        began = time.monotonic()
        table = await asyncio.to_thread(self.fleet.load, name)
        head = table.current_snapshot() if table is not None else None
        if head is None:
            return
        total = int(head.summary["total-records"]) - int(
            head.summary.additional_properties.get("total-position-deletes", 0)
        )
        await asyncio.sleep(self.random.uniform(0, LONGEST_READ))
        try:
            found = (await asyncio.to_thread(table.scan().to_arrow)).num_rows
        except OSError as gone:
            if time.monotonic() - began < GRACE:
                self.lost.append(f"{name}, after {time.monotonic() - began:.1f} s: {gone}")
            return
        if found != total:
            self.lost.append(f"{name}: {found} rows where snapshot {head.snapshot_id} has {total}")
        self.done["reads"] += 1

    # --- the end ------------------------------------------------------------------------------------------------

    async def carried(self) -> None:
        """Everything that was written is in the changelog, and from there in the mirror."""

        def all_there() -> bool:
            table = self.fleet.load(self.changelog)
            return table is not None and table.scan().count() == self.changes

        await eventually(all_there, seconds=120, every=0.5)
        await eventually(lambda: self.mirrored() == self.rows, seconds=120, every=0.5)

    def mirrored(self) -> dict[int, tuple[str, str]]:
        """The mirror as PyIceberg reads it."""
        table = self.fleet.load(self.mirror)
        found = [] if table is None else table.scan().to_arrow().to_pylist()
        return {row["id"]: (row["name"], str(row["amount"])) for row in found}

    async def check(self) -> None:
        """Three readers find in every table what must be there."""
        names = [self.exported, self.changelog, self.mirror]
        exported, changes, rows = await asyncio.to_thread(same_by_all_readers, self.fleet, names)
        assert table_rows(self.fleet) == await source_rows(self.fleet)
        assert len(exported) == len(await source_rows(self.fleet))
        assert len(changes) == self.changes
        sequences = [row[1] for row in changes]
        assert len(set(sequences)) == len(sequences)
        assert len(rows) == len(self.rows)
        assert self.mirrored() == self.rows
        assert self.lost == []


@asynccontextmanager
async def opened(fleet: Fleet, stack: Stack, seed: str) -> AsyncIterator[World]:
    """Everything set up: a table with three days, a pipeline that the test fills, a mirror."""
    fleet.set_export(keep_snapshots=2, snapshot_age_seconds=0, orphan_age_seconds=5, grace_seconds=GRACE)
    await fleet.make_days(days=len(DAYS), rows=10)
    async with fresh_database(stack) as own:
        namespace = f"{fleet.network}cdc"
        rules = {"keep_snapshots": 2, "snapshot_age_seconds": 0, "grace_seconds": GRACE, "commit_interval_ms": 100}
        fleet.set_cdc(**{PIPELINE: {"buffer": own.config(schema=SCHEMA), "namespace": namespace, **rules}})
        fleet.set_mirrors(
            {
                "changelog_table": f"{namespace}.public_orders_changelog",
                "mirror_table": f"{namespace}.orders",
                "primary_keys": ["id"],
                "merge_interval": "1s",
                "compaction": {"small_files": 4},
                "expiry": {"keep_snapshots": 2, "snapshot_age": "0s", "grace": f"{GRACE}s"},
            }
        )
        await Buffer(own.settings, SCHEMA).install()
        yield World(fleet, own, Producer(own), Random(seed), namespace)


@asynccontextmanager
async def living(world: World, deaths: list[str]) -> AsyncIterator[None]:
    """A worker that is followed by another one when it has died: each at the next of `deaths`, the last at none."""
    ending = False
    process: list[asyncio.subprocess.Process] = []

    async def keep_alive() -> None:
        for number, point in enumerate([*deaths, ""]):
            log = world.fleet.directory / f"worker-{number}.log"
            words = [sys.executable, str(Path(__file__).with_name("impatient.py")), "worker", "-e", world.fleet.name]
            words += ["--failpoint", point] if point else []
            with log.open("wb") as output:
                process[:] = [
                    await asyncio.create_subprocess_exec(
                        *words, env=world.fleet.variables(), stdout=output, stderr=output
                    )
                ]
            await process[0].wait()
            if ending:
                return
            assert process[0].returncode == -9, log.read_text()[-3000:]
            world.deaths.append(point)

    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(keep_alive())
        try:
            yield
        finally:
            ending = True
            if process and process[0].returncode is None:
                process[0].kill()
        await keeping


async def install(world: World) -> None:
    """Have the ingest run, and the first rows come."""
    request = {"environment": world.fleet.name, "pipeline": PIPELINE}
    await world.fleet.temporal.execute_workflow(
        INSTALL_WORKFLOW, request, id=f"install-{uuid.uuid4()}", task_queue=world.fleet.cdc_queue
    )
    await world.producer.transaction(schema_event())
    await world.change()
    await world.export("")


async def some_batches(world: World) -> None:
    """As many small files as upkeep puts together."""
    for _ in range(RULES.small_files):
        before = await asyncio.to_thread(snapshot_of, world)
        await world.change()
        await eventually(lambda before=before: snapshot_of(world) != before, seconds=60)


def snapshot_of(world: World) -> int | None:
    """The head of the changelog."""
    table = world.fleet.load(world.changelog)
    return None if table is None else table.metadata.current_snapshot_id


async def run_together(world: World, seconds: float) -> None:
    """Everything at once, each at its own pace, for so long."""
    until = time.monotonic() + seconds

    async def again(work: Any, pause: float) -> None:
        while time.monotonic() < until:
            await work()
            await asyncio.sleep(world.random.uniform(0, pause))

    async with asyncio.TaskGroup() as group:
        group.create_task(again(world.change, 0.3))
        group.create_task(again(world.late, 2))
        group.create_task(again(world.maintain, 2))
        for _ in range(3):
            group.create_task(again(world.read, 0.5))


async def settled(world: World) -> None:
    """What is left to be deleted is deleted: a grace period later, and behind a last change."""
    await world.maintain()
    await world.change()
    await world.late()
    await world.carried()
    await world.maintain()
    await asyncio.sleep(GRACE + 2)
    await world.maintain()


def sums(world: World) -> dict[str, int]:
    """Of all reports. A worker that dies behind a compaction has told nobody of it: the changelog does."""
    names = ("expired", "deleted", "freed", "manifests", "refreshed")
    told = {name: sum(getattr(report, name) for report in world.reports) for name in names}
    files = world.fleet.load(world.changelog).inspect.data_files()["file_path"].to_pylist()
    return told | {"compacted": sum("/compacted/" in path for path in files)}

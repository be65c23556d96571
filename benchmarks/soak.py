"""`make soak MINUTES=60`: a fleet at work for an hour, whose memory, open files and histories must stay flat.

New hours arrive at the source all the time; a schedule's request asks for whatever is due every few seconds, and forces
one partition again now and then. Beside it the rows of a PostgreSQL's table change, which are captured, ingested and
merged into a mirror (soakchanges.py). Every two minutes all three tables are kept in order. A sample every few seconds
is written as CSV, and drawn as an SVG. The verdict compares the second half of the run with its second quarter: what
was warmed up by then may not have grown by more than a tenth, nor may the longest history of all loops. In the end the
mirror must hold the source's rows.
"""

import argparse
import asyncio
import csv
import os
import sys
import tempfile
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import attestations
import psutil
import scaling
from bench import Bench, opened
from harness import MEGABYTE, RESULTS, Figure, median, report
from soakchanges import CHANGELOG, MIRROR, MIRRORS, Changes
from soakplot import drawn
from temporalio.client import Client

from activities.contracts.export import ExportRequest
from activities.contracts.inputs import write_input
from activities.contracts.maintain import MAINTAIN_WORKFLOW, MaintainReport, MaintainRequest
from starter.export import start_request
from worker.temporal import connect_temporal

TABLE = "soaked"
SAMPLE_SECONDS = 5
REQUEST_SECONDS = 4
UPKEEP_SECONDS = 120
GROWTH = 1.1
COMMAND = "make soak MINUTES=60"


@dataclass(frozen=True)
class Sample:
    """The worker at one moment."""

    minute: float
    resident_mb: float
    open_files: int
    threads: int
    history_events: int
    """Of whichever loop has the longest as it runs."""
    history_kb: float
    partitions: int
    """Exported until then."""
    changes: int
    """Made at PostgreSQL until then."""


def main() -> None:
    """Work, sample, draw, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("MINUTES", "60")))
    minutes = parser.parse_args().minutes
    with (
        tempfile.TemporaryDirectory(prefix="icefleet-soak-") as directory,
        opened(Path(directory), (), last="2024-05-01", narrow=[TABLE], mirrors=MIRRORS) as bench,
    ):
        samples = bench.wait(_soak(bench, minutes))
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "soak.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(Sample))
        writer.writerows(astuple(sample) for sample in samples)
    (RESULTS / "soak.svg").write_text(drawn(samples))
    print(f"{len(samples)} samples: {RESULTS / 'soak.csv'}, {RESULTS / 'soak.svg'}")
    report("soak", list(_figures(samples)))
    sys.stdout.flush()
    os._exit(0)


def _figures(samples: list[Sample]) -> list[Figure]:
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[2 * quarter :]
    if not early:
        raise RuntimeError("too short a run to be judged")
    found = []
    for name in ("resident_mb", "open_files", "history_events", "history_kb"):
        # A history grows until its loop begins a new run: what counts is how long it becomes.
        typical = max if name.startswith("history") else median
        before, after = (typical([getattr(one, name) for one in part]) for part in (early, late))
        ratio = after / before if before else 1.0
        found.append(Figure(f"soak.{name}_growth", round(ratio, 4), "times", "lower", GROWTH, COMMAND))
    last = samples[-1]
    for name in ("partitions", "changes"):
        speed = getattr(last, name) / (last.minute * 60)
        found.append(Figure(f"soak.{name}_per_second", round(speed, 4), f"{name}/s", "higher", None, COMMAND))
    return found


async def _soak(bench: Bench, minutes: float) -> list[Sample]:
    started, samples = time.monotonic(), []
    for statement in scaling.fill(TABLE, 24):
        await bench.clickhouse.command(statement)
    async with Changes(bench) as changes:
        work = _Work(bench, changes)
        working = asyncio.create_task(work.go_on())
        worker = psutil.Process(bench.worker.pid)
        while (now := time.monotonic() - started) < minutes * 60:
            await asyncio.sleep(SAMPLE_SECONDS)
            if working.done():
                working.result()
            loop, events, size = await work.longest()
            memory = worker.memory_info().rss / MEGABYTE
            counted = (worker.num_fds(), worker.num_threads(), events, size / 1000)
            sample = Sample(now / 60, memory, *counted, work.exported, changes.made)
            samples.append(sample)
            print(f"{sample.minute:6.1f} min  {memory:6.1f} MB  {events} events of {loop}", flush=True)
        working.cancel()
        await asyncio.wait([working])
        await changes.arrive()
    return samples


class _Work:
    """Rows that arrive, and requests for what they become."""

    def __init__(self, bench: Bench, changes: Changes) -> None:
        self._bench = bench
        self._changes = changes
        self._environment = bench.settings.environment("local")
        self._hours = 24
        self.exported = 0

    async def go_on(self) -> None:
        """Until it is cancelled."""
        client = await connect_temporal(self._environment)
        turn, kept = 0, time.monotonic()
        while True:
            turn += 1
            await self._insert()
            await self._changes.go_on()
            force = {"from_": "2024-03-20T00", "to": "2024-03-20T03", "force": True} if turn % 5 == 0 else {}
            request = ExportRequest(table=TABLE, network=attestations.NETWORK, **force)  # type: ignore[arg-type]
            ended = await (await start_request(client, self._environment.temporal.task_queue, request)).result()
            if ended.failures:
                raise RuntimeError(f"{ended.status}: {ended.failures[0]}")
            self.exported += ended.exported
            if time.monotonic() - kept > UPKEEP_SECONDS:
                await self._keep(client, turn)
                kept = time.monotonic()
            await asyncio.sleep(REQUEST_SECONDS)

    async def _keep(self, client: Client, turn: int) -> None:
        tables = [f"{attestations.NETWORK}.{TABLE}", CHANGELOG, MIRROR]
        report: MaintainReport = await client.execute_workflow(
            MAINTAIN_WORKFLOW,
            write_input(MaintainRequest(tables)),
            id=f"soak-upkeep-{turn}",
            task_queue=self._environment.temporal.task_queue,
            result_type=MaintainReport,
        )
        print(f"upkeep: {report.status}, {report.message}", flush=True)
        if report.problems:
            raise RuntimeError(report.problems[0])

    async def _insert(self) -> None:
        """Two more hours; when the range is full, newer rows of hours that are there."""
        first = self._hours % 900
        at = (
            f"toDateTime({attestations.FIRST_HOUR} + ({first} + intDiv(number, {scaling.ROWS})) * 3600 + number % 3600)"
        )
        await self._bench.clickhouse.command(
            f"INSERT INTO {attestations.DATABASE}.{TABLE} SELECT now(), {at}, number, '{attestations.NETWORK}' "
            f"FROM numbers({2 * scaling.ROWS})"
        )
        self._hours += 2

    async def longest(self) -> tuple[str, int, int]:
        """The loop with the longest history of all that run, and the events and bytes of that."""
        client = await connect_temporal(self._environment)
        found = [("", 0, 0)]
        async for listed in client.list_workflows("ExecutionStatus = 'Running'"):
            described = await client.get_workflow_handle(listed.id, run_id=listed.run_id).describe()
            info = described.raw_description.workflow_execution_info
            found.append((listed.id, info.history_length, info.history_size_bytes))
        return max(found, key=lambda one: one[1:])


if __name__ == "__main__":
    main()

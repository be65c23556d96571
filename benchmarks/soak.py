"""`make soak MINUTES=60`: a fleet at work for an hour, whose memory, open files and histories must stay flat.

New hours arrive at the source all the time; a schedule's request asks for whatever is due every few seconds, forces one
partition again now and then, and has the table kept in order. A sample every few seconds is written as CSV, and drawn
as an SVG. The verdict compares the second half of the run with its second quarter: what was warmed up by then may not
have grown by more than a tenth.
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
from soakplot import drawn

from activities.contracts.export import UPKEEP_WORKFLOW, ExportRequest, loop_id
from activities.contracts.inputs import write_input
from activities.contracts.upkeep import UpkeepRequest
from starter.export import start_request
from worker.temporal import connect_temporal

TABLE = "soaked"
SAMPLE_SECONDS = 5
REQUEST_SECONDS = 4
UPKEEP_EVERY = 30
"""Requests."""
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
    """Of the table's loop as it runs."""
    history_kb: float
    partitions: int
    """Exported until then."""


def main() -> None:
    """Work, sample, draw, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("MINUTES", "60")))
    minutes = parser.parse_args().minutes
    with (
        tempfile.TemporaryDirectory(prefix="icefleet-soak-") as directory,
        opened(Path(directory), (), last="2024-05-01", narrow=[TABLE]) as bench,
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
        before, after = (median([getattr(one, name) for one in part]) for part in (early, late))
        ratio = after / before if before else 1.0
        found.append(Figure(f"soak.{name}_growth", round(ratio, 4), "times", "lower", GROWTH, COMMAND))
    last = samples[-1]
    speed = last.partitions / (last.minute * 60)
    return [*found, Figure("soak.partitions_per_second", round(speed, 4), "partitions/s", "higher", None, COMMAND)]


async def _soak(bench: Bench, minutes: float) -> list[Sample]:
    started, samples = time.monotonic(), []
    for statement in scaling.fill(TABLE, 24):
        await bench.clickhouse.command(statement)
    work = _Work(bench)
    working = asyncio.create_task(work.go_on())
    worker = psutil.Process(bench.worker.pid)
    while (now := time.monotonic() - started) < minutes * 60:
        await asyncio.sleep(SAMPLE_SECONDS)
        if working.done():
            working.result()
        events, size = await work.history()
        memory = worker.memory_info().rss / MEGABYTE
        opened_files = worker.num_fds()
        sample = Sample(now / 60, memory, opened_files, worker.num_threads(), events, size / 1000, work.exported)
        samples.append(sample)
        print(f"{sample.minute:6.1f} min  {memory:6.1f} MB  {opened_files} files  {events} events", flush=True)
    working.cancel()
    return samples


class _Work:
    """Rows that arrive, and requests for what they become."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._hours = 24
        self.exported = 0

    async def go_on(self) -> None:
        """Until it is cancelled."""
        environment = self._bench.settings.environment("local")
        client = await connect_temporal(environment)
        turn = 0
        while True:
            turn += 1
            await self._insert()
            force = {"from_": "2024-03-20T00", "to": "2024-03-20T03", "force": True} if turn % 5 == 0 else {}
            request = ExportRequest(table=TABLE, network=attestations.NETWORK, **force)  # type: ignore[arg-type]
            ended = await (await start_request(client, environment.temporal.task_queue, request)).result()
            if ended.failures:
                raise RuntimeError(f"{ended.status}: {ended.failures[0]}")
            self.exported += ended.exported
            if turn % UPKEEP_EVERY == 0:
                await client.execute_workflow(
                    UPKEEP_WORKFLOW,
                    write_input(UpkeepRequest(table=TABLE, network=attestations.NETWORK)),
                    id=f"soak-upkeep-{turn}",
                    task_queue=environment.temporal.task_queue,
                )
            await asyncio.sleep(REQUEST_SECONDS)

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

    async def history(self) -> tuple[int, int]:
        """Events and bytes of the loop's history."""
        client = await connect_temporal(self._bench.settings.environment("local"))
        described = await client.get_workflow_handle(loop_id("local", attestations.NETWORK, TABLE)).describe()
        info = described.raw_description.workflow_execution_info
        return info.history_length, info.history_size_bytes


if __name__ == "__main__":
    main()

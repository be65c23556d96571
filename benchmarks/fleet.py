"""`make bench-fleet`: how a fleet grows, drains, starts, and what it costs to be watched.

Everything runs in one go on this machine. Throughput of 1, 2, 4 and 8 workers of two slots each is measured before a
store that answers 400 ms late (scaling.py), since more workers on the same cores can only help where they wait. A
drain is measured from SIGTERM to the end of a worker's process, at random moments of such an export. Telemetry is
measured as the same export with everything on and off in turn (watched.py).
"""

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import scaling
import watched
from bench import Bench, opened, worker_of
from harness import MEGABYTE, Figure, Memory, chosen_parts, median, report, scale

COMMAND = "make bench-fleet"
PARTS = ("workers", "drain", "telemetry", "idle")
SERIES = scaling.Series(workers=(1, 2, 4, 8), delay=0.4, tables_each=8, hours=64)
DRAINS = 20
LAST = "2024-05-25"
"""Days enough for the hours of every table."""
KINDS = ("control", "export.default", "cdc", "merge", "upkeep", "")
"""What an idle worker may serve; the last is everything."""
MIRROR = {"changelog_table": "cdc.none", "mirror_table": "mirror.none", "primary_keys": ["id"]}
"""Without one there is nothing that a worker of mirrors could serve."""
IDLE_SECONDS = 3
AIMS = {
    "fleet.speedup_8_workers": 6.0,
    "fleet.drain_seconds_p99": 10.0,
    "telemetry.overhead_percent": 3.0,
}


def main() -> None:
    """Measure, print, write."""
    chosen = chosen_parts(__doc__, PARTS)
    with tempfile.TemporaryDirectory(prefix="icefleet-bench-") as directory:
        narrow = [*SERIES.tables, *DRAINED.tables]
        environments = {scaling.LATE: scaling.late_environment}
        with opened(
            Path(directory), watched.TABLES, last=LAST, narrow=narrow, environments=environments, mirrors=[MIRROR]
        ) as bench:
            figures = Benchmarks(bench).run(chosen)
    report("fleet", figures, whole=len(chosen) == len(PARTS))
    sys.stdout.flush()
    os._exit(0)


DRAINED = scaling.Series("drained", workers=(2,), delay=0.3, tables_each=3, hours=900)
"""What is exported while workers are told to stop."""


class Benchmarks:
    """The measurements, one method each."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._figures: list[Figure] = []

    def run(self, chosen: list[str]) -> list[Figure]:
        """Measure what was chosen, and answer the figures."""
        parts = {"workers": self._workers, "drain": self._drain, "telemetry": self._telemetry, "idle": self._idle}
        for name in chosen:
            parts[name]()
        return self._figures

    def _figure(self, name: str, value: float, unit: str, better: Literal["lower", "higher"]) -> None:
        self._figures.append(Figure(name, round(value, 4), unit, better, AIMS.get(name), COMMAND))
        print(f"  {name}: {value:.3f} {unit}", flush=True)

    def _workers(self) -> None:
        speeds = scaling.speeds(self._bench, SERIES)
        for workers, speed in speeds.items():
            self._figure(f"fleet.workers_{workers}.partitions_per_second", speed, "partitions/s", "higher")
        for workers in SERIES.workers[1:]:
            self._figure(f"fleet.speedup_{workers}_workers", speeds[workers] / speeds[1], "times", "higher")

    def _drain(self) -> None:
        """One worker after the other is told to stop, at a moment of its export; another one goes on."""
        seconds = scaling.drains(self._bench, DRAINED, max(3, int(DRAINS * scale())))
        print(f"  {len(seconds)} drains: median {median(seconds):.2f} s, longest {max(seconds):.2f} s")
        self._figure("fleet.drain_seconds_p50", median(seconds), "s", "lower")
        # Of twenty the longest: what it says of one in a hundred is no less.
        self._figure("fleet.drain_seconds_p99", max(seconds), "s", "lower")

    def _telemetry(self) -> None:
        self._bench.worker.send_signal(signal.SIGTERM)  # each run has a worker of its own
        self._bench.worker.wait()
        more = watched.overhead(self._bench)
        self._figure("telemetry.overhead_percent", more.time, "%", "lower")
        self._figure("telemetry.cpu_overhead_percent", more.cpu, "%", "lower")

    def _idle(self) -> None:
        for kind in KINDS:
            words = ("--serve", kind) if kind else ()
            started = time.perf_counter()
            with worker_of("local", self._bench.directory, f"idle-{kind or 'all'}", words=words) as worker:
                seconds = time.perf_counter() - started
                time.sleep(IDLE_SECONDS)
                memory = Memory(worker.pid).idle / MEGABYTE
            label = kind.split(".")[0] or "all"
            self._figure(f"worker.{label}.start_seconds", seconds, "s", "lower")
            self._figure(f"worker.{label}.idle_rss_mb", memory, "MB", "lower")
            if not kind:
                self._figure("worker.start_seconds", seconds, "s", "lower")
                self._figure("worker.idle_rss_mb", memory, "MB", "lower")


if __name__ == "__main__":
    random.seed(7)
    main()

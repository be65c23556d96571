"""What every benchmark needs: medians, memory over idle, a table for people and JSON for machines."""

import argparse
import json
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

import psutil

RESULTS = Path(__file__).with_name("results")
SAMPLE_SECONDS = 0.02
LOOK_SECONDS = 0.1
RESTING_PERCENT = 10
MEGABYTE = 1e6


Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Figure:
    """One measured value beside what it is meant to be."""

    name: str
    value: float
    unit: str
    better: Better
    aim: float | None
    command: str

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None without one."""
        if self.aim is None:
            return None
        return self.value <= self.aim if self.better == "lower" else self.value >= self.aim

    @property
    def aim_words(self) -> str:
        """Such as `≤ 2`; empty without an aim."""
        return "" if self.aim is None else f"{'≤' if self.better == 'lower' else '≥'} {self.aim:g}"


def told(name: str, value: float, unit: str, better: Better, aims: Mapping[str, float], command: str) -> Figure:
    """A figure, which is printed as soon as it is known."""
    print(f"  {name}: {value:.4f} {unit}", flush=True)
    return Figure(name, round(value, 4), unit, better, aims.get(name), command)


def chosen_parts(description: str | None, parts: Sequence[str]) -> list[str]:
    """The parts of a benchmark that the command line names by `--only`, which may be repeated; without it, all."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--only", choices=parts, action="append")
    return list(dict.fromkeys(parser.parse_args().only or parts))


class Memory:
    """Resident memory of a process in bytes: what it is now (`idle`), and its peak while the block runs."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.idle = self._process.memory_info().rss
        self.peak = self.idle

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, self._process.memory_info().rss)


def alternate(runs: int, *contenders: Callable[[], float]) -> list[list[float]]:
    """Seconds of each contender, measured in turn, so that what disturbs one disturbs all."""
    measured: list[list[float]] = [[] for _ in contenders]
    for _ in range(runs):
        for seconds, contender in zip(measured, contenders, strict=True):
            seconds.append(contender())
    return measured


def at_rest(seconds: float = 20) -> None:
    """Wait until this machine has hardly anything to do: what the one before has left behind is nobody else's time.

    Of a machine that others keep busy no more is waited for than `seconds`.
    """
    until = time.monotonic() + seconds
    while psutil.cpu_percent(interval=LOOK_SECONDS) > RESTING_PERCENT and time.monotonic() < until:
        pass


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def scale() -> float:
    """`SCALE=0.1` shrinks a run."""
    return float(os.environ.get("SCALE", "1"))


def report(name: str, figures: Sequence[Figure], *, whole: bool = True, results: Path = RESULTS) -> None:
    """Print the figures, and write `benchmarks/results/<name>.json`; at another scale, `results/scaled/<name>.json`.

    Those of a part of the run take the places of what was measured under their names before, on the same machine and
    at the same scale: every ratio is within one part.
    """
    if scale() != 1:
        results /= "scaled"
    machine = {
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "scale": scale(),
    }
    width = max(len(figure.name) for figure in figures)
    print(f"\n{'figure':<{width}}  {'value':>10}  {'aim':>12}")
    for figure in figures:
        mark = {True: "met", False: "missed", None: ""}[figure.met]
        print(f"{figure.name:<{width}}  {figure.value:>10.3g}  {figure.aim_words:>12}  {figure.unit:<14} {mark}")
    path = results / f"{name}.json"
    held: dict[str, dict[str, object]] = {}
    if not whole:
        before = json.loads(path.read_text()) if path.exists() else {}
        if before.get("machine") != machine:
            print("\nnot written: these are not all figures, and the others are not of this machine and scale")
            return
        held = {figure["name"]: figure for figure in before["figures"]}
    held |= {figure.name: asdict(figure) for figure in figures}
    results.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "figures": list(held.values())}, indent=2) + "\n")
    print(f"\nwritten to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")

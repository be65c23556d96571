"""What it costs a worker to be watched: the same export with all telemetry on, and with none, in turn.

On is what we ship, and more: every trace is recorded and sent over OTLP (the overlays of Kubernetes record a tenth),
metrics are scraped every 15 s, as deploy/prometheus does it (a PodMonitor: 30 s), and sent over OTLP as well, every
15 s (by default 60 s), so that each run has its share of either. Off is a worker of which nobody wants to know
anything. Runs last for twenty seconds and more, each in a process of its own; which of a pair comes first changes from
pair to pair, so that what grows from run to run counts for both.

Two things are compared within each pair, and the median over all pairs is told: the time of the whole export, and CPU
seconds of the worker, in all its threads, from when it was ready until its process has ended, having sent the last.
"""

import resource
from collections.abc import Sequence
from dataclasses import dataclass

import attestations
import collector
import psutil
from bench import Bench, worker_of
from contenders import icefleet
from harness import median, scale

PAIRS = 10
PARTITIONS = 1200
"""Of each export, of 1,000 rows."""
TABLES = tuple(f"watched_{number}" for number in range(2 * PAIRS + 2))
SPANS_EACH = 2
"""The least that an export of one partition records: its object is written, and its footer read."""


@dataclass(frozen=True)
class Run:
    """What one export took."""

    seconds: float
    cpu_seconds: float
    """Of the worker."""


@dataclass(frozen=True)
class Overhead:
    """How much more it is with everything on, in percent."""

    time: float
    cpu: float


def overhead(bench: Bench) -> Overhead:
    """Measure it; the bench's own worker must have ended.

    Raises:
        RuntimeError: the collector did not receive all that it should: this would measure nothing.
    """
    count = max(20, int(PARTITIONS * scale()))
    fill(bench, count)
    off: list[Run] = []
    on: list[Run] = []
    with collector.running() as sink:
        for number in range(PAIRS + 1):
            order = (False, True) if number % 2 else (True, False)
            for second, is_on in enumerate(order):
                run = _run(bench, TABLES[2 * number + second], sink if is_on else None)
                if number:  # the first pair warms the source up
                    (on if is_on else off).append(run)
                print(f"  {'on ' if is_on else 'off'} {run.seconds:.2f} s, CPU {run.cpu_seconds:.2f} s", flush=True)
        _see_that_all_came(sink.received(), count * (PAIRS + 1))
    return Overhead(
        time=_more([run.seconds for run in on], [run.seconds for run in off]),
        cpu=_more([run.cpu_seconds for run in on], [run.cpu_seconds for run in off]),
    )


def fill(bench: Bench, count: int) -> None:
    """Make the tables, of so many hours."""
    at = f"toDateTime({attestations.FIRST_HOUR} + intDiv(number, 1000) * 3600 + (number % 300) * 12)"
    for table in TABLES:
        for statement in attestations.create(table):
            bench.sql(statement)
        bench.sql(attestations.made(table, count * 1000, at))
    bench.calm()


def _run(bench: Bench, table: str, sink: collector.Sink | None) -> Run:
    words, variables = (sink.worker_words, sink.variables) if sink is not None else ((), {})
    ended = _cpu_of_ended()
    with worker_of("local", bench.directory, f"worker-{table}", words=words, variables=variables) as worker:
        times = psutil.Process(worker.pid).cpu_times()
        seconds = icefleet(bench, table)()
    return Run(seconds, _cpu_of_ended() - ended - times.user - times.system)


def _cpu_of_ended() -> float:
    """CPU seconds of all processes that this one started, and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _more(on: Sequence[float], off: Sequence[float]) -> float:
    return 100 * median([more / less - 1 for more, less in zip(on, off, strict=True)])


def _see_that_all_came(received: collector.Received, partitions: int) -> None:
    print(f"  received: {received}")
    if received.spans < SPANS_EACH * partitions or not received.metrics or (scale() >= 1 and not received.scrapes):
        raise RuntimeError(f"the collector did not receive what {partitions} partitions tell: {received}")

"""Every instrument of a worker, driven for many tables.

Run as `python -m support.drivenmetrics TABLES NETWORKS`, it prints what Prometheus would get. In a process of its own,
since a process has one set of metrics. Temporal's SDK is driven through its own meter, under the names and labels that
it has for every workflow and activity of ours; `tests/e2e/test_metrics.py` finds no other in a worker's text.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ENVIRONMENT = "production"
ROOT = Path(__file__).parents[2]
QUEUES = 6
OF_ACTIVITIES = ("activity_execution_latency", "activity_succeed_endtoend_latency")
OF_WORKFLOWS = ("workflow_endtoend_latency", "workflow_task_execution_latency", "workflow_task_replay_latency")
OF_QUEUES = ("activity_schedule_to_start_latency", "workflow_task_schedule_to_start_latency")
REQUESTS = (
    *("DescribeNamespace", "GetSystemInfo", "ListSearchAttributes", "RecordActivityTaskHeartbeat", "ShutdownWorker"),
    *("RespondActivityTaskCompleted", "RespondActivityTaskFailed", "RespondActivityTaskCanceled", "QueryWorkflow"),
    *("RespondWorkflowTaskCompleted", "RespondWorkflowTaskFailed", "DescribeWorkflowExecution", "RespondQueryTask"),
    *("SignalWorkflowExecution", "ListWorkflowExecutions", "ListSchedules", "DescribeSchedule"),
)
REQUESTS_OF_QUEUES = ("SignalWithStartWorkflowExecution", "StartWorkflowExecution")
LONG_REQUESTS = ("PollActivityTaskQueue", "PollWorkflowTaskQueue")


def driven(tables: int, networks: int) -> str:
    """The text, from a process of its own."""
    command = [sys.executable, "-m", "support.drivenmetrics", str(tables), str(networks)]
    variables = {"PYTHONPATH": ":".join(sys.path)}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=120).stdout


def main(tables: int, networks: int) -> None:
    """Drive everything as far as it can go, and print it."""
    from worker.metrics import set_up_metrics  # noqa: PLC0415 - before anything that has instruments

    told = set_up_metrics(ENVIRONMENT, scraped=True)
    names = [f"canonical_beacon_table_with_a_long_name_{number}" for number in range(tables)]
    for name, network in product(names, [f"network{number}" for number in range(networks)]):
        drive_export(network, name)
        drive_commits(f"changelogs_{network}", name)
        drive_mirror(f"mirrors_{network}", name, upkeep_fails=network == "network0")
    drive_cdc("shop")
    drive_upkeep()
    assert told.runtime is not None
    drive_temporal(Sdk(told.runtime.metric_meter))
    sys.stdout.buffer.write(told.render())
    told.close()


def drive_commits(network: str, table: str) -> None:
    """What is told of any table that is committed to and announced."""
    from activities import export_metrics  # noqa: PLC0415
    from activities.lake import sending  # noqa: PLC0415

    loaded = SimpleNamespace(name=lambda: (network, table), metadata=SimpleNamespace(last_updated_ms=1))
    with export_metrics.announcing(loaded):
        export_metrics.announced_told(1)
    sending.refused_told(loaded)


def drive_finding(network: str, table: str, kind: str) -> None:
    """What is told of a table with one kind of findings."""
    from activities import findings  # noqa: PLC0415

    findings.standing_told({"environment": ENVIRONMENT, "network": network, "table": table, "kind": kind}, 1)


def drive_upkeep() -> None:
    """What the upkeep of every kind of table tells."""
    from activities import upkeep_metrics  # noqa: PLC0415

    done = {"expired": 1, "deleted": 1, "freed": 1, "manifests": 1, "compacted": 1, "problems": 1}
    for kind in ("export", "changelog", "mirror"):
        upkeep_metrics.count(kind, **done)


def drive_export(network: str, table: str) -> None:
    """Everything that exports of one table tell."""
    from activities import export_metrics  # noqa: PLC0415
    from activities.contracts.export import (  # noqa: PLC0415
        CommitInput,
        CommitReport,
        ExportLimits,
        Plan,
        PlanInput,
        TableInput,
    )
    from activities.contracts.findings import SHRUNK  # noqa: PLC0415
    from activities.core.faults import BadConfig  # noqa: PLC0415
    from activities.core.freshness import Freshness  # noqa: PLC0415

    fresh = Freshness("daily", 10, 1e9, 1.1e9)
    export_metrics.plan_told(network, table, Plan("", [], "", ExportLimits(*[1] * 11)), fresh, 0)
    export_metrics.commit_told(CommitInput(ENVIRONMENT, table, network, []), CommitReport("", 1, 0, 1, 1), fresh)
    with suppress(BadConfig), export_metrics.refusals_told(PlanInput(ENVIRONMENT, table, network, "", {})):
        raise BadConfig
    for step in ("plan", "query", "transfer", "verify", "commit", "announce", "publish"):
        with export_metrics.step(step):
            pass
    with export_metrics.publishing_told(TableInput(ENVIRONMENT, table, network)):
        pass
    drive_commits(network, table)
    drive_finding(network, table, SHRUNK)


def drive_mirror(namespace: str, table: str, *, upkeep_fails: bool) -> None:
    """Everything that merges of one mirror tell."""
    from activities import merge_metrics  # noqa: PLC0415
    from activities.contracts.findings import MERGE, UPKEEP  # noqa: PLC0415
    from activities.contracts.mirrors import MergeReport  # noqa: PLC0415

    mirror = f"{namespace}.{table}"
    drive_commits(namespace, table)
    for kind in (MERGE, UPKEEP) if upkeep_fails else (MERGE,):
        drive_finding(namespace, table, kind)
    with merge_metrics.turn_told(mirror) as reports:
        reports.append(MergeReport(commits=1))
    with suppress(ZeroDivisionError), merge_metrics.turn_told(mirror):
        _ = 1 // 0
    timings = merge_metrics.MergeTimings()
    for phase in ("read", "lookup", "write", "store", "commit"):
        with timings.phase(phase):
            pass
    timings.told(mirror)
    merge_metrics.lookup_told(mirror, 2, 1)
    merge_metrics.index_told(mirror, 1)
    merge_metrics.rebuild_told(mirror)


def drive_cdc(pipeline: str) -> None:
    """Everything that one pipeline tells."""
    from activities import capturing, following, ingest_metrics, watching  # noqa: PLC0415

    about = {"pipeline": pipeline}
    slot = {**about, "slot": "slot"}
    ingest_metrics.ingest_told(pipeline, [], None)
    ingest_metrics.people_wanted(pipeline, 0, 0)
    with ingest_metrics.copying(pipeline, "public.orders"):
        pass
    for gauge in (watching._RETAINED, watching._BEHIND, watching._WARNED):
        gauge.set(1, slot)
    capturing._EVENTS.add(1, about)
    following._PASSED_OVER.add(1, {**about, "table": "public.orders"})


@dataclass(frozen=True)
class Sdk:
    """Temporal's meter."""

    meter: Any

    def count(self, name: str, **labels: str) -> None:
        """A counter."""
        self.meter.create_counter(f"temporal_{name}").add(1, labels)

    def gauge(self, name: str, **labels: str) -> None:
        """A gauge."""
        self.meter.create_gauge(f"temporal_{name}").set(1, labels)

    def measure(self, name: str, **labels: str) -> None:
        """A histogram of a time."""
        self.meter.create_histogram_timedelta(f"temporal_{name}", unit="duration").record(timedelta(seconds=1), labels)


def drive_temporal(sdk: Sdk) -> None:
    """What the SDK tells of every workflow and activity."""
    for activity in defined("activities", r'@activity\.defn\(name="(\w+)"\)'):
        labels = {"activity_type": activity, "workflow_type": "Workflow", "task_queue": "queue", "namespace": "default"}
        for eager in ("true", "false"):
            sdk.count("activity_task_received", **labels, eager=eager)
        sdk.count("activity_execution_failed", **labels, failure_reason="ActivityError")
        sdk.count("activity_execution_cancelled", **labels)
        for name in OF_ACTIVITIES:
            sdk.measure(name, **labels)
    for workflow in defined("workflows", r"@workflow\.defn[^\n]*\nclass (\w+)"):
        labels = {"workflow_type": workflow, "task_queue": "queue", "namespace": "default"}
        for name in ("workflow_completed", "workflow_failed", "workflow_canceled", "workflow_continue_as_new"):
            sdk.count(name, **labels)
        sdk.count("sticky_cache_hit", **labels)
        sdk.count("workflow_task_execution_failed", **labels, failure_reason="WorkflowError")
        for name in OF_WORKFLOWS:
            sdk.measure(name, **labels)
    for operation in REQUESTS:
        drive_request(sdk, "request", operation=operation, namespace="default")
    for number in range(QUEUES):
        drive_queue(sdk, task_queue=f"queue{number}", namespace="default")


def drive_request(sdk: Sdk, kind: str, **labels: str) -> None:
    """What the SDK tells of its requests."""
    sdk.count(kind, **labels)
    sdk.count(f"{kind}_failure", **labels, status_code="UNAVAILABLE")
    sdk.measure(f"{kind}_latency", **labels)


def drive_queue(sdk: Sdk, **labels: str) -> None:
    """What the SDK tells of one task queue."""
    for operation in REQUESTS_OF_QUEUES:
        drive_request(sdk, "request", operation=operation, **labels)
    for operation in LONG_REQUESTS:
        drive_request(sdk, "long_request", operation=operation, **labels)
    for name in ("worker_start", "workflow_task_queue_poll_succeed", "workflow_task_queue_poll_empty"):
        sdk.count(name, **labels)
    for name in ("activity_poll_no_task", "sticky_cache_miss", "sticky_cache_total_forced_eviction"):
        sdk.count(name, **labels)
    for name in OF_QUEUES:
        sdk.measure(name, **labels)
    sdk.gauge("sticky_cache_size", **labels)
    for kind in ("activity_task", "sticky_workflow_task", "workflow_task"):
        sdk.gauge("num_pollers", **labels, poller_type=kind)
    for kind, state in product(("Activity", "LocalActivity", "Workflow", "Nexus"), ("available", "used")):
        sdk.gauge(f"worker_task_slots_{state}", **labels, worker_type=f"{kind}Worker")


def defined(room: str, pattern: str) -> Iterator[str]:
    """The names of what a room defines."""
    for file in sorted((ROOT / room).glob("*.py")):
        yield from re.findall(pattern, file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

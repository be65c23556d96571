"""What Prometheus gets from a worker that has exported, ingested and merged."""

import json
import re
import time
from pathlib import Path

import pytest

from activities.contracts.cdc import INGEST_WORKFLOW, ingest_id
from support.buffers import insert, schema_event, update
from support.drivenmetrics import driven
from support.fleet import eventually
from support.ingests import opened, place
from support.prometheus import prometheus
from support.promql import VARIABLES
from support.promtext import families
from support.scraped import scraped_worker
from support.tools import tool
from worker.kinds import all_served

DASHBOARDS = sorted((Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards").glob("*.json"))
ONLY_IN_TROUBLE = {
    *("temporal_activity_execution_failed_total", "temporal_activity_execution_cancelled_total"),
    *("temporal_workflow_task_execution_failed_total", "temporal_workflow_failed_total"),
    *("temporal_request_failure_total", "temporal_long_request_failure_total", "temporal_workflow_canceled_total"),
    *("temporal_sticky_cache_miss_total", "temporal_sticky_cache_total_forced_eviction_total"),
    *("merger_table_failure_total", "icefleet_table_refused_timestamp_seconds"),
}
NOT_WITHIN_SECONDS = {
    *("temporal_workflow_continue_as_new_total", "temporal_workflow_task_queue_poll_empty_total"),
    "temporal_activity_poll_no_task_total",
}
NOT_OF_THESE_JOBS = {
    # Nothing is captured or copied from a source, and no index is damaged.
    "merger_index_rebuilds_total",
    *("icefleet_cdc_capture_lag_bytes", "icefleet_cdc_captured_events_total", "icefleet_cdc_passed_over_total"),
    *("icefleet_cdc_retained_wal_bytes", "icefleet_cdc_retained_wal_finding", "icefleet_cdc_copy_lag_seconds"),
    # No upkeep is asked for.
    *("icefleet_upkeep_snapshots_expired_total", "icefleet_upkeep_files_deleted_total"),
    *("icefleet_upkeep_bytes_freed_bytes_total", "icefleet_upkeep_manifests_merged_total"),
    *("icefleet_upkeep_files_compacted_total", "icefleet_upkeep_problems_total"),
}


EMPTY_WHEN_ALL_IS_WELL = {
    *("exports: Commit conflicts", "exports: Failing", "exports: Findings", "exports: Most overdue"),
    *(
        "exports: Snapshots waiting for their event, or their public copy",
        "exports: Steps that failed or were cancelled",
    ),
    *("fleet: Activities that failed", "fleet: Requests to Temporal that failed", "fleet: Workflow tasks that failed"),
    *("fleet: Alerts", "mirrors: Turns that failed, by cause"),
    # Nothing is captured from a source.
    *("mirrors: Log that is not captured", "mirrors: Log that slots hold back"),
}


OF_A_MERGE = (
    *("merger_table_success_total{", "merger_table_duration_seconds_count{"),
    *("merger_merge_duration_seconds_count{", "merger_index_bytes{"),
)
"""What is told when something was merged: the first turn of a loop may find nothing yet, and end well."""


class Worked:
    """A worker that has done one of each, and for which fleet."""

    def __init__(self, fleet, worker, ingest):
        self.fleet = fleet
        self.worker = worker
        self.ingest = ingest


@pytest.fixture(scope="module")
async def worked(stack, tmp_path_factory):
    async with place(stack, tmp_path_factory.mktemp("metrics")) as (fleet, postgres), opened(fleet, postgres) as ingest:
        await fleet.make_days(network={})
        mirror = f"{ingest.namespace}.orders"
        fleet.set_mirrors({"changelog_table": ingest.identifier(), "mirror_table": mirror, "primary_keys": ["id"]})
        await ingest.producer.transaction(schema_event(), insert(1), insert(2), update(1))
        with scraped_worker(fleet) as worker:
            await worker.ready()
            # The changelog's event wakes the mirror's loop.
            await fleet.temporal.start_workflow(
                INGEST_WORKFLOW,
                {"environment": fleet.name, "pipeline": ingest.name},
                id=ingest_id(fleet.name, ingest.name),
                task_queue=fleet.cdc_queue,
            )
            assert (await fleet.request()).exported == 3

            async def merged():
                text = await worker.text()
                networks = [f'network="{network}"' for network in (fleet.network, ingest.namespace)]
                return all(one in text for one in (*networks, *OF_A_MERGE))

            await eventually(merged)
            yield Worked(fleet, worker, ingest)


async def test_a_worker_tells_all_that_dashboards_and_rules_are_made_of(worked):
    told, every = families(await worked.worker.text()), families(driven(1, 1))
    assert {name: family.labels - every[name].labels for name, family in told.items()} == {name: set() for name in told}
    assert {name: family.kind for name, family in told.items()} == {name: every[name].kind for name in told}
    assert every.keys() - told.keys() - ONLY_IN_TROUBLE - NOT_WITHIN_SECONDS - NOT_OF_THESE_JOBS == set()


async def test_every_queue_is_told_from_the_start_of_a_worker_that_serves_it(worked):
    # by which an alert knows that nobody serves one; nothing was ever done in some of these
    served = {one.queue for one in all_served(worked.fleet.settings(), worked.fleet.name)}
    lines = re.findall(r"^temporal_worker_task_slots_available\{(.+)\}", await worked.worker.text(), re.MULTILINE)
    labels = [dict(re.findall(r'(\w+)="([^"]*)"', line)) for line in lines]
    told = {(one["environment"], one["task_queue"]) for one in labels}
    assert told == {(worked.fleet.name, queue) for queue in served}


async def test_values_are_those_of_what_was_done(worked):
    lines = [line.rsplit(" ", 1) for line in (await worked.worker.text()).splitlines() if line[0] != "#"]
    fleet = worked.fleet
    about = f'{{environment="{fleet.name}",network="{fleet.network}",table="events"}}'
    values = {series: float(value) for series, value in lines}
    assert values[f"icefleet_partitions_planned_total{about}"] == values[f"icefleet_partitions_done_total{about}"] == 3
    network = about.replace(',table="events"', "")
    assert (
        values[f"icefleet_partitions_failed_total{about}"] == values[f"icefleet_commit_conflicts_total{network}"] == 0
    )
    assert values[f"icefleet_export_rows_total{about}"] == 300
    assert values[f"icefleet_export_bytes_total{about}"] > 1000
    cut = about.replace("{", '{cut="daily",')
    assert values[f"icefleet_table_newest_end_timestamp_seconds{cut}"] == 1_710_979_200  # 2024-03-21
    # All days since are known to be empty, and today is not over.
    assert values[f"icefleet_table_due_timestamp_seconds{cut}"] % 86_400 == 0
    assert values[f"icefleet_table_due_timestamp_seconds{cut}"] > time.time()
    steps = ("plan", "query", "transfer", "verify", "commit", "announce", "publish")
    for step in steps:
        series = f'icefleet_step_duration_seconds_count{{environment="{fleet.name}",outcome="done",step="{step}"}}'
        assert values[series] >= 1, step


@pytest.mark.skipif(tool("prometheus") is None, reason="prometheus is not installed: Debian has it")
async def test_prometheus_answers_every_query_of_the_dashboards(worked, tmp_path):
    filled = VARIABLES | {
        "$environment": worked.fleet.name,
        "$network": worked.fleet.network,
        "$table": "events",
        "$__rate_interval": "10s",
    }
    async with prometheus(tmp_path, worked.worker.url) as server:
        await eventually(lambda: server.query("icefleet:table_overdue_seconds and icefleet:table_freshness_seconds"))
        await eventually(lambda: server.query("rate(icefleet_export_rows_total[10s])"))
        shown = {
            f"{file.stem}: {panel['title']}": [
                await server.query(fill(one["expr"], filled)) for one in panel["targets"]
            ]
            for file in DASHBOARDS
            for panel in json.loads(file.read_text(encoding="utf-8"))["panels"]
            if panel["type"] != "row"
        }
    assert {panel for panel, answers in shown.items() if not any(answers)} <= EMPTY_WHEN_ALL_IS_WELL
    [[freshness]] = shown["table: Freshness"][:1]
    assert freshness["metric"].items() >= {"network": worked.fleet.network, "table": "events", "cut": "daily"}.items()
    states = {
        one["metric"]["state"]: one["value"][1] for one in shown["table: Partitions by state, as last planned"][0]
    }
    assert states == {"missing": "3", "stale": "0", "open": "1", "failing": "0"}


def fill(query, variables):
    """A query with Grafana's variables replaced."""
    for variable, value in variables.items():
        query = query.replace(variable, value)
    return query

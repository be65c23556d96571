"""Alerts fire when they should and not otherwise, as Prometheus' own tool evaluates them."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from support.tools import tool

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "grafana" / "rules" / "icefleet.yaml"
_SAID = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
GROUPS = [group["name"] for group in _SAID]
ALERTS = [rule for group in _SAID for rule in group["rules"] if "alert" in rule]
NAMES = {
    *("IcefleetTableStale", "IcefleetPartitionsFailing", "IcefleetPartitionsShrunk", "IcefleetMergeLag"),
    *("IcefleetSlotLag", "IcefleetAnnouncementLag", "IcefleetNoWorkers", "IcefleetCommitConflicts"),
    "IcefleetIngestLag",
    "IcefleetChangesHeldBack",
    "IcefleetChangesRefused",
    "IcefleetUpkeepFailing",
    "IcefleetPublicationLag",
}
pytestmark = pytest.mark.skipif(tool("promtool") is None, reason="promtool is not installed: Debian's prometheus")

UP = {'icefleet_worker_info{environment="production",instance="a"}': "1x2000"}
"""Some worker runs."""
UP_FOR_DAYS = dict.fromkeys(UP, "1x9000")
DAY = 24 * 60
HOUR = 60
"""Minutes, which is what series are made of; a test's clock begins at the epoch."""


def table(name, *, instance="a", network="mainnet", **more):
    labels = {"environment": "production", "instance": instance, "network": network, "table": "blocks", **more}
    return f"{name}{{{','.join(f'{key}={json.dumps(value)}' for key, value in labels.items())}}}"


def stale(cut, due_hours):
    return {table("icefleet_table_due_timestamp_seconds", cut=cut): f"{due_hours * 3600}x2000"}


def planned(instance, at, state, values):
    """A worker's view of a table: it planned at minutes `at`, and found `values` partitions in a state."""
    return {
        table("icefleet_table_planned_timestamp_seconds", instance=instance): at,
        table("icefleet_partitions", instance=instance, state=state): values,
    }


def serving(values, queue="icefleet-cdc", environment="production", instance="c"):
    """What a worker's SDK tells of a queue that it serves: slots that are free, of each kind of worker."""
    about = f'environment="{environment}",instance="{instance}",namespace="default",task_queue="{queue}"'
    return {
        f'temporal_worker_task_slots_available{{{about},worker_type="{kind}"}}': values
        for kind in ("ActivityWorker", "WorkflowWorker")
    }


def found(kind, *looks):
    """Looks of workers: instance, when in seconds, and how many partitions it found."""
    return {
        table(name, instance=instance, kind=kind): series
        for instance, at, values in looks
        for name, series in (("icefleet_findings_looked_timestamp_seconds", at), ("icefleet_findings", values))
    }


def problems(kind, values, instance="a"):
    """What a worker counts of what upkeep could not do."""
    return {f'icefleet_upkeep_problems_total{{environment="production",instance="{instance}",kind="{kind}"}}': values}


def slot(*said):
    """What workers tell of a slot that they look at: instance, and the bytes that it holds back."""
    about = 'environment="production",pipeline="shop",slot="s"'
    return {f'icefleet_cdc_retained_wal_bytes{{{about},instance="{instance}"}}': values for instance, values in said}


def ingest(values):
    """What a worker tells of how long changes wait in a pipeline's buffer."""
    return {'icefleet_cdc_ingest_lag_seconds{environment="production",instance="c",pipeline="shop"}': values}


def copy(values):
    """What a worker tells of how long a first copy has been failing."""
    about = 'environment="production",instance="c",pipeline="shop",table="public.orders"'
    return {f"icefleet_cdc_copy_lag_seconds{{{about}}}": values}


def mirror(values):
    """What a worker tells of how many changes of a mirror are not merged."""
    return {'merger_watermark_lag_events{environment="production",instance="m",table="shop.orders"}': values}


CASES = {
    # name: (series, minute, alerts that fire then)
    "nothing is wrong": (UP | stale("daily", 24), 25 * HOUR, []),
    "a daily table is late by less than 6 hours": (UP | stale("daily", 1), 6 * HOUR, []),
    "a daily table is late by more": (UP | stale("daily", 1), 8 * HOUR, ["IcefleetTableStale"]),
    "an hourly table is late by less than 3 hours": (UP | stale("hourly", 1), 4 * HOUR - 5, []),
    "an hourly table is late by more": (UP | stale("hourly", 1), 5 * HOUR, ["IcefleetTableStale"]),
    "a chunked table is seen every 6 hours": (UP | stale("integer", 1), 13 * HOUR, []),
    "a chunked table is late": (UP | stale("integer", 1), 15 * HOUR, ["IcefleetTableStale"]),
    "one of two workers knows that the table is there": (
        UP
        | stale("daily", 1)
        | {table("icefleet_table_due_timestamp_seconds", instance="b", cut="daily"): "86400x2000"},
        20 * HOUR,
        [],
    ),
    "a worker that knew it is gone": (
        UP | {table("icefleet_table_due_timestamp_seconds", cut="daily"): "3600x60"},
        20 * HOUR,
        ["IcefleetTableStale"],
    ),
    "nobody has looked for days": (
        UP_FOR_DAYS | {table("icefleet_table_due_timestamp_seconds", cut="daily"): "3600x60"},
        6 * DAY,
        ["IcefleetTableStale"],
    ),
    "the network has come to its end": (
        UP_FOR_DAYS
        | {table("icefleet_table_due_timestamp_seconds", cut="daily"): "3600x600"}
        | {table("icefleet_table_planned_timestamp_seconds", instance="b"): f"_x620 {620 * 60}x3000"},
        620 + 27 * HOUR,
        [],
    ),
    "a table is planned and another worker knows when it was due": (
        UP | stale("daily", 1) | {table("icefleet_table_planned_timestamp_seconds", instance="b"): "3600x3000"},
        30 * HOUR,
        ["IcefleetTableStale"],
    ),
    "staging is fresh and production is not": (
        UP
        | stale("daily", 1)
        | {table("icefleet_table_due_timestamp_seconds", cut="daily", environment="staging"): "864000x2000"},
        20 * HOUR,
        ["IcefleetTableStale"],
    ),
    "a new table cannot be planned": (
        UP | {table("icefleet_table_refused_timestamp_seconds"): "60x20"},
        3 * HOUR,
        ["IcefleetTableStale"],
    ),
    "a new table could not be planned until somebody mended it": (
        UP
        | {table("icefleet_table_refused_timestamp_seconds"): "60x100"}
        | {table("icefleet_table_planned_timestamp_seconds", instance="b"): "_x5 400x100"},
        40,
        [],
    ),
    "a table that is not due yet was refused once": (
        UP
        | stale("daily", 24)
        | {table("icefleet_table_planned_timestamp_seconds", instance="b"): "60x10"}
        | {table("icefleet_table_refused_timestamp_seconds"): "_x20 1200x100"},
        60,
        [],
    ),
    "partitions fail": (UP | planned("a", "60x100", "failing", "2x100"), 30, ["IcefleetPartitionsFailing"]),
    "partitions that failed are there": (UP | planned("a", "60x10 900x90", "failing", "2x10 0x90"), 60, []),
    "another worker has planned since": (
        UP | planned("a", "60x100", "failing", "2x100") | planned("b", "_x5 400x100", "failing", "_x5 0x100"),
        60,
        [],
    ),
    "the worker that planned last is gone": (
        UP | planned("a", "60x100", "failing", "2x100") | planned("b", "400x10", "failing", "0x10"),
        60,
        [],
    ),
    "partitions of a range fail": (
        UP | {table("icefleet_partitions_failed_total"): "0x10 3x100"},
        40,
        ["IcefleetPartitionsFailing"],
    ),
    "partitions of a range failed hours ago": (UP | {table("icefleet_partitions_failed_total"): "0x10 3x500"}, 200, []),
    "the source holds less": (UP | found("shrunk", ("a", "60x100", "1x100")), 30, ["IcefleetPartitionsShrunk"]),
    "another worker found that it does no more": (
        UP | found("shrunk", ("a", "60x100", "1x100"), ("b", "_x5 400x100", "_x5 0x100")),
        30,
        [],
    ),
    "what was found outlives its worker": (
        UP | found("shrunk", ("a", "60x10", "1x10")),
        10 * HOUR,
        ["IcefleetPartitionsShrunk"],
    ),
    "a mirror lags": (
        UP | {'merger_watermark_lag_seconds{environment="production",table="shop.orders"}': "2000+60x100"},
        30,
        ["IcefleetMergeLag"],
    ),
    "a mirror is behind by minutes": (
        UP | {'merger_watermark_lag_seconds{environment="production",table="shop.orders"}': "0+10x100"},
        60,
        [],
    ),
    "a try of a merge failed, and the next one did it on another worker": (
        UP
        | {
            'merger_watermark_lag_seconds{environment="production",instance="a",table="shop.orders"}': "0+60x15 stale",
            'merger_watermark_lag_seconds{environment="production",instance="b",table="shop.orders"}': "0x100",
        },
        50,
        [],
    ),
    "tries of a merge fail on one worker after the other": (
        UP
        | {
            'merger_watermark_lag_seconds{environment="production",instance="a",table="shop.orders"}': "0+60x100",
            'merger_watermark_lag_seconds{environment="production",instance="b",table="shop.orders"}': "0x10 60+60x90",
        },
        50,
        ["IcefleetMergeLag"],
    ),
    "a mirror that rests tells nothing for hours": (UP | mirror("0x60"), 6 * HOUR, []),
    "a mirror's loop is gone": (UP | mirror("0x60"), 8 * HOUR, ["IcefleetMergeLag"]),
    "a mirror's loop has been gone for days": (UP_FOR_DAYS | mirror("0x60"), 6 * DAY, ["IcefleetMergeLag"]),
    "mirrors have no loop since no worker runs": (
        {'icefleet_worker_info{environment="production",instance="a"}': "1x60"} | mirror("0x60"),
        8 * HOUR,
        ["IcefleetNoWorkers"],
    ),
    "a mirror refuses changes": (
        UP | {'merger_rows_refused_total{environment="production",instance="a"}': "0x10 3x100"},
        30,
        ["IcefleetChangesRefused"],
    ),
    "a mirror refused changes hours ago": (
        UP | {'merger_rows_refused_total{environment="production",instance="a"}': "0x10 3x300"},
        3 * HOUR,
        [],
    ),
    "a mirror waits for a person": (UP | found("merge", ("a", "60x100", "1x100")), 30, ["IcefleetMergeLag"]),
    "a mirror is compacted in vain": (
        UP | found("upkeep", ("a", "60x100", "1x100")),
        30,
        ["IcefleetUpkeepFailing"],
    ),
    "a mirror was compacted in vain until another worker did it": (
        UP | found("upkeep", ("a", "60x10", "1x10"), ("b", "_x10 600x90", "_x10 0x90")),
        40,
        [],
    ),
    "upkeep of exports fails two days running": (
        UP_FOR_DAYS | problems("export", f"0x{DAY} 3x{DAY} 5x{DAY}"),
        2 * DAY + 3 * HOUR,
        ["IcefleetUpkeepFailing"],
    ),
    "upkeep of exports failed once": (UP_FOR_DAYS | problems("export", f"0x{DAY} 3x{2 * DAY}"), DAY + 3 * HOUR, []),
    "upkeep of exports failed until it was mended": (
        UP_FOR_DAYS | problems("export", f"0x{DAY} 3x{DAY} 5x{2 * DAY}"),
        3 * DAY + 3 * HOUR,
        [],
    ),
    "workers that are replaced every day fail at the upkeep of changelogs": (
        UP_FOR_DAYS
        | problems("changelog", f"_x{DAY} 0x60 1x600")
        | problems("changelog", f"_x{2 * DAY} 0x60 1x600", instance="b"),
        2 * DAY + 4 * HOUR,
        ["IcefleetUpkeepFailing"],
    ),
    "tidying of mirrors fails now and then": (
        UP_FOR_DAYS | problems("mirror", f"0x{DAY} 3x{DAY} 5x{DAY}"),
        2 * DAY + 3 * HOUR,
        [],
    ),
    "a slot holds back much": (
        UP | {'icefleet_cdc_retained_wal_finding{environment="production",pipeline="shop",slot="s"}': "1x100"},
        10,
        ["IcefleetSlotLag"],
    ),
    "a slot holds back little": (
        UP | {'icefleet_cdc_retained_wal_finding{environment="production",pipeline="shop",slot="s"}': "0x100"},
        10,
        [],
    ),
    "a slot was given up": (UP | found("retained-wal", ("a", "60x100", "1x100")), 30, ["IcefleetSlotLag"]),
    "nobody looks at a slot": (UP | slot(("c", "5000x20")), 50, ["IcefleetSlotLag"]),
    "nobody has looked at a slot for days": (UP_FOR_DAYS | slot(("c", "5000x20")), 6 * DAY, ["IcefleetSlotLag"]),
    "another worker looks at a slot": (UP | slot(("c", "5000x20"), ("d", "_x30 6000x90")), 60, []),
    "a slot was dropped on purpose": (UP | slot(("c", "5000x35"), ("d", "_x21 0x30")), 2 * HOUR, []),
    "a slot was made anew, and nobody looks at it": (
        UP | slot(("c", "5000x35"), ("d", "_x21 0x30"), ("e", "_x80 7000x20")),
        3 * HOUR,
        ["IcefleetSlotLag"],
    ),
    "slots are not looked at since no worker runs": (
        {'icefleet_worker_info{environment="production",instance="a"}': "1x20"} | slot(("c", "5000x20")),
        50,
        ["IcefleetNoWorkers"],
    ),
    "changes wait in a buffer": (UP | ingest("0+60x60"), HOUR, ["IcefleetIngestLag"]),
    "changes waited in a buffer for minutes": (UP | ingest("0+60x25 0x60"), HOUR, []),
    "a first copy fails": (UP | copy("0+60x60"), HOUR, ["IcefleetIngestLag"]),
    "a first copy failed for minutes": (UP | copy("0+60x25 0x60"), HOUR, []),
    "nobody empties a buffer that is filled": (
        UP | ingest("0x20") | slot(("c", "5000x200")),
        2 * HOUR,
        ["IcefleetIngestLag"],
    ),
    "a pipeline was uninstalled, with its buffer": (
        UP | ingest("0x20") | slot(("c", "5000x20 0x30")),
        2 * HOUR,
        [],
    ),
    "a table is stopped, and no letter waits": (
        UP
        | {
            'icefleet_cdc_stopped_tables{environment="production",pipeline="shop"}': "1x100",
            'icefleet_cdc_waiting_letters{environment="production",pipeline="shop"}': "0x100",
        },
        10,
        ["IcefleetChangesHeldBack"],
    ),
    "a dead letter waits until it is dropped": (
        UP | {'icefleet_cdc_waiting_letters{environment="production",pipeline="shop"}': "1x10 0x90"},
        30,
        [],
    ),
    "a dead letter waits": (
        UP | {'icefleet_cdc_waiting_letters{environment="production",pipeline="shop"}': "1x100"},
        10,
        ["IcefleetChangesHeldBack"],
    ),
    "NATS is away": (
        UP | {table("icefleet_announcement_lag_seconds"): "0+60x100"},
        30,
        ["IcefleetAnnouncementLag"],
    ),
    "the store takes no public copy": (
        UP | {table("icefleet_publication_lag_seconds"): "0+60x100"},
        30,
        ["IcefleetPublicationLag"],
    ),
    "the store took no public copy for a moment": (
        UP | {table("icefleet_publication_lag_seconds"): "0+60x5 0x100"},
        30,
        [],
    ),
    "NATS was away for a moment": (UP | {table("icefleet_announcement_lag_seconds"): "0+60x5 0x100"}, 30, []),
    "all workers are gone": (
        {'icefleet_worker_info{environment="production",instance="a"}': "1x10"},
        30,
        ["IcefleetNoWorkers"],
    ),
    "all workers have been gone for days": (
        {'icefleet_worker_info{environment="staging",instance="b"}': "1x9000"}
        | {'icefleet_worker_info{environment="production",instance="a"}': "1x100"},
        6 * DAY,
        ["IcefleetNoWorkers"],
    ),
    "one kind of worker is gone": (
        UP | serving("4x10") | serving("8x100", queue="icefleet-export", instance="a"),
        30,
        ["IcefleetNoWorkers"],
    ),
    "one kind of worker has been gone for days": (UP_FOR_DAYS | serving("4x100"), 6 * DAY, ["IcefleetNoWorkers"]),
    "all slots of a queue are taken": (UP | serving("0x100"), 30, []),
    "one of two workers of a queue is gone": (UP | serving("4x10") | serving("4x100", instance="d"), 30, []),
    "a queue of another environment is served": (
        UP
        | {'icefleet_worker_info{environment="staging",instance="b"}': "1x100"}
        | serving("4x10")
        | serving("4x100", environment="staging", instance="d"),
        30,
        ["IcefleetNoWorkers"],
    ),
    "all workers are gone, with their queues": (
        {'icefleet_worker_info{environment="production",instance="c"}': "1x10"} | serving("4x10"),
        30,
        ["IcefleetNoWorkers"],
    ),
    "there has never been a worker": ({"something_else": "1x100"}, 30, ["IcefleetNoWorkers"]),
    "only one environment's workers are gone": (
        UP | {'icefleet_worker_info{environment="staging",instance="b"}': "1x10"},
        30,
        ["IcefleetNoWorkers"],
    ),
    "workers are replaced": (
        {
            'icefleet_worker_info{environment="production",instance="a"}': "1x10",
            'icefleet_worker_info{environment="production",instance="b"}': "_x8 1x100",
        },
        30,
        [],
    ),
    "a foreign writer": (UP | {table("icefleet_commit_conflicts_total"): "0+1x100"}, 60, ["IcefleetCommitConflicts"]),
    "a conflict now and then": (UP | {table("icefleet_commit_conflicts_total"): "0x20 1x20 2x100"}, 60, []),
}


def test_the_rules_are_sound():
    subprocess.run(["promtool", "check", "rules", str(RULES)], check=True, capture_output=True, timeout=60)


def evaluate(file, tests, minutes=1):
    """Let the tool run tests, with so long between two evaluations; what it says against them."""
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": f"{minutes}m",
        "group_eval_order": GROUPS,  # else any order, and alerts may look at what was recorded a step earlier
        "tests": tests,
    }
    file.write_text(yaml.safe_dump(document))
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize(
    ("shortest", "longest", "step"),
    [(0, HOUR, 1), (HOUR, 26 * HOUR, 4), (26 * HOUR, 7 * DAY, 60)],
    ids=["within an hour", "over hours", "over days"],
)
def test_each_alert_fires_when_it_should_and_not_otherwise(tmp_path, shortest, longest, step):
    tests = [
        {
            "name": name,
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in inputs.items()],
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": f"{minute}m",
                    "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in firing],
                }
            ],
        }
        for name, (inputs, minute, firing) in CASES.items()
        if shortest < minute <= longest
    ]
    assert evaluate(tmp_path / "tests.yaml", tests, minutes=step) == ""


def test_there_is_a_case_of_every_alert():
    assert {alert for _, _, firing in CASES.values() for alert in firing} == NAMES
    assert sorted(rule["alert"] for rule in ALERTS) == sorted(NAMES)


def test_an_alert_that_was_not_to_fire_would_be_noticed(tmp_path):
    said = evaluate(
        tmp_path / "tests.yaml",
        [
            {
                "interval": "1m",
                "input_series": [{"series": "something_else", "values": "1x100"}],
                "promql_expr_test": [{"expr": 'ALERTS{alertstate="firing"}', "eval_time": "30m", "exp_samples": []}],
            }
        ],
    )
    assert "IcefleetNoWorkers" in said


def test_what_an_alert_says_names_whom_it_concerns(tmp_path):
    inputs = UP | stale("daily", 1)
    alert = next(one for one in ALERTS if one["alert"] == "IcefleetTableStale")
    wanted = {
        "summary": "mainnet.blocks is stale",
        "description": "The next partition of mainnet.blocks (daily, environment production) could have been exported "
        "7h 0m 0s ago and is not there.",
        "runbook_url": alert["annotations"]["runbook_url"],
    }
    labels = {"environment": "production", "network": "mainnet", "table": "blocks", "cut": "daily"}
    test = {
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in inputs.items()],
        "alert_rule_test": [
            {
                "eval_time": f"{8 * HOUR}m",
                "alertname": alert["alert"],
                "exp_alerts": [{"exp_labels": labels | alert["labels"], "exp_annotations": wanted}],
            }
        ],
    }
    assert evaluate(tmp_path / "tests.yaml", [test], minutes=4) == ""

"""Metrics as Prometheus sees them: how many series, under which names, and that whatever is asked for is there."""

import json
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from activities.export_metrics import REFUSED_AT_MOST
from support.drivenmetrics import defined, driven
from support.fences import blocks
from support.promql import ALERTS, TARGET, answered, asked_for, grouping, selectors
from support.promtext import EVERYWHERE, families, family_of
from worker.metrics import Asked, set_up_metrics

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guides" / "metrics.md"
RULES = yaml.safe_load((ROOT / "deploy" / "grafana" / "rules" / "icefleet.yaml").read_text(encoding="utf-8"))
DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
TABLES, NETWORKS, MOST_SERIES = 87, 4, 10_000
ROW = re.compile(
    r"\| `(?P<name>\w+)` \| (?P<kind>\w+) \| (?P<unit>[^|]*?) ?\| (?P<labels>[^|]*?) ?\| (?P<says>[^|]+) \|"
)
UNITS = {"seconds": "_seconds", "bytes": "_bytes"}


@pytest.fixture(scope="module")
def told():
    """Everything that a worker can tell, of all tables and networks."""
    return families(driven(TABLES, NETWORKS))


@pytest.fixture(scope="module")
def known(told):
    """Metric → its labels: of workers, of recording rules, of alerts."""
    found = {name: family.labels | EVERYWHERE | TARGET for name, family in told.items()} | ALERTS
    found["up"] = set(TARGET)
    found |= {
        f"{name}_{part}": found[name] for name in told if told[name].kind == "histogram" for part in ("sum", "count")
    }
    found |= {f"{name}_bucket": found[name] | {"le"} for name in told if told[name].kind == "histogram"}
    for rule in rules():
        if "record" in rule:
            found[rule["record"]] = answered(rule["expr"], found)
    return found


def rules():
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def panels(file):
    return [panel for panel in json.loads(file.read_text(encoding="utf-8"))["panels"] if panel["type"] != "row"]


def queries():
    """Where each query stands, the query, and the labels that are shown of its answer."""
    for rule in rules():
        shown = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule.get("annotations", {}))))
        yield f"rule {rule.get('alert') or rule['record']}", rule["expr"], shown
    for file in DASHBOARDS:
        for panel in panels(file):
            for target in panel["targets"]:
                shown = set(re.findall(r"{{ *(\w+) *}}", target["legendFormat"]))
                yield f"{file.name}: {panel['title']}", target["expr"], shown
    for file in sorted((ROOT / "docs" / "runbooks").glob("*.md")):
        for query in blocks(file.read_text(encoding="utf-8"), "promql"):
            yield f"{file.name}: {query.strip()}", query, set()


def unknown(query, shown, known):
    """What a query takes for granted and is not there."""
    asked = list(selectors(query))
    wrong = [one.metric for one in asked if one.metric not in known]
    wrong += [f"{one.metric}{{{label}}}" for one in asked for label in one.labels - known.get(one.metric, set())]
    anywhere = set().union(*(known.get(one.metric, set()) for one in asked))
    wrong += sorted(f"by {label}" for label in grouping(query) - anywhere)
    return wrong + sorted(f"shown {label}" for label in shown - (answered(query, known) | grouping(query)))


def test_all_tables_and_networks_together_are_at_most_ten_thousand_series(told):
    largest = sorted(((family.series, name) for name, family in told.items()), reverse=True)[:10]
    assert sum(family.series for family in told.values()) <= MOST_SERIES, largest
    # That everything was driven: what each table, network and mirror has is there for all of them.
    pairs = TABLES * NETWORKS
    assert told["icefleet_table_freshness_seconds"].series == pairs
    assert told["icefleet_partitions"].series == 4 * pairs
    assert told["icefleet_findings"].series == 2 * pairs + TABLES  # the upkeep of some mirrors fails
    assert told["merger_table_failure_total"].series == told["merger_watermark_lag_seconds"].series == pairs
    assert told["icefleet_table_refused_timestamp_seconds"].series == REFUSED_AT_MOST
    # Of exports, changelogs and mirrors.
    assert told["icefleet_commit_conflicts_total"].series == 3 * NETWORKS
    assert told["icefleet_announcement_lag_seconds"].series == 3 * NETWORKS
    assert told["temporal_activity_execution_failed_total"].series == len(
        list(defined("activities", r"@activity\.defn"))
    )


def test_no_metric_was_cut_short_for_having_too_many_series(told):
    assert not [name for name, family in told.items() if "otel_metric_overflow" in family.labels]


def test_every_instrument_of_the_code_is_driven(told):
    """So that the count above is of all, and the guide's table is whole."""
    made = re.compile(r"(?:create_(?:observable_)?(?:counter|gauge|histogram)|Waiting|Lately)\(\s*\"([\w.]+)\"")
    files = [*(ROOT / "activities").rglob("*.py"), *(ROOT / "worker").glob("*.py")]
    names = {name.replace(".", "_") for file in files for name in made.findall(file.read_text(encoding="utf-8"))}
    ours = {name for name in told if not name.startswith("temporal_")}
    assert len(names) == len(ours)
    assert {
        name for name in names if not any(re.fullmatch(f"{name}(_seconds|_bytes|_total)*", one) for one in ours)
    } == set()


def test_mirrors_have_the_names_that_users_of_the_earlier_merger_know(told):
    assert {name for name in told if name.startswith("merger_")} >= {
        *("merger_cycle_completed_total", "merger_cycle_duration_seconds", "merger_table_success_total"),
        *("merger_table_failure_total", "merger_table_duration_seconds", "merger_rows_scanned_total"),
        *("merger_rows_deduplicated_total", "merger_merge_duration_seconds", "merger_watermark_lag_seconds"),
    }


@pytest.mark.parametrize(("where", "query", "shown"), [pytest.param(*one, id=one[0]) for one in queries()])
def test_dashboards_rules_and_runbooks_ask_for_nothing_that_is_not_there(known, where, query, shown):
    assert unknown(query, shown, known) == [], where


def test_a_query_for_what_is_not_there_would_be_noticed(known):
    query = 'sum by (tabel) (rate(icefleet_rows_total{network="a"}[5m])) + icefleet_partitions{stat="x"}'
    assert unknown(query, {"nobody"}, known) == [
        "icefleet_rows_total",
        "icefleet_rows_total{network}",
        "icefleet_partitions{stat}",
        "by tabel",
        "shown nobody",
    ]


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.name)
def test_variables_of_dashboards_ask_for_nothing_that_is_not_there(known, file):
    for variable in json.loads(file.read_text(encoding="utf-8"))["templating"]["list"]:
        if variable["type"] == "query":
            selector, label = asked_for(variable["query"]["query"])
            assert unknown(selector, {label}, known) == []


def test_the_guide_lists_every_metric_as_it_is(told):
    rows = [match.groupdict() for match in map(ROW.fullmatch, GUIDE.read_text(encoding="utf-8").splitlines()) if match]
    listed = {row["name"]: row for row in rows}
    assert len(listed) == len(rows)
    assert {name for name in told if not name.startswith("temporal_")} == {
        name for name in listed if not name.startswith("temporal_")
    }
    for name, row in listed.items():
        assert (row["kind"], set(re.findall(r"`(\w+)`", row["labels"]))) == (told[name].kind, told[name].labels), name
        assert UNITS.get(row["unit"], "") in name, name


def test_the_guide_lists_what_dashboards_rules_and_runbooks_ask_of_temporal(told):
    asked = {family_of(one.metric, told) for _, query, _ in queries() for one in selectors(query)}
    listed = set(re.findall(r"\| `(temporal_\w+)` \|", GUIDE.read_text(encoding="utf-8")))
    assert {name for name in asked if name.startswith("temporal_")} == listed


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/"}, "http://collector:4318/v1/metrics"),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, "http://localhost:4318/v1/metrics"),
        (
            {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c/m", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"},
            "http://c/m",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_METRICS_EXPORTER": "none"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_METRICS_EXPORTER": "prometheus"}, ""),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_METRICS_EXPORTER": "prometheus,otlp"},
            "http://c/v1/metrics",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, ""),
    ],
)
def test_the_standard_variables_decide_whether_metrics_are_sent(variables, url):
    assert Asked(variables).otlp_url == url


@pytest.mark.parametrize("variables", [{}, {"OTEL_SDK_DISABLED": "true"}])
def test_nothing_is_set_up_that_nobody_asked_for(variables):
    told = set_up_metrics("local", scraped="OTEL_SDK_DISABLED" in variables, asked=Asked(variables))
    assert (told.runtime, told.render()) == (None, b"")
    told.close()


SENDING = """
from worker.metrics import set_up_metrics

told = set_up_metrics("staging", scraped=False)
told.runtime.metric_meter.create_counter("temporal_something").add(1)
print("ready", flush=True)
input()
told.close()
"""


def test_metrics_are_sent_to_a_collector_temporals_too():
    received = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        variables = {
            "PYTHONPATH": ":".join(sys.path),
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "APP_VERSION": "1.2.3",
            "OTEL_SERVICE_NAME": "exports-of-ours",
            "OTEL_RESOURCE_ATTRIBUTES": "host.name=here,environment=elsewhere",
        }
        with subprocess.Popen(
            [sys.executable, "-c", SENDING], env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as sender:
            assert sender.stdout.readline() == b"ready\n"
            wait_for(lambda: any(b"temporal_something" in body for _, body in received))
            sender.communicate(b"\n", timeout=60)
        server.shutdown()
    assert {path for path, _ in received} == {"/v1/metrics"}
    [ours] = [body for _, body in received if b"icefleet.worker.info" in body]
    assert all(text in ours for text in (b"staging", b"1.2.3", b"icefleet.worker.resident_memory"))
    assert all(text in ours for text in (b"exports-of-ours", b"host.name"))
    assert b"icefleet-worker" not in ours
    assert b"elsewhere" not in ours, "rules and dashboards know environments by that label"


def wait_for(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)

"""What docker-compose.yml does with telemetry: collector and Prometheus are told what there is, and nothing else."""

import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from support.tools import tool

ROOT = Path(__file__).parents[2]
COLLECTOR = yaml.safe_load((ROOT / "deploy/otel/collector.yaml").read_text())
PROMETHEUS = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def test_every_part_of_the_collector_is_in_a_pipeline_and_every_pipeline_is_made_of_its_parts():
    pipelines = COLLECTOR["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert {name for pipeline in pipelines for name in pipeline[kind]} == set(COLLECTOR[kind])
    assert set(COLLECTOR) == {"receivers", "processors", "exporters", "service"}
    # memory is bounded before anything is gathered
    assert {tuple(pipeline["processors"]) for pipeline in pipelines} == {("memory_limiter", "batch")}


def test_workers_send_traces_to_the_collector_and_it_sends_them_where_they_can_be_looked_at():
    for name, service in SERVICES.items():
        if not name.startswith("worker"):
            continue
        sent = urlsplit(service["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"])
        heard = COLLECTOR["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
        assert (sent.hostname, f"0.0.0.0:{sent.port}") == ("otel-collector", heard)
        assert service["environment"]["OTEL_EXPORTER_OTLP_PROTOCOL"] == "http/protobuf"
    shown = urlsplit(COLLECTOR["exporters"]["otlphttp/jaeger"]["endpoint"])
    assert (shown.hostname in SERVICES, shown.port) == (True, 4318)


def test_prometheus_scrapes_every_worker_by_the_name_that_all_of_them_share():
    [found] = PROMETHEUS["scrape_configs"][0]["dns_sd_configs"]
    workers = [service for name, service in SERVICES.items() if name.startswith("worker")]
    assert len(workers) == 6
    for service in workers:
        assert found["names"] == service["networks"]["default"]["aliases"]
        assert service["command"][-2:] == ["--listen", f"0.0.0.0:{found['port']}"]


def test_prometheus_scrapes_what_was_pushed_to_the_collector():
    [pushed] = PROMETHEUS["scrape_configs"][1]["static_configs"]
    host, _, port = pushed["targets"][0].partition(":")
    assert host in SERVICES
    assert COLLECTOR["exporters"]["prometheus"]["endpoint"] == f"0.0.0.0:{port}"


def test_prometheus_and_grafana_are_given_the_rules_and_dashboards_of_the_repository():
    [rules] = PROMETHEUS["rule_files"]
    assert f"./deploy/grafana/rules:{Path(rules).parent}:ro" in SERVICES["prometheus"]["volumes"]
    given = SERVICES["grafana"]["volumes"]
    assert "./deploy/grafana/provisioning:/etc/grafana/provisioning:ro" in given
    [dashboards] = [volume.split(":")[1] for volume in given if volume.startswith("./deploy/grafana/dashboards:")]
    providers = ROOT / "deploy/grafana/provisioning/dashboards"
    for file in providers.glob("*.yaml"):
        for provider in yaml.safe_load(file.read_text())["providers"]:
            assert provider["options"]["path"] == dashboards
    for file in (ROOT / "deploy/grafana/provisioning/datasources").glob("*.yaml"):
        for source in yaml.safe_load(file.read_text())["datasources"]:
            assert urlsplit(source["url"]).hostname in SERVICES


def test_promtool_accepts_the_config_of_prometheus(tmp_path):
    promtool = tool("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    config = {**PROMETHEUS, "rule_files": [str(ROOT / "deploy/grafana/rules/*.yaml")]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    said = subprocess.run(
        [promtool, "check", "config", "prometheus.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stdout + said.stderr

"""docker-compose.yml: valid by the Compose specification, on loopback only, and started without a single variable."""

import json
import re
from pathlib import Path

import pytest
import yaml
from compose_spec import ComposeSpecification, PyCompose

from support.manifests import KINDS
from worker.config import load_settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Za-z0-9_]+)([^}]*)\}")

ONE_SHOTS = {"lakekeeper-migrate", "lakekeeper-warehouse", "temporal-schema", "temporal-namespace", "temporal-init"}
SERVERS = {
    "clickhouse",
    "postgres",
    "seaweedfs",
    "lakekeeper-postgres",
    "lakekeeper",
    "nats",
    "temporal-postgres",
    "temporal",
    "temporal-ui",
    "worker",
    "otel-collector",
    "jaeger",
    "prometheus",
    "grafana",
}
WORKERS = {"worker"} | {f"worker-{kind}" for kind in KINDS}
"""The one that does everything, and with the profile `queues` one of each kind."""
BOUND = re.compile(r"^\./deploy/[\w/-]+:[\w/.-]+:ro$")


def with_defaults(text: str) -> str:
    return VARIABLE.sub(lambda match: match.group(2).removeprefix(":-"), text).replace("$$", "$")


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load(with_defaults(TEXT))


def test_it_is_valid_by_the_compose_specification(compose):
    parsed = PyCompose.from_json(json.dumps(compose))
    parsed.validate()
    specification = ComposeSpecification.model_validate(compose)
    assert specification.services is not None
    assert set(parsed.service_names()) == set(specification.services) == SERVERS | WORKERS | ONE_SHOTS


def test_the_check_refuses_what_the_specification_does_not_know(compose):
    broken = {**compose, "services": {**compose["services"], "nats": {"image": "nats", "portz": []}}}
    with pytest.raises(ValueError, match="portz"):
        PyCompose.from_json(json.dumps(broken))


def test_every_variable_has_a_default():
    without = [name for name, rest in VARIABLE.findall(TEXT) if not rest.startswith(":-") or rest == ":-"]
    assert without == []
    assert len(VARIABLE.findall(TEXT)) > 10
    unbraced = re.findall(r"(?<!\$)\$(?![\${])\w+", TEXT)
    assert unbraced == []


def test_every_port_is_bound_to_loopback(compose):
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert published == {
        "clickhouse": ["127.0.0.1:8123:8123"],
        "postgres": ["127.0.0.1:5432:5432"],
        "seaweedfs": ["127.0.0.1:8333:8333"],
        "lakekeeper": ["127.0.0.1:8181:8181"],
        "nats": ["127.0.0.1:4222:4222"],
        "temporal": ["127.0.0.1:7233:7233"],
        "temporal-ui": ["127.0.0.1:8233:8080"],
        "otel-collector": ["127.0.0.1:4318:4318"],
        "jaeger": ["127.0.0.1:16686:16686"],
        "prometheus": ["127.0.0.1:9090:9090"],
        "grafana": ["127.0.0.1:3000:3000"],
    }
    assert not [name for name, service in compose["services"].items() if "network_mode" in service]


def test_every_image_is_official_and_pinned(compose):
    images = {service["image"] for service in compose["services"].values()}
    names = {image.rpartition(":")[0] for image in images}
    assert names == {
        "clickhouse/clickhouse-server",
        "chrislusf/seaweedfs",
        "quay.io/lakekeeper/catalog",
        "curlimages/curl",
        "nats",
        "postgres",
        "temporalio/admin-tools",
        "temporalio/server",
        "temporalio/ui",
        "otel/opentelemetry-collector",
        "jaegertracing/jaeger",
        "prom/prometheus",
        "grafana/grafana",
        "icefleet",
    }
    assert not [image for image in images if "latest" in image or not image.rpartition(":")[2]]


def test_whoever_is_waited_for_says_when_it_is_ready_or_done(compose):
    services = compose["services"]
    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                assert "healthcheck" in services[other], f"{name} waits for {other}, which has no health check"
            else:
                assert wait["condition"] == "service_completed_successfully"
                assert services[other]["restart"] == "no", f"{name} waits for the end of {other}, which restarts"
    assert {name for name, service in services.items() if service["restart"] == "no"} == ONE_SHOTS


def test_data_lives_in_named_volumes_and_files_of_ours_cannot_be_written(compose):
    mounted = [volume for service in compose["services"].values() for volume in service.get("volumes", [])]
    named = [volume for volume in mounted if not volume.startswith(".")]
    assert {volume.partition(":")[0] for volume in named} == set(compose["volumes"])
    assert len(named) == len(compose["volumes"])
    assert [volume for volume in mounted if volume.startswith(".") and not BOUND.match(volume)] == []
    assert [given["file"] for given in compose["configs"].values() if "file" in given] == [
        "deploy/compose/worker.yaml",
        "deploy/otel/collector.yaml",
        "deploy/prometheus/prometheus.yml",
    ]
    assert all((ROOT / given["file"]).is_file() for given in compose["configs"].values() if "file" in given)


def test_there_may_be_any_number_of_workers_of_each_kind(compose):
    services = compose["services"]
    for name in WORKERS:
        assert not {"container_name", "ports", "hostname"} & set(services[name]), name
        assert services[name]["networks"] == {"default": {"aliases": ["workers"]}}
    for kind in KINDS:
        assert services[f"worker-{kind}"]["profiles"] == ["queues"]
        assert services[f"worker-{kind}"]["command"][:3] == ["worker", "--serve", kind]
    assert "profiles" not in services["worker"]
    assert "--serve" not in services["worker"]["command"]


def test_ours_write_nowhere_but_below_tmp_and_gain_no_privileges(compose):
    for name in (*WORKERS, "temporal-init"):
        service = compose["services"][name]
        assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, ["/tmp"], ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]
        # a text of the compose file cannot be put into such a container, a file can
        assert ["file" in compose["configs"][given["source"]] for given in service["configs"]] == [True]


def test_the_worker_is_built_here_and_its_config_is_whole(compose, tmp_path, monkeypatch):
    worker = compose["services"]["worker"]
    assert (ROOT / worker["build"]["dockerfile"]).is_file()
    override = ROOT / compose["configs"]["worker-config"]["file"]
    monkeypatch.setenv("ICEFLEET_LOCAL_DIR", str(tmp_path / "no-stack"))
    monkeypatch.delenv("ICEFLEET_CONFIG_OVERRIDE", raising=False)
    for name, value in worker["environment"].items():
        if name.startswith("ICEFLEET_LOCAL_"):
            monkeypatch.setenv(name, value)
    monkeypatch.delenv("ICEFLEET_LOCAL_CATALOG_CREDENTIAL", raising=False)
    local = load_settings(ROOT / "config", override=[override]).environment("local")
    services = compose["services"]
    assert local.clickhouse["default"].host in services
    assert (
        local.clickhouse["default"].password.get_secret_value()
        == (services["clickhouse"]["environment"]["CLICKHOUSE_PASSWORD"])
    )
    [pipeline] = local.cdc.values()
    assert pipeline.source is not None
    assert "wal_level=logical" in services[pipeline.source.host]["command"]
    for database in (pipeline.source, pipeline.buffer):
        postgres = services[database.host]["environment"]
        assert database.user == postgres["POSTGRES_USER"]
        assert database.database == postgres["POSTGRES_DB"]
        assert database.password.get_secret_value() == postgres["POSTGRES_PASSWORD"]
    assert local.storage.secret_key.get_secret_value() == services["seaweedfs"]["environment"]["AWS_SECRET_ACCESS_KEY"]
    assert (local.catalog.uri, local.catalog.credential) == ("http://lakekeeper:8181/catalog", None)
    assert (local.nats.url, local.temporal.address) == ("nats://nats:4222", "temporal:7233")


def test_anybody_may_read_the_bucket_that_is_public_and_do_nothing_else(compose):
    storage = load_settings(ROOT / "config").environments["local"].storage
    assert json.loads(compose["configs"]["anonymous-reads"]["content"]) == {
        "identities": [{"name": "anonymous", "actions": [f"Read:{storage.bucket}"]}]
    }
    store = compose["services"]["seaweedfs"]
    [given] = store["configs"]
    assert given["source"] == "anonymous-reads"
    assert f"-s3.config={given['target']}" in store["command"]


def test_the_warehouse_lies_where_the_config_looks_for_it(compose):
    warehouse = json.loads(compose["configs"]["warehouse"]["content"])
    local = load_settings(ROOT / "config").environments["local"]
    buckets = next(part for part in compose["services"]["seaweedfs"]["command"] if part.startswith("-bucket="))
    assert warehouse["warehouse-name"] == local.catalog.warehouse
    assert {warehouse["storage-profile"]["bucket"], local.storage.bucket} == set(
        buckets.removeprefix("-bucket=").split(",")
    )
    assert warehouse["storage-profile"]["endpoint"] == "http://seaweedfs:8333"

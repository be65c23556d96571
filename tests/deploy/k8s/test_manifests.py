"""deploy/k8s: what is rendered says what config says."""

import copy
import shlex
import shutil
import subprocess
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml

from starter.main import build
from support.manifests import K8S, KINDS, KUBECTL, OVERLAYS, ROOT, Manifests, rendered, with_components
from worker.config import Environment, load_settings
from worker.config_mirrors import Mirror

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl, which renders the manifests, is not installed")

RULES = ROOT / "deploy/grafana/rules/icefleet.yaml"
MOST_OF_A_CONFIG_MAP = 1024 * 1024
IDLE_WORKER = 300 * 2**20
"""Somewhat more than `worker.idle_rss_mb` of the README's figures."""


@pytest.fixture(scope="module")
def settings():
    return load_settings(ROOT / "config")


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request) -> Manifests:
    return rendered(K8S / "overlays" / request.param)


def environment_of(overlay: Manifests) -> Environment:
    return load_settings(ROOT / "config").environments[overlay.environment()["ICEFLEET_ENVIRONMENT"]]


def variables(node: Any) -> set[str]:
    """The environment variables that a part of config names."""
    if isinstance(node, list):
        return {name for one in node for name in variables(one)}
    if not isinstance(node, dict):
        return set()
    own = {value for key, value in node.items() if key.endswith("_env") and isinstance(value, str)}
    return own | {name for value in node.values() for name in variables(value)}


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    named = selector.get("matchLabels", {}).items() <= labels.items()
    return named and all(
        labels.get(one["key"]) in one["values"]
        for one in selector.get("matchExpressions", [])
        if one["operator"] == "In"
    )


@pytest.mark.parametrize("kind", ["merge", "upkeep"])
def test_the_cache_of_indexes_leaves_a_third_of_its_size_and_more_of_tmp_to_what_is_spilled(overlay, kind):
    """A pod that writes more than its `emptyDir` may hold is evicted, with all that it does."""
    pod = overlay.worker(kind)["spec"]["template"]["spec"]
    [room] = [volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if volume["name"] == "tmp"]
    [container] = pod["containers"]
    cached = environment_of(overlay).merge.cache_bytes
    assert cached * 4 / 3 <= in_bytes(room) <= in_bytes(container["resources"]["limits"]["ephemeral-storage"])


def test_the_memory_of_mirrors_is_enough_for_all_merges_at_once_whose_batches_are_full(overlay):
    """A merge was seen to take up to three times what its batch may hold, beside what a worker takes idle."""
    [container] = overlay.worker("merge")["spec"]["template"]["spec"]["containers"]
    batch = Mirror.model_fields["batch_bytes"].default
    merges = environment_of(overlay).merge.max_concurrent_activities
    assert in_bytes(container["resources"]["limits"]["memory"]) >= merges * 3 * batch + IDLE_WORKER


def in_bytes(quantity: str) -> int:
    assert quantity.endswith("Gi")
    return int(quantity.removesuffix("Gi")) * 2**30


def test_there_is_a_deployment_for_each_kind_of_queue_with_a_budget_and_probes_of_its_own(manifests):
    assert {one["metadata"]["name"] for one in manifests.of("Deployment")} == {f"icefleet-{kind}" for kind in KINDS}
    for kind in KINDS:
        pod = manifests.worker(kind)["spec"]["template"]
        [worker] = pod["spec"]["containers"]
        assert worker["args"][:3] == ["worker", "--serve", kind]
        assert {name: worker[name]["httpGet"]["path"] for name in worker if name.endswith("Probe")} == {
            "startupProbe": "/livez",
            "livenessProbe": "/livez",
            "readinessProbe": "/readyz",
        }
        [port] = worker["ports"]
        assert worker["args"][worker["args"].index("--listen") + 1] == f"[::]:{port['containerPort']}"  # IPv4 or IPv6
        assert {spread["topologyKey"] for spread in pod["spec"]["topologySpreadConstraints"]} == {
            "topology.kubernetes.io/zone",
            "kubernetes.io/hostname",
        }
        for spread in pod["spec"]["topologySpreadConstraints"]:
            assert selects(spread["labelSelector"], pod["metadata"]["labels"])


def test_whoever_selects_pods_selects_those_and_no_others(manifests):
    pods = {name: pod["metadata"]["labels"] for name, pod in manifests.pods()}
    workers = {f"Deployment icefleet-{kind}" for kind in KINDS}
    for one in [*manifests.of("Deployment"), *manifests.of("PodDisruptionBudget")]:
        found = {name for name, labels in pods.items() if selects(one["spec"]["selector"], labels)}
        assert found == {f"Deployment {one['metadata']['name']}"}
    [monitor] = manifests.of("PodMonitor")
    assert {name for name, labels in pods.items() if selects(monitor["spec"]["selector"], labels)} == workers
    for name in ("icefleet-deny", "icefleet-reach", "icefleet-metrics"):
        policy = manifests.one("NetworkPolicy", name)
        assert {pod for pod, labels in pods.items() if selects(policy["spec"]["podSelector"], labels)} == set(pods)


def test_a_worker_is_killed_only_some_time_after_its_grace(manifests):
    for kind in KINDS:
        pod = manifests.worker(kind)["spec"]["template"]["spec"]
        words = pod["containers"][0]["args"]
        assert pod["terminationGracePeriodSeconds"] >= int(words[words.index("--grace") + 1]) + 30


def test_a_deployment_is_scaled_by_one_autoscaler_or_by_its_replicas(manifests):
    scaled = [
        one["spec"]["scaleTargetRef"]["name"]
        for kind in ("ScaledObject", "HorizontalPodAutoscaler")
        for one in manifests.of(kind)
    ]
    assert sorted(scaled) == (
        ["icefleet-export"] if manifests.name in OVERLAYS else ["icefleet-export", "icefleet-merge"]
    )
    for kind in KINDS:
        assert ("replicas" in manifests.worker(kind)["spec"]) == (f"icefleet-{kind}" not in scaled)


def test_never_more_workers_ask_a_source_than_config_reckons_with(overlay):
    most = [one["spec"]["maxReplicaCount"] for one in overlay.of("ScaledObject")]
    most += [one["spec"]["maxReplicas"] for one in overlay.of("HorizontalPodAutoscaler")]
    assert sum(most) + overlay.worker("upkeep")["spec"]["replicas"] == environment_of(overlay).export.max_workers
    for kind in ("export", "upkeep"):
        assert overlay.worker(kind)["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_what_config_has_no_use_for_has_no_pods_and_all_else_has_some(overlay):
    environment = environment_of(overlay)
    mirrors = yaml.safe_load((ROOT / "config/mirrors.yaml").read_text())["mirrors"].get(environment.name)
    needed = {"control": True, "cdc": bool(environment.cdc), "merge": bool(mirrors), "upkeep": True}
    assert {kind: overlay.worker(kind)["spec"]["replicas"] > 0 for kind in needed} == needed


def test_keda_looks_at_the_queue_of_every_cluster_that_feeds_the_environment(settings):
    overlay = rendered(K8S / "overlays/production")
    environment = environment_of(overlay)
    fed = {mapping.source for mapping in settings.export_mappings if mapping.destination == environment.name}
    [scaler] = overlay.of("ScaledObject")
    seen = [trigger["metadata"] for trigger in scaler["spec"]["triggers"]]
    clusters = {source.removeprefix(f"{environment.name}.") for source in fed}
    assert {one["taskQueue"] for one in seen} == {f"{environment.temporal.task_queue}-{name}" for name in clusters}
    assert {(one["endpoint"], one["namespace"], one["queueTypes"]) for one in seen} == {
        (environment.temporal.address, environment.temporal.namespace, "activity")
    }
    # what waits for all builds: tests/e2e/test_waiting.py
    assert not [one for one in seen if {"workerDeploymentName", "workerDeploymentBuildId"} & set(one)]
    [login] = overlay.of("TriggerAuthentication")
    named = yaml.safe_load((ROOT / "config/environments.yaml").read_text())["environments"]["production"]["temporal"]
    assert login["spec"]["secretTargetRef"] == [
        {"parameter": "apiKey", "name": "icefleet", "key": named["api_key_env"]}
    ]
    assert {trigger["authenticationRef"]["name"] for trigger in scaler["spec"]["triggers"]} == {
        login["metadata"]["name"]
    }


def test_mirrors_are_scaled_by_their_own_queue_and_some_always_run(settings, tmp_path):
    [temporal] = {
        (one.temporal.merge_task_queue, one.merge.max_concurrent_activities) for one in settings.environments.values()
    }
    by_queue = with_components(tmp_path / "keda", "keda", "keda-merge").one("ScaledObject", "icefleet-merge")["spec"]
    by_cpu = with_components(tmp_path / "hpa", "hpa", "hpa-merge").one("HorizontalPodAutoscaler", "icefleet-merge")[
        "spec"
    ]
    [seen] = [trigger["metadata"] for trigger in by_queue["triggers"]]
    assert (seen["taskQueue"], int(seen["targetQueueSize"])) == temporal
    assert (by_queue["minReplicaCount"], by_queue["maxReplicaCount"]) == (by_cpu["minReplicas"], by_cpu["maxReplicas"])
    assert by_queue["minReplicaCount"] > 0
    assert by_queue["fallback"]["replicas"] == by_queue["minReplicaCount"]


def test_operators_that_look_at_their_own_label_find_metrics_and_alerts(overlay):
    labels = [overlay.one(kind, "icefleet")["metadata"]["labels"] for kind in ("PodMonitor", "PrometheusRule")]
    assert {label["release"] for label in labels} == {"kube-prometheus-stack"}


def test_the_external_secret_brings_every_variable_that_config_names():
    overlay = rendered(K8S / "overlays/production")
    named = variables(yaml.safe_load((ROOT / "config/environments.yaml").read_text())["environments"]["production"])
    [secret] = overlay.of("ExternalSecret")
    assert {one["secretKey"] for one in secret["spec"]["data"]} == named | {"SENTRY_DSN"}
    assert secret["spec"]["target"]["name"] == "icefleet"
    for _, container in overlay.containers():
        assert {"secretRef": {"name": "icefleet"}} in container["envFrom"]


def test_pods_have_the_files_of_config_where_the_image_looks_for_them(overlay):
    config = overlay.one("ConfigMap", "icefleet-config")
    files = {path.name: path.read_text() for path in (ROOT / "config").glob("*.yaml")}
    del files["kustomization.yaml"]
    assert config["data"] == files
    assert sum(map(len, files.values())) < MOST_OF_A_CONFIG_MAP / 2
    assert "ICEFLEET_CONFIG_DIR=/etc/icefleet/config" in (ROOT / "deploy/Dockerfile").read_text()
    for _, pod in overlay.pods():
        [name] = [
            v["name"] for v in pod["spec"]["volumes"] if v.get("configMap") == {"name": config["metadata"]["name"]}
        ]
        for container in pod["spec"]["containers"]:
            [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == name]
            assert mount == {"name": name, "mountPath": "/etc/icefleet/config", "readOnly": True}


def test_a_change_of_config_starts_pods_anew(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copytree(K8S, tmp_path / "deploy/k8s")
    with (tmp_path / "config/schedules.yaml").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    before, after = rendered(K8S / "overlays/staging"), rendered(tmp_path / "deploy/k8s/overlays/staging")
    for kind in KINDS:
        assert before.worker(kind)["spec"]["template"] != after.worker(kind)["spec"]["template"]


def test_pods_reach_every_address_of_config(overlay):
    environment = environment_of(overlay)
    wanted = {cluster.port for cluster in environment.clickhouse.values()}
    wanted |= {
        database.port for pipe in environment.cdc.values() for database in (pipe.source, pipe.buffer) if database
    }
    urls = [environment.storage.endpoint, environment.catalog.uri, environment.catalog.oauth2_server_uri]
    urls += [environment.nats.url, f"//{environment.temporal.address}"]
    wanted |= {port_of(str(url)) for url in urls if url}
    rules = overlay.one("NetworkPolicy", "icefleet-reach")["spec"]["egress"]
    assert wanted <= {port["port"] for rule in rules if "to" not in rule for port in rule["ports"]}
    collector = overlay.environment()["OTEL_EXPORTER_OTLP_ENDPOINT"]
    _, _, namespace = str(urlsplit(collector).hostname).partition(".")
    to = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}]
    assert {"to": to, "ports": [{"port": port_of(collector), "protocol": "TCP"}]} in rules


def port_of(url: str) -> int:
    return urlsplit(url).port or {"https": 443, "http": 80}[urlsplit(url).scheme]


def test_every_command_is_one_of_ours_with_options_that_it_has(manifests):
    for name, container in manifests.containers():
        words = list(container["args"])
        command = typer.main.get_command(build(words))
        while words and not words[0].startswith("-"):
            word = words.pop(0)
            assert word in command.commands, f"{name}: {shlex.join(container['args'])}"
            command = command.commands[word]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("-")} <= known, f"{name}: {shlex.join(container['args'])}"


def without_runbooks(rules: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The rules, and beside them the links of their alerts, in order."""
    alerts = [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    return rules, [alert["annotations"].pop("runbook_url") for alert in alerts]


def test_the_rules_are_those_that_prometheus_is_given_elsewhere(overlay):
    rules, runbooks = without_runbooks(copy.deepcopy(overlay.one("PrometheusRule", "icefleet")["spec"]))
    others, paths = without_runbooks(yaml.safe_load(RULES.read_text()))
    assert rules == others, "run `make alerts`"
    # whoever has put before them where documents are read keeps that
    assert all(link.endswith(path) for link, path in zip(runbooks, paths, strict=True))


def test_runbooks_are_links_to_wherever_people_read_them(tmp_path):
    base, rules = "deploy/k8s/base/prometheus-rule.yaml", str(RULES.relative_to(ROOT))
    for name in ("Makefile", base, rules):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    made, links = {}, {}
    for place in ("https://docs.example.org/a&b/", ""):
        subprocess.run(["make", "-C", str(tmp_path), "alerts", f"RUNBOOKS={place}"], check=True, capture_output=True)
        made[place], links[place] = without_runbooks(yaml.safe_load((tmp_path / base).read_text())["spec"])
    assert made[""] == made["https://docs.example.org/a&b/"]
    assert links[""] == without_runbooks(yaml.safe_load(RULES.read_text()))[1]
    assert links["https://docs.example.org/a&b/"] == [f"https://docs.example.org/a&b/{path}" for path in links[""]]

"""deploy/k8s: what is rendered is valid, for the oldest Kubernetes that the guide promises and the newest known."""

import copy
import json
import re
from functools import cache
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from support.manifests import K8S, KUBECTL, ROOT, rendered

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl, which renders the manifests, is not installed")

SCHEMAS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "tests/deploy/schemas").glob("*.yaml")}
GUIDE = (ROOT / "docs/guides/kubernetes.md").read_text(encoding="utf-8")
[OLDEST] = re.findall(r"expects of the cluster: Kubernetes (\d\.\d+);", GUIDE)
VERSIONS = (f"{OLDEST}.0", kubernetes_validate.latest_version())


@cache
def validate(text: str) -> None:
    """Refuse what the API would refuse, and also what it would silently leave out; what overlays share, once."""
    one = json.loads(text)
    schema = SCHEMAS.get(one["kind"])
    if schema is None:
        for version in VERSIONS:
            kubernetes_validate.validate(one, version, strict=True)
        return
    assert set(one) == {"apiVersion", "kind", "metadata", "spec"}
    assert one["apiVersion"] == schema["x-api"]
    jsonschema.Draft202012Validator(schema).validate(one["spec"])


def test_every_object_is_valid_by_the_schema_of_its_kind(manifests):
    for one in manifests.objects:
        validate(json.dumps(one))
    assert {"Deployment", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount", "ConfigMap", "Job"} <= {
        one["kind"] for one in manifests.objects
    }


def test_every_scaler_of_keda_may_have_as_many_pods_as_it_must(manifests):
    for one in manifests.of("ScaledObject"):  # KEDA refuses others by a rule that no JSON schema can say
        assert one["spec"]["minReplicaCount"] <= one["spec"]["maxReplicaCount"]


@pytest.mark.parametrize(
    ("kind", "path", "wrong"),
    [
        ("Deployment", ("spec", "template", "spec", "hostnetwork"), True),
        ("Deployment", ("spec", "template", "spec", "containers", 0, "livenessProbe", "failureTreshold"), 3),
        ("NetworkPolicy", ("spec", "podSelector", "labels"), {}),
        ("ScaledObject", ("spec", "triggers", 0, "metadata", "targetQueueSize"), 8),
        ("ScaledObject", ("spec", "triggers", 0, "metadata", "queueSize"), "8"),
        ("ScaledObject", ("spec", "triggers", 0, "metadata", "workerDeploymentName"), "icefleet-production"),
        ("ScaledObject", ("spec", "maxReplicas"), 4),
        ("ScaledObject", ("spec", "maxReplicaCount"), 0),
        ("ScaledObject", ("spec", "pollingInterval"), 0),
        ("ScaledObject", ("spec", "fallback", "behavior"), "keep"),
        ("ExternalSecret", ("spec", "data", 0, "remoteRef", "keys"), "icefleet"),
        ("ExternalSecret", ("spec", "secretStoreRef", "name"), "Vault"),
        ("PodMonitor", ("spec", "podMetricsEndpoints", 0, "intervall"), "30s"),
        ("PrometheusRule", ("spec", "groups", 0, "interval"), "30s1m"),
    ],
)
def test_the_check_refuses_what_the_schemas_do_not_know(kind, path, wrong):
    broken = copy.deepcopy(rendered(K8S / "overlays/production").of(kind)[-1])
    inner: Any = broken
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = wrong
    with pytest.raises(jsonschema.ValidationError):
        validate(json.dumps(broken))

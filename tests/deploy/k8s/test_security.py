"""deploy/k8s: the usual points of security, held against every pod of every overlay and component."""

import re
from ipaddress import ip_address, ip_network

import pytest
import yaml

from support.manifests import K8S, KUBECTL, OVERLAYS, rendered

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl, which renders the manifests, is not installed")

METRICS = 9464


def test_no_pod_runs_as_root(manifests):
    for name, pod in manifests.pods():
        context = pod["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert (context["runAsUser"], context["runAsGroup"]) == (10001, 10001), name
    for name, container in manifests.containers():
        assert not {"runAsUser", "runAsGroup", "runAsNonRoot"} & set(container["securityContext"]), name


def test_every_pod_can_read_the_secrets_that_are_mounted_into_it_and_nobody_else_can(manifests):
    # files of a volume belong to root, and to the group `fsGroup` where there is one
    for name, pod in manifests.pods():
        [secret] = [volume["secret"] for volume in pod["spec"]["volumes"] if "secret" in volume]
        assert secret["defaultMode"] == 0o440, name
        assert pod["spec"]["securityContext"]["fsGroup"] == pod["spec"]["securityContext"]["runAsGroup"], name


def test_no_container_writes_to_its_root_file_system_and_each_has_a_bounded_place_for_the_rest(manifests):
    for name, container in manifests.containers():
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}, name
    for name, pod in manifests.pods():
        assert all("sizeLimit" in volume["emptyDir"] for volume in pod["spec"]["volumes"] if "emptyDir" in volume), name


def test_no_process_gains_privileges_and_every_capability_is_dropped(manifests):
    for name, container in manifests.containers():
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert not context.get("privileged"), name


def test_every_pod_has_the_seccomp_profile_of_the_runtime(manifests):
    for name, pod in manifests.pods():
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name


def test_no_pod_gets_a_token_of_kubernetes_nor_rights_in_it(manifests):
    accounts = manifests.of("ServiceAccount")
    assert [account["automountServiceAccountToken"] for account in accounts] == [False]
    for name, pod in manifests.pods():
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        assert pod["spec"]["serviceAccountName"] == accounts[0]["metadata"]["name"], name
    assert not [one["kind"] for one in manifests.objects if "Role" in one["kind"]]


def test_no_pod_shares_the_nodes_network_processes_files_or_ports(manifests):
    for name, pod in manifests.pods():
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod["spec"]), name
        kinds = {kind for volume in pod["spec"]["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "emptyDir", "secret", "projected"}, name
    for name, container in manifests.containers():
        assert not [port for port in container.get("ports", []) if "hostPort" in port], name


def test_no_secret_stands_in_a_manifest(manifests):
    assert manifests.of("Secret") == []
    secret = re.compile(r"PASSWORD|SECRET|KEY|TOKEN|CREDENTIAL|DSN")
    for name, container in manifests.containers():
        assert not [one["name"] for one in container.get("env", []) if "value" in one and secret.search(one["name"])], (
            name
        )
    assert not [name for name in manifests.environment() if secret.search(name)]
    for one in manifests.of("ConfigMap"):
        for text in one["data"].values():
            assert not re.search(r"-----BEGIN|AKIA[0-9A-Z]{16}|eyJ[\w-]{20}|://[^/\s:]+:[^@\s{]+@", text)


def test_every_image_has_a_version(manifests):
    for name, container in manifests.containers():
        assert re.search(r":\d+\.\d+\.\d+(@sha256:[0-9a-f]{64})?$", container["image"]), name


def test_every_container_asks_for_what_it_needs_and_is_bound_in_memory_and_disk(manifests):
    for name, container in manifests.containers():
        assert set(container["resources"]["requests"]) == {"cpu", "memory", "ephemeral-storage"}, name
        assert set(container["resources"]["limits"]) == {"memory", "ephemeral-storage"}, name


def test_no_pod_hears_of_services_that_it_did_not_ask_for(manifests):
    assert {pod["spec"]["enableServiceLinks"] for _, pod in manifests.pods()} == {False}


def test_nothing_reaches_a_pod_but_the_scrape_of_its_metrics(manifests):
    policies = {one["metadata"]["name"]: one["spec"] for one in manifests.of("NetworkPolicy")}
    assert policies["icefleet-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    rules = [rule for spec in policies.values() for rule in spec.get("ingress", [])]
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert rules == [{"from": [monitoring], "ports": [{"port": METRICS, "protocol": "TCP"}]}]


@pytest.mark.parametrize(
    ("address", "port", "protocol"),
    [
        pytest.param("169.254.170.23", 80, "TCP", id="EKS Pod Identity"),
        pytest.param("fd00:ec2::23", 80, "TCP", id="EKS Pod Identity by IPv6"),
        pytest.param("169.254.169.254", 80, "TCP", id="instance profiles"),
        pytest.param("fd00:ec2::254", 80, "TCP", id="instance profiles by IPv6"),
        pytest.param("169.254.20.10", 53, "UDP", id="NodeLocal DNSCache"),
        pytest.param("169.254.20.10", 53, "TCP", id="NodeLocal DNSCache, long answers"),
    ],
)
def test_pods_reach_what_their_node_answers_of_identities_and_names(manifests, address, port, protocol):
    rules = manifests.one("NetworkPolicy", "icefleet-reach")["spec"]["egress"]
    ports = [
        (port["port"], port["protocol"])
        for rule in rules
        for to in rule.get("to", [])
        if "ipBlock" in to and ip_address(address) in ip_network(to["ipBlock"]["cidr"])
        for port in rule["ports"]
    ]
    assert (port, protocol) in ports


def test_pods_open_connections_to_named_ports_only(manifests):
    policies = [one["spec"] for one in manifests.of("NetworkPolicy")]
    rules = [rule for spec in policies for rule in spec.get("egress", [])]
    assert rules
    assert [rule for rule in rules if not rule.get("ports")] == []
    assert {port["port"] for rule in rules if "to" not in rule for port in rule["ports"]} == {
        443,
        8443,
        7233,
        4222,
        5432,
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_namespace_refuses_pods_that_are_less_restricted(overlay):
    [namespace] = rendered(K8S / "overlays" / overlay).of("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = {one["metadata"].get("namespace") for one in rendered(K8S / "overlays" / overlay).objects}
    assert others == {None, namespace["metadata"]["name"]}


def test_no_file_holds_what_kustomize_would_not_render():
    # a file that no kustomization names is applied by nobody, and is looked at by none of these tests
    files = {path.resolve() for path in K8S.rglob("*.y*ml")}
    named = set()
    for path in K8S.rglob("kustomization.yaml"):
        said = yaml.safe_load(path.read_text())
        named |= {(path.parent / name).resolve() for name in said.get("resources", [])} | {path.resolve()}
    assert files <= named

"""What documents have people type to kubectl names what an overlay makes: namespaces, objects, labels and secrets."""

import pytest

from support.documents import ROOT, Line, documents, shell_lines, words_of
from support.manifests import K8S, KUBECTL, OVERLAYS, Manifests, rendered

pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl, which renders the manifests, is not installed")

TYPED = [line for path in documents() for line in shell_lines(path) if line.text.startswith("kubectl ")]
KINDS = {"deployment": "Deployment", "job": "Job", "cronjob": "CronJob"}


def ids(line: Line) -> str:
    return f"{line.path.relative_to(ROOT)}:{line.number}"


def namespaces() -> dict[str, Manifests]:
    overlays = [rendered(K8S / "overlays" / name) for name in OVERLAYS]
    return {one.of("Namespace")[0]["metadata"]["name"]: one for one in overlays}


def named(words: list[str]) -> list[tuple[str, str]]:
    """Kind and name of every object that a command names: `job/icefleet-setup`, or `job icefleet-setup`."""
    together = [word.split("/", 1) for word in words if "/" in word]
    apart = [[word, words[place + 1]] for place, word in enumerate(words[:-1])]
    return [(KINDS[kind], name) for kind, name in (*together, *apart) if kind in KINDS and not name.startswith("-")]


def secrets(overlay: Manifests) -> set[str]:
    """What pods read secrets from."""
    volumes = [volume for _, pod in overlay.pods() for volume in pod["spec"]["volumes"]]
    sources = [source for _, container in overlay.containers() for source in container["envFrom"]]
    return {volume["secret"]["secretName"] for volume in volumes if "secret" in volume} | {
        source["secretRef"]["name"] for source in sources if "secretRef" in source
    }


def wrong(words: list[str]) -> list[str]:
    """What of a command line is nothing that an overlay makes."""
    if words[1] == "kustomize":
        return [] if rendered(ROOT / words[2]).objects else [words[2]]
    if words[1:3] == ["create", "namespace"]:
        return [name for name in words[3:] if name not in namespaces()]
    if words[1] != "-n" or words[2] not in namespaces():
        return ["the namespace"]
    overlay = namespaces()[words[2]]
    objects = {(one["kind"], one["metadata"]["name"]) for one in overlay.objects}
    found = [f"{kind} {name}" for kind, name in named(words[3:]) if (kind, name) not in objects]
    if words[3:6] == ["create", "secret", "generic"]:
        found += [name for name in words[6:7] if name not in secrets(overlay)]
    if "-l" in words:
        label = dict([words[words.index("-l") + 1].split("=")])
        found += [] if any(label.items() <= pod["metadata"]["labels"].items() for _, pod in overlay.pods()) else ["-l"]
    return found


@pytest.mark.parametrize("line", TYPED, ids=ids)
def test_every_name_in_a_command_of_a_document_is_one_that_an_overlay_makes(line: Line):
    assert wrong(words_of(line)) == []


def test_a_release_that_is_taken_back_is_taken_back_in_every_deployment_and_made_current():
    overlay = namespaces()["icefleet"]
    [undone] = [line for line in TYPED if " rollout undo " in line.text]
    assert {name for _, name in named(words_of(undone))} == {
        one["metadata"]["name"] for one in overlay.of("Deployment")
    }
    after = [line.text for line in shell_lines(undone.path) if line.number > undone.number]
    assert after[0].startswith("icefleet temporal promote ")
    assert f"--deployment {overlay.environment()['ICEFLEET_DEPLOYMENT']} " in after[0]


@pytest.mark.parametrize(
    "text",
    [
        "kubectl get pods",
        "kubectl -n icefleet-prod get pods",
        "kubectl -n icefleet rollout undo deployment/icefleet-worker",
        "kubectl -n icefleet delete job setup",
        "kubectl -n icefleet logs -l app.kubernetes.io/component=controll",
        "kubectl -n icefleet create secret generic icefleet-secrets",
    ],
)
def test_a_name_that_is_none_would_be_seen(text: str):
    assert wrong(text.split()) != []

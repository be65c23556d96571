"""The manifests of deploy/k8s as `kubectl kustomize` renders them."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from support.tools import tool

ROOT = Path(__file__).parents[2]
K8S = ROOT / "deploy/k8s"
KINDS = ("control", "export", "cdc", "merge", "upkeep")
"""Of queues; each has a Deployment."""
OVERLAYS = ("staging", "production")
KUBECTL = tool("kubectl")


@dataclass(frozen=True)
class Manifests:
    """Every object of one rendering."""

    name: str
    objects: tuple[dict[str, Any], ...]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind."""
        return [one for one in self.objects if one["kind"] == kind]

    def one(self, kind: str, name: str) -> dict[str, Any]:
        """The object of that kind and name; a name with a digest behind it counts."""
        [found] = [
            one
            for one in self.of(kind)
            if one["metadata"]["name"] == name or one["metadata"]["name"].rpartition("-")[0] == name
        ]
        return found

    def pods(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What pods are made of whatever makes pods, by name: labels under `metadata`, the rest under `spec`."""
        for one in self.objects:
            spec = one.get("spec", {})
            template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
            if template is not None:
                yield f"{one['kind']} {one['metadata']['name']}", template

    def containers(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every container, those that run before others too, by the name of what makes its pod and its own."""
        for name, pod in self.pods():
            for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
                yield f"{name}/{container['name']}", container

    def worker(self, kind: str) -> dict[str, Any]:
        """The Deployment of a kind of queue."""
        return self.one("Deployment", f"icefleet-{kind}")

    def environment(self) -> dict[str, str]:
        """The variables that all pods share and that are no secrets."""
        return self.one("ConfigMap", "icefleet-worker")["data"]


@cache
def rendered(directory: Path) -> Manifests:
    """What is applied, once for each directory."""
    assert KUBECTL is not None
    built = subprocess.run([KUBECTL, "kustomize", str(directory)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return Manifests(directory.name, tuple(yaml.safe_load_all(built.stdout)))


def with_components(directory: Path, *components: str) -> Manifests:
    """The base with these components, as an overlay in `directory` would have it."""
    directory.mkdir()
    near = Path(os.path.relpath(K8S, directory.resolve()))
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "icefleet",
        "resources": [str(near / "base")],
        "components": [str(near / "components" / name) for name in components],
        "images": [{"name": "icefleet", "newTag": "1.2.3"}],
        "configMapGenerator": [{"name": "icefleet-worker", "literals": ["ICEFLEET_ENVIRONMENT=staging"]}],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
    return rendered(directory)

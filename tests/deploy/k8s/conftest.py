"""Every rendering of deploy/k8s: the overlays, and the components that none of them has."""

import pytest

from support.manifests import K8S, KUBECTL, OVERLAYS, Manifests, rendered, with_components

COMPONENTS = {"by KEDA and the clock": ("keda", "keda-merge", "merge-by-clock"), "by CPU": ("hpa", "hpa-merge")}


@pytest.fixture(scope="session", params=[*OVERLAYS, *COMPONENTS])
def manifests(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Manifests:
    if KUBECTL is None:
        pytest.skip("kubectl, which renders the manifests, is not installed")
    if request.param in OVERLAYS:
        return rendered(K8S / "overlays" / request.param)
    return with_components(tmp_path_factory.mktemp("overlays") / "own", *COMPONENTS[request.param])

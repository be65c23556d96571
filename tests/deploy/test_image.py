"""deploy/Dockerfile: what the image is made of, and as whom it runs."""

import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
LET_IN = [
    line.removeprefix("!")
    for line in (ROOT / "deploy/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    if line.startswith("!")
]


@dataclass
class Stage:
    """One FROM, and what follows it."""

    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def of(self, instruction: str) -> list[str]:
        return [rest for name, rest in self.steps if name == instruction]


def stages() -> list[Stage]:
    """The stages, their instructions on one line each, comments and ARGs before the first FROM resolved."""
    lines = [line for line in TEXT.splitlines() if not line.lstrip().startswith("#")]
    steps = [line.split(None, 1) for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]
    found: list[Stage] = []
    arguments: dict[str, str] = {}
    for instruction, rest in steps:
        if instruction == "FROM":
            base = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match.group(1)], rest)
            found.append(Stage(base.split()[0]))
        elif found:
            found[-1].steps.append((instruction, " ".join(rest.split())))
        else:
            name, _, value = rest.partition("=")
            arguments[name] = value
    return found


BUILD, IMAGE = stages()


def variables() -> dict[str, str]:
    return dict(pair.split("=", 1) for line in IMAGE.of("ENV") for pair in line.split())


def test_every_base_is_pinned_to_one_release():
    assert {stage.base for stage in (BUILD, IMAGE)} == {BUILD.base}
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm(@sha256:[0-9a-f]{64})?", BUILD.base)


def test_everything_installed_is_of_the_lock_with_its_hash_or_of_this_repository():
    installs = [part for run in BUILD.of("RUN") for part in run.split("&&") if re.search(r"\bpip install\b", part)]
    assert len(installs) == 3
    for install in installs:
        ours = install.rstrip().endswith("--no-deps /tmp/wheel/*.whl")
        assert ours or "--require-hashes" in install, install
    assert ["-c requirements.lock -r pyproject.toml" in install for install in installs] == [False, True, False]
    assert "-r tools.lock" in installs[0]
    assert not [run for run in IMAGE.of("RUN") if "install" in run]


def test_the_tools_that_are_taken_from_the_lock_are_in_it_with_hashes():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for tool in ("uv", "setuptools"):
        assert re.search(rf"^{tool}==\S+ \\\n    --hash=sha256:[0-9a-f]{{64}}", lock, re.MULTILINE), tool


def test_nothing_is_fetched_but_packages():
    for stage in (BUILD, IMAGE):
        assert stage.of("ADD") == []
        assert not [run for run in stage.of("RUN") if re.search(r"https?://|\b(curl|wget|git|apt-get|apk)\b", run)]


def test_no_secret_goes_in():
    named = [word for stage in (BUILD, IMAGE) for kind in ("ARG", "ENV") for word in stage.of(kind)]
    assert named
    assert not re.search(r"password|secret|token|key|credential", " ".join(named), re.IGNORECASE)
    assert not [run for stage in (BUILD, IMAGE) for run in stage.of("RUN") if "--mount=type=secret" in run]
    taken = {word for stage in (BUILD, IMAGE) for line in stage.of("COPY") for word in line.split()[:-1]}
    assert not {".", "./", ".env", ".local"} & taken
    assert (ROOT / "deploy/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()[1] == "*"
    assert not [name for name in LET_IN if name.startswith(".") or not (ROOT / name).exists()]


def test_every_package_of_the_project_goes_in():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    rooms = {package.split(".")[0] for package in packages if not package.startswith("icefleet")} | {"proto"}
    copied = {word for line in BUILD.of("COPY") for word in line.split()[:-1]}
    assert rooms <= copied
    assert copied <= set(LET_IN)


def test_it_runs_as_a_number_that_is_not_roots():
    assert IMAGE.of("USER") == ["10001:10001"]
    assert IMAGE.steps.index(("USER", "10001:10001")) > max(
        number for number, (name, _) in enumerate(IMAGE.steps) if name in ("RUN", "COPY")
    )


def test_nothing_is_written_but_below_tmp():
    # deploy/k8s and docker-compose.yml run it on a root file system that cannot be written
    assert IMAGE.of("WORKDIR") == ["/tmp"]
    assert (variables()["HOME"], variables()["PYTHONDONTWRITEBYTECODE"]) == ("/tmp", "1")
    installs = [part for run in BUILD.of("RUN") for part in run.split("&&") if "uv pip install" in part]
    assert ["--compile-bytecode" in install for install in installs] == [True, True]
    assert IMAGE.of("VOLUME") == []


def test_what_was_built_with_stays_behind():
    assert [line for line in IMAGE.of("COPY") if not line.startswith("config ")] == [
        "--from=build /opt/icefleet /opt/icefleet"
    ]
    assert "--without-pip /opt/icefleet" in " ".join(BUILD.of("RUN"))


def test_the_one_image_is_worker_and_command_and_hears_signals_itself():
    assert json.loads(IMAGE.of("ENTRYPOINT")[0]) == ["icefleet"]
    assert json.loads(IMAGE.of("CMD")[0]) == ["worker"]
    assert variables()["PATH"].startswith("/opt/icefleet/bin:")


def test_it_knows_its_version_and_where_its_config_is():
    assert "APP_VERSION=dev" in IMAGE.of("ARG")
    assert variables()["APP_VERSION"] == "${APP_VERSION}"
    [config] = [line for line in IMAGE.of("COPY") if line.startswith("config ")]
    assert config.split()[1] == variables()["ICEFLEET_CONFIG_DIR"]


@pytest.mark.parametrize("name", ["k8s", "grafana", "otel", "prometheus", "compose"])
def test_what_the_image_does_not_need_is_not_even_sent(name):
    ignored = (ROOT / "deploy/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert f"deploy/{name}" in ignored

"""What the supervisor and the commands tell each other, through two small files in `run/`.

A command writes a *request* and starts the supervisor, or sends it SIGHUP; the supervisor writes its *state*, which
names the request that it has dealt with.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from deploy.local.environment import replace

Phase = Literal["starting", "up", "failed", "stopped"]


@dataclass(frozen=True)
class Request:
    """What shall run from now on, besides what runs already."""

    token: str
    parts: Sequence[str]
    ports: Mapping[str, int]
    """Ports that must be the ones named."""
    preferred: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class PartState:
    """One start of one part."""

    pid: int
    identity: str
    """When the process started, as `process.identity` says it: a recycled pid has another."""
    exit_code: int | None
    log_start: int


@dataclass(frozen=True)
class State:
    """The supervisor and its children."""

    pid: int
    identity: str
    token: str
    """The last request that was read; dealt with unless `phase` is `starting`."""
    phase: Phase
    error: str = ""
    """Why that request failed."""
    ports: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, PartState] = field(default_factory=dict)


def write_request(directory: Path, request: Request) -> None:
    """Leave a request for the supervisor."""
    replace(directory / "run" / "request.json", json.dumps(asdict(request)))


def read_request(directory: Path) -> Request:
    """The request that was left last."""
    return Request(**json.loads((directory / "run" / "request.json").read_text()))


def write_state(directory: Path, state: State) -> None:
    """Say how things stand."""
    replace(directory / "run" / "state.json", json.dumps(asdict(state), indent=1))


def read_state(directory: Path) -> State | None:
    """How things stood when the supervisor last looked; None when there never was one."""
    file = directory / "run" / "state.json"
    if not file.exists():
        return None
    fields = json.loads(file.read_text())
    parts = {name: PartState(**part) for name, part in fields.pop("parts").items()}
    return State(parts=parts, **fields)

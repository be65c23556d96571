"""What one worker process serves: everything of its environment, or some kinds of work."""

from collections.abc import Sequence
from dataclasses import dataclass

from activities.core.faults import BadRequest
from activities.core.names import near
from activities.core.queues import QueueNames
from worker.config import Environment, Settings

KINDS = ("control", "export", "cdc", "merge", "upkeep")
"""What `--serve` takes; `export.<cluster>` is the part of `export` that one source cluster answers."""


@dataclass(frozen=True)
class Served:
    """A task queue that a process serves."""

    work: str
    """The key of `activities.contracts.queues.WORK` under which the activities stand that wait there."""
    queue: str
    kind: str
    """How `--serve` names it."""


def queue_names(environment: Environment) -> QueueNames:
    """The environment's queues that hold activities only."""
    temporal = environment.temporal
    return QueueNames(environment.name, temporal.task_queue, temporal.upkeep_task_queue)


def all_served(settings: Settings, environment: str) -> list[Served]:
    """Every queue of an environment that needs workers.

    Raises:
        BadRequest: there is no such environment.
        BadConfig: variables that its Temporal needs are not set.
    """
    resolved = settings.environment(environment, "temporal")
    temporal, names = resolved.temporal, queue_names(resolved)
    found = [Served("control", temporal.task_queue, "control")]
    found += [
        Served("export", names.export(source), f"export.{names.lane(source)}")
        for source in settings.sources(environment)
    ]
    if resolved.cdc:
        found.append(Served("cdc", temporal.cdc_task_queue, "cdc"))
    if resolved.mirrors:
        found.append(Served("merge", temporal.merge_task_queue, "merge"))
    found += [Served("upkeep", names.upkeep, "upkeep"), Served("verify", names.verify, "upkeep")]
    if resolved.mirrors:
        found.append(Served("mirrors", names.mirrors, "upkeep"))
    return found


def served(settings: Settings, environment: str, kinds: Sequence[str] = ()) -> list[Served]:
    """The queues that a process serves that is to serve these kinds of work; without any, all of the environment's.

    Raises:
        BadRequest: a kind, or a cluster, that the environment does not have; all of them are named at once.
        BadConfig: variables that its Temporal needs are not set.
    """
    every = all_served(settings, environment)
    wrong = [_wrong(kind, every, environment) for kind in kinds if not _of_kind(kind, every)]
    if wrong:
        raise BadRequest("\n".join(wrong))
    chosen = [one for kind in kinds for one in _of_kind(kind, every)]
    return [one for one in every if one in chosen or not kinds]


def _of_kind(kind: str, every: Sequence[Served]) -> list[Served]:
    return [one for one in every if kind in (one.kind, one.kind.partition(".")[0])]


def _wrong(kind: str, every: Sequence[Served], environment: str) -> str:
    has = sorted({one.kind for one in every})
    name, _, cluster = kind.partition(".")
    if cluster and name == "export":
        known = [one.partition(".")[2] for one in has if one.startswith("export.")]
        return f"--serve {kind}: no cluster {cluster!r} feeds environment {environment!r}{near(cluster, known)}"
    reasons = {
        "export": "no cluster feeds it: `export_mappings` name none",
        "cdc": "it has no pipeline under `cdc`",
        "merge": "it has no mirror in mirrors.yaml",
    }
    if kind in reasons:
        return f"--serve {kind}: environment {environment!r} has no such work, since {reasons[kind]}"
    return f"--serve {kind}: no such kind of work{near(kind, {*KINDS, *has})}"

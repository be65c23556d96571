"""That every kind of work has a queue of its own."""

from collections.abc import Iterable, Iterator, Mapping

from activities.core.queues import QueueNames
from worker.config_files import Node, Problem
from worker.config_models import Environment, ExportMapping


def queue_problems(
    environments: Mapping[str, Environment], mappings: Iterable[ExportMapping], nodes: Node
) -> Iterator[Problem]:
    """Task queues that two kinds of work of one environment would share: each worker knows one kind only."""
    mappings = list(mappings)
    for name, environment in environments.items():
        temporal = environment.temporal
        names = QueueNames(name, temporal.task_queue, temporal.upkeep_task_queue)
        queues = {
            "requests and table loops": temporal.task_queue,
            "pipelines": temporal.cdc_task_queue,
            "mirrors": temporal.merge_task_queue,
            "upkeep": names.upkeep,
            "verifications": names.verify,
            "what reads whole mirrors": names.mirrors,
            **{
                f"exports of {mapping.source}": names.export(mapping.source)
                for mapping in mappings
                if mapping.destination == name
            },
        }
        taken: dict[str, str] = {}
        for work, queue in queues.items():
            if queue in taken:
                node = nodes.get(name, "temporal") or nodes
                yield node.problem(
                    f"task queue {queue!r} would hold {taken[queue]} and {work}; every kind of work has one of its own"
                )
            taken.setdefault(queue, work)

"""The load that a fleet may put on its sources, as config says it."""

from collections.abc import Iterable, Iterator, Mapping

from worker.config_files import Node, Problem
from worker.config_models import Environment, ExportMapping


def workers_of(source: str, environments: Mapping[str, Environment], mappings: Iterable[ExportMapping]) -> int:
    """The most workers that can ask a source at once: those of every environment that it feeds."""
    fed = {mapping.destination for mapping in mappings if mapping.source == source}
    return sum(environment.export.max_workers for name, environment in environments.items() if name in fed)


def load_problems(
    environments: Mapping[str, Environment], mappings: Iterable[ExportMapping], nodes: Node
) -> Iterator[Problem]:
    """Clusters to which the fleet could send more queries at once than `max_concurrent_queries` grants it."""
    mappings = list(mappings)
    for name, environment in environments.items():
        for key, cluster in environment.clickhouse.items():
            workers = workers_of(f"{name}.{key}", environments, mappings)
            queries = workers * cluster.connections
            if cluster.max_concurrent_queries and queries > cluster.max_concurrent_queries:
                node = nodes.get(name, "clickhouse", key, "max_concurrent_queries") or nodes
                yield node.problem(
                    f"grants {cluster.max_concurrent_queries} queries at once, and {workers} workers x "
                    f"({cluster.export_slots} export slots + {cluster.lookup_slots} lookup slots) can send {queries}; "
                    "lower export.max_workers, export_slots or lookup_slots, or have the source allow more"
                )

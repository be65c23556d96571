"""From files to entries: reads the config's files into one tree, the tree into entries, and notes what is wrong."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from worker.config_checks import (
    bad_name,
    contested,
    duplicate_tables,
    environment_problems,
    fit,
    mapping_problems,
    source_problems,
    table_problems,
    unknown_keys,
    unless_known,
)
from worker.config_files import Node, Problem, Variables, expand, merge, name_of, read_file
from worker.config_models import Environment, ExportMapping, Lag, TableEntry, Unset, WrittenEnvironment, WrittenTable

_FILES = {"environments.yaml": ("environments", "export_mappings"), "tables.yaml": ("groups",)}
_ROOT_KEYS = tuple(key for keys in _FILES.values() for key in keys)

Clusters = Mapping[str, Sequence[str]]


class Loader:
    """Loads once; afterwards `problems` says what is wrong, and the entries are whole if nothing is."""

    def __init__(self, variables: Variables) -> None:
        self.variables = variables
        self.problems: list[Problem] = []
        self.environments: dict[str, Environment] = {}
        self.missing: dict[str, list[Problem]] = {}
        self.mappings: tuple[ExportMapping, ...] = ()
        self.tables: dict[str, TableEntry] = {}

    def load(self, directory: Path, overrides: Sequence[Path]) -> None:
        """Read the files of a directory and lay the overrides over them."""
        root, whole = self._read(directory, overrides)
        root = expand(root, self.variables, self.problems)
        environments = self._mapping(root, "environments")
        for name, node in environments.items():
            self._environment(name, node)
        # with an unreadable file every reference into it would look wrong
        clusters = _clusters(environments) if whole else None
        self._mappings(self._list(root, "export_mappings"), clusters)
        self._tables(self._mapping(root, "groups"), clusters)

    def _read(self, directory: Path, overrides: Sequence[Path]) -> tuple[Node, bool]:
        root, whole = Node({}), True
        paths = [(directory / name, keys) for name, keys in _FILES.items()]
        if not directory.is_dir():
            message = "no such directory; name one with --config-dir or ICEFLEET_CONFIG_DIR"
            self.problems.append(Problem(str(directory), "", message))
            paths, whole = [], False
        for override in overrides:
            if override.is_dir():
                paths += [(path, _ROOT_KEYS) for path in sorted(override.glob("*.yaml"))]
            else:
                paths.append((override, _ROOT_KEYS))
        for path, keys in paths:
            node, problems = read_file(path, str(path))
            self.problems += problems
            if node is not None:
                self.problems += unknown_keys(node, keys)
                root = merge(root, node)
            whole = whole and (node is not None or not problems)
        return root, whole

    def _mapping(self, node: Node, key: str) -> Node:
        below = node.get(key) or Node({})
        if not isinstance(below.value, dict):
            self.problems.append(below.problem("expected a mapping of keys to values"))
        return below

    def _list(self, node: Node, key: str) -> Node:
        below = node.get(key) or Node([])
        if not isinstance(below.value, list):
            self.problems.append(below.problem("expected a list"))
        return below

    def _environment(self, name: str, node: Node) -> None:
        self.problems += bad_name(name, node)
        written, _, problems = fit(WrittenEnvironment, node, self.variables)
        self.problems += problems
        self.problems += environment_problems(node)
        missing = [
            scalar.problem(self.variables.unset(variable)) for scalar in node.scalars() for variable in scalar.unset
        ]
        if written is not None and not bad_name(name, node):
            parts = {field: getattr(written, field) for field in type(written).model_fields}
            self.environments[name] = Environment(name=name, **parts)
            missing += self._unset_secrets(written, node)
        if missing:
            self.missing[name] = missing

    def _unset_secrets(self, part: object, node: Node) -> list[Problem]:
        if isinstance(part, Unset):
            return [node.problem(self.variables.unset(part.variable))]
        if isinstance(part, BaseModel):
            fields = type(part).model_fields.items()
            below = {field.alias or name: getattr(part, name) for name, field in fields}
        elif isinstance(part, dict):
            below = {str(key): value for key, value in part.items()}
        else:
            return []
        found = ((node.get(key), value) for key, value in below.items())
        return [problem for place, value in found if place for problem in self._unset_secrets(value, place)]

    def _mappings(self, nodes: Node, clusters: Clusters | None) -> None:
        mappings: list[ExportMapping] = []
        self._demand_set(nodes)
        for node in nodes.elements():
            mapping, _, problems = fit(ExportMapping, node, self.variables)
            self.problems += problems
            if mapping is None:
                continue
            if clusters is not None:
                self.problems += mapping_problems(mapping, node, clusters)
            if mapping in mappings:
                self.problems.append(node.problem("this mapping is listed twice"))
            else:
                mappings.append(mapping)
        self.mappings = tuple(mappings)

    def _tables(self, groups: Node, clusters: Clusters | None) -> None:
        self._demand_set(groups)
        feeding: dict[str, list[str]] = {}
        for mapping in self.mappings:
            feeding.setdefault(mapping.destination, []).append(mapping.source)
        everything: list[Node] = []
        for group, node in groups.items():
            self.problems += bad_name(group, node)
            if not isinstance(node.value, dict):
                self.problems.append(node.problem("expected a mapping with `defaults` and `tables`"))
            self.problems += unknown_keys(node, ("defaults", "tables"))
            defaults = self._mapping(node, "defaults")
            for table in self._list(node, "tables").elements():
                everything.append(table)
                self._table(group, merge(defaults, table), feeding, clusters)
        self.problems += duplicate_tables(everything)

    def _table(self, group: str, node: Node, feeding: Mapping[str, list[str]], clusters: Clusters | None) -> None:
        written, node, shape = fit(WrittenTable, node, self.variables)
        problems = unless_known(shape, self.problems)
        if written is not None:
            named = written.source
            problems += unless_known(table_problems(written, node), [*self.problems, *problems])
            for index, source in enumerate(named):
                place = node.get("source", index) or node.get("source") or node
                problems += source_problems(source, place, clusters) if clusters is not None else ()
            problems += contested(written.name, named, node, feeding)
        self.problems += problems
        if written is not None and not problems:
            lag = Lag.parse(written.lag, written.partition.type)
            parts = {field: getattr(written, field) for field in WrittenTable.model_fields}
            self.tables[name_of(node)] = TableEntry(group=group, lag_amount=lag.amount, **parts)

    def _demand_set(self, node: Node) -> None:
        for scalar in node.scalars():
            self.problems += [scalar.problem(self.variables.unset(variable)) for variable in scalar.unset]


def _clusters(environments: Node) -> Clusters:
    return {
        name: [cluster for cluster, _ in (node.get("clickhouse") or Node({})).items()]
        for name, node in environments.items()
    }

"""From files to entries: reads the config's files into one tree, the tree into entries, and notes what is wrong."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, SecretStr

from activities.core.names import near
from worker.config_checks import (
    bad_name,
    contested,
    duplicate_tables,
    environment_problems,
    fit,
    mapping_problems,
    override_problems,
    redaction_problems,
    shared_storage,
    source_problems,
    table_problems,
    unknown_keys,
    unless_known,
)
from worker.config_files import Node, Problem, Variables, expand, merge, name_of, read_file
from worker.config_load import load_problems
from worker.config_mirrors import Mirror, clashing_mirrors, mirror_problems
from worker.config_models import Environment, ExportMapping, WrittenEnvironment
from worker.config_pipelines import pipeline_problems
from worker.config_queues import queue_problems
from worker.config_schedules import Schedules, schedule_problems
from worker.config_secrets import GivenFile, missing, name_files
from worker.config_tables import Lag, Privacy, TableEntry, WrittenTable

_PRIVACY_KEYS = ("redaction_sets", "sensitive_patterns")
_FILES = {
    "environments.yaml": ("environments", "export_mappings"),
    "tables.yaml": ("groups", *_PRIVACY_KEYS),
    "schedules.yaml": ("schedules",),
    "mirrors.yaml": ("mirrors",),
}
_OPTIONAL = frozenset({"schedules.yaml", "mirrors.yaml"})
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
        self.overrides: dict[str, dict[str, TableEntry]] = {}
        self.schedules = Schedules()
        self._nodes: dict[str, Node] = {}
        """What the tables were read from, to lay an environment's overrides over."""
        self._named: list[str] = []
        self._privacy = Privacy()
        self._sets: list[str] | None = None
        """The redaction sets that the files name; unknown when a file cannot be read."""

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
        self.problems += load_problems(self.environments, self.mappings, environments)
        self.problems += queue_problems(self.environments, self.mappings, environments)
        self._read_privacy(root, whole=whole)
        self._tables(self._mapping(root, "groups"), clusters)
        if whole:
            self._override_tables(environments)
        self._schedule(self._mapping(root, "schedules"), root, whole=whole)
        self._mirrors(self._mapping(root, "mirrors"), environments, whole=whole)

    def _read(self, directory: Path, overrides: Sequence[Path]) -> tuple[Node, bool]:
        root, whole = Node({}), True
        named = [(directory / name, keys) for name, keys in _FILES.items()]
        paths = [(path, keys) for path, keys in named if path.name not in _OPTIONAL or path.exists()]
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
        node, problems = name_files(WrittenEnvironment, node)
        self.problems += problems
        written, _, problems = fit(WrittenEnvironment, node, self.variables)
        self.problems += problems
        self.problems += environment_problems(node)
        unset = _unset(self.variables, node)
        if written is not None and not bad_name(name, node):
            parts = {field: getattr(written, field) for field in type(written).model_fields}
            environment = Environment(name=name, **parts)
            self.problems += shared_storage(environment, node, self.environments.values())
            self.problems += unless_known(
                pipeline_problems(environment, node, self.environments.values()), self.problems
            )
            self.environments[name] = environment
            unset += self._unset_secrets(written, node)
        if unset:
            self.missing[name] = unset

    def _unset_secrets(self, part: object, node: Node) -> list[Problem]:
        if isinstance(part, SecretStr | GivenFile):
            wrong = "" if node.unset else missing(part, self.variables)
            return [node.problem(wrong)] if wrong else []
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

    def _read_privacy(self, root: Node, *, whole: bool) -> None:
        below = {key: node for key in _PRIVACY_KEYS if (node := root.get(key)) is not None}
        for node in below.values():
            self._demand_set(node)
        privacy, _, problems = fit(Privacy, Node(below), self.variables)
        self.problems += problems
        sets = (root.get("redaction_sets") or Node({})).items()
        for name, node in sets:
            self.problems += bad_name(name, node)
        self._privacy = privacy or Privacy()
        self._sets = [name for name, _ in sets] if whole else None

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
                whole = merge(defaults, table)
                entry = self._table(group, whole, feeding, clusters)
                if entry is not None:
                    self.tables[entry.name] = entry
                    self._nodes[entry.name] = whole
        self.problems += duplicate_tables(everything)
        self._named = [name_of(node) for node in everything]

    def _table(
        self, group: str, node: Node, feeding: Mapping[str, list[str]], clusters: Clusters | None
    ) -> TableEntry | None:
        """One table with its group's defaults; nothing if anything is wrong with it."""
        written, node, shape = fit(WrittenTable, node, self.variables)
        problems = unless_known(shape, self.problems)
        redacted: tuple[str, ...] = ()
        if written is not None:
            named = written.source
            sets = self._privacy.redaction_sets
            columns = [column for name in written.redact for column in sets.get(name, ())]
            redacted = tuple(dict.fromkeys([*columns, *written.redacted_columns]))
            found = [*redaction_problems(written, node, self._sets), *table_problems(written, node, redacted)]
            problems += unless_known(found, [*self.problems, *problems])
            for index, source in enumerate(named):
                place = node.get("source", index) or node.get("source") or node
                problems += source_problems(source, place, clusters) if clusters is not None else ()
            problems += contested(written.name, named, node, feeding)
        self.problems += problems
        if written is None or problems:
            return None
        parts = {field: getattr(written, field) for field in WrittenTable.model_fields} | {"redacted_columns": redacted}
        lag = Lag.parse(written.lag, written.partition.type)
        patterns = self._privacy.sensitive_patterns
        return TableEntry(group=group, lag_amount=lag.amount, sensitive_patterns=patterns, **parts)

    def _override_tables(self, environments: Node) -> None:
        for environment, node in environments.items():
            for name, override in (node.get("tables") or Node({})).items():
                self.problems += override_problems(name, override, self._named)
                table = self.tables.get(name)
                if table is None or not isinstance(override.value, dict):
                    continue
                entry = self._table(table.group, merge(self._nodes[name], override), {}, None)
                if entry is not None:
                    self.overrides.setdefault(environment, {})[name] = entry

    def _schedule(self, node: Node, root: Node, *, whole: bool) -> None:
        self._demand_set(node)
        schedules, node, problems = fit(Schedules, node, self.variables)
        self.problems += problems
        self.schedules = schedules or Schedules()
        if schedules is not None and whole:
            groups = [name for name, _ in (root.get("groups") or Node({})).items()]
            environments = [name for name, _ in (root.get("environments") or Node({})).items()]
            self.problems += schedule_problems(
                schedules, node, environments=environments, groups=groups, tables=self._named
            )

    def _mirrors(self, nodes: Node, environments: Node, *, whole: bool) -> None:
        known = [name for name, _ in environments.items()]
        written: list[tuple[str, Mirror, Node]] = []
        for name, every in nodes.items():
            if whole and name not in known:
                self.problems.append(every.problem(f"no environment {name!r}{near(name, known)}"))
            if every.value is not None and not isinstance(every.value, list):
                self.problems.append(every.problem("expected a list of mirrors"))
            for place in every.elements():
                mirror, node, shape = fit(Mirror, place, self.variables)
                problems = unless_known(shape, self.problems)
                if mirror is not None:
                    written.append((name, mirror, node))
                if mirror is not None and not _unset(self.variables, node):  # else nobody can judge it
                    problems += unless_known(mirror_problems(mirror, node), problems)
                self.problems += problems
            if unset := _unset(self.variables, every):
                self.missing.setdefault(name, []).extend(unset)
        found = [one for one in written if not _unset(self.variables, one[2])]
        lakes = {name: (one.catalog.uri, one.catalog.warehouse) for name, one in self.environments.items()}
        self.problems += clashing_mirrors(found, lakes)
        for name, environment in self.environments.items():
            own = {mirror.mirror: mirror for place, mirror, _ in written if place == name}
            self.environments[name] = environment.model_copy(update={"mirrors": own})

    def _demand_set(self, node: Node) -> None:
        self.problems += _unset(self.variables, node)


def _unset(variables: Variables, node: Node) -> list[Problem]:
    return [scalar.problem(variables.unset(variable)) for scalar in node.scalars() for variable in scalar.unset]


def _clusters(environments: Node) -> Clusters:
    return {
        name: [cluster for cluster, _ in (node.get("clickhouse") or Node({})).items()]
        for name, node in environments.items()
    }

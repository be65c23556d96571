"""What must hold in the config: one entry against its shape, and entries against each other."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from activities.core.names import near
from worker.config_connections import connection_problems
from worker.config_fields import NAME
from worker.config_files import Node, Problem, Variables, name_of
from worker.config_models import Environment, ExportMapping
from worker.config_secrets import parts_of
from worker.config_tables import Lag, TableNetwork, WrittenTable

Model = TypeVar("Model", bound=BaseModel)
Path = tuple[str | int, ...]

_SECRET_WORDS = ("secret", "password", "token", "credential", "authorization", "access-key")
_KINDS = {dict: "a mapping", list: "a list"}
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "list_type": "a list",
    "tuple_type": "a list",
}


def fit(model: type[Model], node: Node, variables: Variables) -> tuple[Model | None, Node, list[Problem]]:
    """Read a node as `model`: the result, the part of the node that it was read from, and every problem.

    What is wrong is left out and the rest read again, so that an entry with one bad key still has its other keys
    checked. Nothing is returned when the rest is no whole entry, or depends on a variable that is not set.
    """
    problems: list[Problem] = []
    left_out: set[Path] = set()
    for _ in range(8):  # leaving out a value can only uncover as many layers as the config is deep
        try:
            return model.model_validate(node.plain(), context=variables), node, problems
        except ValidationError as error:
            bad = error.errors(include_url=False, include_context=True)
        reported = {problem.key for problem in problems}
        news = [detail for detail in bad if detail["loc"] not in left_out]
        found = [problem for problem in (_problem(model, node, detail) for detail in news) if problem is not None]
        problems += [problem for problem in found if problem.key not in reported]
        pruned = node
        left_out |= {detail["loc"] for detail in bad}
        for path in sorted((detail["loc"] for detail in bad), key=_depth_first, reverse=True):
            pruned = _without(pruned, path)
        if pruned.plain() == node.plain():
            break
        node = pruned
    return None, node, problems


def _depth_first(path: Path) -> tuple[tuple[bool, Any], ...]:
    return tuple((isinstance(step, str), step) for step in path)


def _without(node: Node, path: Path) -> Node:
    if not path or node.get(path[0]) is None:
        return node
    entries = node.value.copy()
    if len(path) == 1:
        del entries[path[0]]
    else:
        entries[path[0]] = _without(entries[path[0]], path[1:])
    return Node(entries, node.file, node.key, node.line)


def _problem(model: type[BaseModel], root: Node, detail: ErrorDetails) -> Problem | None:
    path = detail["loc"]
    node, left = root.nearest(*path)
    kind = detail["type"]
    if node.unset and not left:
        return None  # what is not set is a problem only for whoever uses it
    if left:
        return node.problem("is missing", ".".join(str(step) for step in left))
    if kind == "extra_forbidden":
        return node.problem(_unknown_key(str(path[-1]), _fields(model, path[:-1])))
    return node.problem(_message(detail, node))


def _message(detail: ErrorDetails, node: Node) -> str:
    kind, context, got = detail["type"], detail.get("ctx", {}), _shown(node)
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, not {got}"
    messages = {
        "literal_error": f"expected {context.get('expected')}, not {got}",
        "greater_than": f"must be at least {context.get('gt', 0) + 1}, and is {got}",
        "greater_than_equal": f"must be at least {context.get('ge')}, and is {got}",
        "less_than_equal": f"must be at most {context.get('le')}, and is {got}",
        "less_than": f"must be below {context.get('lt')}, and is {got}",
        "string_too_short": "must not be empty",
        "too_short": "must not be empty",
    }
    return messages.get(kind, detail["msg"])


def _shown(node: Node) -> str:
    if node.value is None:
        return "nothing"
    return _KINDS[type(node.value)] if isinstance(node.value, dict | list) else repr(node.value)


def _fields(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that the part of the model at `path` knows."""
    here: type[BaseModel] | None = model
    for step in path:
        field = None if here is None else _named(here).get(str(step))
        # below a list or a dict of parts, an index or a name leads to the part itself
        here = next(parts_of(field), None) if field is not None else here
    return sorted(_named(here)) if here is not None else []


def _named(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _unknown_key(key: str, known: list[str]) -> str:
    if f"{key}_env" in known:
        return (
            f"a secret is never written here; name the variable that holds it with `{key}_env`, or a file with "
            f"`{key}_file`"
        )
    return f"unknown key{near(key, known)}"


def unless_known(found: Iterable[Problem], known: Iterable[Problem]) -> list[Problem]:
    """The problems that are not just what follows from known ones: those at the same key, or below it."""
    keys = [problem.key for problem in known if problem.key]
    return [
        problem for problem in found if not any(key == problem.key or key.startswith(f"{problem.key}.") for key in keys)
    ]


def unknown_keys(node: Node, known: Iterable[str]) -> list[Problem]:
    """A problem for every key of a mapping that is not known."""
    names = list(known)
    return [below.problem(_unknown_key(key, names)) for key, below in node.items() if key not in names]


def bad_name(name: str, node: Node) -> list[Problem]:
    """A problem if a key cannot be a name in ClickHouse, Iceberg and NATS."""
    if NAME.fullmatch(name):
        return []
    return [node.problem(f"{name!r} cannot be a name: letters, digits, `_` and `-` only, not starting with `-`")]


def environment_problems(node: Node) -> Iterator[Problem]:
    """What the shape of an environment does not say: names of clusters, a missing collection, secrets, two logins."""
    for name, cluster in (node.get("clickhouse") or Node(None)).items():
        yield from bad_name(name, cluster)
    for name, value in (node.get("catalog", "properties") or Node(None)).items():
        if any(word in name.lower() for word in _SECRET_WORDS):
            yield value.problem(
                "a secret is never written here; name its variable with `credential_env` or `token_env` of the catalog"
            )
    transfer = node.get("export", "transfer")
    if transfer is not None and transfer.value == "direct" and node.get("storage", "named_collection") is None:
        yield transfer.problem(
            "ClickHouse writes the files itself then, and needs a named collection with the bucket's url and keys: "
            "create one at the source and name it as `storage.named_collection` (docs/guides/transfer.md)"
        )
    purge, public = node.get("storage", "purge_url"), node.get("storage", "public_url")
    if purge is not None and purge.value and (public is None or not public.value):
        yield purge.problem("there is nothing to be purged without `public_url`, whose cache this is")
    yield from connection_problems(node)


def shared_storage(environment: Environment, node: Node, others: Iterable[Environment]) -> Iterator[Problem]:
    """Two environments under one prefix: the files of one are orphans in the eyes of the other."""
    place = (environment.storage.endpoint, environment.storage.bucket, environment.storage.prefix)
    for other in others:
        if (other.storage.endpoint, other.storage.bucket, other.storage.prefix) == place:
            yield (node.get("storage", "bucket") or node).problem(
                f"environment {other.name} keeps its files there too, under the same prefix, and each would take the "
                "other's for orphans; give one of them another bucket or `prefix`"
            )


def mapping_problems(mapping: ExportMapping, node: Node, clusters: Mapping[str, Iterable[str]]) -> Iterator[Problem]:
    """A mapping's ends must exist; `clusters` holds those of every environment."""
    if mapping.destination not in clusters:
        yield (node.get("destination") or node).problem(
            f"no environment {mapping.destination!r}{near(mapping.destination, clusters)}"
        )
    yield from source_problems(mapping.source, node.get("source") or node, clusters)


def source_problems(source: str, node: Node, clusters: Mapping[str, Iterable[str]]) -> Iterator[Problem]:
    """A source is `<environment>.<cluster>`, and both exist."""
    environment, dot, cluster = source.partition(".")
    if not dot:
        yield node.problem(f"expected `<environment>.<cluster>`, not {source!r}")
    elif environment not in clusters:
        yield node.problem(f"no environment {environment!r}{near(environment, clusters)}")
    elif cluster not in clusters[environment]:
        known = [f"{environment}.{name}" for name in clusters[environment]]
        yield node.problem(f"environment {environment!r} has no cluster {cluster!r}{near(source, known)}")


def redaction_problems(table: WrittenTable, node: Node, known: Iterable[str] | None) -> Iterator[Problem]:
    """Redaction sets that a table names and nobody defines; nothing while it is not known which there are."""
    for index, name in enumerate(table.redact if known is not None else ()):
        if name not in (known or ()):
            place = node.get("redact", index) or node.get("redact") or node
            yield place.problem(f"no redaction set {name!r}{near(name, known or ())}")


def override_problems(name: str, node: Node, tables: Iterable[str]) -> Iterator[Problem]:
    """An environment can only override what is a table, and has said something of it."""
    if name not in tables:
        yield node.problem(f"no table {name!r} in config{near(name, tables)}")


def table_problems(table: WrittenTable, node: Node, redacted: Sequence[str]) -> Iterator[Problem]:
    """What the shape of a table does not say: ranges, chunks, the lag, and decisions that contradict each other."""
    integer = table.partition.type == "integer"
    partition = node.get("partition") or node
    if integer and table.partition.chunk_size is None:
        yield partition.problem("is missing; an integer table says how many values go into one file", "chunk_size")
    for key in ("chunk_size", "coarse_chunks", "clock"):
        given = partition.get(key)
        if given is not None and not integer:
            yield given.problem(f"only integer tables are cut into chunks, and this one is {table.partition.type}")
    lag = Lag.parse(table.lag, table.partition.type)
    if lag.wrong:
        yield (node.get("lag") or node).problem(lag.wrong)
    for index, column in enumerate(table.allowed_columns):
        if column in redacted:
            place = node.get("allowed_columns", index) or node
            yield place.problem(f"{column!r} is both redacted and allowed; decide for one")
    seen: set[str] = set()
    networks = node.get("networks") or node
    if not networks.elements():
        yield networks.problem("must not be empty")
    for network, place in zip(table.networks, networks.elements(), strict=True):
        if network.name in seen:
            yield place.problem(f"network {network.name!r} is listed twice")
        seen.add(network.name)
        yield from _range_problems(network, place, table.partition.type)


def _range_problems(network: TableNetwork, node: Node, kind: str) -> Iterator[Problem]:
    right, wrong = ("index", "date") if kind == "integer" else ("date", "index")
    misplaced = [node.get(f"{end}_{wrong}") for end in ("start", "end")]
    for given in misplaced:
        if given is not None:
            key = given.key.rpartition(".")[2]
            yield given.problem(f"this table is {kind}; give `{key.replace(wrong, right)}` instead")
    start = getattr(network, f"start_{right}")
    end = getattr(network, f"end_{right}")
    if start is None:
        if misplaced[0] is None:
            yield node.problem("is missing", f"start_{right}")
        return
    if end is not None and end < start:
        yield (node.get(f"end_{right}") or node).problem(f"{end} lies before start_{right} {start}")
    if kind == "integer" and start < 0:
        yield (node.get("start_index") or node).problem(f"must not be negative, and is {start}")


def duplicate_tables(nodes: Iterable[Node]) -> Iterator[Problem]:
    """Every table after the first of its name."""
    first: dict[str, Node] = {}
    for node in nodes:
        name = name_of(node)
        if name and name in first:
            where = first[name]
            yield node.problem(f"table {name!r} is already at {where.file}:{where.line}")
        elif name:
            first[name] = node


def contested(table: str, sources: tuple[str, ...], node: Node, mappings: Mapping[str, list[str]]) -> Iterator[Problem]:
    """Two clusters that would feed one destination table; `mappings` holds the sources of every destination."""
    for destination, feeding in mappings.items():
        chosen = [source for source in feeding if not sources or source in sources]
        if len(chosen) > 1:
            clusters = " and ".join(f"`{source}`" for source in chosen)
            message = f"{clusters} would both feed table {table!r} of environment {destination!r}; name one as `source`"
            yield (node.get("source") or node).problem(message)

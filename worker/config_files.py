"""Reading config files: YAML into trees that know their file and line, overrides, and variables."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: in which file, at which dotted key, and (from 1; 0 if unknown) on which line."""

    file: str
    key: str
    message: str
    line: int = 0

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place} {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


@dataclass(frozen=True)
class Node:
    """One value of a config file and the place that it came from.

    `value` is a scalar, a list of nodes, or a dict of nodes; `written` is the text before variables were expanded.
    """

    value: Any
    file: str = ""
    key: str = ""
    line: int = 0
    written: Any = None
    unset: tuple[str, ...] = ()
    """Variables that the text names and nobody has set."""

    def problem(self, message: str, below: str = "") -> Problem:
        """A problem of this value, or of the key `below` that it should have.

        A message that quotes what a variable made of the value shows what the file says instead: it may be a secret.
        """
        if isinstance(self.value, str) and self.written is not None:
            message = message.replace(repr(self.value), repr(self.written))
        key = f"{self.key}.{below}" if self.key and below else self.key or below
        return Problem(self.file, key, message, self.line)

    def plain(self) -> Any:
        """The value as lists, dicts and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def get(self, *path: str | int) -> "Node | None":
        """The node below this one, or nothing."""
        node: Node = self
        for step in path:
            known = node.value if isinstance(node.value, dict) else range(len(node.elements()))
            if step not in known:
                return None
            node = node.value[step]
        return node

    def nearest(self, *path: str | int) -> "tuple[Node, tuple[str | int, ...]]":
        """The deepest node on the path, and what is left of the path below it."""
        node: Node = self
        for position, step in enumerate(path):
            below = node.get(step)
            if below is None:
                return node, path[position:]
            node = below
        return node, ()

    def items(self) -> "list[tuple[str, Node]]":
        """The entries of a mapping; none for anything else."""
        return list(self.value.items()) if isinstance(self.value, dict) else []

    def elements(self) -> "list[Node]":
        """The elements of a list; none for anything else."""
        return list(self.value) if isinstance(self.value, list) else []

    def scalars(self) -> "Iterator[Node]":
        """Every scalar at or below this node."""
        below = self.value.values() if isinstance(self.value, dict) else self.value
        if isinstance(self.value, dict | list):
            for node in below:
                yield from node.scalars()
        else:
            yield self


def merge(under: Node, over: Node) -> Node:
    """Lay `over` on `under`: mappings key by key, lists of tables by name, everything else is replaced."""
    if not (isinstance(under.value, dict) and isinstance(over.value, dict)):
        return over
    merged = dict(under.value)
    for key, node in over.value.items():
        if key == "tables" and key in merged and merged[key].elements() and node.elements():
            merged[key] = _merge_by_name(merged[key], node)
        else:
            merged[key] = merge(merged[key], node) if key in merged else node
    return replace(over, value=merged)


def _merge_by_name(under: Node, over: Node) -> Node:
    merged = under.elements()
    for node in over.elements():
        name = name_of(node)
        same = [index for index, other in enumerate(merged) if name and name_of(other) == name]
        if same:
            merged[same[0]] = merge(merged[same[0]], node)
        else:
            merged.append(node)
    return replace(under, value=merged)


def name_of(node: Node) -> str:
    """What a list element calls itself; empty when it does not."""
    name = node.get("name")
    return name.value if name is not None and isinstance(name.value, str) else ""


@dataclass
class _Reader:
    """Turns one file's YAML nodes into ours, collecting what is wrong with them."""

    file: str
    loader: yaml.SafeLoader
    problems: list[Problem] = field(default_factory=list)
    open: list[yaml.Node] = field(default_factory=list)

    def convert(self, node: yaml.Node, key: str, line: int) -> Node:
        if any(node is ancestor for ancestor in self.open):
            self.problems.append(Problem(self.file, key, "an alias that contains itself", line))
            return Node(None, self.file, key, line)
        self.open.append(node)
        value = self._value(node, key, line)
        self.open.pop()
        return Node(value, self.file, key, line, written=value)

    def _value(self, node: yaml.Node, key: str, line: int) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode):
            return [self._element(key, index, item) for index, item in enumerate(node.value)]
        try:
            return self.loader.construct_object(node)
        except ValueError:
            return node.value  # looks like a date, and is none: 2024-02-30
        except yaml.YAMLError:
            self.problems.append(Problem(self.file, key, f"{node.value!r} has no such value in YAML", line))
            return node.value

    def _mapping(self, node: yaml.MappingNode, key: str) -> dict[str, Node]:
        seen: dict[str, int] = {}
        for name, _ in node.value:
            text, line = str(name.value), name.start_mark.line + 1
            if text in seen and text != "<<":
                message = f"written twice; the first is on line {seen[text]}"
                self.problems.append(Problem(self.file, _join(key, text), message, line))
            seen.setdefault(text, line)
        self.loader.flatten_mapping(node)
        entries = ((str(name.value), name.start_mark.line + 1, value) for name, value in node.value)
        return {text: self.convert(value, _join(key, text), line) for text, line, value in entries}

    def _element(self, key: str, index: int, node: yaml.Node) -> Node:
        called = str(index)
        if isinstance(node, yaml.MappingNode):
            names = [v.value for k, v in node.value if k.value == "name" and isinstance(v, yaml.ScalarNode)]
            called = (names[0] if names else "") or called
        return self.convert(node, _join(key, called), node.start_mark.line + 1)


def read_file(path: Path, file: str) -> tuple[Node | None, list[Problem]]:
    """The tree of one YAML file, empty if it cannot be parsed, and everything that is wrong with its text."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        return None, [Problem(file, "", f"cannot be read: {error.strerror}")]
    except UnicodeDecodeError as error:
        return None, [Problem(file, "", f"is not UTF-8 (byte {error.start})")]
    loader: yaml.SafeLoader | None = None
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return None, []
        if not isinstance(root, yaml.MappingNode):
            return None, [Problem(file, "", "holds no mapping of keys to values", root.start_mark.line + 1)]
        reader = _Reader(file, loader)
        return reader.convert(root, "", 0), reader.problems
    except yaml.YAMLError as error:
        return None, _syntax_problems(file, text, error)
    finally:
        if loader is not None:
            loader.dispose()


def _syntax_problems(file: str, text: str, error: yaml.YAMLError) -> list[Problem]:
    lines = text.splitlines()
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    said = error.problem if isinstance(error, yaml.MarkedYAMLError) else str(error).splitlines()[0]
    if mark is None:
        return [Problem(file, "", f"is not valid YAML: {said}")]
    indented = {number for number, line in enumerate(lines, 1) if "\t" in line[: len(line) - len(line.lstrip())]}
    at_mark = mark.line < len(lines) and lines[mark.line][mark.column : mark.column + 1] == "\t"
    if at_mark or mark.line + 1 in indented:
        message = "a tab; YAML is indented and separated with spaces"
        return [Problem(file, "", message, number) for number in sorted(indented | {mark.line + 1})]
    return [Problem(file, "", f"is not valid YAML: {said}", mark.line + 1)]


def _join(key: str, below: str) -> str:
    return f"{key}.{below}" if key else below


@dataclass(frozen=True)
class Variables:
    """Where `${VAR}` and `*_env` are looked up: the process first, then the embedded stack's `env` file."""

    local: Mapping[str, str]
    local_file: str

    @classmethod
    def read(cls, local_file: Path) -> "Variables":
        """The process's variables over the KEY=VALUE lines of `local_file`, which need not exist."""
        lines = local_file.read_text(encoding="utf-8").splitlines() if local_file.is_file() else []
        pairs = (line.partition("=") for line in lines if "=" in line and not line.lstrip().startswith("#"))
        return cls({key.strip(): value.strip() for key, _, value in pairs}, str(local_file))

    def get(self, name: str) -> str | None:
        """The variable's value, or nothing."""
        return os.environ.get(name, self.local.get(name))

    def unset(self, name: str) -> str:
        """What to say of a variable that nobody has set."""
        way_out = "; `icefleet local up` writes it" if name.startswith("ICEFLEET_LOCAL_") else ""
        return f"the variable {name} is set neither in the environment nor in {self.local_file}{way_out}"


def expand(node: Node, variables: Variables, problems: list[Problem]) -> Node:
    """Replace `${VAR}` and `${VAR:-default}` in every string; what is not set stays as written and is noted."""
    if isinstance(node.value, dict):
        return replace(node, value={key: expand(below, variables, problems) for key, below in node.value.items()})
    if isinstance(node.value, list):
        return replace(node, value=[expand(below, variables, problems) for below in node.value])
    if not isinstance(node.value, str) or "${" not in node.value:
        return node
    if "${" in _VARIABLE.sub("", node.value):
        problems.append(node.problem(f"{node.value!r} is not ${{VAR}} or ${{VAR:-default}}"))
        return node
    unset: list[str] = []

    def value_of(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        value = variables.get(name)
        if value is None or (not value and default is not None):
            value = default
        if value is None:
            unset.append(name)
            return match.group(0)
        return value

    text = _VARIABLE.sub(value_of, node.value)
    return replace(node, value=text, unset=tuple(unset))

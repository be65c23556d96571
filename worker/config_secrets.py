"""Secrets of the config: held by a variable (`*_env`) or by a file (`*_file`), and never written down in it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, PlainSerializer, PlainValidator, SecretStr, ValidationInfo
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from activities.core.credentials import Secret
from activities.core.faults import BadConfig
from worker.config_files import Node, Problem, Variables
from worker.hidden import SECRETS

ENV, FILE = "_env", "_file"
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Unset(SecretStr):
    """A secret whose variable nobody has set: an empty one that knows the variable's name."""

    def __init__(self, variable: str) -> None:
        super().__init__("")
        self.variable = variable


class FileSecret(SecretStr):
    """A secret that a file holds, such as one that Kubernetes mounts. It is read anew each time that it is used."""

    def __init__(self, path: str) -> None:
        super().__init__("")
        self.path = path

    def get_secret_value(self) -> str:
        """What the file holds now, without the line's end.

        Raises:
            BadConfig: it cannot be read, or holds nothing.
        """
        if wrong := unreadable(self.path):
            raise BadConfig(wrong)
        text = Path(self.path).read_text(encoding="utf-8").rstrip("\r\n")
        if not text:
            raise BadConfig(f"the file {self.path} is empty")
        SECRETS.learn(text, self.path)
        return text

    def __bool__(self) -> bool:
        return True

    def _display(self) -> str:
        return "**********"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileSecret) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)


class GivenFile(str):
    """The path of a file that is read by whoever connects: a certificate, a key."""

    __slots__ = ()


@dataclass(frozen=True)
class _Named:
    """What stands in the place of a variable's name once the config names a file."""

    path: Any


def asked(secret: SecretStr | None) -> Secret:
    """The secret as clients take it: itself, or what reads it from its file each time; empty when there is none."""
    if isinstance(secret, FileSecret):
        return secret.get_secret_value
    return secret.get_secret_value() if secret is not None else ""


def unreadable(path: str) -> str:
    """Why a file cannot be read; empty when it can."""
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        return f"the file {path} cannot be read: {error.strerror}"
    return ""


def missing(value: object, variables: Variables) -> str:
    """What keeps a secret or a named file from being used just now; empty when nothing does."""
    if isinstance(value, Unset):
        return variables.unset(value.variable)
    if isinstance(value, GivenFile):
        return unreadable(value)
    if isinstance(value, FileSecret):
        try:
            value.get_secret_value()
        except BadConfig as wrong:
            return str(wrong)
    return ""


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("said", "{message}", {"message": message})


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/"):
        raise _wrong("expected the whole path of a file, such as /run/secrets/icefleet/password")
    return value


def _given_file(value: Any) -> GivenFile:
    return GivenFile(_path(value))


def _secret(value: Any, info: ValidationInfo) -> SecretStr:
    """The secret in the variable or file that the config names; code hands over the secret itself."""
    if isinstance(value, SecretStr):
        return value
    if isinstance(value, _Named):
        return FileSecret(_path(value.path))
    if not isinstance(value, str) or not _VARIABLE_NAME.fullmatch(value):
        # what was written here may be the secret itself: never repeat it
        raise _wrong("expected the name of an environment variable (letters, digits, `_`)")
    variables = info.context
    if not isinstance(variables, Variables):
        raise TypeError("a secret is looked up in the variables that are handed over as the context")
    # As of files: a line end at the end came with whatever wrote it, and no protocol takes it.
    found = (variables.get(value) or "").rstrip("\r\n")
    SECRETS.learn(found, value)
    return SecretStr(found) if found else Unset(value)


HeldSecret = Annotated[SecretStr, PlainValidator(_secret), PlainSerializer(str, when_used="json")]
"""Its alias ends in `_env`; the same key with `_file` names a file instead."""
FilePath = Annotated[GivenFile, PlainValidator(_given_file), PlainSerializer(str, when_used="json")]


def name_files(model: type[BaseModel], node: Node) -> tuple[Node, list[Problem]]:
    """Let every secret that a file holds stand at its `_env` key; each keeps the place that it has in the config."""
    if not isinstance(node.value, dict):
        return node, []
    entries, problems = dict(node.value), []
    for name, field in model.model_fields.items():
        key = field.alias or name
        if _is_secret(key, field):
            problems += _name_file(entries, key)
            continue
        part = next(parts_of(field.annotation), None)
        if part is None or key not in entries:
            continue
        if _is_mapping(field):
            below = dict(entries[key].items())
            for each, own in below.items():
                below[each], found = name_files(part, own)
                problems += found
            if below:
                entries[key] = replace(entries[key], value=below)
        else:
            entries[key], found = name_files(part, entries[key])
            problems += found
    return replace(node, value=entries), problems


def _name_file(entries: dict[str, Node], key: str) -> list[Problem]:
    named = entries.pop(key.removesuffix(ENV) + FILE, None)
    if named is None:
        return []
    if key in entries:
        return [named.problem(f"given beside `{key}`; choose one of the two")]
    entries[key] = replace(named, value=_Named(named.value))
    return []


def _is_secret(key: str, field: FieldInfo) -> bool:
    return key.endswith(ENV) and SecretStr in _plain_types(field.annotation)


def _plain_types(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in get_args(annotation):
        yield from _plain_types(argument)


def _is_mapping(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is dict


def parts_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """The parts of the config that an annotation holds, itself or below a dict, a list or a choice."""
    for kind in _plain_types(annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield kind

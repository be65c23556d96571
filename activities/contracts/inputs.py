"""Plain JSON in, frozen dataclass out: what people type is checked here, field by field.

Left to itself a workflow whose input lacks a field would stay Running for ever, and an unknown field would be
ignored. So workflows take their input as it came and read it with `read_input`, which fails the run and names the
field.
"""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from temporalio.exceptions import ApplicationError

T = TypeVar("T")

_JSON_NAMES = {
    bool: "true or false",
    int: "a whole number",
    str: "a text",
    type(None): "null",
    dict: "an object",
    list: "a list",
}


def bad_request(message: str) -> ApplicationError:
    """The failure of a run whose input cannot be: the person who started it must act."""
    return ApplicationError(message, {"who must act": "user"}, type="BadRequest", non_retryable=True)


def read_input(shape: type[T], payload: object) -> T:
    """Read `payload`, decoded JSON, as the dataclass `shape`.

    A trailing underscore of a field is not part of its JSON name (`from_` is read from `from`).

    Raises:
        ApplicationError: `BadRequest`, naming every field that is missing, unknown or of another type.
    """
    if not isinstance(payload, Mapping):
        raise bad_request(f"the input must be one JSON object with the fields {_names(shape)}; it is {payload!r}")
    fields = {field.name.rstrip("_"): field for field in dataclasses.fields(shape)}  # type: ignore[arg-type]
    hints = get_type_hints(shape)
    problems = [_unknown(name, fields) for name in payload if name not in fields]
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in payload:
            values[field.name] = value = payload[name]
            if not _fits(value, hints[field.name]):
                problems.append(f"field {name!r} must be {_wanted(hints[field.name])}; it is {value!r}")
            elif wrong := _misfit(value, hints[field.name]):
                problems.append(f"field {name!r}: {wrong}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"field {name!r} is missing; it must be {_wanted(hints[field.name])}")
    if problems:
        raise bad_request("; ".join(problems))
    return shape(**values)


def read_only_input(shape: type[T], payloads: Sequence[object]) -> T:
    """Read everything that a workflow was started with: one JSON object, or it is refused as `read_input` does.

    A workflow that declared its one argument would stay Running for ever when it is given two.
    """
    if len(payloads) > 1:
        raise bad_request(
            f"the input must be one JSON object with the fields {_names(shape)}; there are {len(payloads)} inputs"
        )
    return read_input(shape, payloads[0] if payloads else None)


def write_input(value: Any) -> dict[str, Any]:
    """The JSON object that `read_input` reads back as `value`."""
    return {name.rstrip("_"): item for name, item in dataclasses.asdict(value).items()}


def _names(shape: type) -> str:
    return ", ".join(field.name.rstrip("_") for field in dataclasses.fields(shape))


def _unknown(name: object, fields: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(str(name), fields, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the fields are {', '.join(fields)}"
    return f"unknown field {str(name)!r}: {hint}"


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _fits(value: object, hint: Any) -> bool:
    # bool is an int to Python, never to a person
    return any(type(value) is (get_origin(option) or option) for option in _options(hint))


def _misfit(value: object, hint: Any) -> str:
    """What is wrong with the elements of a list of plain values; nothing if they fit."""
    (element,) = get_args(hint) if get_origin(hint) is list else (None,)
    if not isinstance(value, list) or element not in _JSON_NAMES:
        return ""
    wrong = ((number, item) for number, item in enumerate(value, 1) if not _fits(item, element))
    return next((f"element {number} must be {_wanted(element)}; it is {item!r}" for number, item in wrong), "")


def _wanted(hint: Any) -> str:
    return " or ".join(_JSON_NAMES.get(get_origin(option) or option, str(option)) for option in _options(hint))

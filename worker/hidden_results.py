"""No result of an activity gets into a history with a secret in it: some say what libraries have said in exceptions."""

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from worker.hidden import SECRETS, hidden_in

T = TypeVar("T")

SENTENCES = frozenset({"cause", "failed", "index", "message", "note", "problem", "why"})
"""Fields in which something is said to people. All others are data: a key that looks like a secret must stay one."""


def hidden_sentences(result: T) -> T:
    """The same with no secret of this process in what it says to people, also in what it is made of."""
    if isinstance(result, list):
        return [hidden_sentences(one) for one in result]  # type: ignore[return-value]
    if not is_dataclass(result) or isinstance(result, type):
        return result
    known = {field.name: getattr(result, field.name) for field in fields(result) if field.init}
    hidden = {name: _hidden(name, value) for name, value in known.items()}
    changed = {name: value for name, value in hidden.items() if value != known[name]}
    return replace(result, **changed) if changed else result


def _hidden(name: str, value: Any) -> Any:
    return hidden_in(value, SECRETS.hide) if name in SENTENCES else hidden_sentences(value)

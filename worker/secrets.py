"""Every secret value that config has resolved, so that none of them is written anywhere."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, SecretStr

from activities.core.faults import BadConfig
from worker.config import Settings


def secrets_of(settings: Settings) -> set[str]:
    """The values of all environments' secrets that are set."""
    return {value for value in _within(settings.environments) if value}


def _within(part: Any) -> Iterator[str]:
    if isinstance(part, SecretStr):
        with contextlib.suppress(BadConfig):  # what this process cannot read, it cannot write anywhere
            yield part.get_secret_value()
    elif isinstance(part, BaseModel):
        for name in type(part).model_fields:
            yield from _within(getattr(part, name))
    elif isinstance(part, Mapping):
        for value in part.values():
            yield from _within(value)
    elif isinstance(part, Iterable) and not isinstance(part, str | bytes):
        for value in part:
            yield from _within(value)

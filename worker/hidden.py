"""Every secret that this process has read, and what takes them out of all that it writes down or sends away."""

import json
import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

SHORTEST_SECRET = 6
"""What is shorter would also be found where it is none."""
SHORTEST_WORD = 20
REMEMBERED = 20
"""Values of one secret: what was replaced that often lets nobody in any more."""
HIDDEN = "********"


class Secrets:
    """Values that are hidden, from the moment on at which they are learned; any thread may do either."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values: dict[str, tuple[str, ...]] = {}
        """By the name of the secret."""
        self._learning = threading.Lock()
        self._found = _pattern(())
        for value in values:
            self.learn(value)

    def learn(self, value: str, name: str = "") -> None:
        """Hide a value from now on; its `name` is the same for all that follow one another in its place."""
        name = name or value
        if not value or value in self._values.get(name, ()):
            return
        with self._learning:
            self._values[name] = (*self._values.get(name, ()), value)[-REMEMBERED:]
            self._found = _pattern({one for values in self._values.values() for one in values})

    def hide(self, text: str) -> str:
        """The text with no secret in it, also where it is JSON."""
        return self._found.sub(HIDDEN, text)


def hidden_in(part: Any, hide: Callable[[str], str]) -> Any:
    """The same with what `hide` takes out of every text in it, in mappings and sequences as well."""
    if isinstance(part, str):
        return hide(part)
    if isinstance(part, Mapping):
        return {name: hidden_in(value, hide) for name, value in part.items()}
    if isinstance(part, list):
        return [hidden_in(one, hide) for one in part]
    if isinstance(part, tuple):
        return tuple(hidden_in(one, hide) for one in part)
    return part


def _pattern(secrets: Collection[str]) -> re.Pattern[str]:
    pieces = {piece for secret in secrets for piece in (secret, *secret.split(":")) if len(piece) >= SHORTEST_SECRET}
    # Of a file of credentials also what stands in it by itself.
    pieces |= {word for secret in secrets for word in secret.split() if len(word) >= SHORTEST_WORD}
    forms = pieces | {json.dumps(piece)[1:-1] for piece in pieces}
    # The longest first, so that of a secret that begins with another one no end is left.
    return re.compile("|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True)) or r"(?!)")


SECRETS = Secrets()
"""Those of this process."""

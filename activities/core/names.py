"""What to say of a name that is not known."""

import difflib
from collections.abc import Iterable

_LISTED_NAMES = 12


def near(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?` or, with nothing near, what is known; ready to follow a message."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return "; did you mean " + " or ".join(f"`{other}`" for other in close) + "?"
    listed = ", ".join(f"`{other}`" for other in names[:_LISTED_NAMES])
    more = f" and {len(names) - _LISTED_NAMES} more" if len(names) > _LISTED_NAMES else ""
    return f"; known: {listed}{more}" if names else "; there are none"

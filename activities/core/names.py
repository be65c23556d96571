"""What to say of a name that is not known, and what one is called where objects lie."""

import difflib
from collections.abc import Iterable
from urllib.parse import quote

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


def folder_of(identifier: str) -> str:
    """`<namespace>/<table>` of an Iceberg identifier, in letters that mean the same in keys, paths and URLs.

    Always two words, also of a namespace with dots: below the folder of one table there is never that of another one.
    """
    namespace, _, table = identifier.rpartition(".")
    return "/".join(quote(name, safe="").replace("%", "=") for name in (namespace, table))

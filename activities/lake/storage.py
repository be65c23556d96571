"""Metadata files lie in an object store: what goes wrong there gets a name."""

import contextlib
from collections.abc import Iterator

from activities.core.faults import StoreUnavailable


@contextlib.contextmanager
def metadata_named() -> Iterator[None]:
    """Turn the OSErrors that PyIceberg lets through into a fault; use it as a decorator.

    Raises:
        StoreUnavailable: manifests could not be read or written; the message names the file.
    """
    try:
        yield
    except OSError as away:
        raise StoreUnavailable(
            f"the table's metadata cannot be read or written: {away}; check the store that holds the catalog's tables"
        ) from away

"""Metadata files lie in an object store: what goes wrong there gets a name."""

import contextlib
import re
from collections.abc import Iterator

from activities.core.faults import StoreRefused, StoreUnavailable

_REFUSAL = re.compile(
    r"AWS Error (?:ACCESS_DENIED|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID|INVALID_SIGNATURE"
    r"|SIGNATURE_DOES_NOT_MATCH|MISSING_AUTHENTICATION_TOKEN|UNRECOGNIZED_CLIENT|REQUEST_EXPIRED|REQUEST_TIME_TOO_SKEWED|NO_SUCH_BUCKET"
    r"|UNKNOWN \(HTTP status 40[13]\))"
)
"""What the AWS library below PyArrow calls an answer that asking again cannot mend; not all have a name that it knows,
such as that of a token that has expired."""


def is_refusal(failed: Exception) -> bool:
    """Whether the object store said no, in a way that asking again cannot mend."""
    return isinstance(failed, PermissionError) or _REFUSAL.search(str(failed)) is not None


@contextlib.contextmanager
def metadata_named() -> Iterator[None]:
    """Turn the OSErrors that PyIceberg lets through into a fault; use it as a decorator.

    Raises:
        StoreRefused: there is no right to the manifests, or no bucket.
        StoreUnavailable: manifests could not be read or written; the message names the file.
    """
    try:
        yield
    except OSError as away:
        what = f"the table's metadata cannot be read or written: {away}"
        if is_refusal(away):
            raise StoreRefused(f"{what}; grant the rights, or mend storage in environments.yaml") from away
        raise StoreUnavailable(f"{what}; check the store that holds the catalog's tables") from away

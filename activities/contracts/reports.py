"""What every report says, whatever was asked for."""

from dataclasses import dataclass


@dataclass
class Report:
    """What became of a request to a table's loop."""

    status: str = "complete"
    """`complete`, `partial` (some of it failed), `nothing_to_do`, `dry_run`, `cancelled` or `failed`."""
    message: str = ""
    cause: str = ""
    """Of a request that failed as a whole: the name of the fault that ended it."""
    who: str = ""
    """Who must act then: `user`, `operator`, `us` or `nobody`."""

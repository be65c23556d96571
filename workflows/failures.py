"""What went wrong, as a report shows it: the name of the fault and its message, without the layers around it."""

from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.exceptions import TimeoutError as TemporalTimeout


def cause_of(failure: ActivityError) -> tuple[str, str]:
    """Name and message of the innermost failure that says something."""
    cause = failure.cause
    if isinstance(cause, ApplicationError):
        return cause.type or "Failed", cause.message
    if isinstance(cause, TemporalTimeout):
        kind = cause.type.name.lower().replace("_", " ") if cause.type is not None else "a"
        inner = cause.last_heartbeat_details
        return "TimedOut", f"{kind} time-out; last heartbeat: {list(inner) if inner else 'none'}"
    return "Failed", str(cause or failure)

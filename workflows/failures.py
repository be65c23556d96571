"""What went wrong, as a report shows it: the fault's name, its message, and who must act, without what is around it."""

from collections.abc import Mapping

from temporalio.exceptions import ActivityError, ApplicationError, ChildWorkflowError
from temporalio.exceptions import TimeoutError as TemporalTimeout

from activities.contracts.export import WHO_MUST_ACT


def cause_of(failure: ActivityError | ChildWorkflowError) -> tuple[str, str, str]:
    """Name, message and who must act, of the innermost failure that says something."""
    cause = failure.cause
    if isinstance(cause, ApplicationError):
        return cause.type or "Failed", cause.message, _who(cause)
    if isinstance(cause, TemporalTimeout):
        kind = cause.type.name.lower().replace("_", " ") if cause.type is not None else "a"
        inner = cause.last_heartbeat_details
        return "TimedOut", f"{kind} time-out; last heartbeat: {list(inner) if inner else 'none'}", "operator"
    return "Failed", str(cause or failure), "us"


def _who(cause: ApplicationError) -> str:
    details = [detail for detail in cause.details if isinstance(detail, Mapping)]
    # A door's failure holds the report, which says it under a name of its own.
    told = (detail[name] for detail in details for name in (WHO_MUST_ACT, "who") if detail.get(name))
    return str(next(told, "us"))

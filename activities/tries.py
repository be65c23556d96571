"""How often an activity is tried, and whether an attempt that failed is the last one."""

from temporalio import activity

from activities.core.faults import Fault


def most_tries() -> int:
    """How often the current activity is tried at most; 0: without an end."""
    policy = activity.info().retry_policy if activity.in_activity() else None
    return policy.maximum_attempts if policy else 0


def is_last(fault: Fault) -> bool:
    """Whether no further try follows the one of the current activity that ends with this fault."""
    return not fault.retryable or 0 < most_tries() <= activity.info().attempt

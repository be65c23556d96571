"""Whether an attempt of an activity that failed is the last one."""

from temporalio import activity

from activities.core.faults import Fault


def is_last(fault: Fault) -> bool:
    """Whether no further try follows the one of the current activity that ends with this fault."""
    policy = activity.info().retry_policy
    most = policy.maximum_attempts if policy else 0
    return not fault.retryable or 0 < most <= activity.info().attempt

"""Which environment the workers of a task queue serve."""

from activities.core.faults import BadRequest


def check_environment(served: str, asked: str) -> None:
    """Refuse work for another environment than the one that is served: its credentials are not here.

    Raises:
        BadRequest: with the way out.
    """
    if asked != served:
        raise BadRequest(
            f"environment {asked!r}: the workers of this task queue serve {served!r}; mend the field 'environment', "
            f"or start the request where workers run with --environment {asked}"
        )

"""Programs that are no Python packages. What needs one is skipped where it is missing, unless it was promised."""

import os
import shutil

PROMISED = "TEST_TOOLS"
"""The variable that names what is there, with spaces between: such a run is not green for what it skipped."""


def tool(name: str) -> str | None:
    """Where a program is; None where it is not.

    Raises:
        RuntimeError: it is not, and was promised.
    """
    path = shutil.which(name)
    if path is None and name in os.environ.get(PROMISED, "").split():
        raise RuntimeError(f"{PROMISED} promises {name}, which is not installed")
    return path

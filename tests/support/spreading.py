"""How the test files are spread over the processes of a run with `--dist loadfile`.

Files that share what is expensive to make run in one process, and what takes longest begins first: at the end all
processes have small files left, and none waits for another.
"""

import pytest
from xdist.scheduler import LoadFileScheduling

TOGETHER = {
    "tests/privacy/": "the real tables, exported",
    "tests/schemas/": "the real tables, exported",
    "tests/types/": "a table of every type, exported",
    "tests/deploy/test_clickhouse_endpoint": "an endpoint",
    "tests/deploy/k8s/": "manifests",
    "tests/e2e/test_check_source.py": "the sample, exported",
    "tests/e2e/test_commands.py": "the sample, exported",
    "tests/e2e/test_readers.py": "the sample, exported",
    "tests/e2e/test_secrets.py": "the sample, exported",
    "tests/e2e/test_typed.py": "the sample, exported",
    "tests/e2e/test_users_guide.py": "the sample, exported",
}
"""Beginning of a file's path → what it shares with others for as long as the process lives."""
FIRST = (
    "tests/e2e/test_demo.py",
    "tests/docs/test_commands_run.py",
    "tests/e2e/test_upgrade.py",
    "the sample, exported",
    "the real tables, exported",
    "a table of every type, exported",
    "tests/deploy/test_local_stack.py",
    "an endpoint",
    "tests/faults/",
    "tests/mirrors/",
    "tests/e2e/",
    "tests/connections/",
    "manifests",
    "tests/deploy/",
    "tests/benchmarks/",
    "tests/workflows/",
    "tests/lake/",
)
"""Beginnings of scopes in the order in which they are handed out; all others come after them."""


def scope_of(nodeid: str) -> str:
    """What of a test is never spread over several processes: its file, or all that share something with it."""
    file = nodeid.split("::", 1)[0]
    return next((shared for path, shared in TOGETHER.items() if file.startswith(path)), file)


def place_of(nodeid: str) -> int:
    """The lower, the earlier a test is handed out."""
    scope = scope_of(nodeid)
    return next((number for number, first in enumerate(FIRST) if scope.startswith(first)), len(FIRST))


class Spreading(LoadFileScheduling):
    """Hands out scopes, longest first."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def scheduler(config: pytest.Config, log: object) -> Spreading | None:
    """The scheduler of a run with `--dist loadfile`; others have that of their own."""
    if config.getoption("dist") != "loadfile":
        return None
    # In the order of the collection, which is ours, and not by how many tests a scope has.
    config.option.loadscopereorder = False
    return Spreading(config, log)

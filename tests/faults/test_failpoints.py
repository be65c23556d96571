"""Where a crash test may stop a worker."""

import signal
import subprocess
import sys

import pytest

from activities import failpoints

REACH = """
import asyncio, sys
from activities import failpoints

async def main():
    failpoints.arm_death(sys.argv[1])
    for number in range(1, 6):
        await failpoints.reach("before-commit")
        await failpoints.reach("after-commit")
        print(number, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize(("where", "passed"), [("after-commit", 0), ("after-commit:1", 0), ("after-commit:3", 2)])
def test_a_process_dies_when_it_reaches_its_point_for_the_nth_time(where, passed):
    done = subprocess.run([sys.executable, "-c", REACH, where], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(done.stdout.split()) == passed


@pytest.mark.parametrize("where", ["after-lunch", "after-lunch:2", "after-commit:often"])
def test_a_point_that_is_none_is_refused(where):
    with pytest.raises(ValueError, match=r"after-lunch|often"):
        failpoints.arm_death(where)

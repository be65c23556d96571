"""A fork is a process like any other: arguments, variables, output, signals and exit code are its own."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from support import forks

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="commands are not forked here")


def variables(**more):
    return {**os.environ, "ICEFLEET_CONFIG_DIR": "/nowhere", **more}


async def test_output_errors_and_exit_code_are_those_of_the_command():
    code, said, errors = await forks.run(["config", "check", "--json"], variables(), 60)
    assert (code, errors) == (1, "")
    assert "/nowhere" in said
    code, said, errors = await forks.run(["tables"], variables(ICEFLEET_CONFIG_DIR="/neither"), 60)
    assert (code, said) == (2, "")
    assert "/neither" in errors
    code, said, errors = await forks.run(["tables", "--nonsense"], variables(), 60)
    assert (code, said) == (2, "")
    assert "Usage: icefleet tables" in errors


async def test_a_command_that_is_killed_says_by_what_and_others_go_on(stack, tmp_path):
    here = variables(ICEFLEET_CONFIG_DIR=str(ROOT / "config"), ICEFLEET_LOCAL_DIR=str(stack.directory))
    with (tmp_path / "said").open("wb") as file:
        watching = forks.start(["watch"], here, file, file)
    assert (watching.poll(), os.getpgid(watching.pid)) == (None, os.getpgid(0))
    assert (await forks.run(["tables"], variables(), 60))[0] == 2
    assert watching.poll() is None
    watching.kill()
    assert await asyncio.to_thread(watching.wait, 30) == watching.returncode == -signal.SIGKILL
    watching.terminate()  # which is nothing to one that has ended


async def test_another_search_path_for_modules_is_that_of_the_program_itself(tmp_path):
    (tmp_path / "starter").mkdir()
    (tmp_path / "starter" / "__init__.py").touch()
    (tmp_path / "starter" / "main.py").write_text("def main():\n    raise SystemExit(7)\n")
    assert (await forks.run(["tables"], variables(PYTHONPATH=str(tmp_path)), 60))[0] == 7

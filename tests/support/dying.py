"""Victims of crash tests: forks of one process that has imported everything, which die where they are told to."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activities import failpoints

if TYPE_CHECKING:  # victims need not load it
    from support.fleet import Fleet

Work = Callable[..., Coroutine[Any, Any, None]]
TESTS = Path(__file__).parents[1]


async def deaths(fleet: "Fleet", script: str, victims: Sequence[Sequence[Any]]) -> list[int]:
    """The signal that ended each victim of a script of this folder, which are told what `let_die` reads."""
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(TESTS / "support" / script), json.dumps(victims)),
        env={**fleet.variables(), "PYTHONPATH": path},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    ended: list[int] = json.loads(output)
    return ended


def let_die(work: Work) -> None:
    """Let all victims die at once, and print the signals that ended them as a JSON list; 0 for one that did not die.

    The first argument of the process is a JSON list: the arguments of `work`, and the failpoint, of each.
    """
    children = [_begin(work, *victim) for victim in json.loads(sys.argv[1])]
    ends = [os.waitpid(child, 0)[1] for child in children]
    sys.stdout.write(json.dumps([os.WTERMSIG(end) if os.WIFSIGNALED(end) else 0 for end in ends]))


def _begin(work: Work, *said: Any) -> int:
    *arguments, failpoint = said
    child = os.fork()
    if child == 0:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what it logs is no answer
        failpoints.arm_death(failpoint)
        asyncio.run(work(*arguments))
        os._exit(0)
    return child

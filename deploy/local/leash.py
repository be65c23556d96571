"""Run as a script: become a program that dies with the process that started it.

`python -I -S leash.py PARENT_PID COMMAND…` asks the kernel (Linux) to send SIGKILL when the parent goes away, and then
becomes COMMAND. A script of its own and no hook between fork and exec, which is unsafe in a process with threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent and replace it by the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # the parent died before the kernel was asked
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - the very purpose: become the program, no shell between


if __name__ == "__main__":
    main()

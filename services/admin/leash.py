"""Run a command that dies with the process that started it: `leash.py PARENT COMMAND...`.

A process of its own instead of a `preexec_fn`, which is unsafe once the supervisor has threads. Linux only; elsewhere
the command runs all the same, without the promise.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        # It died before the kernel knew that we go with it.
        sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])

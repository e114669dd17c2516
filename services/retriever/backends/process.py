"""What a builder process does first: it takes what processor time others leave, and goes when its parent goes."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_NICENESS = 15


def behind_everybody() -> None:
    """Leave the processor to whoever wants it."""
    os.nice(_NICENESS)


def gone_with(parent: int) -> None:
    """Die with the parent, whose process id is given. Linux only; elsewhere nothing is promised (prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        # It died before the kernel knew that we go with it.
        sys.exit(1)

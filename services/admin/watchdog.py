"""Ends what the children of a killed supervisor have started themselves.

The leash ends each child with the supervisor, but not the child's own children. So a small process reads, from a pipe,
which process groups live; when the pipe closes without their having ended, it kills them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable


class Watchdog:
    """The supervisor's end of the pipe. Whatever happens to the watchdog, the stack goes on."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def lives(self, group: int) -> None:
        self._write(f"+{group}\n")

    def ended(self, group: int) -> None:
        self._write(f"-{group}\n")

    def close(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


def watch(lines: Iterable[str]) -> None:
    """Read until the supervisor closes the pipe, or dies, then kill the groups that are left."""
    groups: set[int] = set()
    for line in lines:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    watch(sys.stdin)

"""A pool of limited processes that parse what others made. A file that breaks one costs that file and nothing else."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.parsers.base import Limits, Parsed, Unreadable, size
from pipelines.parsers.wire import HEADER, frame, most_bytes
from pipelines.parsers.worker import OUT_OF_MEMORY

FILES_PER_PROCESS = 200
"""After so many a process is replaced, so that no library's leak grows."""
_START_SECONDS = 10.0
_PIECE = 1024 * 1024
_ROOT = Path(__file__).parents[2]
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ")
_QUIET = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "PYTHONDONTWRITEBYTECODE": "1",
}


class _Broken(Exception):
    """The process is of no use any more. `blameless`: what it had parsed before may be why."""

    def __init__(self, reason: str, blameless: bool) -> None:
        super().__init__(reason)
        self.reason, self.blameless = reason, blameless


class ParserPool:
    """Parses files in at most `processes` processes, each started when first needed. Safe to use from threads."""

    def __init__(self, limits: Limits | None = None, processes: int = 2) -> None:
        self.limits = limits or Limits()
        self._turns = threading.BoundedSemaphore(processes)
        self._lock = threading.Lock()
        self._idle: list[_Process] = []

    def document(self, path: str, kind: str) -> Parsed:
        """The file as a document. Raises Unreadable."""
        found = self._ask("document", path, kind=kind)
        return Parsed(found["text"], found["fields"], tuple(found["pages"]))

    def count(self, path: str) -> int:
        """How many rows a Parquet file has. Raises Unreadable."""
        return int(self._ask("count", path))

    def rows(self, path: str) -> Iterator[dict[str, Any]]:
        """The rows of a Parquet file, read as they are taken. Raises Unreadable where it breaks off."""
        start, last = 0, False
        while not last:
            rows, last = self._ask("stretch", path, start=start)
            yield from rows
            start += len(rows)

    def close(self) -> None:
        """End the processes; another file starts new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.close()

    def pids(self) -> list[int]:
        """The processes that wait for a file."""
        with self._lock:
            return [process.pid for process in self._idle]

    def _ask(self, ask: str, path: str, **given: object) -> Any:
        request: dict[str, object] = {"ask": ask, "path": path, "with": given}
        with self._turns:
            reply = self._reply(request)
        if "error" in reply:
            raise Unreadable(reply["error"])
        return reply["ok"]

    def _reply(self, request: dict[str, object]) -> dict[str, Any]:
        """A process that has worked before may break through no fault of this file: it is tried in a new one."""
        for process in (self._take(), None):
            try:
                return self._served(process or _Process(self.limits), request)
            except _Broken as broken:
                reason = broken.reason
                if not broken.blameless:
                    break
        return {"error": reason}

    def _served(self, process: _Process, request: dict[str, object]) -> dict[str, Any]:
        try:
            reply = process.ask(request)
        except BaseException:
            process.close()
            raise
        if process.served < FILES_PER_PROCESS:
            with self._lock:
                self._idle.append(process)
        else:
            process.close()
        return reply

    def _take(self) -> _Process | None:
        with self._lock:
            return self._idle.pop() if self._idle else None


class _Process:
    """One worker process and the pipes to it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.served = 0
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipelines.parsers.worker", json.dumps(asdict(limits))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**environment, **_QUIET, "PYTHONPATH": str(_ROOT)},
            bufsize=0,
        )

    @property
    def pid(self) -> int:
        return self._child.pid

    def ask(self, request: dict[str, object]) -> dict[str, Any]:
        """The worker's reply. Raises _Broken if there is none in time, or the last one of a process out of memory."""
        assert self._child.stdin is not None
        blameless, self.served = self.served > 0, self.served + 1
        until = time.monotonic() + self._limits.seconds + (0 if blameless else _START_SECONDS)
        try:
            self._child.stdin.write(frame(request))
            (length,) = HEADER.unpack(self._read(HEADER.size, until))
            if length > most_bytes(self._limits):
                raise _Broken(f"gives more than {size(most_bytes(self._limits))}", False)
            reply: dict[str, Any] = json.loads(self._read(length, until))
        except (EOFError, BrokenPipeError):
            raise _Broken(self._epitaph(), blameless) from None
        if reply.get("broken") == OUT_OF_MEMORY:
            raise _Broken(f"needs more memory than {size(self._limits.memory_bytes)}", blameless)
        return reply

    def close(self) -> None:
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _read(self, count: int, until: float) -> bytes:
        """Exactly so many bytes. Raises EOFError if the process ends before, _Broken if its time does."""
        assert self._child.stdout is not None
        handle = self._child.stdout.fileno()
        waiting = select.poll()
        waiting.register(handle, select.POLLIN)
        found = bytearray()
        while len(found) < count:
            if not waiting.poll(max(0.0, until - time.monotonic()) * 1000):
                raise _Broken(self._too_long(), False)
            piece = os.read(handle, min(_PIECE, count - len(found)))
            if not piece:
                raise EOFError
            found += piece
        return bytes(found)

    def _epitaph(self) -> str:
        code = self._child.wait()
        if code in (-signal.SIGXCPU, -signal.SIGALRM):
            return self._too_long()
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"its parser broke down on it ({name})"

    def _too_long(self) -> str:
        return f"took longer than {self._limits.seconds:g} s"

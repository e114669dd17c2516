"""One supervised process: started, probed until ready, started again when it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from services.admin.failures import Failed
from services.admin.watchdog import Watchdog

_LEASH = Path(__file__).with_name("leash.py")
_ROTATE_BYTES = 10 * 1024 * 1024
_SHOWN_LINES = 15
_SHOWN_BYTES = 16_384

Probe = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process of the stack: started once those in `after` are ready; higher stages are stopped first."""

    name: str
    argv: tuple[str, ...]
    ready: Probe
    after: tuple[str, ...] = ()
    stage: int = 1


@dataclass(frozen=True, slots=True)
class Timing:
    """Every wait of the supervisor, in seconds."""

    probe: float = 0.1
    first_backoff: float = 0.2
    longest_backoff: float = 5.0
    settled: float = 30.0
    start: float = 180.0
    exits_at_start: int = 3
    stage: float = 2.0
    kill: float = 8.0


class Phase(StrEnum):
    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    EXITED = "exited"
    STOPPED = "stopped"


class Child:
    """A process kept alive. `changed` is called with it after every change of phase."""

    def __init__(
        self,
        spec: ProcessSpec,
        log: Path,
        env: Mapping[str, str],
        timing: Timing,
        watchdog: Watchdog,
        changed: Callable[[Child], None],
    ) -> None:
        self.spec = spec
        self.log = log
        self.phase = Phase.WAITING
        self.since = time.time()
        self.restarts = 0
        self.exit_code: int | None = None
        self.ready = asyncio.Event()
        self.in_startup = True
        self._log_start = log.stat().st_size if log.exists() else 0
        self._env = env
        self._timing = timing
        self._watchdog = watchdog
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def keep(self) -> None:
        """Run the process for ever, with growing pauses after exits.

        Raises Failed, with the end of its log, when it ends too often before the stack has come up once.
        """
        backoff, exits = self._timing.first_backoff, 0
        while True:
            began = time.monotonic()
            await self._run_once()
            exits += 1
            if self.in_startup and exits >= self._timing.exits_at_start:
                raise Failed(f"{self.spec.name} ended {exits} times while starting:\n{self.last_lines()}")
            if time.monotonic() - began > self._timing.settled:
                backoff = self._timing.first_backoff
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, self._timing.longest_backoff)
            self.restarts += 1

    async def _run_once(self) -> None:
        with self.log.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), *self.spec.argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=dict(self._env),
                start_new_session=True,
            )
        self._watchdog.lives(self._process.pid)
        self._enter(Phase.STARTING)
        probing = asyncio.create_task(self._probe())
        try:
            self.exit_code = await self._process.wait()
        finally:
            probing.cancel()
            await asyncio.gather(probing, return_exceptions=True)
            self.ready.clear()
        self._kill_group(self._process.pid)
        self._enter(Phase.EXITED)

    async def _probe(self) -> None:
        while not await self.spec.ready():  # noqa: ASYNC110 - another process cannot set an event here
            await asyncio.sleep(self._timing.probe)
        self.ready.set()
        self._enter(Phase.READY)

    def _enter(self, phase: Phase) -> None:
        self.phase, self.since = phase, time.time()
        self._changed(self)

    def terminate(self) -> None:
        """Ask the process to end."""
        if self._process and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()

    async def ended(self, seconds: float) -> bool:
        """Whether the process is gone, waiting for it up to `seconds`."""
        if self._process is None:
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0)):
                await self._process.wait()
        return self._process.returncode is not None

    async def finish(self, seconds: float) -> None:
        """Wait for the end up to `seconds`, then kill, the process's own children included."""
        if self._process is not None:
            await self.ended(seconds)
            self._kill_group(self._process.pid)
            await self._process.wait()
        self._enter(Phase.STOPPED)

    def _kill_group(self, group: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        self._watchdog.ended(group)

    def last_lines(self) -> str:
        """The end of its log since the supervisor started, for an error message, and where the log lies."""
        if not self.log.exists():
            return f"  (no log: {self.spec.name} was not started)"
        with self.log.open("rb") as opened:
            opened.seek(max(self._log_start, self.log.stat().st_size - _SHOWN_BYTES))
            last = opened.read().decode(errors="replace").splitlines()[-_SHOWN_LINES:]
        return "\n".join([*(f"  {line}" for line in last), f"  (log: {self.log})"])


def rotate(log: Path, limit: int = _ROTATE_BYTES) -> None:
    """Put a log that has grown too long aside; the one put aside before is dropped."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > limit:
            log.replace(log.with_suffix(".log.1"))

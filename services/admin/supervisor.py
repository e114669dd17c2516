"""The local supervisor: one stack, its processes started together, kept alive, and stopped in order."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from typing import Protocol

from services.admin.failures import Failed
from services.admin.process import Child, ProcessSpec, Timing, rotate
from services.admin.state import Places, ProcessState, StackState, write_state
from services.admin.watchdog import Watchdog


class Reporter(Protocol):
    """Shows a person what happens to the processes."""

    def changed(self, child: Child, up: bool) -> None:
        """A child entered a phase; `up` tells whether the stack had been ready before."""

    def ready(self, url: str, seconds: float) -> None: ...

    def stopping(self) -> None: ...


class Supervisor:
    """Runs the processes until `stop` is called or a signal asks for it."""

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        places: Places,
        port: int,
        url: str,
        env: Mapping[str, str],
        reporter: Reporter,
        timing: Timing | None = None,
    ) -> None:
        self._places = places
        self._port = port
        self._url = url
        self._reporter = reporter
        self._timing = timing or Timing()
        self._up = False
        self._stop = asyncio.Event()
        self._watchdog = Watchdog()
        places.logs.mkdir(parents=True, exist_ok=True)
        for spec in specs:
            rotate(places.log(spec.name))
        self._children = {
            spec.name: Child(spec, places.log(spec.name), env, self._timing, self._watchdog, self._changed)
            for spec in specs
        }

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Start all, keep them, and leave nothing behind, however this ends.

        Raises Failed if the stack does not come up.
        """
        keeping: list[asyncio.Task[None]] = []
        with _signals(self._stop):
            try:
                # Leashed children die with the thread that forked them: all are started here, in the main thread.
                keeping = [asyncio.create_task(self._keep(child)) for child in self._children.values()]
                if await self._started(keeping):
                    await self._until_stopped(keeping)
            finally:
                await self._finish(keeping)

    async def _keep(self, child: Child) -> None:
        for name in child.spec.after:
            await self._children[name].ready.wait()
        await child.keep()

    async def _started(self, keeping: Iterable[asyncio.Task[None]]) -> bool:
        """Whether all became ready; False if a stop was asked for first."""
        began = time.monotonic()
        ready = asyncio.create_task(self._all_ready())
        stopped = asyncio.create_task(self._stop.wait())
        waited = (ready, stopped, *keeping)
        try:
            await asyncio.wait(waited, timeout=self._timing.start, return_when=asyncio.FIRST_COMPLETED)
            self._raise_failure(keeping)
            if stopped.done():
                return False
            if not ready.done():
                raise Failed(self._late())
        finally:
            ready.cancel()
            stopped.cancel()
        self._up = True
        for child in self._children.values():
            child.in_startup = False
        self._write()
        self._reporter.ready(self._url, time.monotonic() - began)
        return True

    async def _all_ready(self) -> None:
        # Again from the start as long as one that had been ready has ended meanwhile.
        while waiting := [child for child in self._children.values() if not child.ready.is_set()]:
            await waiting[0].ready.wait()

    def _late(self) -> str:
        late = [child for child in self._children.values() if not child.ready.is_set()]
        names = ", ".join(child.spec.name for child in late)
        return f"not ready after {self._timing.start:.0f} s: {names}\n" + "\n".join(
            child.last_lines() for child in late
        )

    async def _until_stopped(self, keeping: Sequence[asyncio.Task[None]]) -> None:
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((stopped, *keeping), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        self._raise_failure(keeping)

    @staticmethod
    def _raise_failure(keeping: Iterable[asyncio.Task[None]]) -> None:
        for task in keeping:
            if task.done():
                task.result()

    async def _finish(self, keeping: Iterable[asyncio.Task[None]]) -> None:
        """End the processes, the highest stage first; one that lingers delays the next stage only a little."""
        self._reporter.stopping()
        tasks = list(keeping)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        asked: list[tuple[Child, float]] = []
        for stage in self._stages():
            for child in stage:
                child.terminate()
                asked.append((child, time.monotonic()))
            await asyncio.gather(*(child.ended(self._timing.stage) for child in stage))
        await asyncio.gather(*(child.finish(when + self._timing.kill - time.monotonic()) for child, when in asked))
        self._watchdog.close()
        self._places.state.unlink(missing_ok=True)

    def _stages(self) -> list[list[Child]]:
        ordered = sorted(self._children.values(), key=lambda child: -child.spec.stage)
        return [list(stage) for _, stage in groupby(ordered, key=lambda child: child.spec.stage)]

    def _changed(self, child: Child) -> None:
        self._write()
        self._reporter.changed(child, self._up)

    def _write(self) -> None:
        processes = {
            name: ProcessState(child.pid, child.restarts, child.phase.value, child.since)
            for name, child in self._children.items()
        }
        with suppress(OSError):
            write_state(self._places, StackState(os.getpid(), self._port, self._url, self._up, processes))


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    """While inside, the signals that end a program ask for a stop instead."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)

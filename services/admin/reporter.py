"""What `up` shows: a table that changes in place on a terminal, one line per event elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import Any

from services.admin.process import Child, Phase

_MARKS = {Phase.READY: ("✓", "green"), Phase.EXITED: ("✗", "red")}


def describe(child: Child) -> str:
    """One line about a child, without its name."""
    if child.phase is Phase.EXITED:
        return f"ended with code {child.exit_code}, starts again (log: {child.log})"
    text: str = child.phase.value
    if child.pid:
        text += f", pid {child.pid}"
    return f"{text}, started again {child.restarts} times" if child.restarts else text


class Lines:
    """A line per event on standard output. A reader that went away stops the lines, not the stack."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def changed(self, child: Child, up: bool) -> None:
        if child.phase in (Phase.READY, Phase.EXITED) or (not up and child.phase is Phase.STARTING):
            self.say(f"{time.monotonic() - self._began:6.1f} s  {child.spec.name:<10} {describe(child)}")

    def ready(self, url: str, seconds: float) -> None:
        self.say(f"ready after {seconds:.1f} s at {url}")

    def stopping(self) -> None:
        self.say("stopping")

    @staticmethod
    def say(line: str) -> None:
        with suppress(OSError, ValueError):
            print(line, file=sys.stdout, flush=True)


class Board(Lines):
    """A live line per process until all are ready, then as Lines."""

    def __init__(self) -> None:
        super().__init__()
        from rich.live import Live

        self._children: dict[str, Child] = {}
        self._live: Live | None = Live(get_renderable=self._table, refresh_per_second=8)
        self._live.start()

    def changed(self, child: Child, up: bool) -> None:
        if self._live is None:
            super().changed(child, up)
        else:
            self._children[child.spec.name] = child

    def ready(self, url: str, seconds: float) -> None:
        self._end()
        super().ready(url, seconds)
        self.say("Ctrl-C stops it")

    def stopping(self) -> None:
        self._end()
        super().stopping()

    def _end(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            with suppress(OSError):
                live.stop()

    def _table(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for name, child in list(self._children.items()):
            mark, colour = _MARKS.get(child.phase, ("·", "dim"))
            seconds = (child.since if child.phase is Phase.READY else time.time()) - self._wall
            table.add_row(Text(mark, colour), name, f"{seconds:.1f} s", Text(describe(child), colour))
        return table

    @property
    def _wall(self) -> float:
        return time.time() - (time.monotonic() - self._began)


def reporter() -> Lines:
    """The one that fits standard output."""
    return Board() if sys.stdout.isatty() else Lines()

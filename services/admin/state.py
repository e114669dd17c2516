"""What the supervisor leaves on disk: a lock that says a stack runs, and a state file that says how it is."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from services.admin.failures import Failed

_LOCK_SECONDS = 0.5
"""How long a lock is asked for again: `status` holds it for an instant."""


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process as `status` shows it; `pid` is 0 while it is down, `since` in seconds since the epoch."""

    pid: int = 0
    restarts: int = 0
    state: str = "waiting"
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class StackState:
    """The supervisor's process and port, and its children by name."""

    pid: int
    port: int
    url: str
    ready: bool = False
    processes: dict[str, ProcessState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Places:
    """The supervisor's files under a home. They stay there even where its sockets had to move."""

    home: Path

    @property
    def state(self) -> Path:
        return self.home / "run" / "state.json"

    @property
    def lock(self) -> Path:
        return self.home / "run" / "up.lock"

    @property
    def key(self) -> Path:
        """The home's own key, which its owner alone may read."""
        return self.home / "local.key"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"


def write_state(places: Places, state: StackState) -> None:
    """Replace the state file as a whole, so that a reader never sees half of one."""
    places.state.parent.mkdir(parents=True, exist_ok=True)
    fresh = places.state.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(state)))
    fresh.replace(places.state)


def read_state(places: Places) -> StackState | None:
    """The state of the stack that runs in this home now, None if none does."""
    if holder(places) is None:
        return None
    with suppress(OSError, ValueError, TypeError):
        raw = json.loads(places.state.read_text())
        processes = {name: ProcessState(**process) for name, process in raw.pop("processes").items()}
        return StackState(**raw, processes=processes)
    return None


def holder(places: Places) -> str | None:
    """What the lock's holder wrote into it (`pid URL`), None if nobody holds it."""
    try:
        handle = places.lock.open()
    except OSError:
        return None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return handle.read()
    return None


@contextmanager
def locked(places: Places, url: str) -> Iterator[None]:
    """Hold the home for one supervisor. Raises Failed, naming the one that holds it."""
    places.lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with places.lock.open("a+") as handle:
        if not _acquired(handle.fileno()):
            handle.seek(0)
            pid, _, other = handle.read().partition(" ")
            raise Failed(
                f"a stack already runs in {places.home} (pid {pid or 'unknown'}) at {other or 'an unknown address'}; "
                "use it, stop it with `almanac down`, or set ALMANAC_HOME to another directory"
            )
        handle.truncate(0)
        handle.write(f"{os.getpid()} {url}")
        handle.flush()
        yield


def _acquired(descriptor: int) -> bool:
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        else:
            return True

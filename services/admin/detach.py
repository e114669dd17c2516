"""A supervisor in the background: started in a session of its own, watched until it is ready."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import typer

from services.admin.failures import Failed
from services.admin.ports import require_free
from services.admin.process import rotate
from services.admin.settings import AdminSettings
from services.admin.state import Places, holder, locked, read_state

_LOOK_SECONDS = 0.1
_STOP_SECONDS = 40.0


def start_detached(settings: AdminSettings, port: int) -> None:
    """Return once the stack is ready, echoing what its supervisor says. Raises Failed if it ends instead."""
    places = Places(settings.home)
    with locked(places, settings.url_at(port)):
        require_free(settings.host, port)
    log = places.log("supervisor")
    log.parent.mkdir(parents=True, exist_ok=True)
    rotate(log)
    process = _launch(settings, port, log)
    shown = log.stat().st_size if log.exists() else 0
    try:
        while process.poll() is None:
            shown = _echo(log, shown)
            state = read_state(places)
            if state is not None and state.pid == process.pid and state.ready:
                _echo(log, shown)
                return
            time.sleep(_LOOK_SECONDS)
    except KeyboardInterrupt:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
        raise
    _echo(log, shown)
    raise Failed(f"the stack did not start; the reason is above and in {log}")


def _launch(settings: AdminSettings, port: int, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "services.admin", "up", "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, "ALMANAC_HOME": str(settings.home), "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )


def _echo(log: Path, shown: int) -> int:
    """Show what was logged after `shown`; returns how far it has been shown."""
    with log.open("rb") as opened:
        opened.seek(shown)
        fresh = opened.read()
    typer.echo(fresh.decode(errors="replace"), nl=False)
    return shown + len(fresh)


def stop_running(places: Places, seconds: float = _STOP_SECONDS) -> bool:
    """Ask the home's supervisor to stop and wait until it is gone; False if none runs.

    Raises Failed if it still runs after `seconds`.
    """
    held = holder(places)
    if held is None:
        return False
    pid = int(held.partition(" ")[0] or 0)
    if not pid:
        raise Failed(f"{places.lock} is held, but names no process; try again in a moment")
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    until = time.monotonic() + seconds
    while holder(places) is not None:
        if time.monotonic() > until:
            raise Failed(f"the supervisor (pid {pid}) still runs after {seconds:.0f} s; see {places.log('supervisor')}")
        time.sleep(_LOOK_SECONDS)
    return True

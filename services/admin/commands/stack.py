"""`almanac up`, `down` and `status`: the local stack."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.admin.context import AsJson, settings

if TYPE_CHECKING:
    from services.admin.settings import AdminSettings
    from services.admin.state import StackState

_Detach = Annotated[bool, typer.Option("--detach", "-d", help="Run in the background; return once it is ready.")]
_Port = Annotated[int | None, typer.Option("--port", "-p", min=1, max=65535, help="The gateway's port.")]


def up(detach: _Detach = False, port: _Port = None) -> None:
    """Start the stack of this home (ALMANAC_HOME) and keep it running."""
    own = settings()
    chosen = port or own.port
    if detach:
        from services.admin.detach import start_detached

        start_detached(own, chosen)
    else:
        _run(own, chosen)


def _run(own: AdminSettings, port: int) -> None:
    import asyncio

    from services.admin import local_key
    from services.admin.ports import require_free
    from services.admin.reporter import reporter
    from services.admin.state import Places, locked
    from services.admin.supervisor import Supervisor
    from services.admin.topology import environment, prepare, stack

    places, url = Places(own.home), own.url_at(port)
    with locked(places, url):
        require_free(own.host, port)
        prepare(own)
        local_key.ensure(own)
        specs, env = stack(own, port), environment(own, port)

        async def supervise() -> None:
            await Supervisor(specs, places, port, url, env, reporter()).run()

        asyncio.run(supervise())


def down() -> None:
    """Stop the stack of this home."""
    from services.admin.detach import stop_running
    from services.admin.state import Places

    home = settings().home
    typer.echo("stopped" if stop_running(Places(home)) else f"no stack runs in {home}")


def status(as_json: AsJson = False) -> None:
    """Show the processes of this home's stack. Exit code 1 where none runs or it is not ready."""
    from services.admin.render import print_json
    from services.admin.state import Places, read_state

    home = settings().home
    state = read_state(Places(home))
    found = _account(state)
    if as_json:
        print_json({"home": str(home), **found})
    elif state is None:
        typer.echo(f"no stack runs in {home}; start it with `almanac up`")
    else:
        _show(state, found)
    raise typer.Exit(0 if found["ready"] else 1)


def _account(state: StackState | None) -> dict[str, Any]:
    """What the supervisor left on disk, and what the gateway says of itself now."""
    import asyncio
    from dataclasses import asdict

    if state is None:
        return {"running": False, "ready": False}
    from services.admin.probes import readiness

    host = state.url.removeprefix("http://").rpartition(":")[0]
    code, body = asyncio.run(readiness(host, state.port))
    return {**asdict(state), "running": True, "ready": code == 200, "components": body.get("components", {})}


def _show(state: StackState, found: dict[str, Any]) -> None:
    from services.admin.render import table

    typer.echo(f"{state.url}  {'ready' if found['ready'] else 'not ready'}  (supervisor pid {state.pid})")
    rows = [
        (name, process.state, process.pid or "-", f"{time.time() - process.since:.0f} s", process.restarts)
        for name, process in state.processes.items()
    ]
    table(("process", "state", "pid", "since", "restarts"), rows)

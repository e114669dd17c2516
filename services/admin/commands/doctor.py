"""`almanac doctor`: every component looked at, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from services.admin.context import AsJson, settings

if TYPE_CHECKING:
    from services.admin.doctor import Finding
    from services.admin.settings import AdminSettings
    from services.admin.state import StackState


def doctor(as_json: AsJson = False) -> None:
    """Check the machine, the home and its stack, and say what to do. Exit code 1 if anything is wrong."""
    from dataclasses import asdict

    from services.admin.doctor import Verdict
    from services.admin.render import clean, print_json

    own = settings()
    found = examined(own)
    well = all(one.verdict is not Verdict.WRONG for one in found)
    if as_json:
        print_json({"home": str(own.home), "well": well, "findings": [asdict(one) for one in found]})
    else:
        for one in found:
            remedy = f" → {one.remedy}" if one.remedy else ""
            typer.echo(f"{one.verdict:<5}  {one.name}: {clean(one.found)}{clean(remedy)}")
    raise typer.Exit(0 if well else 1)


def examined(own: AdminSettings) -> list[Finding]:
    """Every finding; what runs is looked at only where a stack runs."""
    from services.admin import doctor as machine
    from services.admin import doctor_stack as stack

    state = stack.running(own)
    found = [machine.python(), *machine.disk(own), machine.home(own), *machine.models(own), machine.catalog(own)]
    if state is None:
        found += [machine.note("stack", "none runs in this home", "almanac up"), stack.port(own)]
        found.append(machine.leftovers(own))
    return found + _served(own, state)


def _served(own: AdminSettings, state: StackState | None) -> list[Finding]:
    import asyncio

    from services.admin import doctor_stack as stack

    async def ask() -> list[Finding]:
        found = await stack.nodes(own, state is not None)
        if state is not None or "broker_url" in own.model_fields_set:
            found.append(await stack.broker(own))
        return found + (await stack.gateway(own, state) if state is not None else [])

    found = asyncio.run(ask())
    return found + ([*stack.processes(state), *stack.readers(own)] if state is not None else [])

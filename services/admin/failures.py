"""How a command fails: one clear line on standard error and exit code 1."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup


class Failed(Exception):
    """The command could not do what was asked; the message says why and what to do."""


class AlmanacGroup(TyperGroup):
    """The root group: what a command raises as Failed, or as one of our errors, ends it with exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            reason = str(error) if isinstance(error, Failed) else _detail(error)
            if reason is None:
                raise
            typer.echo(f"almanac: {reason}", err=True)
            raise typer.Exit(1) from None


def _detail(error: Exception) -> str | None:
    """What one of our errors says. Importing their module only to look would load gRPC on the way to `--help`."""
    errors = sys.modules.get("services.common.errors")
    return error.detail if errors is not None and isinstance(error, errors.AlmanacError) else None

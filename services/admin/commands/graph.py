"""`almanac graph` and `almanac trace`: how questions are answered, and how one was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from services.admin.context import AsJson, connect

_WIDTH = 50
"""Characters of a waterfall."""


def graph(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Draw the inference graph, in Mermaid's language."""
    from services.admin.render import print_json

    found = connect(ctx).get("/v1/graph")
    if as_json:
        print_json(found)
    else:
        typer.echo(found["mermaid"])


def trace(
    ctx: typer.Context, answer: Annotated[str, typer.Argument(help="The answer's id.")], as_json: AsJson = False
) -> None:
    """Show when each step of an answer ran, and how it went."""
    from services.admin.render import print_json, table

    found = connect(ctx).get(f"/v1/answers/{quote(answer, safe='')}")
    if as_json:
        print_json({name: found[name] for name in ("id", "trace_id", "trace", "degraded")})
        return
    typer.secho(f"trace {found['trace_id']}", dim=True)
    table(("step", "node", "ms", "", "tries", ""), _rows(found["trace"]))


def _rows(steps: list[Mapping[str, Any]]) -> Iterator[tuple[object, ...]]:
    whole = max((step["start_ms"] + step["ms"] for step in steps), default=0.0) or 1.0
    for step in steps:
        before, during = (round(step[name] / whole * _WIDTH) for name in ("start_ms", "ms"))
        bar = " " * min(before, _WIDTH - 1) + "█" * max(1, min(during, _WIDTH - before))
        yield (
            step["step"],
            step["node"],
            f"{step['ms']:.1f}",
            bar,
            step["tries"],
            "fell back" if step["fell_back"] else "",
        )

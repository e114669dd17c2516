"""Plain text and tables for people. What comes from documents is shown as text, never as markup or terminal codes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer

_OPEN_START, _OPEN_END = "0001-01-01", "9999-12-31"


def clean(text: object) -> str:
    """The text without control characters, which could move the cursor or recolour the terminal."""
    return "".join(char for char in str(text) if char in "\n\t" or (ord(char) >= 32 and not 127 <= ord(char) < 160))


def print_json(document: object) -> None:
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on standard output; tab-separated, without a header, where that is no terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        for row in rows:
            typer.echo("\t".join(clean(cell) for cell in row))
        return
    shown = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(clean(cell)) for cell in row))
    console.print(shown)


def day(instant: str | None) -> str:
    """An instant as a person reads it: the date alone where the rest is midnight."""
    text = clean(instant or "")
    return text.partition("T")[0] if text.endswith("T00:00:00Z") else text


def span(source: Mapping[str, Any]) -> str:
    """The valid time of a citation or a hit."""
    if source.get("dated") is False:
        return "undated"
    start, end = source.get("valid_from"), source.get("valid_to")
    if _is_open(start) and _is_open(end):
        return "always valid"
    return f"{'…' if _is_open(start) else day(start)} – {'…' if _is_open(end) else day(end)}"


def _is_open(instant: str | None) -> bool:
    return not instant or instant.startswith((_OPEN_START, _OPEN_END))


def moment(found: Mapping[str, Any]) -> str:
    return f"as of {day(found.get('as_of'))}, as known at {day(found.get('known_at'))}"


def timings(steps: Mapping[str, float]) -> str:
    return " · ".join(f"{clean(name)} {ms:.0f} ms" for name, ms in steps.items())


def warn(line: str) -> None:
    """A line in red on standard error."""
    typer.secho(clean(line), fg="red", err=True)

"""`almanac history` and `delete`: what a document said when, and the end of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from services.admin.context import AsJson, Collection, ValidTo, connect

if TYPE_CHECKING:
    from services.admin.client import Json
    from services.common.moment import Span

_Document = Annotated[str, typer.Argument(metavar="DOC", help="Its id, as `almanac search --json` shows it.")]


def history(ctx: typer.Context, doc_id: _Document, collection: Collection = "default", as_json: AsJson = False) -> None:
    """Show when each version of a document is valid, as known at each time something was recorded."""
    from services.admin.render import print_json

    found = connect(ctx).get(f"/v1/documents/{quote(doc_id)}/versions", collection=collection)
    print_json(found) if as_json else _show(doc_id, found["versions"])


def delete(
    ctx: typer.Context,
    doc_id: _Document,
    collection: Collection = "default",
    valid_to: ValidTo = None,
    as_json: AsJson = False,
) -> None:
    """End a document's validity. It still answers for the time before, and as known at earlier times."""
    from services.admin.render import clean, day, print_json, warn

    found = connect(ctx).delete(f"/v1/documents/{quote(doc_id)}", collection=collection, valid_to=valid_to)
    if as_json:
        print_json(found)
    elif found["ended"]:
        typer.echo(f"{clean(doc_id)} is valid until {day(found['valid_to'])}; recorded at {day(found['recorded_at'])}")
    else:
        typer.echo(f"{clean(doc_id)} says nothing from then on; nothing to end")
    if found.get("note") and not as_json:
        warn(found["note"])


def _show(doc_id: str, versions: Sequence[Json]) -> None:
    from services.admin.render import clean, day
    from services.common.moment import parse_instant

    count = len({version["version_id"] for version in versions})
    typer.secho(f"{clean(doc_id)}: {count} version{'s' * (count != 1)}", bold=True)
    changes = {version[edge] for version in versions for edge in ("recorded_from", "recorded_to") if version[edge]}
    for recorded in sorted(changes, key=parse_instant):
        typer.secho(f"recorded {day(recorded)}", dim=True)
        known = [version for version in versions if parse_instant(recorded) in _span(version, "recorded")]
        for version in sorted(known, key=lambda one: _span(one, "valid")):
            _show_version(version, version["recorded_from"] == recorded)
        if not known:
            typer.echo("    nothing")


def _span(version: Json, axis: str) -> Span:
    from services.common.moment import OPEN_END, OPEN_START, Span, parse_instant

    start, end = version[f"{axis}_from"], version[f"{axis}_to"]
    return Span(OPEN_START if start is None else parse_instant(start), OPEN_END if end is None else parse_instant(end))


def _show_version(version: Json, is_new: bool) -> None:
    from services.admin.render import clean, span

    when = span({**version, "dated": True})
    undated = "" if version["dated"] else "  (undated)"
    typer.echo(
        f"  {'+' if is_new else ' '} {when:<27}  {version['version_id'][:8]}  {clean(version['title'])}{undated}"
    )

"""`almanac compare`, `timeline` and `replay`: one question at several moments, over time, and an answer once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from services.admin.context import AsJson, Collection, KnownAt, connect, instants

if TYPE_CHECKING:
    from services.admin.client import Json

_Question = Annotated[str, typer.Argument(help="The question.")]
_At = Annotated[
    list[str],
    typer.Option("--at", callback=instants, help="A moment to answer at (a date); two to eight of them."),
]


def compare(
    ctx: typer.Context,
    question: _Question,
    at: _At,
    known_at: KnownAt = None,
    collection: Collection = "default",
    as_json: AsJson = False,
) -> None:
    """Answer one question at several moments and show what changed."""
    from services.admin.render import print_json

    moments = [{"as_of": one, **({"known_at": known_at} if known_at else {})} for one in at]
    found = connect(ctx).post("/v1/answers/compare", {"question": question, "collection": collection, "at": moments})
    if as_json:
        print_json(found)
        return
    _show_answer(found["changes"][0]["before"])
    for change in found["changes"]:
        typer.secho(
            "↓ changed" if change["changed"] else "↓ the same", bold=change["changed"], dim=not change["changed"]
        )
        _show_answer(change["after"])


def timeline(
    ctx: typer.Context,
    question: _Question,
    known_at: KnownAt = None,
    collection: Collection = "default",
    as_json: AsJson = False,
) -> None:
    """Show every distinct answer to a question, with the span over which it was the answer."""
    from services.admin.render import clean, day, print_json, span, table, warn

    body = {"question": question, "collection": collection, "known_at": known_at}
    found = connect(ctx).post("/v1/answers/timeline", body)
    if as_json:
        print_json(found)
        return
    rows = [
        (span(entry), " ".join(clean(entry["answer"]).split()), entry["citations"][0]["title"])
        for entry in found["entries"]
    ]
    table(("valid", "answer", "source"), rows)
    typer.secho(f"{len(rows)} answers, as known at {day(found['known_at'])}", dim=True)
    if not found["complete"]:
        warn("documents changed at more moments than are looked at; some stretches are left out")


def replay(
    ctx: typer.Context, answer: Annotated[str, typer.Argument(help="The answer's id.")], as_json: AsJson = False
) -> None:
    """Give an answer again at its moment and show what differs, and why. Exit code 1 where something does."""
    from services.admin.render import moment, print_json, table

    found = connect(ctx).post(f"/v1/answers/{quote(answer, safe='')}/replay", {})
    if as_json:
        print_json(found)
    else:
        table(("differs", "why", ""), [(one["what"], one["why"], one["detail"]) for one in found["differences"]])
        typer.echo("identical" if found["identical"] else "not identical")
        overlap = "" if found["overlap"] is None else f", {found['overlap']:.0%} of the passages"
        searched = "exact" if found["exact"] else "approximate"
        typer.secho(f"{moment(found['moment'])}, {found['generation']}, {searched} search{overlap}", dim=True)
    if not found["identical"]:
        raise typer.Exit(1)


def _show_answer(told: Json) -> None:
    from services.admin.commands.read import show_citation
    from services.admin.render import clean, moment

    typer.secho(moment(told["moment"]), dim=True)
    typer.echo(clean(told["answer"]))
    for citation in told["citations"]:
        show_citation(citation)
